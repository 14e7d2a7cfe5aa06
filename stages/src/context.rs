//! What a running stage is given: paths, device, events, the wish to stop.
//!
//! Purpose: paths of inputs and outputs; progress, metrics, samples and health go out as events; the wish to stop comes in.
//! Invariant: events go to stdout one JSON object a line and nothing else does; nothing that an
//! event says can change a stage's output.
//! Must not know: what stages compute.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use burn::tensor::Device;
use kiln::protocol::{Event, StageRequest};

use crate::data::DataError;

/// Why a stage ended without its outputs.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// It was asked to stop, and what it can resume is on disk; a stage without checkpoints has
    /// nothing there and starts over.
    #[error("stopped on request; the next run goes on from the last checkpoint, if there is one")]
    Interrupted,
    /// It cannot go on; says what, where, and the next step.
    #[error("{0}")]
    Failed(String),
}

impl From<kiln_formats::tokenizer::TokenizerError> for StageError {
    fn from(e: kiln_formats::tokenizer::TokenizerError) -> Self {
        Self::failed(e)
    }
}

impl StageError {
    /// A failure from anything that can be displayed.
    pub fn failed(message: impl ToString) -> Self {
        Self::Failed(message.to_string())
    }
}

impl From<DataError> for StageError {
    fn from(e: DataError) -> Self {
        Self::failed(e)
    }
}

/// Numbers for the summary table, the most important first.
pub type Summary = Vec<(String, f64)>;

/// A stage's surroundings.
pub struct Context {
    kind: String,
    params: serde_json::Value,
    inputs: BTreeMap<String, PathBuf>,
    outputs: BTreeMap<String, PathBuf>,
    checkpoint: PathBuf,
    device: Device,
    memory: u64,
    stop: Arc<AtomicBool>,
    last_progress: std::sync::Mutex<Option<Instant>>,
}

impl Context {
    /// Surroundings for a request; `stop` becomes true when the stage should checkpoint and end.
    pub fn new(request: &StageRequest, device: Device, stop: Arc<AtomicBool>) -> Self {
        Self {
            kind: request.kind.clone(),
            params: request.params.clone(),
            inputs: request.inputs.clone(),
            outputs: request.outputs.clone(),
            checkpoint: request.checkpoint.clone(),
            device,
            memory: request.memory,
            stop,
            last_progress: std::sync::Mutex::new(None),
        }
    }

    /// An input's file or folder.
    ///
    /// # Errors
    /// When the request lacks it.
    pub fn input(&self, name: &str) -> Result<&Path, StageError> {
        self.optional_input(name)
            .ok_or_else(|| StageError::failed(format!("the request lacks input `{name}`")))
    }

    /// An input that may be left out.
    pub fn optional_input(&self, name: &str) -> Option<&Path> {
        self.inputs.get(name).map(PathBuf::as_path)
    }

    /// Where to make an output.
    ///
    /// # Errors
    /// When the request lacks it.
    pub fn output(&self, name: &str) -> Result<&Path, StageError> {
        let path = self.outputs.get(name).map(PathBuf::as_path);
        path.ok_or_else(|| StageError::failed(format!("the request lacks output `{name}`")))
    }

    /// The stage's kind.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The params as the request has them.
    pub fn params(&self) -> &serde_json::Value {
        &self.params
    }

    /// The folder for mid-stage checkpoints.
    pub fn checkpoint(&self) -> &Path {
        &self.checkpoint
    }

    /// The device to compute on, without autodiff.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The bytes of memory that the stage may use, where that is known.
    pub fn memory(&self) -> Option<u64> {
        Some(self.memory).filter(|bytes| *bytes > 0)
    }

    /// Whether the stage should checkpoint and end.
    pub fn should_stop(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Says how far the stage is; at most ten times a second reach the runner, the last always.
    pub fn progress(&self, step: u64, total: u64, note: impl FnOnce() -> String) {
        let mut last = self.last_progress.lock().unwrap_or_else(|e| e.into_inner());
        let due = last.is_none_or(|t| t.elapsed() > Duration::from_millis(100));
        if due || step == total {
            *last = Some(Instant::now());
            emit(&Event::Progress { step, total, note: note() });
        }
    }

    /// Reports numbers at a step; non-finite ones are left out.
    pub fn metric(&self, step: u64, values: &[(&str, f64)]) {
        let values = values.iter().filter(|(_, v)| v.is_finite());
        let values: BTreeMap<String, f64> = values.map(|(k, v)| ((*k).to_owned(), *v)).collect();
        if !values.is_empty() {
            emit(&Event::Metric { step, values });
        }
    }

    /// As [`Context::metric`], names and values apart.
    pub fn metrics<const N: usize>(&self, step: u64, names: [&str; N], values: [f64; N]) {
        self.metric(step, &names.into_iter().zip(values).collect::<Vec<_>>());
    }

    /// Shows what a model says at a step.
    pub fn sample(&self, step: u64, prompt: &str, completion: &str) {
        emit(&Event::Sample { step, prompt: prompt.to_owned(), completion: completion.to_owned() });
    }

    /// Warns in plain words, with what to try.
    pub fn health(&self, step: u64, code: &str, message: String, advice: &str) {
        emit(&Event::Health { step, code: code.to_owned(), message, advice: advice.to_owned() });
    }

    /// A line for the log that people should see at once, too.
    pub fn warn(&self, message: impl Into<String>) {
        emit(&Event::Log { level: "warn".to_owned(), message: message.into() });
    }

    /// A line for the log.
    pub fn log(&self, message: impl Into<String>) {
        emit(&Event::Log { level: "info".to_owned(), message: message.into() });
    }
}

/// Writes an event. A runner that is gone is no reason to panic: the worker then ends soon anyway.
pub fn emit(event: &Event) {
    let _ = try_emit(event);
}

/// Writes an event and hands it over to the runner.
///
/// # Errors
/// When nobody can read it.
#[allow(clippy::print_stdout)]
pub fn try_emit(event: &Event) -> std::io::Result<()> {
    let line = serde_json::to_string(event)?;
    if cfg!(test) {
        // The macro's output is kept back while tests pass.
        println!("{line}");
        return Ok(());
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}
