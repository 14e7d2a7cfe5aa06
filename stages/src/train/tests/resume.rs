//! The loop of training, stopped and started again.

use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{bits, contents, read_back};
use crate::context::StageError;
use crate::model::Network;
use crate::testing::{context, cpu, lively, rows, shapes};
use crate::train::checkpoint::STATE;
use crate::train::run::{TrainConfig, train};
use crate::train::state::{self, Reader, Saved, State};
use crate::train::{Checkpoints, OptimizerParams, Schedule, Trainer, add_lm_loss};

fn model() -> Network {
    lively(&shapes()[2], 1, &cpu())
}

/// Trains in a folder; is asked to stop while the batch of step `stop_at` is made.
fn run(folder: &Path, stop_at: Option<u64>) -> Result<Vec<u32>, StageError> {
    let config = &shapes()[2];
    let stop = Arc::new(AtomicBool::new(false));
    let batch = |step: u64| {
        stop.store(stop_at == Some(step), Ordering::Relaxed);
        Ok(rows(&format!("step {step}"), &[5, 9, 12], config.vocab))
    };
    let schedule = Schedule { warmup: 3, ..Schedule::default() };
    let plan = TrainConfig {
        steps: 9,
        learning_rate: 0.01,
        schedule: &schedule,
        optimizer: &OptimizerParams::default(),
        micro_batch: 2,
        eval_every: 0,
        batch: &batch,
        validate: &|_| Ok(vec![("val/loss", 1.0)]),
        show: &|_, _| Ok(()),
    };
    train(&context(folder, &stop), model(), &plan).map(|(model, _)| bits(&model))
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
        Ok(rows("again", &[5], shapes()[2].vocab))
    };
    let plan = TrainConfig {
        steps: 9,
        learning_rate: 0.0,
        schedule: &Schedule::default(),
        optimizer: &OptimizerParams::default(),
        micro_batch: 2,
        eval_every: 0,
        batch: &batch,
        validate: &|_| Ok(Vec::new()),
        show: &|_, _| Ok(()),
    };
    train(&ctx, model(), &plan).map(|_| ()).unwrap();
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

/// A whole training, three steps on its way, of which a part is changed.
fn changed(part: &str, length: Option<usize>) -> Reader {
    let trainer = Trainer::new(lively(&shapes()[2], 2, &cpu()), &OptimizerParams::default());
    let mut saved = Saved::default();
    State::save(&trainer, &mut saved);
    saved.counter("step", 3);
    let mut reader = read_back(saved);
    match length {
        Some(length) => drop(reader.tensors.insert(part.to_owned(), vec![0.5; length])),
        None => {
            let removed = reader.tensors.remove(part).is_some() || reader.counters.remove(part).is_some();
            assert!(removed, "the state has `{part}`");
        }
    }
    reader
}

#[test]
fn a_checkpoint_of_another_model_means_starting_over_with_a_reason() {
    let straight = tempfile::tempdir().unwrap();
    let wanted = run(straight.path(), None).unwrap();
    let length = model().weights().len();
    let cases = [
        ("model.weights", Some(length - 1)),
        ("model.weights", Some(0)),
        ("model.first", Some(length + 5)),
        ("model.second", Some(32)),
        ("model.weights", None),
        ("model.first", None),
        ("model.second", None),
        ("model.updates", None),
        ("step", None),
    ];
    for (part, length) in cases {
        let folder = tempfile::tempdir().unwrap();
        let ctx = context(folder.path(), &Arc::new(AtomicBool::new(true)));
        let Reader { tensors, counters } = changed(part, length);
        let saved = || Saved {
            tensors: tensors.iter().map(|(name, values)| (name.clone(), values.into())).collect(),
            counters: counters.clone(),
        };
        let save = || {
            let stopped = Checkpoints::new(&ctx, 1 << 20).save_if_due(&ctx, saved);
            assert!(matches!(stopped, Err(StageError::Interrupted)));
        };
        save();
        let mut reason = None;
        let found = Checkpoints::new(&ctx, 1 << 20).resume(&ctx, |mut reader| {
            let mut trainer = Trainer::new(model(), &OptimizerParams::default());
            let taken =
                State::restore(&mut trainer, &mut reader).and_then(|()| reader.counter::<u64>("step"));
            reason = taken.clone().err();
            taken
        });
        let reason = reason.unwrap_or_default();
        assert!(found.is_none() && reason.contains(&format!("`{part}`")), "{part}: {reason}");
        assert!(!folder.path().join(STATE).exists(), "{part}: it is removed");
        save();
        assert_eq!(run(folder.path(), None).unwrap(), wanted, "{part} {length:?}");
    }
}

/// Steps of a trainer in the bare loop; is asked to stop before the step after `stop_in`, or before the first.
fn steps(folder: &Path, stop_first: bool, stop_in: Option<u64>) -> Result<Trainer, StageError> {
    let (vocab, stop) = (shapes()[2].vocab, Arc::new(AtomicBool::new(stop_first)));
    let ctx = context(folder, &stop);
    let start = Trainer::new(model(), &OptimizerParams::default());
    state::run(&ctx, start, 7, |trainer, step| {
        stop.store(stop_in == Some(step), Ordering::Relaxed);
        let rows = rows(&format!("bare {step}"), &[5, 9, 12], vocab);
        add_lm_loss(trainer, &rows, 2, 1.0).map_err(StageError::failed)?;
        trainer.step(0.01).map_err(StageError::failed)?;
        Ok(())
    })
}

#[test]
fn weights_moments_and_counts_are_resumed_bit_for_bit_at_every_step() {
    let straight = tempfile::tempdir().unwrap();
    let wanted = contents(&steps(straight.path(), false, None).unwrap());
    assert!(wanted.1.contains(r#""model.updates":7"#), "{}", wanted.1);
    let stops = [(true, None)].into_iter().chain((0..6).map(|step| (false, Some(step))));
    for (stop_first, stop_in) in stops {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(steps(folder.path(), stop_first, stop_in), Err(StageError::Interrupted)));
        assert!(folder.path().join(STATE).is_file());
        let resumed = steps(folder.path(), false, None).unwrap();
        assert_eq!(contents(&resumed), wanted, "stopped in step {stop_in:?}");
    }
    let folder = tempfile::tempdir().unwrap();
    for step in 0..6 {
        assert!(matches!(steps(folder.path(), false, Some(step)), Err(StageError::Interrupted)));
    }
    assert_eq!(contents(&steps(folder.path(), false, None).unwrap()), wanted, "stopped in every step");
}

#[test]
fn a_step_that_is_not_finite_fails_the_training_and_names_the_step() {
    let folder = tempfile::tempdir().unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let ctx = context(folder.path(), &stop);
    let start = Trainer::new(model(), &OptimizerParams::default());
    let batch = |_: u64| Ok(rows("ruined", &[5, 9], shapes()[2].vocab));
    let plan = TrainConfig {
        steps: 9,
        learning_rate: 1e38,
        schedule: &Schedule::default(),
        optimizer: &OptimizerParams::default(),
        micro_batch: 2,
        eval_every: 0,
        batch: &batch,
        validate: &|_| Ok(Vec::new()),
        show: &|_, _| Ok(()),
    };
    let said = train(&ctx, start.model, &plan).map(|_| ()).unwrap_err().to_string();
    assert!(said.starts_with("step 1:") && said.contains("smaller learning rate"), "{said}");
}
