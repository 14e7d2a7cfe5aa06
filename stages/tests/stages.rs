//! Whole stages through the worker's binary: killed, stopped, resumed, repeated.
//!
//! Every stage here trains a very small model on text made up on the spot.

// Helpers of tests fail as tests do; clippy takes only the tests themselves for tests.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::sync::OnceLock;

use common::{Ending, Outputs, Run, Stage, Workshop};
use kiln::protocol::Event;
use kiln_formats::tokenizer::Tokenizer;
use kiln_stages::data::{self, Demonstration};
use kiln_stages::dialogue::demonstrated;
use kiln_stages::model::io;
use kiln_stages::rl::RewardModel;
use kiln_stages::train::state_file::MAGIC;
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde_json::json;
use sha2::{Digest, Sha256};

/// The artifacts that the stages start from, made once.
fn workshop() -> &'static Workshop {
    static WORKSHOP: OnceLock<Workshop> = OnceLock::new();
    WORKSHOP.get_or_init(|| Workshop::in_folder("workshop"))
}

/// Runs a stage from scratch to its end.
#[track_caller]
fn whole(stage: &Stage) -> (Outputs, Run) {
    let place = stage.place();
    let run = place.run(Ending::Done, None);
    assert_eq!(run.code, Some(0), "{:?}", run.error());
    (place.outputs(), run)
}

/// Ends a run in its middle, then runs it again in the same place.
#[track_caller]
fn resumed(stage: &Stage, ending: Ending) -> Outputs {
    let place = stage.place();
    let first = place.run(ending, Some("0"));
    match ending {
        Ending::Killed => assert_eq!(first.code, None, "it ended before it could be killed"),
        _ => assert_eq!(first.code, Some(130), "{:?}", first.error()),
    }
    assert!(place.outputs().is_empty(), "a stage that has not ended has no outputs");
    let second = place.run(Ending::Done, Some("0"));
    assert_eq!(second.code, Some(0), "{:?}", second.error());
    assert!(second.logged("resuming"), "it started over instead of resuming");
    let (first, all) = (second.first_step(), second.last_step());
    assert!(first > 1 && first < all, "it resumed at step {first} of {all}");
    place.outputs()
}

#[track_caller]
fn assert_same(got: &Outputs, wanted: &Outputs, what: &str) {
    let names = |outputs: &Outputs| outputs.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(got), names(wanted), "{what}");
    for (name, bytes) in wanted {
        assert!(got[name] == *bytes, "{what}: {name} differs");
    }
}

/// What every training stage promises.
#[track_caller]
fn keeps_its_promises(stage: &Stage) -> Run {
    let (wanted, run) = whole(stage);
    assert!(!wanted.is_empty());
    assert_same(&whole(stage).0, &wanted, "run again from scratch");
    assert_same(&resumed(stage, Ending::Killed), &wanted, "killed and resumed");
    assert_same(&resumed(stage, Ending::Stopped), &wanted, "stopped and resumed");
    run
}

#[test]
fn pretraining_repeats_and_resumes_bit_for_bit_and_learns() {
    let run = keeps_its_promises(&workshop().pretrain());
    let summary: BTreeMap<String, f64> = run.summary().into_iter().collect();
    let vocab = f64::from(workshop().vocab());
    assert!(
        summary["val/loss"] < 0.8 * vocab.ln(),
        "{summary:?} is hardly better than guessing among {vocab}"
    );
    assert!(summary["val/bits_per_byte"] > 0.0);
}

#[test]
fn sft_repeats_and_resumes_bit_for_bit() {
    keeps_its_promises(&workshop().sft());
}

#[test]
fn every_stage_that_trains_an_adapter_repeats_and_resumes_bit_for_bit() {
    let lora = json!({ "rank": 4, "alpha": 32.0 });
    for stage in [workshop().sft(), workshop().reward(), workshop().dpo(), workshop().ppo()] {
        let stage = stage.with("lora", lora.clone());
        keeps_its_promises(&stage);
        let (outputs, _) = whole(&stage);
        let adapter = outputs.keys().any(|name| name.ends_with("adapter_model.safetensors"));
        assert!(adapter, "{}: {:?}", stage.kind, outputs.keys());
    }
}

