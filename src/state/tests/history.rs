//! Runs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::{Value, json};

use super::super::{RunOutcome, StageOutcome, StageRecord};
use crate::cas::StoreError;
use crate::cas::tests::{files_below, place};
use crate::digest::Digest;

fn stage(key: Digest) -> StageRecord {
    StageRecord {
        key: Some(key),
        outcome: StageOutcome::Ran,
        seconds: 0.25,
        outputs: BTreeMap::new(),
        error: None,
        summary: vec![("loss".into(), 1.5), ("nan".into(), f64::NAN)],
    }
}

#[test]
fn a_runs_record_reads_back_and_a_killed_run_stays_running() {
    let p = place();
    let runs = p.store.history();
    let run = runs.begin("assistant", "pipelines/assistant.yaml").unwrap();
    assert_eq!(run.id(), "r-0001");
    assert_eq!(runs.latest("assistant").unwrap().unwrap().outcome, RunOutcome::Running);
    let mut record = run.record();
    record.outcome = RunOutcome::Ok;
    record.stages.insert("sft".into(), stage(Digest::of_bytes(b"k")));
    run.write(record.clone()).unwrap();
    let back = runs.latest("assistant").unwrap().unwrap();
    record.stages.get_mut("sft").unwrap().summary.pop();
    assert_eq!(back, record);
    assert!(back.started.parse::<jiff::Timestamp>().is_ok(), "{}", back.started);
    assert_eq!(runs.latest("another").unwrap(), None);
    assert!(matches!(runs.read("../r-0001"), Err(StoreError::NoRun(_))));
    fs::write(run.folder().join("run.json"), "{").unwrap();
    assert_eq!(runs.read("r-0001").unwrap(), None);
}

#[test]
fn runs_beside_each_other_get_ids_of_their_own() {
    let p = place();
    let one = || (0..10).map(|_| p.reopened().history().begin("x", "x.yaml").unwrap().id().to_owned());
    let ids = std::thread::scope(|s| {
        let threads: Vec<_> = (0..4).map(|_| s.spawn(|| one().collect::<Vec<_>>())).collect();
        threads.into_iter().flat_map(|t| t.join().unwrap()).collect::<BTreeSet<_>>()
    });
    assert_eq!(ids.len(), 40);
    assert_eq!(p.store.history().list().unwrap(), ids.into_iter().collect::<Vec<_>>());
    fs::create_dir(p.store.root().join("runs/r-9999")).unwrap();
    assert_eq!(p.store.history().begin("x", "x.yaml").unwrap().id(), "r-10000");
    assert_eq!(p.store.history().list().unwrap().last().unwrap(), "r-10000");
}

#[test]
fn the_last_good_keys_outlive_a_killed_run_and_a_torn_line() {
    let p = place();
    let runs = p.store.history();
    let key = |n: u64| Digest::of_json(&json!(n));
    let run = runs.begin("a/b", "x.yaml").unwrap();
    for n in 0..500 {
        run.remember(&[(format!("stage-{}", n % 5), key(n))]).unwrap();
    }
    let file = files_below(&p.store.root().join("runs/last")).into_iter().find(|f| f.extension().is_some());
    let file = file.unwrap();
    let journal = fs::read(&file).unwrap();
    fs::write(&file, &journal[..journal.len() - 7]).unwrap();
    let expected: BTreeMap<_, _> =
        (0..5).map(|s| (format!("stage-{s}"), if s == 4 { key(494) } else { key(495 + s) })).collect();
    assert_eq!(runs.last_keys("a/b").unwrap(), expected);
    let run = runs.begin("a/b", "x.yaml").unwrap();
    assert!(fs::metadata(&file).unwrap().len() < 2000, "the journal was tidied");
    run.remember(&[("stage-4".to_owned(), key(7))]).unwrap();
    assert_eq!(runs.last_keys("a/b").unwrap()["stage-4"], key(7));
    assert_eq!(runs.latest("a/b").unwrap().unwrap().id, "r-0002");
    let length = fs::metadata(&file).unwrap().len();
    run.remember(&[("stage-4".to_owned(), key(7))]).unwrap();
    assert_eq!(fs::metadata(&file).unwrap().len(), length, "what is known is not written again");
}

#[test]
fn a_damaged_line_of_the_last_keys_names_no_key_of_another_stage() {
    let p = place();
    let runs = p.store.history();
    let keys = [("a", Digest::of_bytes(b"a")), ("c", Digest::of_bytes(b"c"))];
    let run = runs.begin("p", "p.yaml").unwrap();
    run.remember(&keys.map(|(stage, key)| (stage.to_owned(), key))).unwrap();
    let file = p.store.root().join("runs/last/p.jsonl");
    let journal = fs::read(&file).unwrap();
    for (at, bit) in (0..journal.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
        let mut damaged = journal.clone();
        damaged[at] ^= 1 << bit;
        fs::write(&file, damaged).unwrap();
        let known = runs.last_keys("p").unwrap();
        assert!(known.iter().all(|(stage, key)| keys.contains(&(stage, *key))), "byte {at}: {known:?}");
    }
    // What an earlier version wrote has no checksums.
    fs::write(&file, format!("{{\"stage\":\"a\",\"key\":\"{}\"}}\n", keys[0].1)).unwrap();
    assert_eq!(runs.last_keys("p").unwrap()["a"], keys[0].1);
}

#[test]
fn events_are_whole_lines_from_many_threads_and_odd_stage_names_stay_in_the_folder() {
    let p = place();
    let run = p.store.history().begin("x", "x.yaml").unwrap();
    std::thread::scope(|s| {
        for t in 0..4 {
            let run = &run;
            s.spawn(move || {
                (0..50).for_each(|n| {
                    run.append_events(format!("{}\n", json!({"t": t, "n": n})).as_bytes()).unwrap()
                })
            });
        }
    });
    let text = fs::read_to_string(run.folder().join("events.jsonl")).unwrap();
    assert_eq!(text.lines().filter(|line| serde_json::from_str::<Value>(line).is_ok()).count(), 200);
    assert!(run.log_path("sft[lr=1e-5]").ends_with("logs/sft[lr=1e-5].log"));
    for odd in ["../../x", "", "a/b", ".hidden", &"x".repeat(300)] {
        let path = run.log_path(odd);
        assert_eq!(path.parent().unwrap(), run.folder().join("logs"), "{odd}");
        fs::write(path, "log").unwrap();
    }
    assert_eq!(files_below(&run.folder().join("logs")).len(), 5);
}
