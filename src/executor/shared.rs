//! Inputs that an attempt shares with the store.
//!
//! Purpose: tell whether somebody wrote to a shared input while a stage ran, although its bytes are as before at the
//! end: what the stage read in between is not known.
//! Must not know: how inputs are made readable, what becomes of the stage.

use std::collections::BTreeMap;

use super::context::RunContext;
use super::job::Job;
use crate::cas::{How, LastWritten};
use crate::graph::Producer;

/// How inputs are shared with the store, and when the blobs of each were last written.
#[derive(Debug, Clone, Default)]
pub struct SharedInputs {
    /// How the inputs of the attempt were made readable; none where no attempt was made.
    pub how: Option<How>,
    /// The times by the name of the input.
    pub last_written: BTreeMap<String, LastWritten>,
}

impl SharedInputs {
    /// The inputs of a stage as they are shared now.
    pub fn look(context: &RunContext, job: &Job, how: How) -> Self {
        let made = context.graph.inputs(job.stage);
        let made = made.iter().filter(|input| matches!(input.from, Producer::Stage { .. }));
        let inputs = made.filter_map(|input| Some((input.name.to_owned(), job.inputs.get(input.name)?)));
        let written = inputs.map(|(name, artifact)| (name, context.store.last_written(artifact, how)));
        Self { how: Some(how), last_written: written.collect() }
    }

    /// An input that was written to since.
    pub fn written_since(&self, context: &RunContext, job: &Job) -> Option<String> {
        let now = Self::look(context, job, self.how?);
        let mut inputs = self.last_written.iter();
        inputs.find(|(name, times)| now.last_written.get(*name) != Some(times)).map(|(name, _)| name.clone())
    }
}
