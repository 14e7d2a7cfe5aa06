//! Values arrive byte for byte as one word, whatever they hold and wherever they stand: real shells are asked.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

use proptest::prelude::ProptestConfig;

use super::samples::{BASH, EVERYWHERE, HOSTILE, PIECES, RICHER, SHOW, WEAPONS};
use crate::spec::command::{Values, expand, placeholders};
use crate::spec::types::Run;

fn fill(script: &str, value: &str, shell: &str) -> String {
    let values = Values { params: BTreeMap::from([("x".to_owned(), value.to_owned())]), ..Values::default() };
    match expand(&Run::Script(script.to_owned()), &[shell.to_owned()], &values) {
        Ok(Run::Script(text)) => text,
        other => panic!("{script}: {other:?}"),
    }
}

fn run(shell: &str, script: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(shell);
    command
        .current_dir(folder.path())
        .env("HOME", "/h")
        .env("LC_ALL", "C.UTF-8")
        .env("PATH", std::env::var("PATH").unwrap());
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(script.as_bytes()).unwrap();
    let done = command.arg(file.path()).stdin(Stdio::null()).output().unwrap();
    assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none(), "a value ran as code: {script}");
    if !done.stderr.is_empty() {
        eprintln!("{}", String::from_utf8_lossy(&done.stderr));
    }
    done.stdout
}

/// Runs all scripts in one shell, each in a subshell.
fn check(shell: &str, name: &str, value: &str, scripts: &[(&str, &str)]) {
    let mark = "\u{1f512}";
    let mut all = SHOW.to_owned();
    for (script, _) in scripts {
        // The closing parenthesis stands on a line of its own, behind comments.
        all.push_str(&format!("(\n{}\n)\nprintf '%s' '{mark}'\n", fill(script, value, name)));
    }
    let out = String::from_utf8_lossy(&run(shell, &all)).into_owned();
    let parts: Vec<_> = out.split(mark).collect();
    for (index, (script, wanted)) in scripts.iter().enumerate() {
        let wanted = wanted.replace('|', "\0").replace('%', value);
        let seen = parts.get(index).copied().unwrap_or("nothing");
        let whole = format!("{wanted}\0");
        assert!(
            seen == wanted || seen == whole,
            "{shell}: {script}\nvalue {value:?}\nwanted {wanted:?}\nseen {seen:?}\nall: {}",
            fill(script, value, name)
        );
    }
}

fn is_there(shell: &str) -> bool {
    Command::new(shell).args(["-c", ":"]).status().is_ok_and(|status| status.success())
}

/// Shells that are not on every machine; `KILN_TEST_SHELLS` names a folder with more of them.
fn others() -> Vec<(String, &'static str)> {
    let folder = std::env::var("KILN_TEST_SHELLS").map(|folder| folder + "/").unwrap_or_default();
    let names = ["zsh", "ksh93", "mksh"];
    names
        .into_iter()
        .map(|name| (format!("{folder}{name}"), name))
        .filter(|(path, _)| is_there(path))
        .collect()
}

#[test]
fn hostile_values_arrive_as_they_are_in_every_place_of_a_script() {
    let every: Vec<_> = [EVERYWHERE, RICHER, BASH].concat();
    for value in HOSTILE {
        check("bash", "bash", value, &every);
        check("dash", "dash", value, EVERYWHERE);
        for (path, name) in others() {
            // `~''` is the home folder for zsh and ksh; `=~` needs a module of zsh; mksh lacks both.
            // ksh93 ends a `[[` at a quoted `]]` too.
            let lacks = |script: &str| script.contains("<(") || script.starts_with("for ((");
            let skip = |script: &str| {
                script.contains('~') || script.starts_with("[[ {") || name == "mksh" && lacks(script)
            };
            let known = EVERYWHERE.iter().chain(RICHER).filter(|(script, _)| !skip(script)).copied();
            check(&path, name, value, &known.collect::<Vec<_>>());
        }
    }
}

proptest::proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..Default::default() })]
    #[test]
    fn any_value_arrives_as_it_is_in_every_place_of_a_script(
        value in "([^\\x00]|['\"\\\\$`!*?~#&;|<>(){}\\[\\] \n\t=-]|EOF|case|esac|[$][(]touch pwned[)]){0,12}",
    ) {
        check("bash", "bash", &value, &[EVERYWHERE, RICHER, BASH].concat());
        check("dash", "dash", &value, EVERYWHERE);
    }
}

/// True when a script with some pieces is accepted, and then no value became code.
fn survives(pieces: &[usize], weapon: usize, shells: &[(String, &'static str)]) -> bool {
    let script: String = pieces.iter().map(|piece| PIECES[*piece % PIECES.len()]).collect();
    let mut accepted = false;
    for (path, name) in shells {
        let run = Run::Script(script.clone());
        if !placeholders(&run, &[(*name).to_owned()]).is_ok_and(|found| !found.is_empty()) {
            continue;
        }
        accepted = true;
        let filled = fill(&script, WEAPONS[weapon % WEAPONS.len()], name);
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("timeout");
        command
            .args(["-s", "KILL", "2", path, "-c", &filled])
            .current_dir(folder.path())
            .stdin(Stdio::null());
        command.output().unwrap();
        assert!(!folder.path().join("pwned").exists(), "{name} ran a value as code: {script:?}\n{filled}");
    }
    accepted
}

proptest::proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..Default::default() })]
    #[test]
    fn no_value_becomes_code_in_any_script_that_is_accepted(
        pieces in proptest::collection::vec(0..PIECES.len(), 1..12),
        weapon in 0..WEAPONS.len(),
    ) {
        survives(&pieces, weapon, &[("bash".to_owned(), "bash"), ("dash".to_owned(), "dash")]);
    }
}

#[test]
#[ignore = "takes minutes; KILN_TEST_SECONDS says how many seconds"]
fn no_value_becomes_code_in_many_scripts() {
    let seconds = std::env::var("KILN_TEST_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    let end = std::time::Instant::now() + std::time::Duration::from_secs(seconds);
    let mut shells =
        vec![("bash".to_owned(), "bash"), ("dash".to_owned(), "dash"), ("bash".to_owned(), "sh")];
    shells.extend(others());
    let mut accepted = 0;
    while std::time::Instant::now() < end {
        let pieces: Vec<_> = (0..fastrand::usize(1..16)).map(|_| fastrand::usize(..PIECES.len())).collect();
        accepted += usize::from(survives(&pieces, fastrand::usize(..WEAPONS.len()), &shells));
    }
    eprintln!("{accepted} scripts were accepted and run");
}
