//! What the path of a source stands for.

use std::path::Path;

use crate::plan::{PlanError, SourceFiles, source_files};
use crate::spec::types::{Position, Source};

fn folder(files: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in files {
        let path = dir.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, file).unwrap();
    }
    dir
}

fn find(root: &Path, path: &str) -> Result<SourceFiles, PlanError> {
    let source =
        Source { at: Position { line: 4, column: 3 }, path: path.into(), artifact_type: "any".into() };
    source_files(root, "plays", &source)
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
}

#[test]
fn nothing_found_and_a_broken_glob_are_errors_with_their_place() {
    let dir = folder(&[]);
    assert!(matches!(find(dir.path(), "no.txt"), Err(PlanError::NoSource { .. })));
    assert!(matches!(find(dir.path(), "no/*.txt"), Err(PlanError::NoSource { .. })));
    let error = find(dir.path(), "a/[.txt").unwrap_err();
    assert_eq!(error.place().map(|(at, _, code)| (at.line, code)), Some((4, "bad-glob")));
}
