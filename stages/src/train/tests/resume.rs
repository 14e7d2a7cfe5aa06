//! The loop of training, stopped and started again.

use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::tensor::TensorData;

use crate::context::StageError;
use crate::model::io::{NamedTensors, named_tensors};
use crate::testing::{context, cpu, lively, rows, shapes};
use crate::train::checkpoint::STATE;
use crate::train::run::{Plan, train};
use crate::train::{AdamWParams, Checkpoints, Schedule, TokenRow};

/// Trains in a folder; is asked to stop while the batch of step `stop_at` is made.
fn run(folder: &Path, stop_at: Option<u64>) -> Result<NamedTensors, StageError> {
    let config = &shapes()[2];
    let stop = Arc::new(AtomicBool::new(false));
    let batch = |step: u64| -> Vec<TokenRow> {
        stop.store(stop_at == Some(step), Ordering::Relaxed);
        rows(&format!("step {step}"), &[5, 9, 12], config.vocab)
    };
    let schedule = Schedule { warmup: 3, ..Schedule::default() };
    let plan = Plan {
        steps: 9,
        learning_rate: 0.01,
        schedule: &schedule,
        optimizer: &AdamWParams::default(),
        micro_batch: 2,
        eval_every: 0,
        batch: &batch,
        validate: &|_| vec![("val/loss", 1.0)],
        show: &|_, _| Ok(()),
    };
    let model = lively(config, 1, &cpu().autodiff());
    train(&context(folder, &stop), model, &plan).map(|(model, _)| named_tensors(&model))
}

#[test]
fn training_that_is_stopped_at_any_step_and_resumed_ends_with_the_same_bytes() {
    let straight = tempfile::tempdir().unwrap();
    let wanted = run(straight.path(), None).unwrap();
    for stop_at in 0..8 {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(run(folder.path(), Some(stop_at)), Err(StageError::Interrupted)), "{stop_at}");
        assert_eq!(run(folder.path(), None).unwrap(), wanted, "stopped in step {stop_at}");
    }
}

#[test]
fn a_request_to_stop_in_the_last_step_changes_nothing() {
    let (straight, stopped) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    assert_eq!(run(stopped.path(), Some(8)).unwrap(), run(straight.path(), None).unwrap());
}

#[test]
fn training_may_be_stopped_more_than_once() {
    let folder = tempfile::tempdir().unwrap();
    let straight = tempfile::tempdir().unwrap();
    for stop_at in [1, 2, 6] {
        assert!(run(folder.path(), Some(stop_at)).is_err());
    }
    assert_eq!(run(folder.path(), None).unwrap(), run(straight.path(), None).unwrap());
}

#[test]
fn the_steps_done_before_a_stop_are_not_done_again() {
    let folder = tempfile::tempdir().unwrap();
    assert!(run(folder.path(), Some(5)).is_err());
    let first = Cell::new(None);
    let stop = Arc::new(AtomicBool::new(false));
    let ctx = context(folder.path(), &stop);
    let batch = |step: u64| {
        first.set(first.get().or(Some(step)));
        rows("again", &[5], shapes()[2].vocab)
    };
    let plan = Plan {
        steps: 9,
        learning_rate: 0.0,
        schedule: &Schedule::default(),
        optimizer: &AdamWParams::default(),
        micro_batch: 2,
        eval_every: 0,
        batch: &batch,
        validate: &|_| Vec::new(),
        show: &|_, _| Ok(()),
    };
    train(&ctx, lively(&shapes()[2], 1, &cpu().autodiff()), &plan).map(|_| ()).unwrap();
    assert_eq!(first.get(), Some(6));
}

#[test]
fn a_damaged_checkpoint_means_starting_over() {
    let straight = tempfile::tempdir().unwrap();
    let wanted = run(straight.path(), None).unwrap();
    let folder = tempfile::tempdir().unwrap();
    assert!(run(folder.path(), Some(5)).is_err());
    let path = folder.path().join(STATE);
    let whole = std::fs::read(&path).unwrap();
    for damaged in [&whole[..whole.len() / 2], &[], &vec![0; whole.len()], b"not a checkpoint at all"] {
        std::fs::write(&path, damaged).unwrap();
        assert_eq!(run(folder.path(), None).unwrap(), wanted);
    }
}

#[test]
fn a_checkpoint_of_another_model_means_starting_over() {
    let straight = tempfile::tempdir().unwrap();
    let wanted = run(straight.path(), None).unwrap();
    for (name, count) in [("model.norm.weight", 5), ("optimizer.m.norm.weight", 32), ("model.more", 1)] {
        let folder = tempfile::tempdir().unwrap();
        let stop = Arc::new(AtomicBool::new(true));
        let ctx = context(folder.path(), &stop);
        let tensors = NamedTensors::from([(name.to_owned(), TensorData::new(vec![0f32; count], [count]))]);
        let counters = serde_json::json!({"step": 3, "updates": 3});
        let saved = Checkpoints::new(&ctx, count).save_if_due(&ctx, || (counters, tensors));
        assert!(matches!(saved, Err(StageError::Interrupted)));
        assert_eq!(run(folder.path(), None).unwrap(), wanted, "{name}");
    }
}
