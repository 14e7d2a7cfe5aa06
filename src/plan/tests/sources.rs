//! What the path of a source and an entry of `uses` stand for.

use std::collections::BTreeMap;
use std::path::Path;

use super::Project;
use crate::cas::Ignore;
use crate::plan::files::{FilesError, SourceFiles, names_file, source_files, used_files};
use crate::plan::sources::Changed;
use crate::plan::{Decision, PlanError};

fn folder(files: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in files {
        let path = dir.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, file).unwrap();
    }
    dir
}

fn find(root: &Path, path: &str) -> Result<SourceFiles, FilesError> {
    source_files(root, path, &Ignore::none())
}

fn used(root: &Path, path: &str) -> Vec<String> {
    let ignore = Ignore::new(root, &[], &root.join("artifacts")).unwrap();
    used_files(root, path, &ignore).unwrap().into_keys().collect()
}

#[test]
fn a_glob_gives_sorted_files_below_its_fixed_folders() {
    let dir = folder(&["data/plays/b.txt", "data/plays/a.txt", "data/plays/.c.txt", "data/plays/d/e.txt"]);
    let Ok(SourceFiles::Glob { base, files }) = find(dir.path(), "data/plays/*.txt") else { panic!() };
    assert_eq!(base, dir.path().join("data/plays"));
    assert_eq!(files, ["a.txt", "b.txt"].map(|f| base.join(f)));
    let Ok(SourceFiles::Glob { base, files }) = find(dir.path(), "data/**/*.txt") else { panic!() };
    assert_eq!(base, dir.path().join("data"));
    assert_eq!(files, ["plays/a.txt", "plays/b.txt", "plays/d/e.txt"].map(|f| base.join(f)));
    let Ok(SourceFiles::Glob { files: all, .. }) = find(dir.path(), "data/**") else { panic!() };
    assert_eq!(all, files, "everything below");
}

#[test]
fn what_is_there_as_it_is_written_is_no_glob() {
    let dir = folder(&["odd[1].txt", "odd1.txt"]);
    assert_eq!(find(dir.path(), "odd[1].txt").unwrap(), SourceFiles::Path(dir.path().join("odd[1].txt")));
}

#[test]
fn a_root_with_odd_letters_is_no_pattern() {
    let dir = folder(&["we[i]rd*/x.txt"]);
    let root = dir.path().join("we[i]rd*");
    let found = find(&root, "*.txt").unwrap();
    assert_eq!(found, SourceFiles::Glob { base: root.clone(), files: vec![root.join("x.txt")] });
    assert_eq!(used(&root, "*.txt"), ["x.txt"]);
}

#[test]
fn nothing_found_and_a_broken_glob_are_errors_with_their_place() {
    let dir = folder(&[]);
    assert!(matches!(find(dir.path(), "no.txt"), Err(FilesError::Missing)));
    assert!(matches!(find(dir.path(), "no/*.txt"), Err(FilesError::Missing)));
    assert!(matches!(find(dir.path(), "a/[.txt"), Err(FilesError::BadGlob(_))));
    let yaml =
        "sources: { s: 'a/[.txt' }\nstages: { a: { inputs: { s: s }, run: 'true', outputs: { o: any } } }";
    let error = Project::new().try_plan(yaml).unwrap_err();
    assert_eq!(
        error.place().map(|(span, code)| (span.start.line, code.to_string())),
        Some((1, "bad-glob".to_owned()))
    );
}

#[test]
fn uses_are_single_files_without_the_store_and_what_the_ignore_rules_name() {
    let dir =
        folder(&["a.py", "lib/b.py", "lib/.git/x", "lib/__pycache__/b.pyc", "artifacts/blobs/x", ".hidden"]);
    assert_eq!(used(dir.path(), "."), [".hidden", "a.py", "lib/b.py"]);
    assert_eq!(used(dir.path(), "./lib//"), ["lib/b.py"]);
    assert_eq!(used(dir.path(), "*.py"), ["a.py"]);
    // A glob may name folders, and what is named itself is never left out.
    assert_eq!(used(dir.path(), "l*"), ["lib/b.py"]);
    assert_eq!(used(dir.path(), "lib/__pycache__/b.pyc"), ["lib/__pycache__/b.pyc"]);
}

