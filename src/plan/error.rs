//! What can go wrong while planning.
//!
//! Purpose: one error type whose messages name the stage or source concerned and the next step.
//! Invariant: messages are lowercase fragments that read well after `error: `.
//! Must not know: how errors are shown.

use crate::cas::StoreError;
use crate::spec::Code;
use crate::spec::types::Span;

/// What can go wrong while planning.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A source has no file.
    #[error("source `{name}`: there is no file or folder `{path}`; make it, or correct its path")]
    NoSource {
        /// The source.
        name: String,
        /// Its path or glob, as in the file.
        path: String,
        /// Where it stands.
        span: Span,
    },
    /// A glob cannot be read.
    #[error("{whose}: `{path}` is no glob: {why}")]
    BadGlob {
        /// The source, or the `uses` of a stage.
        whose: String,
        /// The glob.
        path: String,
        /// What is wrong with it.
        why: String,
        /// Where it stands.
        span: Span,
    },
    /// A folder on the way cannot be read.
    #[error("{whose}: cannot read {why}")]
    Unreadable {
        /// The source, or the `uses` of a stage.
        whose: String,
        /// The place, and the error of the system.
        why: String,
        /// Where it stands in the file.
        span: Span,
    },
    /// A file under `uses` is not there.
    #[error("stage `{stage}` uses `{path}`, which is not there; make it, or take it out of `uses`")]
    NoUses {
        /// The stage.
        stage: String,
        /// The path or glob.
        path: String,
        /// Where it stands.
        span: Span,
    },
    /// A stage with `cache: exact` asks for more threads than there are cores.
    #[error(
        "stage `{stage}` has `cache: exact` and asks for {wanted} cores, but this machine has {cores}: its \
         result depends on the number of threads; set `resources: {{ cpus: {cores} }}`, or run it where \
         {wanted} cores are"
    )]
    TooFewCores {
        /// The stage.
        stage: String,
        /// The cores that it asks for.
        wanted: u32,
        /// The cores that there are.
        cores: u32,
        /// Where the stage stands.
        span: Span,
    },
    /// An input of a stage is not known although the stage above it is done.
    #[error(
        "stage `{stage}` reads `{from}` as its input `{input}`, but the record of that stage has no such \
         output; run it again with `--force`, and report this if it happens again"
    )]
    MissingInput {
        /// The stage.
        stage: String,
        /// Its input.
        input: String,
        /// What the input names.
        from: String,
    },
    /// The description of a stage's provider was not handed in; a bug of the caller.
    #[error("nothing is known of the provider of stage `{0}`; this is a bug of kiln, please report it")]
    UnknownProvider(String),
    /// A source that the pipeline does not have; a bug of the caller.
    #[error("the pipeline has no source `{0}`; this is a bug of kiln, please report it")]
    UnknownSource(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl PlanError {
    /// Where in the pipeline file the error lies, and its code; none when it does not lie there.
    pub fn place(&self) -> Option<(Span, Code)> {
        Some(match self {
            Self::NoSource { span, .. } => (*span, Code::NoSource),
            Self::Unreadable { span, .. } => (*span, Code::Unreadable),
            Self::BadGlob { span, .. } => (*span, Code::BadGlob),
            Self::NoUses { span, .. } => (*span, Code::NoUses),
            Self::TooFewCores { span, .. } => (*span, Code::TooFewCores),
            Self::MissingInput { .. }
            | Self::UnknownProvider(_)
            | Self::UnknownSource(_)
            | Self::Store(_) => return None,
        })
    }
}
