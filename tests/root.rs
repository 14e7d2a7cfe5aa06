//! Black-box tests of the project root.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::fs;

use common::Pipeline;

const COPY: &str = "\
pipeline: copy
sources:
  text: { path: text.txt, type: corpus }
stages:
  copy:
    kind: command
    inputs: { text: text }
    run: cat {inputs.text} > {outputs.text}
    outputs: { text: corpus }
";
const MARK: &str = "# Kiln's store: made by `kiln`, ignored by git.\n*\n!.gitignore\n";

/// A project below a folder, with its pipeline in `below/project/kiln.yaml`.
fn nested() -> Pipeline {
    Pipeline::new().file("below/project/kiln.yaml", COPY).file("below/project/text.txt", "x\n")
}

/// The root that the doctor finds from a folder.
fn root_from(project: &Pipeline, folder: &str) -> String {
    let output = project.kiln(&["doctor", "--json"]).current_dir(project.path(folder)).output().unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let root = fs::canonicalize(answer["root"].as_str().unwrap()).unwrap();
    let top = fs::canonicalize(project.root()).unwrap();
    root.strip_prefix(top).unwrap().display().to_string()
}

#[test]
fn a_folder_that_is_only_named_artifacts_captures_nothing() {
    let project = nested().file("artifacts/thesis.pdf", "x").file("below/artifacts/.gitignore", "*\n");
    assert_eq!(root_from(&project, "below/project"), "below/project");
    let output = project.kiln(&["run"]).current_dir(project.path("below/project")).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(project.path("below/project/artifacts/blobs").is_dir());
    assert_eq!(fs::read_dir(project.path("artifacts")).unwrap().count(), 1);
}

#[test]
fn the_nearest_marked_store_upwards_makes_the_root() {
    let project = nested().file("below/artifacts/.gitignore", MARK).file("artifacts/.gitignore", MARK);
    assert_eq!(root_from(&project, "below/project"), "below");
}

#[test]
fn a_store_without_a_mark_is_known_by_its_folders() {
    let project = nested();
    for part in ["blobs", "actions"] {
        fs::create_dir_all(project.path("below/artifacts").join(part)).unwrap();
    }
    assert_eq!(root_from(&project, "below/project"), "below");
}

#[test]
fn without_a_store_the_repository_of_the_pipeline_file_is_the_root() {
    let project = nested().file("below/.git", "gitdir: elsewhere\n");
    project.write("below/text.txt", "of the repository\n");
    // From a folder outside of it as well: the file decides.
    let shown = project.ask(&["show", "below/project/kiln.yaml", "text"]).good();
    assert!(shown.contains("of the repository"), "{shown}");
    project.ask(&["run", "below/project/kiln.yaml"]).good();
    assert!(project.path("below/artifacts/blobs").is_dir());
    assert!(!project.path("artifacts").exists());
    // Its store decides from now on.
    assert_eq!(root_from(&project, "below/project"), "below");
}

#[test]
fn without_a_store_and_a_repository_the_working_folder_is_the_root() {
    let project = nested();
    project.write("text.txt", "here\n");
    project.ask(&["run", "below/project/kiln.yaml"]).good();
    assert!(project.path("artifacts/blobs").is_dir());
}

#[test]
fn another_store_can_be_named() {
    let project = nested().file("below/artifacts/.gitignore", MARK);
    let folder = project.path("below/project");
    for (words, variable) in [(&["--store", "option", "run"][..], None), (&["run"], Some("variable"))] {
        project.write("below/text.txt", "x\n");
        let mut kiln = project.kiln(words);
        kiln.current_dir(&folder);
        if let Some(store) = variable {
            kiln.env("KILN_STORE", store);
        }
        let output = kiln.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert!(folder.join(variable.unwrap_or("option")).join("blobs").is_dir());
    }
    assert!(!project.path("below/artifacts/blobs").exists());
}
