//! The options of the commands about clusters.
//!
//! Must not know: what commands do.

use clap::Args;

use super::shared::PipelineArgs;
use crate::digest::Digest;

/// `kiln attach` and `kiln cancel`.
#[derive(Debug, Args)]
pub struct JobsArgs {
    /// The pipeline and the stages; without a name, all that have jobs.
    #[command(flatten)]
    pub pipeline: PipelineArgs,
}

/// `kiln exec`.
#[derive(Debug, Args)]
pub struct ExecArgs {
    /// The action key
    pub key: Digest,
    /// The number of the submission
    #[arg(long)]
    pub submission: String,
    /// The digest of the request
    #[arg(long)]
    pub request: Digest,
    /// The remote by which the runner and the job talk, as NAME=URL
    #[arg(long)]
    pub remote: Option<String>,
    /// Whether a record counts only with a signature by a trusted key
    #[arg(long)]
    pub signed: bool,
}
