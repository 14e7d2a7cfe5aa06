//! The protocol between the runner and a provider of stage kinds.
//!
//! Purpose: the JSON that crosses the process border. `PROVIDER describe` prints a [`Description`].
//! `PROVIDER check` reads one [`CheckRequest`] and prints a [`CheckAnswer`].
//! `PROVIDER run` reads one [`StageRequest`] on stdin and writes [`Event`]s on stdout, one JSON
//! object a line. `PROVIDER converse` reads one [`ConverseRequest`] line, then a [`Turn`] a line,
//! and answers each with `token` events and one `reply` event. `PROVIDER export` reads one [`ExportRequest`] and writes a
//! model for other programs. `PROVIDER inspect` reads one [`InspectRequest`] and prints an [`InspectAnswer`]. Stderr is free text
//! for the log.
//! A provider exits 0 when done, 130 when it was asked to stop (SIGTERM) and has checkpointed,
//! and anything else when it failed, after an `error` event.
//! Invariant: new fields may come, old ones stay; a reader ignores events it does not know.
//! Must not know: anything else of Kiln (a leaf), so that a provider can be written in any language.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// The version of this protocol.
pub const PROTOCOL: u32 = 1;

/// The exit code of a provider that stopped on request and can be resumed.
pub const EXIT_INTERRUPTED: i32 = 130;

/// The artifact types that Kiln knows; `any` fits all.
pub const ARTIFACT_TYPES: [&str; 13] = [
    "corpus",
    "tokenizer",
    "tokens",
    "checkpoint",
    "demonstrations",
    "prompts",
    "completions",
    "rankings",
    "reward",
    "policy",
    "table",
    "report",
    "any",
];

/// What a provider offers: the answer to `describe`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Description {
    /// The protocol's version, [`PROTOCOL`].
    pub protocol: u32,
    /// The provider's name, such as `kiln-stages`.
    pub provider: String,
    /// The provider's version.
    pub version: String,
    /// What the numbers of this provider depend on beside its code (backend, library version,
    /// device); part of the key of stages with `cache: exact`.
    #[serde(default)]
    pub numerics: BTreeMap<String, String>,
    /// The artifact types that it declares, beside those that every Kiln knows.
    #[serde(default)]
    pub types: Vec<String>,
    /// Files that this description depends on beside the program; relative ones lie beside the program.
    /// A provider that is no native executable is asked every time unless it lists all of them here.
    #[serde(default)]
    pub files: Vec<PathBuf>,
    /// The caller's environment variables that `describe` and the stages of this provider get beside those
    /// that every stage gets; this description may depend on their values.
    #[serde(default)]
    pub environment: Vec<String>,
    /// Device files on whose presence this description depends, such as `/dev/nvidiactl`.
    #[serde(default)]
    pub devices: Vec<PathBuf>,
    /// Whether it answers `check`.
    #[serde(default)]
    pub checks: bool,
    /// Whether it answers `inspect`.
    #[serde(default)]
    pub inspects: bool,
    /// The kinds, sorted by name.
    pub kinds: Vec<Kind>,
}

/// Stages whose params a provider looks at before anything runs: for what no JSON Schema says, such as two params that do
/// not fit together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckRequest {
    /// The stages.
    pub stages: Vec<StageParams>,
}

/// The params of a stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageParams {
    /// Its kind.
    pub kind: String,
    /// Its params, complete: every default is filled in.
    pub params: Value,
}

/// The answer to `check`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckAnswer {
    /// What is wrong with each stage, in the order of the request.
    pub problems: Vec<Option<String>>,
}

/// Whether a text can be the name of a kind, a port or an artifact type: at most 100 ASCII letters, digits,
/// `_` and `-`, of which the first is no `-`. Such a name is safe as a file name.
pub fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    (1..=100).contains(&text.len()) && !text.starts_with('-') && text.chars().all(plain)
}

