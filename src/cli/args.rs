//! What can be typed.
//!
//! Purpose: commands, options and their help, as clap reads them.
//! Invariant: a positional argument that ends in `.yaml` or `.yml` and comes first is the file.
//! Must not know: what commands do.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Runs YAML pipelines of content-hashed artifacts, and only what is stale.
#[derive(Debug, Parser)]
#[command(name = "kiln", version, propagate_version = false, disable_help_subcommand = true)]
#[command(after_help = "A pipeline is named by its FILE or, without one, is the only file under \
    pipelines/ or kiln.yaml here.\nExit codes: 0 ok, 1 a stage failed, 2 changes pending, 3 the file \
    or the call is wrong, 4 waiting for people, 130 interrupted and resumable.")]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub common: Common,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// The store [default: artifacts/ in the project root]
    #[arg(long, global = true, env = "KILN_STORE", value_name = "FOLDER", hide_env_values = true)]
    pub store: Option<PathBuf>,
    /// Colours in what is printed.
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto, value_name = "WHEN")]
    pub color: Color,
    /// What is logged on stderr: off, error, warn, info, debug, trace, or a tracing filter.
    #[arg(long, global = true, env = "KILN_LOG", default_value = "warn", value_name = "LEVEL")]
    pub log_level: String,
    /// How the log on stderr is written.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text, value_name = "FORMAT")]
    pub log_format: LogFormat,
}

/// When to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Color {
    /// As streams take it.
    pub fn choice(self) -> anstream::ColorChoice {
        match self {
            Self::Auto => anstream::ColorChoice::Auto,
            Self::Always => anstream::ColorChoice::Always,
            Self::Never => anstream::ColorChoice::Never,
        }
    }
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Writes a commented pipeline that runs as it stands.
    Init(InitArgs),
    /// Shows what would run and why. Runs no stage and takes no lock.
    Plan(PlanArgs),
    /// Runs what is stale.
    Run(RunArgs),
    /// Says what is fresh, stale and running.
    Status(StatusArgs),
    /// Finds the root cause of a stale stage, with old and new values.
    Why(WhyArgs),
    /// Draws the DAG.
    Graph(GraphArgs),
    /// Lists the runs, or prints the last log of a stage.
    Log(LogArgs),
    /// Shows an artifact.
    Show(ShowArgs),
    /// Shows the last metrics of each stage.
    Metrics(MetricsArgs),
    /// Completes prompts with a model.
    Generate(GenerateArgs),
    /// Talks with a model.
    Chat(ChatArgs),
    /// Checks the machine, and says what to do about what is missing.
    Doctor(DoctorArgs),
    /// Checks the lock file, or merges lock files for git.
    Lock(LockArgs),
    /// Prints the JSON Schema of pipeline files, for editors.
    Schema(SchemaArgs),
    /// Prints a completion script for a shell.
    Completions(CompletionsArgs),
}

/// The pipeline and what is changed in it.
#[derive(Debug, Clone, Default, Args)]
pub struct PipelineArgs {
    /// The pipeline file, if it ends in .yaml or .yml; then names of stages
    #[arg(value_name = "[FILE] NAME")]
    pub names: Vec<String>,
    /// Sets a value, such as stages.sft.learning_rate=1e-5 or params.seed=2 (the value is YAML)
    #[arg(long, value_name = "PATH=VALUE")]
    pub set: Vec<String>,
    /// Takes a value away, such as stages.sft.learning_rate
    #[arg(long, value_name = "PATH")]
    pub unset: Vec<String>,
    /// Answers with one JSON object on stdout
    #[arg(long)]
    pub json: bool,
    /// Where stages compute: auto takes a GPU if there is one; part of a key only with `cache: exact`
    #[arg(long, value_enum, default_value_t = Device::Auto)]
    pub device: Device,
}

impl PipelineArgs {
    /// The file, if one is named, and the other names.
    pub fn split(&self) -> (Option<PathBuf>, &[String]) {
        match self.names.split_first() {
            Some((first, rest)) if is_file(first) => (Some(PathBuf::from(first)), rest),
            _ => (None, &self.names),
        }
    }
}

fn is_file(name: &str) -> bool {
    name.ends_with(".yaml") || name.ends_with(".yml")
}

/// Where numbers are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Device {
    /// A GPU if there is one.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// A CUDA GPU.
    Cuda,
}

impl Device {
    /// As a stage request spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        }
    }
}

/// `kiln init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// Where to write it
    #[arg(default_value = "kiln.yaml", value_name = "FILE")]
    pub file: PathBuf,
    /// What to write
    #[arg(long, value_enum, default_value_t = Template::Commands)]
    pub template: Template,
}

/// What `kiln init` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Template {
    /// Two command stages that run anywhere.
    Commands,
    /// A small assistant from a text of yours: tokenizer to PPO policy.
    Tiny,
}

/// `kiln plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// The pipeline and the stages wanted; all when none is named.
    #[command(flatten)]
    pub pipeline: PipelineArgs,
    /// Plans a stage to run even though it is fresh
    #[arg(long, value_name = "STAGE")]
    pub force: Vec<String>,
    /// Exits with 2 when changes are pending
    #[arg(long)]
    pub detailed_exitcode: bool,
    /// Compares everything but outputs with the lock file, and exits with 2 if something differs
    #[arg(long)]
    pub locked: bool,
}

