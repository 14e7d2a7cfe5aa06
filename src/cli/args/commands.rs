//! The commands.
//!
//! Purpose: each command with its own options and their help, as clap reads them.
//! Invariant: every option has a help text.
//! Must not know: what commands do.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::cluster::{ExecArgs, JobsArgs};
use super::models::{ChatArgs, ExportArgs, GenerateArgs, ImportArgs};
use super::shared::{
    Common, NAMES, PipelineArgs, hidden, one_artifact, one_stage, stage_or_run, without_changes,
};
use super::sharing::{
    CareArgs, DuArgs, GcArgs, KeyArgs, PinArgs, ProvenanceArgs, PullArgs, PushArgs, RemoteArgs, VerifyArgs,
};

/// Run YAML pipelines of content-hashed artifacts, and only the stages that are stale
#[derive(Debug, Parser)]
#[command(name = "kiln", version, propagate_version = false)]
#[command(after_help = "A pipeline is named by its FILE or, without one, is the only file under \
    pipelines/ or kiln.yaml here.\nExit codes: 0 ok, 1 a stage failed, 2 changes pending, 3 the file \
    or the call is wrong, 4 waiting for people, 130 interrupted and resumable.\nVariables, beside those of the \
    options: KILN_CONFIG is the path of your own file [default: ~/.config/kiln/config.yaml]; KILN_REMOTES has the \
    URLs of more remotes, with commas between them; KILN_SIGNING_KEY is the path of the private key that signs \
    results [default: keys/default.pem beside your own file].")]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub common: Common,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a commented pipeline that runs as it is
    Init(InitArgs),
    /// Show what would run and why, without running a stage or taking a lock
    Plan(PlanArgs),
    /// Run the stages that are stale
    Run(RunArgs),
    /// Show which stages are fresh, stale or running
    Status(StatusArgs),
    /// Find the root cause of a stale stage, with old and new values
    Why(WhyArgs),
    /// Follow the jobs that a detached run has left, and take over their results; submits nothing
    Attach(JobsArgs),
    /// Cancel the jobs that runs of this project have on a cluster
    Cancel(JobsArgs),
    /// Run the stage of a job on its node; for the script of a job, not for people
    #[command(hide = true)]
    Exec(ExecArgs),
    /// Draw the DAG
    Graph(GraphArgs),
    /// List the runs, or print the last log of a stage
    Log(LogArgs),
    /// Show an artifact
    Show(ShowArgs),
    /// Show the last metrics of each stage
    Metrics(MetricsArgs),
    /// Write a model card: what an artifact was made from and how, with every figure from the records
    Card(CardArgs),
    /// Complete prompts with a model
    Generate(GenerateArgs),
    /// Chat with a model
    Chat(ChatArgs),
    /// Write a pipeline that reads a model of other people
    Import(ImportArgs),
    /// Write a model for other programs
    Export(ExportArgs),
    /// Send the results that are here to the remotes that may be written
    Push(PushArgs),
    /// Bring the results here that remotes have
    Pull(PullArgs),
    /// List, add, remove, check or count remotes
    Remote(RemoteArgs),
    /// Make a key that signs results, list keys, or trust one or no longer
    Key(KeyArgs),
    /// Print the signed statements of all that an artifact was made from
    Provenance(ProvenanceArgs),
    /// Check every byte of the store, and repair it from remotes
    Fsck(CareArgs),
    /// Run a stage again in a store of its own, and compare what comes out with what is recorded
    Verify(VerifyArgs),
    /// Show what the store takes, by what it is and by stage
    Du(DuArgs),
    /// List what nobody needs in the store or in a remote; remove it with --apply
    Gc(GcArgs),
    /// Keep results that `kiln gc` would remove
    Pin(PinArgs),
    /// Check the machine, and say what to do about anything that is missing
    Doctor(DoctorArgs),
    /// Check the lock file, or merge lock files for git
    Lock(LockArgs),
    /// List the kinds of stages, or the inputs, outputs and params of one, with their defaults
    Params(ParamsArgs),
    /// Print the JSON Schema of pipeline files, for editors
    Schema(SchemaArgs),
    /// Explain the code of an error
    Explain(ExplainArgs),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
}