/// A kind of stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kind {
    /// The kind's name, as a pipeline writes it.
    pub name: String,
    /// Bumped by hand whenever the kind's output changes for the same inputs and params.
    pub revision: u32,
    /// One line for people.
    pub summary: String,
    /// The inputs it reads.
    pub inputs: Vec<Port>,
    /// The outputs it makes; the first is the default one.
    pub outputs: Vec<Port>,
    /// JSON Schema of the params: an object with `properties` and defaults; may use `$defs`.
    pub params: Value,
    /// Cores that a stage of this kind takes when the pipeline does not say; 0 means all.
    #[serde(default)]
    pub cpus: u32,
}

/// A named input or output of a kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// The name.
    pub name: String,
    /// The artifact types that fit (an output has just one); `any` fits all.
    pub types: Vec<String>,
    /// An input that may be left out.
    #[serde(default)]
    pub optional: bool,
    /// One line for people.
    #[serde(default)]
    pub summary: String,
}

/// One stage to run: everything a provider needs, on its stdin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageRequest {
    /// The kind.
    pub kind: String,
    /// The params, complete: every default is filled in.
    pub params: Value,
    /// Read-only input files or folders by name.
    pub inputs: BTreeMap<String, PathBuf>,
    /// Where to make each output, as a file or a folder; nothing is there yet, its parent is.
    pub outputs: BTreeMap<String, PathBuf>,
    /// A folder for mid-stage checkpoints; what an earlier, killed attempt left is there.
    pub checkpoint: PathBuf,
    /// Cores to use.
    pub threads: u32,
    /// `auto`, `cpu` or `cuda`.
    pub device: String,
    /// Bytes of memory that the stage may use; 0 where that is not known.
    #[serde(default)]
    pub memory: u64,
}

/// A value that a later version may extend; none where it is not known.
fn known<'de, D: Deserializer<'de>, T: DeserializeOwned>(from: D) -> Result<Option<T>, D::Error> {
    Ok(serde_json::from_value(Value::deserialize(from)?).ok())
}

/// Why a reply ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplyEnd {
    /// The model ended it.
    Stop,
    /// It has as many tokens as were asked for.
    MaxTokens,
    /// The model's context is full.
    Context,
}

/// What a running stage reports, one JSON object a line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// How far it is.
    Progress {
        /// Steps done.
        step: u64,
        /// Steps in all.
        total: u64,
        /// A few words with the numbers that matter now, such as `loss 2.14  18.4k tok/s`.
        #[serde(default)]
        note: String,
    },
    /// Numbers at a step, by name.
    Metric {
        /// The step.
        step: u64,
        /// Name to value; non-finite values are left out by the sender.
        values: BTreeMap<String, f64>,
    },
    /// A sample of what the model generates at a step.
    Sample {
        /// The step.
        step: u64,
        /// The prompt.
        prompt: String,
        /// The completion.
        completion: String,
    },
    /// Something is not well, in plain words.
    Health {
        /// The step.
        step: u64,
        /// A stable code, such as `kl-high`.
        code: String,
        /// What was seen.
        message: String,
        /// What to try.
        advice: String,
    },
    /// A line for the stage's log; people see a warning at once, too.
    Log {
        /// `debug`, `info`, `warn` or `error`.
        level: String,
        /// The line.
        message: String,
    },
    /// A piece of a reply (converse only).
    Token {
        /// Its text.
        text: String,
    },
    /// A reply is complete (converse only).
    Reply {
        /// The whole text.
        text: String,
        /// True when the model ended it with its stop token.
        finished: bool,
        /// Tokens made.
        tokens: u64,
        /// Why it ended; none of a provider that does not say, or says what this version does not know.
        #[serde(default, deserialize_with = "known", skip_serializing_if = "Option::is_none")]
        end: Option<ReplyEnd>,
    },
    /// The stage is done; its outputs are complete.
    Done {
        /// The numbers for the summary table, in order of importance.
        #[serde(default)]
        summary: Vec<(String, f64)>,
    },
    /// The stage failed.
    Error {
        /// What, where, and what to do next.
        message: String,
    },
}

