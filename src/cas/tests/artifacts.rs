//! Naming, taking in and giving out.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::Barrier;
use std::time::Duration;

use proptest::prelude::*;

use super::super::{How, Stat, Store, StoreError};
use super::*;

/// Files by path; paths of few names, so that folders are shared.
fn random_files() -> impl Strategy<Value = BTreeMap<String, (Vec<u8>, bool)>> {
    let bytes = proptest::collection::vec(any::<u8>(), 0..200);
    proptest::collection::btree_map("[ab-]{1,2}(/[abé.]{3}){0,3}", (bytes, any::<bool>()), 1..12)
}

/// Writes what can be written: a path below a file is left out.
fn write_tree(base: &Path, files: &BTreeMap<String, (Vec<u8>, bool)>) {
    fs::create_dir(base).unwrap();
    for (path, (bytes, executable)) in files {
        let path = base.join(path);
        if fs::create_dir_all(path.parent().unwrap()).is_ok() && fs::write(&path, bytes).is_ok() {
            let mode = if *executable { 0o755 } else { 0o644 };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn a_folder_comes_out_as_it_went_in(files in random_files()) {
        let p = quick_place();
        let output = p.path("output");
        write_tree(&output, &files);
        let before = contents(&output);
        let named = p.store.named(&output).unwrap();
        let kept = p.store.ingest(&output).unwrap();
        prop_assert_eq!(named, kept);
        prop_assert!(p.store.is_intact(&kept).unwrap() && p.reopened().is_intact(&kept).unwrap());

        let copy = p.path("copy");
        p.store.export(&kept, &copy).unwrap();
        prop_assert_eq!(p.store.named(&copy).unwrap(), kept);
        prop_assert_eq!(&contents(&copy), &before);

        for (how, dest) in [(How::Links, p.path("in/links")), (How::Copies, p.path("in/copies"))] {
            p.store.materialize(&kept, &dest, how).unwrap();
            prop_assert_eq!(&contents(&dest), &before);
        }
        prop_assert!(files_below(&p.store.root().join("work")).is_empty());
    }

    #[test]
    fn a_flipped_bit_in_any_blob_is_noticed(files in random_files(), pick in any::<(usize, usize)>(), known: bool) {
        let p = quick_place();
        write_tree(&p.path("output"), &files);
        let kept = p.store.ingest(&p.path("output")).unwrap();
        if known {
            std::thread::sleep(Duration::from_millis(25));
            p.store.flush().unwrap();
        }
        let blobs = files_below(&p.store.root().join("blobs"));
        let blob = &blobs[pick.0 % blobs.len()];
        let mut bytes = fs::read(blob).unwrap();
        prop_assume!(!bytes.is_empty());
        let at = pick.1 % (bytes.len() * 8);
        bytes[at / 8] ^= 1 << (at % 8);
        fs::set_permissions(blob, fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(blob, bytes).unwrap();
        prop_assert!(!p.store.is_intact(&kept).unwrap());
        prop_assert!(!blob.exists(), "the damaged blob was quarantined");
        prop_assert_eq!(files_below(&p.store.root().join("work/quarantine")).len(), 1);
        prop_assert!(p.store.export(&kept, &p.path("copy")).is_err());
        prop_assert!(!p.path("copy").exists());
        // Made again, it is whole again.
        prop_assert_eq!(p.store.ingest(&p.path("output")).unwrap(), kept);
        prop_assert!(p.store.is_intact(&kept).unwrap());
    }
}

#[test]
fn a_files_digest_is_that_of_its_bytes_and_its_blob_is_read_only() {
    let p = place();
    let kept = p.ingested("abc");
    assert_eq!(
        kept,
        ArtifactRef { digest: Digest::of_bytes(b"abc"), tree: false, executable: false, size: 3 }
    );
    let blob = p.store.root().join("blobs/ba/7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_eq!(fs::metadata(&blob).unwrap().mode() & 0o777, 0o444);
    assert_eq!(p.store.read(&kept.digest, 3).unwrap(), b"abc");
    assert!(matches!(p.store.read(&kept.digest, 2), Err(StoreError::TooBig { .. })));
    assert!(matches!(p.store.read(&Digest::of_bytes(b"other"), 9), Err(StoreError::NotIntact(_))));
}

#[test]
fn a_glob_is_the_folder_of_its_files() {
    let p = place();
    for name in ["plays/a.txt", "plays/old/b.txt", "plays/notes.md"] {
        p.file(name, name);
    }
    let base = p.path("plays");
    let files = [PathBuf::from("old/b.txt"), base.join("a.txt")];
    let glob = p.store.identify_glob(&base, &files).unwrap();
    assert_eq!(p.store.ingest_glob(&base, &files, &p.path("in")).unwrap(), glob);
    assert_eq!(contents(&p.path("in")).into_keys().collect::<Vec<_>>(), ["a.txt", "old/b.txt"]);
    fs::remove_file(base.join("notes.md")).unwrap();
    assert_eq!(p.store.named(&base).unwrap(), glob);
    assert!(p.store.identify_glob(&base, &[PathBuf::from("../plays/a.txt")]).is_err());
    assert!(p.store.identify_glob(&base, &[files[1].clone(), files[1].clone()]).is_err());
}

#[test]
fn an_output_with_another_name_is_copied_so_that_the_name_cannot_change_the_blob() {
    let p = place();
    let mine = p.file("mine", "bytes");
    fs::create_dir_all(p.path("artifacts/work")).unwrap();
    fs::hard_link(&mine, p.path("artifacts/work/output")).unwrap();
    let kept = p.store.ingest(&p.path("artifacts/work/output")).unwrap();
    assert_ne!(fs::metadata(&mine).unwrap().mode() & 0o200, 0, "the user's file stays writable");
    fs::write(&mine, "other").unwrap();
    assert!(p.store.is_intact(&kept).unwrap());
}

#[test]
fn an_export_replaces_what_is_there_and_leaves_nothing_else() {
    let p = place();
    let file = p.ingested("new");
    p.file("f", "old");
    p.store.export(&file, &p.path("f")).unwrap();
    assert_eq!(fs::read(p.path("f")).unwrap(), b"new");
    fs::write(p.path("f"), "an export is the user's own").unwrap();
    assert!(p.store.is_intact(&file).unwrap());

    p.file("made/a", "a");
    let folder = p.store.ingest(&p.path("made")).unwrap();
    p.file("d/old", "old");
    for dest in ["d", "d", "f", "new/deep"] {
        p.store.export(&folder, &p.path(dest)).unwrap();
        assert_eq!(contents(&p.path(dest)), BTreeMap::from([("a".into(), b"a".to_vec())]));
    }
    let mut names: Vec<_> = fs::read_dir(p.dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["artifacts", "d", "f", "made", "new", "output"]);
}

#[test]
fn two_threads_take_in_the_same_bytes() {
    let p = place();
    for round in 0..30 {
        let barrier = Barrier::new(2);
        let one = |n: u32| {
            let output = p.file(&format!("o{n}/x"), &format!("round {round}"));
            barrier.wait();
            p.store.ingest(output.parent().unwrap()).unwrap()
        };
        let (a, b) = std::thread::scope(|s| {
            let a = s.spawn(|| one(1));
            (one(2), a.join().unwrap())
        });
        assert_eq!(a, b);
        assert!(p.store.is_intact(&a).unwrap() && p.reopened().is_intact(&a).unwrap());
    }
    assert!(files_below(&p.store.root().join("work")).is_empty(), "nothing temporary, nothing quarantined");
}

#[test]
fn a_file_changed_within_the_clocks_grain_is_noticed() {
    let p = place();
    let then = std::time::SystemTime::now() - Duration::from_secs(60);
    for i in 100..400 {
        let file = p.file("source", &i.to_string());
        fs::File::options().write(true).open(&file).unwrap().set_modified(then).unwrap();
        let named = p.store.named(&file).unwrap();
        assert_eq!(named.digest, Digest::of_bytes(i.to_string().as_bytes()));
        let known = |store: &Store| {
            let stat = Stat::of(&fs::metadata(&file).unwrap());
            store.blobs.trust.file(&file, &stat)
        };
        assert_eq!(known(&p.store), None, "no digest is kept of a file that is racily clean");
    }
}

#[test]
fn an_unchanged_file_is_not_read_again_even_by_the_next_process() {
    let p = place();
    let file = p.file("source", "text");
    let named = p.store.named(&file).unwrap();
    let blob = p.ingested("blob");
    std::thread::sleep(Duration::from_millis(30));
    p.store.flush().unwrap();
    let next = p.reopened();
    let stat = Stat::of(&fs::metadata(&file).unwrap());
    assert_eq!(next.blobs.trust.file(&file, &stat), Some(named.digest));
    let stat = Stat::of(&fs::metadata(next.blob(&blob.digest)).unwrap());
    assert!(next.blobs.trust.blob(&blob.digest, &stat));
    // What the index says is trusted: the file is not opened.
    let other = Digest::of_bytes(b"other");
    next.blobs.trust.record_file(&file, Stat::of(&fs::metadata(&file).unwrap()), other);
    assert_eq!(next.named(&file).unwrap().digest, other);
    fs::write(&file, "TEXT").unwrap();
    assert_eq!(next.named(&file).unwrap().digest, Digest::of_bytes(b"TEXT"));
}

#[test]
fn a_large_fresh_output_is_known_at_once() {
    let p = place();
    let large = p.ingested(&"x".repeat(3 << 20));
    let stat = Stat::of(&fs::metadata(p.store.blob(&large.digest)).unwrap());
    assert!(p.store.blobs.trust.blob(&large.digest, &stat));
}

#[test]
fn looking_writes_nothing_where_no_store_is() {
    let p = place();
    let file = p.file("source", "text");
    let named = p.store.named(&file).unwrap();
    std::thread::sleep(Duration::from_millis(25));
    assert!(!p.store.is_intact(&named).unwrap());
    assert!(p.store.action(&named.digest).unwrap().is_none());
    assert!(p.store.history().latest("x").unwrap().is_none() && p.store.history().list().unwrap().is_empty());
    p.store.flush().unwrap();
    assert!(!p.store.root().exists());
}
