//! What is said when a command has failed.

use std::fs;

use crate::spec::command::{explain_exit, undeclared_files};
use crate::spec::types::Run;

#[test]
fn files_of_the_project_that_were_not_declared_are_named() {
    let root = tempfile::tempdir().unwrap();
    for file in ["count.py", "lib/a.py", "data/x.csv", "my file.txt", "conf.toml", "known.py"] {
        let path = root.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
    let declared = ["known.py", "data/"].map(String::from);
    let script = "PYTHONPATH=lib python3 ./count.py --config=\"conf.toml\" known.py data/x.csv ../up.py /etc/passwd \
        {inputs.a} gone.py | python3 count.py; cat lib/*.py";
    let found = undeclared_files(&Run::Script(script.into()), root.path(), None, &declared);
    assert_eq!(found, ["lib", "count.py", "conf.toml", "lib/*.py"]);
    let list = ["python3", "count.py", "--from=my file.txt", "my file.txt"].map(String::from).to_vec();
    let found = undeclared_files(&Run::Exec(list), root.path(), None, &["*.py".to_owned()]);
    assert_eq!(found, ["my file.txt"]);
}

#[test]
fn exit_codes_of_shells_are_explained() {
    let bash = ["bash", "-eo", "pipefail"].map(String::from);
    let run = Run::Script("yes | head -n 1 > x".into());
    assert!(explain_exit(141, &run, &bash).unwrap().contains("`head`"));
    assert!(explain_exit(127, &run, &bash).unwrap().contains("PATH"));
    assert!(explain_exit(126, &run, &bash).unwrap().contains("chmod +x"));
    assert_eq!(explain_exit(1, &run, &bash), None);
    assert_eq!(explain_exit(141, &Run::Exec(vec!["yes".into()]), &bash), None);
    let script = "set -eo pipefail\n(yes || test $? = 141) | head -n 1\n";
    let done = std::process::Command::new("bash").args(["-c", script]).output().unwrap();
    assert!(done.status.success() && done.stdout == b"y\n");
}