/// `kiln init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// The file to write
    #[arg(default_value = "kiln.yaml", value_name = "FILE")]
    pub file: PathBuf,
    /// The pipeline to write
    #[arg(long, value_enum, default_value_t = Template::Commands)]
    pub template: Template,
}

/// What `kiln init` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Template {
    /// Two command stages that run anywhere.
    Commands,
    /// A small assistant from your own text, from the tokenizer to the PPO policy.
    Tiny,
}

/// `kiln plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// The pipeline and the stages; without a name, all of them.
    #[command(flatten)]
    pub pipeline: PipelineArgs,
    /// Plan to run a stage even if it is fresh
    #[arg(long, value_name = "STAGE")]
    pub force: Vec<String>,
    /// Exit with 2 when changes are pending
    #[arg(long)]
    pub detailed_exitcode: bool,
    /// Compare everything but outputs with the lock file, and exit with 2 if something differs
    #[arg(long)]
    pub locked: bool,
}

/// `kiln run`.
#[derive(Debug, Default, Args)]
pub struct RunArgs {
    /// The pipeline and the stages; without a name, all of them.
    #[command(flatten)]
    pub pipeline: PipelineArgs,
    /// The maximum number of stages at a time [default: as many as cores and memory allow]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub jobs: Option<u32>,
    /// Continue with the stages that do not need a failed one
    #[arg(short, long)]
    pub keep_going: bool,
    /// Run a stage even if it is fresh
    #[arg(long, value_name = "STAGE")]
    pub force: Vec<String>,
    /// Run nothing and exit with 2 if the pipeline differs from the lock file; exit with 1 if an output does
    #[arg(long)]
    pub locked: bool,
    /// Run stages as jobs of a cluster: slurm, ray, or the name of one of `executors`; local runs all of them here
    #[arg(long, value_name = "NAME")]
    pub executor: Option<String>,
    /// End once all jobs that can start now are submitted; the next run goes on with them and submits what comes next
    #[arg(long)]
    pub detach: bool,
    /// Whether the lock file stays as it is.
    #[arg(skip)]
    pub leaves_lock_file: bool,
    /// Whether nothing is submitted.
    #[arg(skip)]
    pub only_follows: bool,
}

/// `kiln status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// The pipeline and the stages; without a name, all of them.
    #[command(flatten)]
    pub pipeline: PipelineArgs,
    /// Print nothing; exit with 2 when something is stale
    #[arg(short, long)]
    pub quiet: bool,
}

/// `kiln why`.
#[derive(Debug, Args)]
#[command(mut_arg(NAMES, one_stage))]
#[command(override_usage = "kiln why [OPTIONS] [FILE] STAGE")]
pub struct WhyArgs {
    /// The pipeline and the stage.
    #[command(flatten)]
    pub pipeline: PipelineArgs,
}

/// `kiln graph`.
#[derive(Debug, Args)]
#[command(mut_arg("device", hidden))]
pub struct GraphArgs {
    /// The pipeline and the stages; without a name, all of them.
    #[command(flatten)]
    pub pipeline: PipelineArgs,
    /// The format of the drawing
    #[arg(long, value_enum, default_value_t = GraphFormat::Text)]
    pub format: GraphFormat,
}

/// The format of a drawn DAG.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GraphFormat {
    /// Lines for people.
    Text,
    /// Graphviz.
    Dot,
    /// Mermaid, as GitHub shows it.
    Mermaid,
    /// Nodes and edges as JSON.
    Json,
}

/// `kiln log`.
#[derive(Debug, Args)]
#[command(mut_arg(NAMES, stage_or_run))]
#[command(mut_args(without_changes))]
#[command(override_usage = "kiln log [OPTIONS] [FILE] [STAGE|RUN]")]
pub struct LogArgs {
    /// The pipeline, and a stage or a run; all runs when neither is named.
    #[command(flatten)]
    pub pipeline: PipelineArgs,
    /// The maximum number of runs in the list
    #[arg(short = 'n', long, default_value_t = 20, value_name = "N")]
    pub limit: usize,
}

