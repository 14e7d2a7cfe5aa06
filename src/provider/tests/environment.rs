//! What a stage gets of the caller's environment.

use std::collections::BTreeMap;
use std::ffi::OsString;

use crate::protocol::Description;
use crate::provider::environment::{PASSED, Variables, provider_environment, stage_environment};
use crate::spec::testing;
use crate::spec::types::{EnvValue, Stage};

fn caller() -> Variables {
    [
        ("PATH", "/bin"),
        ("HOME", "/home/u"),
        ("LANG", "de_DE.UTF-8"),
        ("LC_ALL", "de_DE.UTF-8"),
        ("LC_NUMERIC", "de_DE.UTF-8"),
        ("TZ", "Asia/Tokyo"),
        ("PYTHONPATH", "/elsewhere"),
        ("PYTHONHASHSEED", "7"),
        ("LIBTORCH", "/opt/libtorch"),
        ("AWS_SECRET_ACCESS_KEY", "s3cret"),
        ("EMPTY", ""),
    ]
    .map(|(name, value)| (name.into(), value.into()))
    .into()
}

fn stage(env: &[(&str, EnvValue)]) -> Stage {
    let yaml = "stages:\n  a: { run: 'true', outputs: { o: any } }\n";
    let mut stage = testing::load(yaml).unwrap().stage(0).clone();
    stage.env = env.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    stage
}

fn environment(env: &[(&str, EnvValue)]) -> BTreeMap<String, String> {
    let found = stage_environment(&stage(env), None, &caller()).unwrap();
    found.variables.into_iter().map(|(k, v)| (k.into_string().unwrap(), v.into_string().unwrap())).collect()
}

fn literal(text: &str) -> EnvValue {
    EnvValue::Literal(text.into())
}

#[test]
fn a_stage_gets_a_short_list_and_a_fixed_locale_and_zone() {
    let expected =
        [("HOME", "/home/u"), ("LANG", "C.UTF-8"), ("LC_ALL", "C.UTF-8"), ("PATH", "/bin"), ("TZ", "UTC")];
    assert_eq!(environment(&[]), expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
}

#[test]
fn what_changes_results_is_never_passed_on() {
    for name in ["PYTHONPATH", "PYTHONHASHSEED", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "PIP_INDEX_URL"] {
        assert!(!PASSED.contains(&name), "{name}");
    }
}

#[test]
fn the_stage_has_the_last_word_on_its_locale_zone_and_path() {
    let all = environment(&[("LC_NUMERIC", literal("fr_FR.UTF-8")), ("TZ", literal("Asia/Tokyo"))]);
    assert_eq!((all["LC_NUMERIC"].as_str(), all["LANG"].as_str()), ("fr_FR.UTF-8", "C.UTF-8"));
    assert!(!all.contains_key("LC_ALL"), "it would outrank LC_NUMERIC");
    assert_eq!(all["TZ"], "Asia/Tokyo");
    assert_eq!(environment(&[("LC_ALL", literal("C"))])["LC_ALL"], "C");
}

#[test]
fn a_variable_is_passed_by_name_and_stays_unset_where_the_caller_has_none() {
    let all = environment(&[
        ("PYTHONPATH", EnvValue::Pass("PYTHONPATH".into())),
        ("Z", EnvValue::Pass("TZ".into())),
    ]);
    assert_eq!((all["PYTHONPATH"].as_str(), all["Z"].as_str()), ("/elsewhere", "Asia/Tokyo"));
    let all = environment(&[("HOME", EnvValue::Pass("NOWHERE".into()))]);
    assert!(!all.contains_key("HOME"), "not the value that an undeclared one would have");
}

#[test]
fn a_secret_is_passed_and_listed_and_missing_it_is_an_error_that_names_it() {
    let secret = |name: &str| [("KEY", EnvValue::Secret(name.to_owned()))];
    let found = stage_environment(&stage(&secret("AWS_SECRET_ACCESS_KEY")), None, &caller()).unwrap();
    assert_eq!(found.secrets, [OsString::from("s3cret")]);
    assert!(found.variables.contains(&("KEY".into(), "s3cret".into())));
    for name in ["NOWHERE", "EMPTY"] {
        let error = stage_environment(&stage(&secret(name)), None, &caller()).unwrap_err().to_string();
        assert!(error.contains(&format!("stage `a` needs the secret {name} (`env.KEY`)")), "{error}");
    }
}

#[test]
fn a_provider_gets_the_variables_that_it_declares() {
    let description = Description { environment: vec!["LIBTORCH".into()], ..testing::description() };
    let all = provider_environment(Some(&description), &caller());
    assert_eq!(all.get(std::ffi::OsStr::new("LIBTORCH")), Some(&"/opt/libtorch".into()));
    assert!(!provider_environment(None, &caller()).contains_key(std::ffi::OsStr::new("LIBTORCH")));
}
