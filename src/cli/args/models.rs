//! The commands that use a model.
//!
//! Purpose: their own options and their help, as clap reads them.
//! Invariant: every option has a help text.
//! Must not know: what commands do.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::shared::{NAMES, PipelineArgs, SamplingArgs, model_and_prompts, one_model};

/// `kiln generate`.
#[derive(Debug, Args)]
#[command(mut_arg(NAMES, model_and_prompts))]
#[command(override_usage = "kiln generate [OPTIONS] [FILE] MODEL [PROMPT]...")]
pub struct GenerateArgs {
    /// The pipeline, a model as STAGE or STAGE.OUTPUT, and prompts.
    #[command(flatten)]
    pub pipeline: PipelineArgs,
    /// Sampling options.
    #[command(flatten)]
    pub sampling: SamplingArgs,
    /// Read more prompts from a file, one per line; `-` is stdin, which is read when no prompt is given
    #[arg(long, value_name = "PROMPTS")]
    pub file: Option<PathBuf>,
    /// Continue each prompt as plain text instead of using the chat template
    #[arg(long)]
    pub raw: bool,
}

/// `kiln chat`.
#[derive(Debug, Args)]
#[command(mut_arg(NAMES, one_model))]
#[command(override_usage = "kiln chat [OPTIONS] [FILE] MODEL")]
#[command(
    after_help = "Each message goes on with the conversation so far. Of one that is too long for the context of the \
    model, the oldest messages are left out. `kiln generate` answers each prompt by itself."
)]
pub struct ChatArgs {
    /// The pipeline and a model as STAGE or STAGE.OUTPUT.
    #[command(flatten)]
    pub pipeline: PipelineArgs,
    /// Sampling options.
    #[command(flatten)]
    pub sampling: SamplingArgs,
}

/// `kiln import`.
#[derive(Debug, Args)]
#[command(
    after_help = "The model is a folder that `save_pretrained` of transformers wrote, or a GGUF file. Weights that are pickled are not \
    read. What is written is a pipeline of one stage, to go on from."
)]
pub struct ImportArgs {
    /// The model: hf:FOLDER, gguf:FILE, or a path
    #[arg(value_name = "MODEL")]
    pub model: String,
    /// The pipeline file to write [default: the name of the model]
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// `kiln export`.
#[derive(Debug, Args)]
#[command(mut_arg(NAMES, one_model))]
#[command(override_usage = "kiln export [OPTIONS] [FILE] MODEL --to FORMAT")]
#[command(
    after_help = "A folder for Hugging Face is what `transformers` loads with `from_pretrained`; a reward model is one for \
    sequence classification, and its `reward_offset` in config.json is what Kiln subtracts from its score. A GGUF file is what \
    llama.cpp loads. What is there already is never replaced."
)]
pub struct ExportArgs {
    /// The pipeline and a model as STAGE or STAGE.OUTPUT.
    #[command(flatten)]
    pub pipeline: PipelineArgs,
    /// The format to write
    #[arg(long, value_enum)]
    pub to: ExportFormat,
    /// Where to write: a folder for hf, a file for gguf [default: the name of the stage]
    #[arg(short, long, value_name = "PATH")]
    pub output: Option<PathBuf>,
    /// What the numbers of a GGUF file are stored as
    #[arg(long, value_enum, default_value_t = Precision::F32)]
    pub precision: Precision,
    /// Read what was written, and compare logits and the tokens of prompts with those of the model
    #[arg(long)]
    pub verify: bool,
}

/// A format of other programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// A folder for Hugging Face transformers.
    Hf,
    /// A file for llama.cpp.
    Gguf,
}

impl ExportFormat {
    /// Its name in requests.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hf => "hf",
            Self::Gguf => "gguf",
        }
    }
}

/// What numbers are stored as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Precision {
    /// 32 bits: exact.
    F32,
    /// 16 bits.
    F16,
    /// 8 bits, and a scale for 32 numbers.
    #[value(name = "q8_0")]
    Q8_0,
}

impl Precision {
    /// Its name in requests.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Q8_0 => "q8_0",
        }
    }
}
