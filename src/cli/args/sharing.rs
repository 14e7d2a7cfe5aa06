//! The commands that share results, and those that care for a store.
//!
//! Purpose: the options of `push`, `pull`, `remote`, `key`, `provenance`, `fsck`, `du` and `gc`.
//! Invariant: every option has a help text.
//! Must not know: what commands do.

use clap::{Args, Subcommand};

use super::shared::{NAMES, PipelineArgs, one_stage, only_file, remotes, without_changes};

/// `kiln push`.
#[derive(Debug, Args)]
pub struct PushArgs {
    /// The pipeline and the stages; without a name, all of them.
    #[command(flatten)]
    pub pipeline: PipelineArgs,

    /// Send again what seems to be there: this repairs a remote whose objects were damaged
    #[arg(long)]
    pub resend: bool,
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
    #[command(mut_arg(NAMES, only_file), mut_args(without_changes))]
    #[command(override_usage = "kiln remote list [OPTIONS] [FILE]")]
    List(PipelineArgs),
    /// Add a remote to your own file, or change it there
    Add(RemoteAddArgs),
    /// Remove a remote from your own file; nothing in the remote is removed
    Remove(RemoteRemoveArgs),
    /// Ask each remote whether it answers; exit with 1 if one does not
    #[command(mut_arg(NAMES, only_file), mut_args(without_changes))]
    #[command(override_usage = "kiln remote check [OPTIONS] [FILE]")]
    Check(PipelineArgs),
    /// Count the objects of remotes and their bytes, by listing them
    Du(RemoteDuArgs),
}

/// `kiln remote du`.
#[derive(Debug, Args)]
#[command(
    after_help = "NAME is that of a remote; without one, all that can be read are counted. A remote that is reached by \
    HTTP has no listing and is left out. Exit code 1 means that a remote could not be counted."
)]
#[command(mut_arg(NAMES, remotes), mut_args(without_changes))]
pub struct RemoteDuArgs {
    /// The pipeline whose remotes are counted beside yours, and the names of remotes.
    #[command(flatten)]
    pub pipeline: PipelineArgs,
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
    /// Run a stage even while somebody else runs it
    #[arg(long)]
    pub no_leases: bool,
}

/// `kiln remote remove`.
#[derive(Debug, Args)]
pub struct RemoteRemoveArgs {
    /// The name of the remote
    pub name: String,
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
    /// Trust a key no longer
    Distrust(KeyDistrustArgs),
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

/// `kiln key distrust`.
#[derive(Debug, Args)]
pub struct KeyDistrustArgs {
    /// The name by which the key is trusted, as `kiln key list` prints it
    pub name: String,
}

/// `kiln provenance`.
#[derive(Debug, Args)]
#[command(
    after_help = "The output is an in-toto bundle: one DSSE envelope a line. Exit code 1 means that there are gaps: \
    stages that are not known or not signed by a trusted key, or whose digests do not match."
)]
#[command(mut_arg(NAMES, one_stage))]
#[command(override_usage = "kiln provenance [OPTIONS] [FILE] STAGE")]
pub struct ProvenanceArgs {
    /// The pipeline and the stage.
    #[command(flatten)]
    pub pipeline: PipelineArgs,
}

/// `kiln fsck`.
#[derive(Debug, Args)]
#[command(mut_arg(NAMES, only_file), mut_args(without_changes))]
#[command(override_usage = "kiln fsck [OPTIONS] [FILE]")]
pub struct CareArgs {
    /// The pipeline whose remotes repair; those of yours do, too.
    #[command(flatten)]
    pub pipeline: PipelineArgs,
}

/// `kiln verify`.
#[derive(Debug, Args)]
#[command(mut_arg(NAMES, one_stage))]
#[command(override_usage = "kiln verify [OPTIONS] [FILE] STAGE")]
pub struct VerifyArgs {
    /// The pipeline and the stage.
    #[command(flatten)]
    pub pipeline: PipelineArgs,
}