/// The first line on the stdin of `converse`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConverseRequest {
    /// The model's folder (checkpoint or policy).
    pub model: PathBuf,
    /// Sampling temperature; 0 takes the likeliest token.
    pub temperature: f64,
    /// The most tokens of a reply.
    pub max_tokens: u32,
    /// The seed of sampling.
    pub seed: u64,
    /// Cores to use.
    pub threads: u32,
    /// `auto`, `cpu` or `cuda`.
    pub device: String,
    /// Continue each prompt as plain text instead of through the chat template.
    #[serde(default)]
    pub raw: bool,
    /// Whether each prompt goes on with those before it and their replies, as far as the context has room; else each stands
    /// alone.
    #[serde(default)]
    pub chat: bool,
}

/// A model to write for other programs: what `export` reads from its stdin. It answers with `log` events and `done`, or with
/// `error`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExportRequest {
    /// The model's folder.
    pub model: PathBuf,
    /// Where to write: a folder that is empty or not there for `hf`, a file that is not there for `gguf`.
    pub out: PathBuf,
    /// `hf` or `gguf`.
    pub to: String,
    /// What the numbers of a GGUF file are stored as: `f32`, `f16` or `q8_0`.
    pub precision: String,
    /// What the model is called in the file.
    pub name: String,
    /// Whether to read what was written, and to compare logits and prompts.
    pub verify: bool,
    /// Cores to use.
    pub threads: u32,
}

/// A dataset to look at: what `inspect` reads from its stdin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InspectRequest {
    /// A file, a folder or a glob pattern.
    pub data: PathBuf,
    /// The type of the artifact, such as `demonstrations`, by which a shape is chosen where a row fits several.
    #[serde(default)]
    pub artifact_type: String,
    /// The ending of the file, such as `.csv`, where its own name has none, for it was brought from elsewhere.
    #[serde(default)]
    pub ending: String,
    /// A model or a tokenizer that is to learn from it, if one is there.
    pub model: Option<PathBuf>,
    /// How many rows to show.
    pub rows: u32,
}

/// What a dataset is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InspectAnswer {
    /// Why it is no dataset; nothing else is given then.
    #[serde(default)]
    pub problem: Option<String>,
    /// How its rows are written, such as `JSON lines, gzip`; each way once.
    #[serde(default)]
    pub containers: Vec<String>,
    /// What its columns mean, such as `messages`.
    #[serde(default)]
    pub shape: String,
    /// How many files it has.
    #[serde(default)]
    pub files: u64,
    /// Files beside them that are no part of it.
    #[serde(default)]
    pub skipped: u64,
    /// How many rows it has.
    #[serde(default)]
    pub rows: u64,
    /// How many rows were read; those after them may hold errors.
    #[serde(default)]
    pub checked: u64,
    /// The first row among those that cannot be read, and why.
    #[serde(default)]
    pub broken: Option<String>,
    /// The first rows.
    #[serde(default)]
    pub first: Vec<InspectedRow>,
}

/// A row of a dataset, or an answer of one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InspectedRow {
    /// The file and the row.
    pub place: String,
    /// Which answer of the row, such as `chosen`; empty where there is one.
    #[serde(default)]
    pub label: String,
    /// Its text in parts, with the marks of the model's template where a model was given.
    pub parts: Vec<InspectedPart>,
    /// How many tokens it has, and how many of them are learnt; none without a model.
    #[serde(default)]
    pub tokens: Option<[u64; 2]>,
}

/// A part of a row.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InspectedPart {
    /// What it says.
    pub text: String,
    /// Whether a model learns to say it.
    pub learnt: bool,
}

/// A prompt to `converse`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// What the user says.
    pub prompt: String,
}
