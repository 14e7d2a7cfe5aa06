//! The corpora of the fuzz targets, and what is near them, without a fuzzer.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use fastrand::Rng;
use kiln::fuzzing::Target;

/// How many changed copies of each file are tried.
const COPIES: u64 = 50;

/// Those of the runner, and those of the formats of other tools.
fn targets() -> impl Iterator<Item = Target> {
    kiln::fuzzing::TARGETS.into_iter().chain(kiln_formats::fuzzing::TARGETS)
}

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus")
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

#[test]
fn every_target_takes_every_file_of_its_corpus() {
    for (name, target) in targets() {
        let files = entries(&corpus().join(name));
        assert!(!files.is_empty(), "{name} has no corpus");
        for file in files {
            // A test that fails shows the last line.
            println!("{}", file.display());
            target(&fs::read(&file).unwrap());
        }
    }
}

#[test]
fn every_target_takes_what_is_near_its_corpus() {
    for (name, target) in targets() {
        for file in entries(&corpus().join(name)) {
            let bytes = fs::read(&file).unwrap();
            for seed in 0..COPIES {
                println!("{} seed {seed}", file.display());
                target(&changed(bytes.clone(), &mut Rng::with_seed(seed)));
            }
        }
    }
}

fn changed(mut bytes: Vec<u8>, rng: &mut Rng) -> Vec<u8> {
    for _ in 0..rng.usize(1..4) {
        let (at, to) = (rng.usize(..=bytes.len()), rng.usize(..=bytes.len()));
        match rng.u8(..4) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, rng.u8(..)),
            // A part stands twice.
            2 => drop(bytes.splice(to..to, bytes[at.min(to)..at.max(to)].to_vec())),
            _ => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << rng.u8(..8)),
        }
    }
    bytes
}

#[test]
fn every_folder_of_the_corpora_is_that_of_a_target() {
    let names: BTreeSet<_> = targets().map(|(name, _)| name.to_owned()).collect();
    let folders = entries(&corpus());
    let folders: BTreeSet<_> =
        folders.iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    assert_eq!(folders, names);
    let cargo = fs::read_to_string(corpus().join("../Cargo.toml")).unwrap();
    assert!(names.iter().all(|name| cargo.contains(&format!("name = \"{name}\""))), "each is a program");
}