/// `kiln du`.
#[derive(Debug, Args)]
#[command(
    after_help = "It works without a pipeline, too. Of a stage it shows the bytes of its last outputs, wherever they \
    are, and the bytes here that no other record has among its outputs. A file of several names counts once, links are \
    not followed, and no remote is asked."
)]
pub struct DuArgs {
    /// The pipeline and the stages that are shown; without a name, all of them.
    #[command(flatten)]
    pub pipeline: PipelineArgs,
}

/// The default of `--older`, in seconds: 14d.
pub const OLDER: u64 = 14 * 86_400;
/// The default of `--keep-runs`.
pub const KEEP_RUNS: usize = 20;

/// `kiln gc`.
#[derive(Debug, Args)]
#[command(
    after_help = "What stays in the store: the last good results of every pipeline, those of the newest runs, those \
    that a lock file in the project root or in pipelines/ names or that are pinned, and everything younger than \
    --older.\nWhat stays in a remote: results that were sent or used in the time of --keep, those that are pinned, \
    what somebody is sending, and everything younger than --older."
)]
pub struct GcArgs {
    /// Clean this remote instead of the store
    #[arg(long, value_name = "NAME")]
    pub remote: Option<String>,
    /// Of a remote: keep the results that were sent or used in this time [default: 90d]
    #[arg(long, value_name = "AGE", value_parser = age, requires = "remote")]
    pub keep: Option<u64>,
    /// Remove what is listed
    #[arg(long)]
    pub apply: bool,
    /// Keep everything that is younger, such as 12h or 30d; of a remote at least 1d
    #[arg(long, default_value = "14d", value_name = "AGE", value_parser = age)]
    pub older: u64,
    /// Keep the results of so many of the newest runs
    #[arg(long, default_value_t = KEEP_RUNS, value_name = "N")]
    pub keep_runs: usize,
    /// Answer with one JSON object on stdout
    #[arg(long)]
    pub json: bool,
}

/// `kiln pin`.
#[derive(Debug, Args)]
#[command(
    after_help = "A pin keeps the results of stages, and of all that they need, in the store or in a remote: \
    `kiln gc` does not remove them, however old they are."
)]
pub struct PinArgs {
    /// The command.
    #[command(subcommand)]
    pub command: PinCommand,
}

/// The commands of `kiln pin`.
#[derive(Debug, Subcommand)]
pub enum PinCommand {
    /// Keep the present results of stages, and of all that they need
    Add(PinAddArgs),
    /// List the pins
    List(PinListArgs),
    /// Remove a pin
    Remove(PinRemoveArgs),
}

/// `kiln pin add`.
#[derive(Debug, Args)]
pub struct PinAddArgs {
    /// The name of the pin; one of this name is replaced
    pub name: String,
    /// Pin in this remote instead of the store
    #[arg(long, value_name = "NAME")]
    pub remote: Option<String>,
    /// The pipeline and the stages; without a name, all of them.
    #[command(flatten)]
    pub pipeline: PipelineArgs,
}

/// `kiln pin list`.
#[derive(Debug, Args)]
pub struct PinListArgs {
    /// List the pins of this remote instead of the store's
    #[arg(long, value_name = "NAME")]
    pub remote: Option<String>,
    /// Answer with one JSON object on stdout
    #[arg(long)]
    pub json: bool,
}

/// `kiln pin remove`.
#[derive(Debug, Args)]
pub struct PinRemoveArgs {
    /// The name of the pin
    pub name: String,
    /// Remove it from this remote instead of the store
    #[arg(long, value_name = "NAME")]
    pub remote: Option<String>,
}

/// Seconds, from a number with `s`, `m`, `h` or `d` behind it.
fn age(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not an age; one looks like 90m, 12h or 30d");
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    number.parse::<u64>().ok().and_then(|number| number.checked_mul(seconds)).ok_or_else(wrong)
}
