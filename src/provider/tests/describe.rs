//! How providers are found and asked, and when they are asked again.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::cas::Store;
use crate::provider::ask::Limits;
use crate::provider::environment::Variables;
use crate::provider::{Providers, program};

struct Setup {
    _folder: tempfile::TempDir,
    store: Store,
    program: PathBuf,
    caller: Variables,
}

impl Setup {
    fn new(script: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("provider");
        fs::create_dir(folder.path().join("store")).unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        let caller = [("PATH".into(), std::env::var_os("PATH").unwrap())].into();
        let setup = Self { _folder: folder, store, program, caller };
        setup.write(script);
        setup
    }

    fn write(&self, script: &str) {
        fs::write(&self.program, script).unwrap();
        fs::set_permissions(&self.program, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn providers(&self) -> Providers<'_> {
        Providers::new(&self.store).with_caller(self.caller.clone())
    }

    /// The name that the provider gives itself.
    fn name(&self) -> String {
        self.providers().find(Some(&self.program)).unwrap().description.provider.clone()
    }

    fn why(&self) -> String {
        let limits = Limits { time: Duration::from_secs(2), bytes: 1 << 20 };
        self.providers().with_limits(limits).find(Some(&self.program)).unwrap_err().to_string()
    }

    fn asked(&self) -> usize {
        fs::read_to_string(self.program.with_extension("log")).map_or(0, |log| log.lines().count())
    }
}

fn good(more: &str) -> String {
    format!(
        "#!/bin/sh\necho asked >> \"$0.log\"\n\
         echo '{{\"protocol\":1,\"provider\":\"p\",\"version\":\"1\",\"kinds\":[],\"later\":\"unknown\"{more}}}'\n"
    )
}

#[test]
fn a_script_that_does_not_say_what_it_depends_on_is_asked_each_time() {
    let setup = Setup::new(&good(""));
    assert_eq!((setup.name(), setup.name()), ("p".into(), "p".into()));
    assert_eq!(setup.asked(), 2);
}

#[test]
fn a_script_that_lists_its_files_is_asked_again_when_one_of_them_changes() {
    let setup = Setup::new(&good(r#","files":["lib.sh"]"#));
    let library = setup.program.with_file_name("lib.sh");
    setup.name();
    setup.name();
    assert_eq!(setup.asked(), 1);
    fs::write(&library, "new").unwrap();
    setup.name();
    assert_eq!(setup.asked(), 2);
    fs::write(&library, "newer").unwrap();
    setup.name();
    assert_eq!(setup.asked(), 3);
    setup.write(&good(r#","files":["lib.sh"]"#).replace("\"p\"", "\"q\""));
    assert_eq!((setup.name(), setup.asked()), ("q".into(), 4));
}

#[test]
fn a_declared_variable_reaches_describe_and_another_value_asks_again() {
    let mut setup = Setup::new(
        &good(r#","files":["provider"],"environment":["MODE"]"#).replace("\"p\"", "\"'${MODE:-none}'\""),
    );
    assert_eq!((setup.name(), setup.asked()), ("none".into(), 1));
    setup.caller.insert("MODE".into(), "fast".into());
    // Once without the variable, for nobody knows yet that it is declared, and once with it.
    assert_eq!((setup.name(), setup.asked()), ("fast".into(), 3));
    setup.name();
    setup.caller.insert("OTHER".into(), "x".into());
    setup.name();
    assert_eq!(setup.asked(), 3);
    setup.caller.remove(std::ffi::OsStr::new("MODE"));
    assert_eq!((setup.name(), setup.asked()), ("none".into(), 3), "both answers are kept");
}

#[test]
fn a_device_that_appears_asks_again() {
    let folder = tempfile::tempdir().unwrap();
    let device = folder.path().join("gpu0");
    let setup = Setup::new(&good(&format!(r#","files":["provider"],"devices":["{}"]"#, device.display())));
    setup.name();
    setup.name();
    fs::write(&device, "").unwrap();
    setup.name();
    assert_eq!(setup.asked(), 2);
}

#[test]
fn a_damaged_cache_is_an_empty_one() {
    let setup = Setup::new(&good(r#","files":["provider"]"#));
    setup.name();
    for entry in fs::read_dir(setup.store.root().join("cache/providers")).unwrap() {
        fs::write(entry.unwrap().path(), "{").unwrap();
    }
    assert_eq!((setup.name(), setup.asked()), ("p".into(), 2));
}

#[test]
fn a_provider_that_does_not_answer_as_it_should_is_told_in_plain_words() {
    let why = |script: &str| Setup::new(script).why();
    assert!(why("#!/bin/sh\necho no libtorch >&2; exit 3").contains("no libtorch"));
    assert!(why("#!/bin/sh\nexit 127").contains("`make build`"));
    assert!(why("#!/bin/sh\necho hello").contains("did not answer with a description"));
    assert!(why("#!/bin/sh\necho '{\"protocol\":9}'").contains("speaks protocol 9"));
    let missing = program(Some(Path::new("/nowhere/provider"))).unwrap_err().to_string();
    assert!(missing.contains("/nowhere/provider is missing"), "{missing}");
    let setup = Setup::new(&good(""));
    fs::set_permissions(&setup.program, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(setup.why().contains("may not be executed"));
}

#[test]
fn a_provider_that_never_ends_or_never_stops_printing_is_killed() {
    let why = |script: &str| Setup::new(script).why();
    let began = Instant::now();
    assert!(why("#!/bin/sh\nsleep 60 & sleep 60").contains("did not end within 2 s"));
    assert!(why("#!/bin/sh\nyes >&2").contains("did not end within 2 s"));
    assert!(why("#!/bin/sh\nyes").contains("printed more than 1048576 bytes"));
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[test]
fn what_describe_leaves_running_is_not_waited_for() {
    let began = Instant::now();
    let setup = Setup::new(&good("").replace("#!/bin/sh\n", "#!/bin/sh\nsleep 50 &\n"));
    assert_eq!(setup.name(), "p");
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[test]
fn names_that_are_no_safe_file_names_are_refused() {
    let kind = |name: &str, input: &str, output: &str, types: &str| {
        let port = |name: &str, types: &str| format!(r#"{{"name":"{name}","types":[{types}]}}"#);
        let (inputs, outputs) = (port(input, "\"any\""), port(output, types));
        let ports = format!(r#""inputs":[{inputs}],"outputs":[{outputs}]"#);
        let kind = format!(r#"{{"name":"{name}","revision":1,"summary":"",{ports},"params":{{}}}}"#);
        good("").replace("\"kinds\":[]", &format!("\"kinds\":[{kind}]"))
    };
    assert_eq!(Setup::new(&kind("train", "data", "model", "\"any\"")).name(), "p");
    for (script, words) in [
        (kind("a/b", "data", "model", "\"any\""), "the name of a kind"),
        (kind("command", "data", "model", "\"any\""), "built into Kiln"),
        (kind("train", "../up", "model", "\"any\""), "the name of an input of the kind `train`"),
        (kind("train", "data", "-rf", "\"any\""), "the name of an output of the kind `train`"),
        (kind("train", "data", "model", "\"a b\""), "a type of the output `model`"),
        (kind("train", "data", "model", "\"a\",\"b\""), "exactly one type"),
        (good("").replace("\"p\"", "\"\""), "the name of the provider"),
        (good(r#","types":["a/b"]"#), "the name of an artifact type"),
        (good(r#","environment":["A=B"]"#), "an environment variable"),
    ] {
        let why = Setup::new(&script).why();
        assert!(why.contains(words), "{why}");
    }
}
