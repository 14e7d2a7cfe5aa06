//! The state on a disk of which one operation fails.

use std::fs;
use std::sync::Arc;

use rustix::io::Errno;

use super::super::Lock;
use crate::cas::Store;
use crate::cas::tests::crash::Mortal;
use crate::cas::tests::faults::Faulty;
use crate::cas::tests::{files_below, place};
use crate::digest::Digest;

#[test]
fn a_lock_that_cannot_be_written_is_held_by_nobody() {
    let key = Digest::of_bytes(b"key");
    let mut faults = 0;
    for step in 0.. {
        let dir = tempfile::tempdir().unwrap();
        let disk = Faulty::at(step, Errno::NOSPC);
        let store = Store::on_disk(&dir.path().join("artifacts"), disk.clone()).unwrap();
        let taken = store.try_lock(&key, "sft").map(|lock| match lock {
            Lock::Acquired(_) => true,
            Lock::HeldBy(holder) => panic!("held by {holder}"),
        });
        if !disk.failed() {
            assert!(taken.unwrap());
            break;
        }
        faults += 1;
        assert_eq!(store.holder(&key).unwrap(), None, "step {step}");
        assert!(matches!(store.try_lock(&key, "next").unwrap(), Lock::Acquired(_)), "step {step}");
    }
    assert!(faults > 5, "only {faults} steps: do the locks still go through the disk?");
}

#[test]
fn a_run_that_cannot_be_written_is_an_error_and_the_next_one_begins() {
    let mut faults = 0;
    for step in 0.. {
        let dir = tempfile::tempdir().unwrap();
        let disk = Faulty::at(step, Errno::NOSPC);
        let store = Store::on_disk(&dir.path().join("artifacts"), disk.clone()).unwrap();
        let history = store.history();
        let key = Digest::of_bytes(b"k");
        let all = history.begin("p", "p.yaml").and_then(|run| {
            run.append_events(b"{}\n")?;
            run.remember(&[("sft".to_owned(), key)])?;
            run.write(run.record())
        });
        if !disk.failed() {
            all.unwrap();
            break;
        }
        faults += 1;
        // No half of a record is ever read, and what was remembered is right or missing.
        if let Some(record) = history.latest("p").unwrap() {
            assert_eq!(record.pipeline, "p");
        }
        assert!(history.last_keys("p").unwrap().values().all(|found| *found == key));
        let next = history.begin("p", "p.yaml").unwrap();
        next.remember(&[("sft".to_owned(), key)]).unwrap();
        assert_eq!(history.last_keys("p").unwrap()["sft"], key, "step {step}");
        assert_eq!(history.latest("p").unwrap().unwrap().id, next.id());
    }
    assert!(faults > 10, "only {faults} steps: do the runs still go through the disk?");
}

#[test]
fn records_of_stats_that_cannot_be_saved_lose_nothing_but_time() {
    for step in 0..8 {
        let p = place();
        let kept = p.ingested("text");
        std::thread::sleep(std::time::Duration::from_millis(30));
        let store = Store::on_disk(p.store.root(), Faulty::at(step, Errno::IO)).unwrap();
        assert!(store.is_intact(&kept).unwrap());
        let _ = store.flush();
        assert!(p.reopened().is_intact(&kept).unwrap());
        store.flush().unwrap();
        let left = files_below(&p.store.root().join("cache"));
        assert_eq!(left, [p.store.root().join("cache/stat")], "step {step}");
        assert!(!fs::read(&left[0]).unwrap().is_empty());
    }
}

#[test]
fn a_crash_at_any_step_of_a_run_leaves_a_history_that_can_be_read_and_gone_on_with() {
    let mut deaths = 0;
    for steps in 0.. {
        let mut died = false;
        for keep in [0, u64::MAX, 0x5555_5555_5555_5555] {
            let dir = tempfile::tempdir().unwrap();
            let root = dir.path().join("artifacts");
            let disk = Mortal::with_steps(steps);
            let store = Store::on_disk(&root, Arc::new(disk.clone())).unwrap();
            let keys = [1, 2, 3].map(|n: u8| Digest::of_bytes(&[n]));
            let done = store.history().begin("p", "p.yaml").and_then(|run| {
                keys.iter().try_for_each(|key| run.remember(&[("sft".to_owned(), *key)]))?;
                run.append_events(b"{}\n")?;
                run.write(run.record())
            });
            died = disk.died() && done.is_err();
            drop(store);
            disk.lose_power(&root, keep);
            let store = Store::open(&root).unwrap();
            let history = store.history();
            history.list().unwrap();
            let known = history.last_keys("p").unwrap();
            assert!(known.values().all(|key| keys.contains(key)), "steps {steps}: {known:?}");
            if let Some(record) = history.latest("p").unwrap() {
                assert_eq!(record.pipeline, "p");
            }
            let next = history.begin("p", "p.yaml").unwrap();
            next.remember(&[("sft".to_owned(), keys[0])]).unwrap();
            assert_eq!(history.last_keys("p").unwrap()["sft"], keys[0]);
        }
        if !died {
            break;
        }
        deaths += 1;
    }
    assert!(deaths > 10, "only {deaths} steps: do the runs still go through the disk?");
}
