//! What a model card says.
//!
//! Purpose: the facts of a card as data, which the Markdown is made from and which `--json` gives.
//! Invariant: what no record says is none, or a gap; nothing here depends on the time or on the machine.
//! Must not know: where the facts come from, how they are written.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::cli::results::metrics::Metrics;
use crate::digest::Digest;

/// The format of a card in JSON.
pub const CARD_FORMAT: &str = "kiln.card/1";

/// A model card.
#[derive(Debug, Serialize)]
pub struct Card {
    /// [`CARD_FORMAT`].
    pub schema: &'static str,
    /// The pipeline's name.
    pub pipeline: String,
    /// The artifact that the card is about.
    pub artifact: Artifact,
    /// Whether the pipeline, as it is now, would make another one.
    pub stale: bool,
    /// How it was made.
    pub made: Made,
    /// What its files say of the model; none when it is not here or no model.
    pub model: Option<Model>,
    /// The stages that it comes from, each after those that it reads from, and its own.
    pub lineage: Vec<Ancestor>,
    /// The graph of these stages, for Mermaid.
    pub graph: String,
    /// What the lineage starts from.
    pub data: Vec<Data>,
    /// The numbers of the stages of the lineage that have some.
    pub metrics: Vec<Measured>,
    /// The evaluations that read the artifact.
    pub evaluations: Vec<Evaluation>,
    /// How to make it again.
    pub reproduction: Reproduction,
    /// What is not known.
    pub gaps: Vec<Gap>,
}

/// An artifact.
#[derive(Debug, Serialize)]
pub struct Artifact {
    /// The stage that made it.
    pub stage: String,
    /// The output.
    pub output: String,
    /// Its artifact type.
    #[serde(rename = "type")]
    pub artifact_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Whether it is a folder.
    pub folder: bool,
    /// Whether it is a file that may be executed.
    pub executable: bool,
    /// Its bytes.
    pub bytes: u64,
    /// Its files, if it is a folder whose listing is here.
    pub files: Option<Vec<File>>,
}

/// A file of a folder.
#[derive(Debug, Serialize)]
pub struct File {
    /// Its path.
    pub path: String,
    /// Its bytes.
    pub bytes: u64,
    /// Its digest.
    pub digest: Digest,
}

/// What the record of a stage says.
#[derive(Debug, Serialize)]
pub struct Made {
    /// The action key.
    pub key: Digest,
    /// The kind of the stage.
    pub kind: String,
    /// The provider of the kind; none for a command.
    pub provider: Option<String>,
    /// The revision of the kind; none for a command.
    pub revision: Option<Value>,
    /// The digest of the provider's program.
    pub program: Option<Digest>,
    /// The version of Kiln.
    pub kiln: String,
    /// The run.
    pub run: String,
    /// When it started, RFC 3339.
    pub started: String,
    /// How long it took.
    pub seconds: f64,
    /// The params with which it ran.
    pub params: Map<String, Value>,
    /// The numerics that are part of the key.
    pub numerics: Option<Value>,
    /// The script or the words of a command.
    pub command: Option<Value>,
    /// The shell of a script.
    pub shell: Option<Value>,
    /// The files that a command used, by path, with their digests as key inputs have them.
    pub uses: BTreeMap<String, String>,
    /// What it read.
    pub inputs: Vec<Input>,
    /// The ids of the keys that signed the record.
    pub keyids: Vec<String>,
    /// The name of the trusted key that signed it; `you` is the key of whoever wrote the card.
    pub signed_by: Option<String>,
    /// The id of that key, against which the signature was checked.
    pub signer: Option<String>,
}

/// What a stage read.
#[derive(Debug, Serialize)]
pub struct Input {
    /// The name of the input.
    pub name: String,
    /// The source, or the stage and its output; none when the pipeline has no such input any more.
    pub from: Option<String>,
    /// The digest, as key inputs have it.
    pub digest: String,
}

/// A stage of the lineage.
#[derive(Debug, Serialize)]
pub struct Ancestor {
    /// Its name.
    pub stage: String,
    /// The digests of its outputs by name; where its record is not known, of those that known records read.
    pub outputs: BTreeMap<String, String>,
    /// Its record, if it is known.
    pub made: Option<Made>,
    /// The names of the params that the pipeline file sets.
    pub main: Vec<String>,
}

/// What a lineage starts from: a source, or what a stage made that reads nothing.
#[derive(Debug, Serialize)]
pub struct Data {
    /// The name of the source, or the stage and its output.
    pub name: String,
    /// Where the source lies, as the pipeline file says it; none for what a stage made.
    pub path: Option<String>,
    /// Its artifact type.
    #[serde(rename = "type")]
    pub artifact_type: String,
    /// The digest that was read, as key inputs have it.
    pub digest: String,
    /// Its bytes, if they are known.
    pub bytes: Option<u64>,
    /// How many files it has, if that is known.
    pub files: Option<usize>,
}

/// The numbers of a stage.
#[derive(Debug, Serialize)]
pub struct Measured {
    /// The stage.
    pub stage: String,
    /// The run that it ran in.
    pub run: String,
    /// The numbers of its record, in order.
    pub summary: Vec<(String, f64)>,
    /// The last values of its metrics, where they are here.
    pub metrics: Metrics,
}

/// An evaluation.
#[derive(Debug, Serialize)]
pub struct Evaluation {
    /// Its numbers.
    #[serde(flatten)]
    pub measured: Measured,
    /// Its kind.
    pub kind: String,
    /// Its action key.
    pub key: Digest,
    /// The digests of its outputs by name.
    pub outputs: BTreeMap<String, String>,
}

/// What the files of a model say.
#[derive(Debug, Default, Serialize)]
pub struct Model {
    /// `config.json`.
    pub config: Option<Map<String, Value>>,
    /// The library that loads it, by the names of its files.
    pub library: Option<Library>,
    /// The numbers in its safetensors files; of an adapter without those of the model that it changes.
    pub parameters: Option<u64>,
    /// The tensors in these files.
    pub tensors: Option<u64>,
    /// The numbers by their type.
    pub by_type: BTreeMap<String, u64>,
}

/// A library that people load models with, as the Hugging Face Hub names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Library {
    /// A model in the layout of Hugging Face.
    Transformers,
    /// An adapter.
    Peft,
}

impl Library {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Transformers => "transformers",
            Self::Peft => "peft",
        }
    }
}

/// How to make an artifact again.
#[derive(Debug, Serialize)]
pub struct Reproduction {
    /// The pipeline file, relative to the project root.
    pub file: String,
    /// The arguments of `kiln` after the command.
    pub arguments: Vec<String>,
    /// The name of the lock file, if there is one.
    pub lock_file: Option<String>,
    /// Whether it has the key of the record.
    pub locked: bool,
}

/// Something that is not known.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Gap {
    /// What it is about, such as a stage.
    pub about: String,
    /// What is not known.
    pub what: String,
}

impl Gap {
    /// A gap.
    pub fn new(about: impl Into<String>, what: impl Into<String>) -> Self {
        Self { about: about.into(), what: what.into() }
    }
}