/// `kiln show`.
#[derive(Debug, Args)]
#[command(mut_arg(NAMES, one_artifact))]
#[command(override_usage = "kiln show [OPTIONS] [FILE] ARTIFACT")]
pub struct ShowArgs {
    /// The pipeline, and an artifact as STAGE, STAGE.OUTPUT or the name of a source.
    #[command(flatten)]
    pub pipeline: PipelineArgs,
    /// Print only a path where the artifact can be read
    #[arg(long, conflicts_with = "json")]
    pub path: bool,
}

/// `kiln metrics`.
#[derive(Debug, Args)]
pub struct MetricsArgs {
    /// The pipeline and the stages; without a name, all of them.
    #[command(flatten)]
    pub pipeline: PipelineArgs,
}

/// `kiln card`.
#[derive(Debug, Args)]
#[command(
    after_help = "The card is Markdown with YAML in front of it, as the Hugging Face Hub shows a README.md. It holds no \
    time of writing: the same records give the same card. What no record says, such as a license, it leaves out and \
    lists as a gap."
)]
#[command(mut_arg(NAMES, one_artifact))]
#[command(override_usage = "kiln card [OPTIONS] [FILE] ARTIFACT")]
pub struct CardArgs {
    /// The pipeline, and an artifact as STAGE or STAGE.OUTPUT.
    #[command(flatten)]
    pub pipeline: PipelineArgs,
    /// Write the card to a file, and replace an older card there
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// `kiln doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Submit a trial job to an executor, and say what is wrong with it
    #[arg(long, value_name = "NAME")]
    pub executor: Option<String>,
    /// The pipeline file that describes the executor
    #[arg(value_name = "FILE", requires = "executor")]
    pub file: Option<PathBuf>,
    /// Answer with one JSON object on stdout
    #[arg(long)]
    pub json: bool,
}

/// `kiln lock`.
#[derive(Debug, Args)]
pub struct LockArgs {
    /// The command.
    #[command(subcommand)]
    pub command: LockCommand,
}

/// The commands of `kiln lock`.
#[derive(Debug, Subcommand)]
pub enum LockCommand {
    /// Compare everything but outputs with the lock file, and exit with 2 if something differs
    Check(PipelineArgs),
    /// Merge lock files stage by stage into OURS, as a merge driver for git; exit with 1 on a conflict
    #[command(after_help = MERGE_HELP)]
    Merge(LockMergeArgs),
}

/// How to set up the merge driver.
const MERGE_HELP: &str = "To have git use it, add this line to .gitattributes:\n  \
    pipelines/*.lock merge=kiln\nand run this once in each clone:\n  \
    git config merge.kiln.driver 'kiln lock merge %O %A %B %P'\nAfter a conflict, resolve the pipeline \
    file; then `kiln run` writes the lock file anew.";

/// `kiln lock merge`.
#[derive(Debug, Args)]
pub struct LockMergeArgs {
    /// The common ancestor (%O)
    pub base: PathBuf,
    /// Our file, which receives the result (%A)
    pub ours: PathBuf,
    /// Their file (%B)
    pub theirs: PathBuf,
    /// The path of the lock file in the repository, for messages (%P)
    pub path: Option<PathBuf>,
}

/// `kiln params`.
#[derive(Debug, Args)]
pub struct ParamsArgs {
    /// The kind, such as `sft`; all of them in one line each, when left out
    pub kind: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `kiln schema`.
#[derive(Debug, Args)]
pub struct SchemaArgs {
    /// Accepted like everywhere else; a schema is always JSON
    #[arg(long, hide = true)]
    pub json: bool,
}

/// `kiln completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// `kiln explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The code, such as unknown-key; without one, all codes are listed
    pub code: Option<String>,
    /// Answer with one JSON object on stdout
    #[arg(long)]
    pub json: bool,
}
