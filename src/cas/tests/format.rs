//! The marks and formats of a store.

use super::super::{MARKER, STORE_FORMAT, StoreError, is_store};
use super::*;

#[test]
fn a_store_is_known_by_its_mark_and_ignores_itself_but_for_the_mark_and_the_readme() {
    let p = place();
    assert!(!is_store(p.store.root()));
    p.ingested("x");
    assert!(is_store(p.store.root()) && !is_store(p.dir.path()));
    let text = fs::read_to_string(p.store.root().join(".gitignore")).unwrap();
    assert!(text.starts_with(MARKER), "{text}");
    let rules: Vec<_> = text.lines().skip(1).collect();
    assert_eq!(rules, ["/*", "!/.gitignore", "!/README.md"]);
    assert_eq!(fs::read_to_string(p.store.root().join("format")).unwrap().trim(), STORE_FORMAT);
}

#[test]
fn a_file_that_is_not_ours_is_not_replaced() {
    let p = place();
    p.file("artifacts/.gitignore", "mine\n");
    p.ingested("x");
    assert_eq!(fs::read_to_string(p.store.root().join(".gitignore")).unwrap(), "mine\n");
    assert!(!is_store(p.store.root()));
}

#[test]
fn a_newer_store_is_not_written_to_and_an_older_one_is_brought_up_to_date() {
    let p = place();
    let kept = p.ingested("x");
    for newer in ["kiln.store/3", "kiln.store/next", "", "something else"] {
        fs::write(p.store.root().join("format"), newer).unwrap();
        let before = contents(p.store.root());
        let store = p.reopened();
        assert!(store.is_intact(&kept).unwrap(), "what is there can be read");
        let error = store.ingest(&p.file("output", "y")).unwrap_err();
        assert!(matches!(error, StoreError::NewerFormat { .. }), "{error}");
        assert!(error.to_string().contains("use a newer kiln"), "{error}");
        assert!(store.try_lock(&kept.digest, "s").is_err() && store.history().begin("p", "p.yaml").is_err());
        assert!(store.watch().is_err());
        drop(store);
        assert_eq!(contents(p.store.root()), before);
    }
    fs::write(p.store.root().join("format"), "kiln.store/1\n").unwrap();
    p.reopened().ingest(&p.file("output", "y")).unwrap();
    assert_eq!(fs::read_to_string(p.store.root().join("format")).unwrap().trim(), STORE_FORMAT);
}

#[test]
fn an_action_of_an_older_format_is_a_miss_and_its_blobs_are_used_again() {
    let p = place();
    let kept = p.ingested("bytes");
    let older = json!({
        "format": "kiln.action/1",
        "key": Digest::of_json(&key_inputs(1)),
        "ingredients": key_inputs(1),
        "outputs": {"o": {"digest": kept.digest, "tree": false, "size": 5}},
        "provenance": {"run": "r-0001", "started": "", "seconds": 1.0, "kiln": "0.1.0"},
    });
    let new = action(key_inputs(1), &[("o", kept)]);
    let path = p.store.actions.path(&new.key);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, crate::digest::canonical_json(&older)).unwrap();
    assert_eq!(p.store.action(&new.key).unwrap(), None);
    assert_eq!(p.store.older_format(&new.key).as_deref(), Some("kiln.action/1"));
    let blob = p.store.blob(&kept.digest);
    let before = fs::metadata(&blob).unwrap().modified().unwrap();
    assert_eq!(p.ingested("bytes"), kept);
    assert_eq!(p.store.put_action(&new).unwrap(), Committed::Healed);
    assert_eq!(fs::metadata(&blob).unwrap().modified().unwrap(), before, "the blob is the same file");
    assert_eq!(p.store.older_format(&new.key), None);
    assert_eq!(p.store.action(&new.key).unwrap(), Some(new));
}

#[test]
fn the_keys_at_work_are_those_with_a_lock_and_those_with_scratch() {
    let p = place();
    assert!(p.store.works().is_empty());
    let [abandoned, locked] = ["abandoned", "locked"].map(|text| Digest::of_bytes(text.as_bytes()));
    fs::create_dir_all(p.store.work(&abandoned)).unwrap();
    p.store.label_work(&abandoned).unwrap();
    let lock = p.store.try_lock(&locked, "s").unwrap();
    assert_eq!(p.store.works(), [abandoned, locked].into());
    drop(lock);
    let hex = abandoned.to_string();
    assert!(p.store.work(&abandoned).ends_with(format!("work/{}/{}", &hex[..2], &hex[2..16])));
    fs::remove_dir_all(p.store.work(&abandoned)).unwrap();
    assert!(p.store.works().is_empty());
}
