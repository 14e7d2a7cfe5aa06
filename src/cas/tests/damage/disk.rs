//! A disk that fails while something is fetched, sent, repaired or removed.
//!
//! What is asked of everybody: an error that names the disk and no miss, nothing wrong that is named, and a second try
//! that works.

use std::os::unix::fs::PermissionsExt;

use rustix::io::Errno;

use super::super::crash::Mortal;
use super::super::faults::{Faulty, attempt, keep};
use super::super::*;
use super::world::{remotes_at, send};
use crate::cas::remote::{FetchError, Sending, Sent};

/// A store with a result, and a remote that has it, too.
fn shared() -> (Place, Arc<Store>, Action) {
    let p = quick_place();
    let store = Arc::new(p.reopened());
    let action = keep(&store, &attempt(p.dir.path())).unwrap();
    assert_eq!(send(&remotes_at(&p.path("remote")), &store, &action, Sending::default()), Ok(Sent::New));
    (p, store, action)
}

fn outputs(action: &Action) -> Vec<ArtifactRef> {
    action.outputs.values().copied().collect()
}

/// The error of a disk that fails, which names what was concerned.
fn assert_is_of_disk(error: &StoreError, folder: &Path) {
    assert!(error.is_of_disk() && error.is_recoverable(), "{error}");
    assert!(error.to_string().contains(folder.to_str().unwrap()), "{error}");
}

#[test]
fn a_disk_that_fails_while_something_is_fetched_is_no_miss_and_a_second_try_fetches_it() {
    let (p, _, action) = shared();
    let mut faults = 0;
    for step in 0.. {
        let reader = tempfile::tempdir().unwrap();
        let root = reader.path().join("artifacts");
        let disk = Faulty::at(step, [Errno::NOSPC, Errno::IO, Errno::DQUOT][step % 3]);
        let store = Store::on_disk(&root, disk.clone()).unwrap();
        store.share_with(remotes_at(&p.path("remote")));
        let fetched = store.fetch(&outputs(&action), &[]);
        if !disk.failed() {
            fetched.unwrap();
            break;
        }
        faults += 1;
        match fetched {
            Ok(_) => {}
            Err(FetchError::Store(error)) => assert_is_of_disk(&error, reader.path()),
            Err(error) => panic!("step {step}: {error}"),
        }
        assert!(files_below(&root.join("work/tmp")).len() <= 1, "step {step}");
        drop(store);
        // Another process, as the next run is.
        let store = Store::on_disk(&root, Arc::new(Mortal::with_steps(usize::MAX))).unwrap();
        for blob in files_below(&root.join("blobs")) {
            let name: String =
                blob.to_str().unwrap().rsplit('/').take(2).collect::<Vec<_>>().into_iter().rev().collect();
            assert_eq!(Digest::of_file(&blob).unwrap().0.to_string(), name, "step {step}");
        }
        store.share_with(remotes_at(&p.path("remote")));
        store.fetch(&outputs(&action), &[]).unwrap();
        assert_eq!(store.outputs_intact(&action, action.outputs.keys()).unwrap(), None, "step {step}");
    }
    assert!(faults > 30, "only {faults} steps: does a fetch still go through the disk?");
}

#[test]
fn to_send_a_result_writes_nothing_here() {
    let (p, store, action) = shared();
    drop(store);
    let disk = Faulty::at(0, Errno::NOSPC);
    let store = Arc::new(Store::on_disk(p.store.root(), disk.clone()).unwrap());
    let sent = send(&remotes_at(&p.path("elsewhere")), &store, &action, Sending::default());
    assert_eq!(sent, Ok(Sent::New));
    assert!(!disk.failed());
}

#[test]
fn a_disk_that_fails_while_a_store_is_repaired_is_an_error_and_the_next_check_repairs_it() {
    let (p, store, action) = shared();
    drop(store);
    let root = p.store.root();
    let harmed = [files_below(&root.join("blobs")), files_below(&root.join("actions"))].concat();
    let before: Vec<_> = harmed.iter().map(|file| fs::read(file).unwrap()).collect();
    let mut faults = 0;
    for step in 0.. {
        for file in &harmed {
            fs::set_permissions(file, fs::Permissions::from_mode(0o644)).unwrap();
            fs::write(file, "damaged").unwrap();
        }
        let disk = Faulty::at(step, [Errno::NOSPC, Errno::DQUOT][step % 2]);
        let store = Store::on_disk(root, disk.clone()).unwrap();
        store.share_with(remotes_at(&p.path("remote")));
        match store.fsck(&mut |_| {}) {
            Ok(checked) if !disk.failed() => {
                assert!(checked.is_sound(), "{checked:?}");
                break;
            }
            // It failed where that is no harm.
            Ok(checked) => assert!(checked.is_sound(), "step {step}: {checked:?}"),
            Err(error) => assert_is_of_disk(&error, root),
        }
        faults += 1;
        drop(store);
        let store = Store::on_disk(root, Arc::new(Mortal::with_steps(usize::MAX))).unwrap();
        store.share_with(remotes_at(&p.path("remote")));
        store.fsck(&mut |_| {}).unwrap();
        store.fetch(&outputs(&action), &[]).unwrap();
        for (file, bytes) in
            harmed.iter().zip(&before).filter(|(file, _)| file.starts_with(root.join("blobs")))
        {
            assert!(fs::read(file).unwrap() == *bytes, "step {step}: {}", file.display());
        }
        store.put_action(&action).unwrap();
    }
    assert!(faults > 30, "only {faults} steps: does a repair still go through the disk?");
}

#[test]
fn a_disk_that_fails_while_garbage_is_removed_is_an_error_and_the_next_try_removes_the_rest() {
    let mut faults = 0;
    for step in 0.. {
        let p = quick_place();
        let kept = action(key_inputs(1), &[("x", p.ingested("kept"))]);
        let dead = action(key_inputs(2), &[("x", p.ingested("dead"))]);
        for action in [&kept, &dead] {
            p.store.put_action(action).unwrap();
        }
        let disk = Faulty::at(step, Errno::IO);
        let store = Store::on_disk(p.store.root(), disk.clone()).unwrap();
        let roots = [kept.key].into();
        let collect = |store: &Store| {
            let plan = store.plan_gc(&roots, &[], std::time::Duration::ZERO).unwrap();
            store.collect_garbage(&plan)
        };
        let collected = collect(&store);
        if !disk.failed() {
            assert_eq!(collected.unwrap(), 4 + fs::metadata(p.store.actions.path(&kept.key)).unwrap().len());
            break;
        }
        faults += 1;
        assert_is_of_disk(&collected.unwrap_err(), p.store.root());
        // A record never names what was removed.
        if let Some(action) = store.action(&dead.key).unwrap() {
            assert!(store.is_intact(&action.outputs["x"]).unwrap(), "step {step}");
        }
        collect(&p.reopened()).unwrap();
        assert_eq!(store.action(&dead.key).unwrap(), None);
        assert!(!store.blob(&dead.outputs["x"].digest).exists(), "step {step}");
        assert_eq!(store.action(&kept.key).unwrap(), Some(kept.clone()));
        assert!(store.is_intact(&kept.outputs["x"]).unwrap(), "step {step}");
    }
    assert!(faults >= 4, "only {faults} steps: does the removal still go through the disk?");
}