#[test]
fn a_name_under_uses_that_is_no_text_is_an_error() {
    use std::os::unix::ffi::OsStrExt;
    let dir = folder(&["lib/a.py"]);
    std::fs::write(dir.path().join("lib").join(std::ffi::OsStr::from_bytes(b"b\xff.py")), "").unwrap();
    let error = used_files(dir.path(), "lib", &Ignore::none());
    assert!(matches!(error, Err(FilesError::Unreadable(why)) if why.contains("not UTF-8")));
}

#[test]
fn links_under_uses_are_followed_and_never_for_ever() {
    let dir = folder(&["lib/a.py", "outside/b.py"]);
    std::os::unix::fs::symlink("../outside", dir.path().join("lib/link")).unwrap();
    std::os::unix::fs::symlink("..", dir.path().join("outside/up")).unwrap();
    let found = used(dir.path(), "lib");
    assert!(found.starts_with(&["lib/a.py".to_owned(), "lib/link/b.py".to_owned()]), "{found:?}");
    std::os::unix::fs::symlink("nowhere", dir.path().join("lib/dangling")).unwrap();
    let error = used_files(dir.path(), "lib", &Ignore::none());
    assert!(matches!(error, Err(FilesError::Unreadable(why)) if why.contains("lib/dangling")));
}

#[test]
fn the_entry_of_a_file_is_found_however_it_is_written() {
    for entry in ["lib/a.py", "./lib/a.py", "lib", "lib/", "lib/*.py", "l*", ".", "**/*.py"] {
        assert!(names_file(entry, "lib/a.py"), "{entry}");
    }
    for entry in ["li", "lib/b.py", "lib/*/a.py", "b"] {
        assert!(!names_file(entry, "lib/a.py"), "{entry}");
    }
}

#[test]
fn what_changes_while_a_stage_runs_is_seen_when_it_has_ended() {
    let project = Project::new();
    project.write("text.txt", "one");
    project.write("lib/a.py", "one");
    let yaml = "sources: { s: text.txt }\nstages: { a: { inputs: { s: s }, uses: [lib], run: 'true', outputs: { o: any } } }";
    let planner = project.planner(project.graph(yaml));
    let look = || {
        let inputs = BTreeMap::from([("s".to_owned(), planner.sources().source("s").unwrap())]);
        let Decision::Run { key_inputs, .. } = planner.decide(0, &inputs).unwrap() else {
            panic!("it is new")
        };
        (inputs, key_inputs)
    };
    let (inputs, key_inputs) = look();
    let changed = || planner.sources().revalidate(0, &inputs, &key_inputs).unwrap();
    assert_eq!(changed(), []);
    project.write("text.txt", "two!");
    assert_eq!(changed(), [Changed::Source("s".into())]);
    project.write("lib/new.py", "new");
    assert_eq!(changed(), [Changed::Source("s".into()), Changed::Uses("lib/new.py".into())]);
    // All stages of a plan see the same bytes until somebody asks for a new look.
    assert_eq!(look(), (inputs.clone(), key_inputs.clone()));
    planner.sources().forget(0);
    assert_ne!(look().1, key_inputs);
    std::fs::remove_file(project.root().join("text.txt")).unwrap();
    planner.sources().forget(0);
    assert!(matches!(planner.sources().source("s"), Err(PlanError::NoSource { .. })));
}

#[test]
fn ignore_rules_of_the_pipeline_and_the_project_count_for_sources_and_uses() {
    let project = Project::new();
    project.write("data/a.txt", "a");
    project.write("lib/a.py", "a");
    let yaml = "ignore: ['*.tmp']\nsources: { s: data, g: 'data/*' }\nstages:\n  a: { inputs: { s: s, g: g }, uses: [lib, 'l*/*'], run: 'true', outputs: { o: any } }\n";
    project.run(yaml);
    project.write(".kilnignore", "build/\n");
    for ignored in
        ["data/x.tmp", "lib/x.tmp", "lib/build/x", "data/build/x", "data/.git/HEAD", "lib/__pycache__/x"]
    {
        project.write(ignored, "not counted");
        assert!(project.plan(yaml).summary().is_fresh(), "{ignored}");
    }
    // An editor's lock link leads nowhere.
    std::os::unix::fs::symlink("user@host.1", project.root().join("data/.#a.txt")).unwrap();
    assert!(project.plan(yaml).summary().is_fresh());
    project.write("data/b.txt", "b");
    let what: Vec<_> = project.plan(yaml).stages[0].reasons.iter().map(|r| r.what.clone()).collect();
    assert_eq!(what, ["inputs.g", "inputs.s"]);
}