/// `kiln run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The pipeline and the stages wanted; all when none is named.
    #[command(flatten)]
    pub pipeline: PipelineArgs,
    /// The most stages at a time [default: as many as the machine's cores and memory allow]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub jobs: Option<u32>,
    /// Goes on with what does not need a stage that failed
    #[arg(short, long)]
    pub keep_going: bool,
    /// Runs a stage even though it is fresh
    #[arg(long, value_name = "STAGE")]
    pub force: Vec<String>,
    /// Runs nothing and exits with 2 if the pipeline differs from the lock file; exits with 1 if an output does
    #[arg(long)]
    pub locked: bool,
}

/// `kiln status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// The pipeline and the stages wanted; all when none is named.
    #[command(flatten)]
    pub pipeline: PipelineArgs,
    /// Prints nothing; exits with 2 when something is stale
    #[arg(short, long)]
    pub quiet: bool,
}

/// `kiln why`.
#[derive(Debug, Args)]
pub struct WhyArgs {
    /// The pipeline and the stage.
    #[command(flatten)]
    pub pipeline: PipelineArgs,
}

/// `kiln graph`.
#[derive(Debug, Args)]
pub struct GraphArgs {
    /// The pipeline and the stages wanted; all when none is named.
    #[command(flatten)]
    pub pipeline: PipelineArgs,
    /// How to draw it
    #[arg(long, value_enum, default_value_t = GraphFormat::Text)]
    pub format: GraphFormat,
}

/// How to draw the DAG.
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
pub struct LogArgs {
    /// The pipeline, and a stage or a run; all runs when neither is named.
    #[command(flatten)]
    pub pipeline: PipelineArgs,
    /// Lists no more runs than this
    #[arg(short = 'n', long, default_value_t = 20, value_name = "N")]
    pub limit: usize,
}

/// `kiln show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The pipeline, and an artifact as STAGE, STAGE.OUTPUT or the name of a source.
    #[command(flatten)]
    pub pipeline: PipelineArgs,
    /// Prints just a path where the artifact can be read
    #[arg(long, conflicts_with = "json")]
    pub path: bool,
}

/// `kiln metrics`.
#[derive(Debug, Args)]
pub struct MetricsArgs {
    /// The pipeline and the stages wanted; all when none is named.
    #[command(flatten)]
    pub pipeline: PipelineArgs,
}

/// How a model is sampled from.
#[derive(Debug, Clone, Args)]
pub struct SamplingArgs {
    /// Sampling temperature; 0 takes the likeliest token
    #[arg(long, default_value_t = 0.8)]
    pub temperature: f64,
    /// The most tokens of a reply
    #[arg(long, default_value_t = 128, value_name = "N")]
    pub max_tokens: u32,
    /// The seed of sampling
    #[arg(long, default_value_t = 1337)]
    pub seed: u64,
}

/// `kiln generate`.
#[derive(Debug, Args)]
pub struct GenerateArgs {
    /// The pipeline, a model as STAGE or STAGE.OUTPUT, and prompts.
    #[command(flatten)]
    pub pipeline: PipelineArgs,
    /// How to sample.
    #[command(flatten)]
    pub sampling: SamplingArgs,
    /// Reads more prompts from a file, one a line; `-` is stdin, which is read when there are none
    #[arg(long, value_name = "PROMPTS")]
    pub file: Option<PathBuf>,
    /// Continues each prompt as plain text instead of through the chat template
    #[arg(long)]
    pub raw: bool,
}

/// `kiln chat`.
#[derive(Debug, Args)]
pub struct ChatArgs {
    /// The pipeline and a model as STAGE or STAGE.OUTPUT.
    #[command(flatten)]
    pub pipeline: PipelineArgs,
    /// How to sample.
    #[command(flatten)]
    pub sampling: SamplingArgs,
}

/// `kiln doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Answers with one JSON object on stdout
    #[arg(long)]
    pub json: bool,
}

/// `kiln lock`.
#[derive(Debug, Args)]
pub struct LockArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: LockCommand,
}

/// The commands of `kiln lock`.
#[derive(Debug, Subcommand)]
pub enum LockCommand {
    /// Compares the pipeline with its lock file, and exits with 2 if something but outputs differs.
    Check(PipelineArgs),
    /// Merges lock files stage by stage into OURS, as a merge driver of git; exits with 1 on a conflict.
    #[command(after_help = MERGE_HELP)]
    Merge(LockMergeArgs),
}

/// How to set the merge driver up.
const MERGE_HELP: &str = "To have git use it, add this line to .gitattributes:\n  \
    pipelines/*.lock merge=kiln\nand run this once in each clone:\n  \
    git config merge.kiln.driver 'kiln lock merge %O %A %B'";

/// `kiln lock merge`.
#[derive(Debug, Args)]
pub struct LockMergeArgs {
    /// The common ancestor (%O)
    pub base: PathBuf,
    /// Our file, which receives the result (%A)
    pub ours: PathBuf,
    /// Their file (%B)
    pub theirs: PathBuf,
}

/// `kiln schema`.
#[derive(Debug, Args)]
pub struct SchemaArgs {
    /// Taken for evenness; a schema is JSON anyway
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
