//! Training stages that are killed again and again: they end with the bytes of an undisturbed run.

// Helpers of tests fail as tests do; clippy takes only the tests themselves for tests.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant};

use common::{Ending, Stage, Workshop};
use kiln_stages::rng::keyed;
use rand::Rng;
use serde_json::json;

const KILLS: u32 = 20;

/// Kills a stage at random points of its time, [`KILLS`] times in all, in one place after the other.
#[track_caller]
fn survives(stage: &Stage) {
    let start = Instant::now();
    let place = stage.place();
    assert_eq!(place.run(Ending::Done, Some("0")).code, Some(0));
    let (wanted, mut took) = (place.outputs(), start.elapsed());
    let mut rng = keyed(7, "kills", u64::from(stage.threads), stage.kind.len() as u64);
    let (mut place, mut is_fresh, mut killed, mut resumed) = (stage.place(), true, 0, 0);
    while killed < KILLS {
        let delay = took.mul_f64(rng.random_range(0.15..0.6));
        match place.kill_after(delay) {
            None => (killed, is_fresh) = (killed + 1, false),
            // A resumed run is shorter than a whole one.
            Some(code) => {
                assert_eq!((code, place.outputs() == wanted), (0, true), "it ended after {killed} kills");
                if is_fresh {
                    // The machine was busy when the time was taken, and every kill could come too late.
                    took = delay;
                }
                (place, is_fresh) = (stage.place(), true);
            }
        }
        resumed += u32::from(place.state().exists());
    }
    let run = place.run(Ending::Done, Some("0"));
    assert_eq!(run.code, Some(0), "{:?}", run.error());
    assert!(place.outputs() == wanted, "{} with {} threads: other bytes", stage.kind, stage.threads);
    assert!(resumed > KILLS / 2, "only {resumed} of {KILLS} kills left something to resume");
}

#[test]
#[ignore = "takes minutes: twenty kills of every training stage, with one and with two threads"]
fn a_training_stage_that_is_killed_twenty_times_ends_with_the_bytes_of_an_undisturbed_run() {
    let workshop = Workshop::in_folder("kills");
    let stages = [
        workshop.pretrain().with("micro_batch", json!(1)).with("steps", json!(900)),
        workshop.sft().with("steps", json!(600)),
        workshop.sft().with("steps", json!(600)).with("lora", json!({ "rank": 4 })),
        workshop.reward().with("recompute", json!(true)).with("epochs", json!(100)),
        workshop.dpo().with("epochs", json!(60)),
        workshop.ppo().with("iterations", json!(60)),
    ];
    for stage in stages {
        for (dtype, kind) in [("float32", "adamw"), ("bfloat16", "muon")] {
            for threads in [1, 2] {
                let begun = Instant::now();
                let stage =
                    stage.clone().with("dtype", json!(dtype)).with("optimizer", json!({ "kind": kind }));
                survives(&Stage { threads, ..stage.clone() });
                let seconds = begun.elapsed().as_secs();
                println!(
                    "{} in {dtype} by {kind} with {threads} threads: {KILLS} kills, {seconds} s",
                    stage.kind
                );
            }
        }
    }
}

#[test]
fn a_stage_that_is_killed_at_once_leaves_no_outputs() {
    let workshop = Workshop::in_folder("kills-at-once");
    let place = workshop.sft().place();
    assert_eq!(place.kill_after(Duration::ZERO), None);
    assert!(place.outputs().is_empty());
}
