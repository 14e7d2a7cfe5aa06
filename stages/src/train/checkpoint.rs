//! Mid-stage checkpoints: what a killed stage needs to go on as if nothing had happened.
//!
//! Purpose: tensors and counters in one file, written now and then, read at the start.
//! Invariant: the file is absent or whole (written beside, then renamed); a damaged one or one of
//! another request is as good as none, for the stage can always start over.
//! Must not know: what the tensors are.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use burn::tensor::TensorData;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::context::{Context, StageError};
use crate::model::io::{NamedTensors, write_whole};

/// Checkpointing takes at most one part in so many of the time.
const SHARE: u32 = 50;
/// Nor happens it more often than this.
const INTERVAL: Duration = Duration::from_secs(2);
/// The environment variable that sets another interval in seconds, whatever its cost, for tests
/// that call the worker themselves (the runner does not hand it on). It changes no output.
pub const INTERVAL_VARIABLE: &str = "KILN_CHECKPOINT_SECONDS";

/// The checkpoint file of a stage, and when it is due.
pub struct Checkpoints {
    path: PathBuf,
    last: Instant,
    cost: Duration,
    wanted: Option<Duration>,
}

impl Checkpoints {
    /// In the folder that the request names.
    pub fn new(ctx: &Context) -> Self {
        let wanted = std::env::var(INTERVAL_VARIABLE).ok().and_then(|v| interval(&v));
        let path = ctx.checkpoint().join("state.safetensors");
        Self { path, last: Instant::now(), cost: Duration::ZERO, wanted }
    }

    /// What `restore` makes of the counters and tensors that an earlier attempt left; none where
    /// there are none, or they are damaged or do not fit.
    pub fn resume<S: DeserializeOwned, T>(
        &self,
        ctx: &Context,
        restore: impl FnOnce(S, NamedTensors) -> Result<T, String>,
    ) -> Option<T> {
        let bytes = std::fs::read(&self.path).ok()?;
        let restored = parse(&bytes).and_then(|(counters, tensors)| restore(counters, tensors));
        match &restored {
            Ok(_) => ctx.log("resuming from the checkpoint of an earlier attempt"),
            Err(reason) => ctx.log(format!("the checkpoint cannot be used ({reason}): starting over")),
        }
        restored.ok()
    }

    /// Saves the state if it is time, and always when the stage should stop, which it then does.
    ///
    /// # Errors
    /// `Interrupted` after saving on request; a failure when the file cannot be written.
    pub fn save_if_due<S: Serialize>(
        &mut self,
        ctx: &Context,
        state: impl FnOnce() -> (S, NamedTensors),
    ) -> Result<(), StageError> {
        let stop = ctx.should_stop();
        let interval = self.wanted.unwrap_or_else(|| INTERVAL.max(self.cost * SHARE));
        if !stop && self.last.elapsed() < interval {
            return Ok(());
        }
        let start = Instant::now();
        let (counters, tensors) = state();
        self.write(&counters, &tensors)?;
        self.cost = start.elapsed();
        self.last = Instant::now();
        if stop { Err(StageError::Interrupted) } else { Ok(()) }
    }

    fn write<S: Serialize>(&self, counters: &S, tensors: &NamedTensors) -> Result<(), StageError> {
        let counters = serde_json::to_string(counters).map_err(StageError::failed)?;
        let mut views = Vec::with_capacity(tensors.len());
        for (name, data) in tensors {
            let shape = data.shape().as_slice().to_vec();
            let view = TensorView::new(Dtype::F32, shape, data.as_bytes()).map_err(StageError::failed)?;
            views.push((name.as_str(), view));
        }
        let metadata = HashMap::from([("counters".to_owned(), counters)]);
        let bytes = safetensors::serialize(views, Some(metadata)).map_err(StageError::failed)?;
        Ok(write_whole(&self.path, &bytes)?)
    }
}

/// An interval in seconds, if it is one.
fn interval(text: &str) -> Option<Duration> {
    text.trim().parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
}

fn parse<S: DeserializeOwned>(bytes: &[u8]) -> Result<(S, NamedTensors), String> {
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| e.to_string())?;
    let counters = header.metadata().as_ref().and_then(|m| m.get("counters")).ok_or("no counters")?;
    let counters = serde_json::from_str(counters).map_err(|e| e.to_string())?;
    let file = SafeTensors::deserialize(bytes).map_err(|e| e.to_string())?;
    let mut tensors = NamedTensors::new();
    for (name, view) in file.tensors() {
        if view.dtype() != Dtype::F32 {
            return Err(format!("tensor `{name}` is {:?}", view.dtype()));
        }
        let values: Vec<f32> =
            view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        tensors.insert(name, TensorData::new(values, view.shape().to_vec()));
    }
    Ok((counters, tensors))
}

/// Moves the tensors whose names begin with `prefix` out, under their names without it.
pub fn split_prefix(tensors: &mut NamedTensors, prefix: &str) -> NamedTensors {
    let names: Vec<String> = tensors.keys().filter(|k| k.starts_with(prefix)).cloned().collect();
    names
        .into_iter()
        .filter_map(|name| tensors.remove(&name).map(|data| (name[prefix.len()..].to_owned(), data)))
        .collect()
}

/// Adds tensors under names that begin with `prefix`.
pub fn join_prefix(into: &mut NamedTensors, prefix: &str, tensors: NamedTensors) {
    into.extend(tensors.into_iter().map(|(name, data)| (format!("{prefix}{name}"), data)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_a_number_of_seconds_and_anything_else_is_none() {
        assert_eq!(interval("0"), Some(Duration::ZERO));
        assert_eq!(interval(" 0.5 "), Some(Duration::from_millis(500)));
        for text in ["", "soon", "-1", "inf", "NaN"] {
            assert_eq!(interval(text), None, "{text}");
        }
    }
}
