//! Inputs of stages, and large ones that are hard links.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Duration;

use super::*;

/// What becomes hard links here.
const LARGE: u64 = 2 << 20;

/// A store that makes hard links early.
fn place() -> Place {
    let mut place = super::place();
    place.store.hard_links_from = LARGE;
    place
}

fn large(p: &Place, name: &str) -> PathBuf {
    let file = p.file(name, "start");
    fs::File::options().write(true).open(&file).unwrap().set_len(LARGE).unwrap();
    file
}

fn inode(path: &Path) -> u64 {
    fs::metadata(path).unwrap().ino()
}

fn has_reflinks(p: &Place) -> bool {
    use super::super::disk::{Disk, Os};
    let (from, to) = (p.file("reflink/from", "x"), p.path("reflink/to"));
    Os::default().reflink(&from, &to).is_ok()
}

fn is_trusted(store: &Store, artifact: &ArtifactRef) -> bool {
    let stat = super::super::Stat::of(&fs::metadata(store.blob(&artifact.digest)).unwrap());
    store.blobs.trust.blob(&artifact.digest, &stat)
}

#[test]
fn a_small_input_is_a_copy_that_may_be_written_to() {
    let p = place();
    let kept = p.ingested("text");
    let dest = p.path("deep/in/x");
    p.store.materialize(&kept, &dest, How::Copies).unwrap();
    assert_eq!(fs::metadata(&dest).unwrap().mode() & 0o777, 0o644);
    fs::write(&dest, "changed").unwrap();
    assert!(p.reopened().is_intact(&kept).unwrap());
    assert!(p.store.materialize(&kept, &dest, How::Copies).is_err(), "nothing is replaced");
    assert!(p.store.materialize(&kept, &dest, How::Links).is_err());
    assert_eq!(fs::read_to_string(&dest).unwrap(), "changed");
}

#[test]
fn our_own_hard_links_cost_a_large_blob_no_trust() {
    let p = place();
    if has_reflinks(&p) {
        return;
    }
    let kept = p.store.ingest(&large(&p, "made")).unwrap();
    assert!(is_trusted(&p.store, &kept));
    for name in ["one", "two"] {
        p.store.materialize(&kept, &p.path(name).join("x"), How::Copies).unwrap();
        assert_eq!(inode(&p.path(name).join("x")), inode(&p.store.blob(&kept.digest)));
        assert_eq!(fs::metadata(p.path(name).join("x")).unwrap().mode() & 0o777, 0o444);
        assert!(is_trusted(&p.store, &kept));
    }
    p.store.discard(&p.path("one"), &[kept]).unwrap();
    p.store.discard(&p.path("two"), &[kept]).unwrap();
    assert!(is_trusted(&p.store, &kept) && !p.path("one").exists());
    p.store.flush().unwrap();
    assert!(is_trusted(&p.reopened(), &kept));
}

#[test]
fn a_blob_that_was_written_to_through_a_hard_link_is_found_and_quarantined() {
    let p = place();
    if has_reflinks(&p) {
        return;
    }
    let kept = p.store.ingest(&large(&p, "made")).unwrap();
    let link = p.path("in/x");
    p.store.materialize(&kept, &link, How::Copies).unwrap();
    let before = fs::metadata(&link).unwrap().modified().unwrap();
    fs::set_permissions(&link, fs::Permissions::from_mode(0o644)).unwrap();
    let file = fs::File::options().write(true).open(&link).unwrap();
    std::io::Write::write_all(&mut &file, b"other").unwrap();
    // Even with the time put back: the ctime tells.
    file.set_modified(before).unwrap();
    assert!(!p.store.is_intact(&kept).unwrap());
    assert!(!p.store.blob(&kept.digest).exists());
    p.store.discard(&p.path("in"), &[kept]).unwrap();
}

#[test]
fn a_removal_does_not_make_a_changed_blob_trusted() {
    let p = place();
    if has_reflinks(&p) {
        return;
    }
    let kept = p.store.ingest(&large(&p, "made")).unwrap();
    let link = p.path("in/x");
    p.store.materialize(&kept, &link, How::Copies).unwrap();
    std::thread::sleep(Duration::from_millis(30));
    fs::set_permissions(&link, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&link, "other").unwrap();
    p.store.discard(&p.path("in"), &[kept]).unwrap();
    assert!(!is_trusted(&p.store, &kept) && !p.store.is_intact(&kept).unwrap());
}

#[test]
fn an_executable_file_is_never_a_hard_link() {
    let p = place();
    let made = large(&p, "made");
    fs::set_permissions(&made, fs::Permissions::from_mode(0o755)).unwrap();
    let kept = p.store.ingest(&made).unwrap();
    p.store.materialize(&kept, &p.path("in"), How::Copies).unwrap();
    assert_ne!(inode(&p.path("in")), inode(&p.store.blob(&kept.digest)));
    assert_eq!(fs::metadata(p.path("in")).unwrap().mode() & 0o777, 0o755);
}

#[test]
fn a_large_source_enters_the_store_once_and_is_never_a_hard_link_to_the_users_file() {
    let p = place();
    let source = large(&p, "source");
    let first = p.store.ingest_source(&source, &p.path("one/x"), &Ignore::none()).unwrap();
    let second = p.store.ingest_source(&source, &p.path("two/x"), &Ignore::none()).unwrap();
    assert_eq!(first, second);
    assert_eq!(p.store.named(&source).unwrap(), first);
    assert_ne!(inode(&p.path("one/x")), inode(&source));
    if !has_reflinks(&p) {
        assert_eq!(inode(&p.path("one/x")), inode(&p.path("two/x")));
        assert!(p.store.is_intact(&first).unwrap());
    }
    fs::write(&source, "edited").unwrap();
    assert!(p.store.is_intact(&first).unwrap() || has_reflinks(&p));
}

#[test]
fn a_mode_changed_through_a_hard_link_is_put_right() {
    let p = place();
    let kept = p.store.ingest(&large(&p, "made")).unwrap();
    let blob = p.store.blob(&kept.digest);
    fs::set_permissions(&blob, fs::Permissions::from_mode(0o755)).unwrap();
    assert!(p.store.is_intact(&kept).unwrap());
    assert_eq!(fs::metadata(&blob).unwrap().mode() & 0o7777, 0o444);
}

#[test]
fn a_large_folder_of_sources_is_copied_whole_whatever_its_files_are() {
    let p = place();
    large(&p, "s/big");
    p.file("s/small", "small");
    p.file("s/same", "small");
    let tool = p.file("s/tool", "#!/bin/sh");
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
    for copy in ["one", "two"] {
        let copied = p.store.ingest_source(&p.path("s"), &p.path(copy), &Ignore::none()).unwrap();
        assert_eq!(p.store.named(&p.path("s")).unwrap(), copied);
        assert_eq!(p.store.named(&p.path(copy)).unwrap(), copied);
    }
    assert!(files_below(&p.store.root().join("work")).is_empty());
}
