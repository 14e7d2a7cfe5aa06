//! The state of a training, and the loop that survives a kill.
//!
//! Purpose: what is trained says what it consists of; `run` resumes it, saves it, and steps.
//! Invariant: killed at any moment and started again, it ends with the same bytes.
//! Must not know: what is trained.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::checkpoint::Checkpoints;
use crate::context::{Context, StageError};

/// A state on its way to a checkpoint.
#[derive(Default)]
pub struct Saved<'a> {
    /// Numbers by name.
    pub tensors: Vec<(String, Cow<'a, [f32]>)>,
    /// Everything else by name, as JSON.
    pub counters: Map<String, Value>,
}

impl Saved<'_> {
    /// Adds something that is no tensor.
    pub fn counter(&mut self, name: &str, value: impl Serialize) {
        self.counters.insert(name.to_owned(), serde_json::to_value(value).unwrap_or_default());
    }
}

/// A state that was read from a checkpoint.
pub struct Reader {
    /// See [`Saved::tensors`].
    pub tensors: BTreeMap<String, Vec<f32>>,
    /// See [`Saved::counters`].
    pub counters: Map<String, Value>,
}

impl Reader {
    /// Takes the numbers of this name.
    ///
    /// # Errors
    /// When they are missing or of another length.
    pub fn tensor(&mut self, name: &str, length: usize) -> Result<Vec<f32>, String> {
        let found = self.tensors.remove(name).ok_or_else(|| format!("it has no `{name}`"))?;
        match found.len() == length {
            true => Ok(found),
            false => Err(format!("its `{name}` has {} values, and this stage's has {length}", found.len())),
        }
    }

    /// Takes what was saved by [`Saved::counter`].
    ///
    /// # Errors
    /// When it is missing or of another type.
    pub fn counter<T: DeserializeOwned>(&mut self, name: &str) -> Result<T, String> {
        let found = self.counters.remove(name).ok_or_else(|| format!("it has no `{name}`"))?;
        serde_json::from_value(found).map_err(|e| format!("its `{name}`: {e}"))
    }
}

/// Something that is trained.
pub trait State: Clone {
    /// The most numbers that it consists of.
    fn values(&self) -> usize;

    /// Adds all that it consists of.
    fn save<'a>(&'a self, saved: &mut Saved<'a>);

    /// Takes it back.
    ///
    /// # Errors
    /// Why it cannot be used.
    fn restore(&mut self, from: &mut Reader) -> Result<(), String>;
}

/// Takes `steps` steps, from the last checkpoint on if there is one; `step` is told how many were taken before.
///
/// # Errors
/// `Interrupted` after a checkpoint on request; those of a step.
pub fn run<S: State>(
    ctx: &Context,
    mut state: S,
    steps: u64,
    mut step: impl FnMut(&mut S, u64) -> Result<(), StageError>,
) -> Result<S, StageError> {
    let mut checkpoints = Checkpoints::new(ctx, state.values());
    let resumed = checkpoints.resume(ctx, |mut reader| {
        let mut resumed = state.clone();
        resumed.restore(&mut reader)?;
        Ok((resumed, reader.counter("step")?))
    });
    let mut first = 0;
    if let Some(resumed) = resumed {
        (state, first) = resumed;
    }
    for number in first..steps {
        checkpoints.save_if_due(ctx, || {
            let mut saved = Saved::default();
            saved.counter("step", number);
            state.save(&mut saved);
            saved
        })?;
        step(&mut state, number)?;
    }
    checkpoints.finish();
    Ok(state)
}
