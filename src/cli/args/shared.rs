//! The options that commands share.
//!
//! Purpose: options of every command, of every command that reads a pipeline, and of those that sample.
//! Invariant: a positional argument that ends in `.yaml` or `.yml` and comes first is the file.
//! Must not know: what commands do.

use std::path::PathBuf;

use clap::{Arg, Args, ValueEnum};

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// The store [default: artifacts/ in the project root]
    #[arg(long, global = true, env = "KILN_STORE", value_name = "FOLDER", hide_env_values = true)]
    pub store: Option<PathBuf>,
    /// Do not use remotes
    #[arg(long, global = true, env = "KILN_OFFLINE", value_parser = clap::builder::FalseyValueParser::new())]
    pub offline: bool,
    /// Take no results from remotes; results are still sent there
    #[arg(long, global = true, env = "KILN_NO_CACHE_READ", value_parser = clap::builder::FalseyValueParser::new())]
    pub no_cache_read: bool,
    /// When to use colours
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto, value_name = "WHEN")]
    pub color: Color,
    /// The log level on stderr: off, error, warn, info, debug, trace, or a tracing filter
    #[arg(long, global = true, env = "KILN_LOG", default_value = "warn", value_name = "LEVEL")]
    pub log_level: String,
    /// The format of the log on stderr
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
    /// The choice for a stream.
    pub fn choice(self) -> anstream::ColorChoice {
        match self {
            Self::Auto => anstream::ColorChoice::Auto,
            Self::Always => anstream::ColorChoice::Always,
            Self::Never => anstream::ColorChoice::Never,
        }
    }
}

/// The format of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// The pipeline and the changes to it.
#[derive(Debug, Clone, Default, Args)]
pub struct PipelineArgs {
    /// The pipeline file, if the first name ends in .yaml or .yml; then the names of stages
    #[arg(value_names = ["FILE", "STAGE"])]
    pub names: Vec<String>,
    /// Set a value, such as stages.sft.learning_rate=1e-5 or params.seed=2; it is JSON where it parses as JSON, else text
    #[arg(long, value_name = "PATH=VALUE")]
    pub set: Vec<String>,
    /// Remove a value, such as stages.sft.learning_rate
    #[arg(long, value_name = "PATH")]
    pub unset: Vec<String>,
    /// Answer with one JSON object on stdout
    #[arg(long)]
    pub json: bool,
    /// The device of training stages; auto uses a GPU if the machine has one. Part of a key only with `cache: exact`
    #[arg(long, value_enum, default_value_t = Device::Auto)]
    pub device: Device,
}

/// The positional argument of [`PipelineArgs`].
pub const NAMES: &str = "names";

/// It names one stage.
pub fn one_stage(names: Arg) -> Arg {
    one(names, "STAGE", "The pipeline file, if the name ends in .yaml or .yml, and the stage")
}

/// It names one artifact.
pub fn one_artifact(names: Arg) -> Arg {
    let what =
        "The pipeline file, if the name ends in .yaml or .yml, and the artifact: STAGE or STAGE.OUTPUT";
    one(names, "ARTIFACT", what)
}

/// It names one model.
pub fn one_model(names: Arg) -> Arg {
    let what = "The pipeline file, if the name ends in .yaml or .yml, and the model: STAGE or STAGE.OUTPUT";
    one(names, "MODEL", what)
}

/// It names one model, and prompts.
pub fn model_and_prompts(names: Arg) -> Arg {
    let what = "The pipeline file, if the name ends in .yaml or .yml, the model as STAGE or STAGE.OUTPUT, and prompts";
    names.value_names(["FILE", "MODEL", "PROMPT"]).help(what)
}

/// It names a stage or a run.
pub fn stage_or_run(names: Arg) -> Arg {
    let what = "The pipeline file, if the name ends in .yaml or .yml, and a stage or a run, such as r-0012";
    one(names, "STAGE|RUN", what)
}

/// It names a pipeline file and nothing else.
pub fn only_file(names: Arg) -> Arg {
    names.value_name("FILE").help("The pipeline file")
}

/// It names remotes.
pub fn remotes(names: Arg) -> Arg {
    let what = "The pipeline file, if the first name ends in .yaml or .yml; then the names of remotes";
    names.value_names(["FILE", "REMOTE"]).help(what)
}

fn one(names: Arg, what: &'static str, help: &'static str) -> Arg {
    names.value_names(["FILE", what]).help(help)
}

/// Hides the options that change what a stage is made of, where a command asks for no stage.
pub fn without_changes(arg: Arg) -> Arg {
    if ["set", "unset", "device"].contains(&arg.get_id().as_str()) { hidden(arg) } else { arg }
}

/// Is accepted and not listed.
pub fn hidden(arg: Arg) -> Arg {
    arg.hide(true)
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

/// The device of training stages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Device {
    /// A GPU if the machine has one.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// A CUDA GPU.
    Cuda,
}

impl Device {
    /// The name in a stage request.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        }
    }
}

/// Sampling options.
#[derive(Debug, Clone, Args)]
pub struct SamplingArgs {
    /// The sampling temperature; 0 takes the most likely token
    #[arg(long, default_value_t = 0.8, value_parser = temperature, allow_negative_numbers = true)]
    pub temperature: f64,
    /// The maximum number of tokens of a reply
    #[arg(long, default_value_t = 128, value_name = "N")]
    pub max_tokens: u32,
    /// The seed of sampling
    #[arg(long, default_value_t = 1337)]
    pub seed: u64,
}

/// A sampling temperature.
fn temperature(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if (0.0..f64::INFINITY).contains(&value) => Ok(value),
        _ => Err("a number of 0 or more is expected".to_owned()),
    }
}
