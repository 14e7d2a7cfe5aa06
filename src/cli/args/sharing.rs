//! The commands that share results.
//!
//! Purpose: the options of `push`, `pull`, `remote`, `key` and `provenance`.
//! Invariant: every option has a help text.
//! Must not know: what commands do.

use clap::{Args, Subcommand};

use super::shared::PipelineArgs;

/// `kiln push`.
#[derive(Debug, Args)]
pub struct PushArgs {
    /// The pipeline and the stages; without a name, all of them.
    #[command(flatten)]
    pub pipeline: PipelineArgs,
}

/// `kiln pull`.
#[derive(Debug, Args)]
pub struct PullArgs {
    /// The pipeline and the stages; without a name, all of them.
    #[command(flatten)]
    pub pipeline: PipelineArgs,
}

/// `kiln remote`.
#[derive(Debug, Args)]
pub struct RemoteArgs {
    /// The command.
    #[command(subcommand)]
    pub command: RemoteCommand,
}

/// The commands of `kiln remote`.
#[derive(Debug, Subcommand)]
pub enum RemoteCommand {
    /// List the remotes in their order of use, and who names them
    List(PipelineArgs),
    /// Add a remote to your own file, or change it there
    Add(RemoteAddArgs),
    /// Ask each remote whether it answers; exit with 1 if one does not
    Check(PipelineArgs),
}

/// `kiln remote add`.
#[derive(Debug, Args)]
pub struct RemoteAddArgs {
    /// The name of the remote
    pub name: String,
    /// Its URL: s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX, https://HOST/PATH or file:///FOLDER
    pub url: String,
    /// Take results from it and send none
    #[arg(long)]
    pub read_only: bool,
    /// Send results to it and take none
    #[arg(long, conflicts_with = "read_only")]
    pub write_only: bool,
}

/// `kiln key`.
#[derive(Debug, Args)]
pub struct KeyArgs {
    /// The command.
    #[command(subcommand)]
    pub command: KeyCommand,
}

/// The commands of `kiln key`.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make a key; the one named `default` signs all results that are made here
    New(KeyNewArgs),
    /// List the key that signs here and those that are trusted
    List(KeyListArgs),
    /// Trust the results that a key has signed
    Trust(KeyTrustArgs),
}

/// `kiln key new`.
#[derive(Debug, Args)]
pub struct KeyNewArgs {
    /// The name of the key
    #[arg(default_value = "default")]
    pub name: String,
}

/// `kiln key list`.
#[derive(Debug, Args)]
pub struct KeyListArgs {
    /// Answer with one JSON object on stdout
    #[arg(long)]
    pub json: bool,
}

/// `kiln key trust`.
#[derive(Debug, Args)]
pub struct KeyTrustArgs {
    /// A name for whoever has the key
    pub name: String,
    /// The public key, as `kiln key new` and `kiln key list` print it
    pub key: String,
    /// From now on let no result count without a signature by a trusted key
    #[arg(long)]
    pub require: bool,
}

/// `kiln provenance`.
#[derive(Debug, Args)]
#[command(
    after_help = "The output is an in-toto bundle: one DSSE envelope a line. Exit code 1 means that there are gaps: \
    stages that are not known or not signed by a trusted key, or that do not meet."
)]
pub struct ProvenanceArgs {
    /// The pipeline and the stage.
    #[command(flatten)]
    pub pipeline: PipelineArgs,
}
