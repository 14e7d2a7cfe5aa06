//! Trees from a hostile cache.

use super::super::{How, StoreError};
use super::*;

/// A tree of one file, filed as its blob whatever its path.
fn filed(p: &Place, paths: &[&str]) -> ArtifactRef {
    let digest = p.ingested("loot").digest;
    let files: Vec<_> = paths.iter().map(|path| json!({"path": path, "digest": digest, "size": 4})).collect();
    let json = crate::digest::canonical_json(
        &json!({"format": "kiln.tree/2", "files": files, "links": [], "folders": []}),
    );
    ArtifactRef { tree: true, size: 4 * paths.len() as u64, ..p.ingested(&json) }
}

#[test]
fn a_tree_that_climbs_out_is_refused_by_everyone_and_writes_nothing() {
    let p = place();
    for path in ["../loot", "/tmp/kiln-loot", "a/../../loot", "a\\..\\loot"] {
        let bad = filed(&p, &[path]);
        assert!(matches!(p.store.tree(&bad.digest), Err(StoreError::BadTree { .. })), "{path}");
        assert!(!p.store.is_intact(&bad).unwrap());
        assert!(p.store.export(&bad, &p.path("out/x")).is_err());
        assert!(p.store.materialize(&bad, &p.path("in/x"), How::Links).is_err());
        assert!(p.store.put_action(&action(key_inputs(1), &[("x", bad)])).is_err());
        for _ in ["out", "in"] {
            assert!(!p.path("out/loot").exists() && !p.path("in/loot").exists() && !p.path("loot").exists());
        }
        let _ = fs::remove_dir_all(p.path("in"));
    }
}

#[test]
fn a_tree_with_a_path_that_is_file_and_folder_is_refused() {
    let p = place();
    for paths in [&["a", "a/b"][..], &["a", "a"], &["b", "a"]] {
        assert!(matches!(p.store.tree(&filed(&p, paths).digest), Err(StoreError::BadTree { .. })));
    }
    assert!(p.store.is_intact(&filed(&p, &["a", "b/c"])).unwrap());
}

#[test]
fn a_tree_whose_links_climb_out_is_refused_by_everyone_and_writes_nothing() {
    let p = place();
    for (path, target) in
        [("l", "../loot"), ("a/l", "../../loot"), ("l", "/etc"), ("../l", "x"), ("l", "a/../../x")]
    {
        let tree = json!({
            "format": "kiln.tree/2", "files": [], "folders": [], "links": [{"path": path, "target": target}],
        });
        let bad = ArtifactRef { tree: true, size: 0, ..p.ingested(&crate::digest::canonical_json(&tree)) };
        assert!(matches!(p.store.tree(&bad.digest), Err(StoreError::BadTree { .. })), "{target}");
        assert!(!p.store.is_intact(&bad).unwrap());
        for how in [How::Links, How::Copies] {
            assert!(p.store.materialize(&bad, &p.path("in/x"), how).is_err());
        }
        assert!(p.store.export(&bad, &p.path("out/x")).is_err());
        assert!(!p.path("in/x").exists() && !p.path("out/x").exists());
        let _ = fs::remove_dir_all(p.path("in"));
    }
}

#[test]
fn a_tree_of_an_older_format_says_so_and_is_not_intact() {
    let p = place();
    let file = p.ingested("text");
    let older = json!({"format": "kiln.tree/1", "files": [{"path": "a", "digest": file.digest, "size": 4}]});
    let older = ArtifactRef { tree: true, size: 4, ..p.ingested(&crate::digest::canonical_json(&older)) };
    assert!(!p.store.is_intact(&older).unwrap());
    let error = p.store.tree(&older.digest).unwrap_err().to_string();
    assert!(error.contains("made by an older format"), "{error}");
    assert!(p.store.is_intact(&file).unwrap(), "its blobs can be used again");
}

#[test]
fn a_reference_that_lies_about_size_or_shape_is_not_whole() {
    let p = place();
    let good = filed(&p, &["a"]);
    assert!(p.store.is_intact(&good).unwrap());
    assert!(!p.store.is_intact(&ArtifactRef { size: 5, ..good }).unwrap());
    let file = p.ingested("bytes");
    assert!(!p.store.is_intact(&ArtifactRef { size: 4, ..file }).unwrap());
    assert!(!p.store.is_intact(&ArtifactRef { tree: true, ..file }).unwrap());
    assert!(p.store.is_intact(&file).unwrap(), "the blob itself was not harmed");
}

#[test]
fn a_link_or_a_folder_in_the_place_of_a_blob_is_no_blob() {
    let p = place();
    let kept = p.ingested("bytes");
    let blob = p.store.blob(&kept.digest);
    fs::rename(&blob, p.path("elsewhere")).unwrap();
    std::os::unix::fs::symlink(p.path("elsewhere"), &blob).unwrap();
    assert!(!p.store.is_intact(&kept).unwrap());
    fs::create_dir(&blob).unwrap();
    assert!(!p.store.is_intact(&kept).unwrap());
    assert_eq!(p.ingested("bytes"), kept);
    assert!(p.store.is_intact(&kept).unwrap());
}