#[test]
fn the_reward_model_repeats_and_resumes_bit_for_bit_and_learns_the_order() {
    let run = keeps_its_promises(&workshop().reward());
    let summary: BTreeMap<String, f64> = run.summary().into_iter().collect();
    assert!(summary["accuracy"] > 0.8, "{summary:?}");
}

#[test]
fn dpo_repeats_and_resumes_bit_for_bit_and_learns_the_order() {
    let run = keeps_its_promises(&workshop().dpo());
    let summary: BTreeMap<String, f64> = run.summary().into_iter().collect();
    assert!(summary["accuracy"] > 0.8 && summary["margin"] > 0.0, "{summary:?}");
}

#[test]
fn ppo_repeats_and_resumes_bit_for_bit() {
    let run = keeps_its_promises(&workshop().ppo());
    let names: Vec<String> = run.summary().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["score", "KL"]);
}

#[test]
fn a_checkpoint_of_another_number_of_threads_goes_on_to_the_same_bytes() {
    for stage in [workshop().sft(), workshop().ppo()] {
        let place = stage.place();
        assert_eq!(place.run(Ending::Stopped, Some("0")).code, Some(130));
        let place = place.with_threads(2);
        let run = place.run(Ending::Done, None);
        assert_eq!(run.code, Some(0), "{:?}", run.error());
        assert!(run.first_step() > 1, "it was resumed");
        assert_same(&place.outputs(), &whole(&stage).0, "resumed with two threads");
    }
}

#[test]
fn a_damaged_checkpoint_is_discarded_and_the_stage_starts_over() {
    let stage = workshop().sft();
    let place = stage.place();
    assert_eq!(place.run(Ending::Stopped, Some("0")).code, Some(130));
    let mut bytes = std::fs::read(place.state()).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(place.state(), bytes).unwrap();
    let run = place.run(Ending::Done, None);
    assert_eq!(run.code, Some(0), "{:?}", run.error());
    assert!(run.logged("its checksum is wrong"));
    assert_same(&place.outputs(), &whole(&stage).0, "started over");
}

/// Changes one tensor of a checkpoint's file to so many numbers, or leaves it out; the file is as sound as before.
fn with_other_part(state: &std::path::Path, part: &str, length: Option<usize>) {
    let bytes = std::fs::read(state).unwrap();
    let payload = &bytes[MAGIC.len() + 32..];
    let (_, header) = SafeTensors::read_metadata(payload).unwrap();
    let all = SafeTensors::deserialize(payload).unwrap();
    let other = vec![0u8; 4 * length.unwrap_or(0)];
    let mut views = Vec::new();
    for (name, view) in all.tensors() {
        match length {
            _ if name != part => views.push((name, view)),
            Some(n) => views.push((name, TensorView::new(view.dtype(), vec![n], &other).unwrap())),
            None => {}
        }
    }
    let payload = safetensors::serialize(views, header.metadata().clone()).unwrap();
    std::fs::write(state, [MAGIC, &Sha256::digest(&payload), &payload].concat()).unwrap();
}

#[test]
fn a_checkpoint_whose_parts_are_missing_or_of_another_length_is_discarded_with_the_reason() {
    let stage = workshop().sft();
    let wanted = whole(&stage).0;
    let cases = [
        ("model.first", Some(7), "discarded (its `model.first` has 7 values, and this stage's has "),
        ("model.second", None, "discarded (it has no `model.second`)"),
    ];
    for (part, length, said) in cases {
        let place = stage.place();
        assert_eq!(place.run(Ending::Stopped, Some("0")).code, Some(130));
        with_other_part(&place.state(), part, length);
        let run = place.run(Ending::Done, None);
        assert_eq!(run.code, Some(0), "{:?}", run.error());
        assert!(run.logged(said), "{part}: {:?}", run.events);
        assert_eq!(run.first_step(), 1);
        assert_same(&place.outputs(), &wanted, "started over");
    }
}

#[test]
fn training_depends_neither_on_the_number_of_threads_nor_on_layers_being_computed_again() {
    let shop = workshop();
    for stage in [shop.sft().with("steps", json!(8)), shop.reward(), shop.ppo().with("iterations", json!(2))]
    {
        let wanted = whole(&stage).0;
        let threads = Stage { threads: 2, ..stage.clone() };
        assert_same(&whole(&threads).0, &wanted, &format!("{}: two threads", stage.kind));
        let again = stage.with("recompute", json!(true));
        assert_same(&whole(&again).0, &wanted, &format!("{}: computed again", again.kind));
    }
}

#[test]
fn a_worker_that_is_asked_to_stop_at_any_moment_of_its_start_does_no_harm() {
    // Long enough not to have ended by then.
    let stage = workshop().sft().with("steps", json!(3000));
    let place = stage.place();
    for milliseconds in [0, 2, 10, 50, 100, 200, 300] {
        match place.stop_after(std::time::Duration::from_millis(milliseconds)) {
            // Before its handler was there.
            None => {}
            // With a checkpoint, which was promised by that code.
            Some(130) => assert!(place.state().is_file(), "after {milliseconds} ms"),
            code => panic!("exit code {code:?} after {milliseconds} ms"),
        }
    }
    let run = place.run(Ending::Done, None);
    assert_eq!(run.code, Some(0), "{:?}", run.error());
    assert_same(&place.outputs(), &whole(&stage).0, "stopped while it started");
}

#[test]
fn a_worker_whose_done_cannot_be_read_does_not_exit_with_0() {
    assert_eq!(workshop().tokenizer(1).place().run_unheard(), Some(1));
}

#[test]
fn the_mean_reward_of_the_demonstrations_is_0() {
    let shop = workshop();
    let folder = shop.artifact("reward");
    let device = kiln_stages::device::resolve("cpu").unwrap();
    let reward = RewardModel(io::load(&folder, true, &device).unwrap());
    let tokenizer = Tokenizer::load(&folder).unwrap();
    let demonstrations: Vec<Demonstration> = data::read(&shop.artifact("demonstrations")).unwrap();
    let rows: Vec<_> = demonstrations.iter().map(|d| demonstrated(&tokenizer, d).unwrap().0).collect();
    let scores = reward.score_all(&rows).unwrap();
    let mean = scores.iter().sum::<f32>() / scores.len() as f32;
    let spread = scores.iter().map(|s| (s - mean).abs()).fold(0.0, f32::max);
    assert!(mean.abs() < 1e-4, "{mean}");
    assert!(spread > 0.01, "a mean of 0 over scores that are all alike shows little: {spread}");
}

#[test]
fn samples_do_not_depend_on_how_many_are_made_at_once() {
    let outputs = |batch_size: usize| whole(&workshop().sample(batch_size)).0;
    let wanted = outputs(64);
    for batch_size in [1, 5] {
        assert_same(&outputs(batch_size), &wanted, &format!("batch size {batch_size}"));
    }
}

#[test]
fn the_tokenizer_does_not_depend_on_the_number_of_threads() {
    let one = whole(&workshop().tokenizer(1)).0;
    assert_same(&whole(&workshop().tokenizer(2)).0, &one, "two threads");
}

#[test]
fn a_request_that_cannot_be_served_is_an_error_event_and_exit_code_1() {
    let shop = workshop();
    let cases: [(&str, Stage, &str); 6] = [
        ("an unknown kind", Stage { kind: "teleport".into(), ..shop.sft() }, "teleport"),
        ("an unknown param", shop.sft().with("lerning_rate", json!(1)), "lerning_rate"),
        ("a param of another type", shop.sft().with("batch_size", json!("many")), "many"),
        (
            "an impossible shape",
            shop.pretrain().with("model", json!({"heads": 3, "hidden_size": 32})),
            "heads",
        ),
        ("a missing input", shop.sft().without("model"), "model"),
        ("a folder that is no model", shop.sft().input("model", &shop.artifact("corpus")), "corpus"),
    ];
    for (what, stage, word) in cases {
        let place = stage.place();
        let run = place.run(Ending::Done, None);
        assert_eq!(run.code, Some(1), "{what}");
        let said = run.error().unwrap_or_default();
        assert!(said.contains(word), "{what}: {said}");
        assert!(!said.contains("internal error"), "{what}: {said}");
        assert!(place.outputs().is_empty(), "{what}");
    }
}

#[test]
fn stdout_carries_events_alone() {
    let (_, run) = whole(&workshop().sample(8));
    assert_eq!(run.strange, Vec::<String>::new());
    assert!(matches!(run.events.last(), Some(Event::Done { .. })));
}
