//! The typed pipeline: what the rest of Kiln sees of a pipeline file.
//!
//! Purpose: plain data with positions, made by `spec::load` and read by everyone.
//! Invariant: a `Pipeline` that exists has passed every check of `spec`: kinds exist, params are
//! typed and complete, names are unique. References between stages are checked by `graph`.
//! Must not know: how YAML is parsed, what is cached, how stages run.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::protocol::Port;

/// Where something stands in a pipeline file; lines and columns count from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position {
    /// The line; 0 when the value stands in no file (a default, `--set`).
    pub line: u32,
    /// The column.
    pub column: u32,
}

/// A file of a pipeline: an index into `Pipeline::files`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct FileId(pub u16);

/// A stretch of a pipeline file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span {
    /// The file.
    pub file: FileId,
    /// Its first character; line 0 when it stands nowhere.
    pub start: Position,
    /// The character after its last one.
    pub end: Position,
}

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub span: Span,
}

impl From<Position> for Span {
    fn from(start: Position) -> Self {
        Self { file: FileId::default(), start, end: start }
    }
}

/// A whole pipeline.
#[derive(Debug, Clone)]
pub struct Pipeline {
    /// Its files, as the user named them; the first is the main one.
    pub files: Vec<PathBuf>,
    /// The project root: all paths of the file are relative to it.
    pub root: PathBuf,
    /// The pipeline's name.
    pub name: String,
    /// Its sources by name.
    pub sources: BTreeMap<String, Source>,
    /// Its stages, in the order of the file.
    pub stages: Vec<Stage>,
    /// Its providers' programs, the default one first: as an empty path, for only the caller knows
    /// where that lies.
    pub providers: Vec<PathBuf>,
    /// Ignore rules for sources and `uses`, in the syntax of gitignore.
    pub ignore: Vec<String>,
}

/// An input that nobody here makes.
#[derive(Debug, Clone)]
pub struct Source {
    /// Where its name stands.
    pub span: Span,
    /// A file, a folder or a glob, relative to the root.
    pub path: String,
    /// Its artifact type.
    pub artifact_type: String,
}

/// A stage.
#[derive(Debug, Clone)]
pub struct Stage {
    /// Its name and where that stands.
    pub name: Spanned<String>,
    /// What it does.
    pub work: Work,
    /// What each input names, by port, in port order.
    pub inputs: BTreeMap<String, Spanned<Reference>>,
    /// The place of an input relative to the project root, where it has one of its own (commands only).
    pub places: BTreeMap<String, Spanned<String>>,
    /// The ports of its inputs, from the kind; for a command every input takes `any`.
    pub input_ports: Vec<Port>,
    /// Its outputs, in order; the first is the default one. Each has exactly one type.
    pub outputs: Vec<Port>,
    /// The place of an output relative to the execution folder, where it has one of its own (commands only).
    pub output_paths: BTreeMap<String, Spanned<String>>,
    /// Its params, typed, defaults filled in; a default has the position of line 0.
    pub params: BTreeMap<String, Spanned<Value>>,
    /// Environment variables of its process; literal values are hashed.
    pub env: BTreeMap<String, EnvValue>,
    /// True when the numerics are part of its key (`cache: exact`).
    pub exact: bool,
    /// True when its outputs are the same on every operating system and architecture.
    pub any_platform: bool,
    /// What it needs; never hashed.
    pub resources: Resources,
    /// Runs again this often after a failure; never hashed.
    pub retries: u32,
    /// Is stopped after this long; never hashed.
    pub timeout: Option<Duration>,
    /// How long a descendant may outlive the command; never hashed.
    pub linger: Option<Duration>,
}

/// The value of an environment variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnvValue {
    /// This text.
    Literal(String),
    /// The value of the caller's variable of this name, never hashed.
    Pass(String),
    /// The same, and never stored or printed either.
    Secret(String),
}

/// What a stage does.
#[derive(Debug, Clone, PartialEq)]
pub enum Work {
    /// A kind of a provider.
    Kind {
        /// The kind's name.
        kind: String,
        /// Its revision.
        revision: u32,
        /// The index of the provider in `Pipeline::providers`.
        provider: usize,
    },
    /// A command.
    Command {
        /// What to run; `{inputs.x}`, `{outputs.x}` and `{params.x}` are not yet filled in.
        run: Run,
        /// The shell of a script.
        shell: Vec<String>,
        /// Files, folders and globs hashed with it, relative to the root.
        uses: Vec<Spanned<String>>,
        /// The folder that it starts in, relative to the execution folder.
        cwd: Option<Spanned<String>>,
        /// What it can see.
        sandbox: Sandbox,
    },
}

/// The command of a `command` stage.
#[derive(Debug, Clone, PartialEq)]
pub enum Run {
    /// For a shell.
    Script(String),
    /// For exec.
    Exec(Vec<String>),
}

/// What a command can see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sandbox {
    /// A folder of its own with what it declared.
    #[default]
    Folder,
    /// That, with the rest of the project and the store shut off.
    Strict,
    /// The project root.
    Off,
}

/// What an input names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// A source.
    Source(String),
    /// An output of a stage; its default one when `output` is none.
    Stage {
        /// The stage.
        stage: String,
        /// The output.
        output: Option<String>,
    },
}

/// What a stage needs of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Resources {
    /// Cores; 0 means all of the machine.
    pub cpus: u32,
    /// Bytes of memory; 0 means not declared.
    pub memory: u64,
    /// GPUs.
    pub gpus: u32,
}

impl Pipeline {
    /// The main file.
    pub fn file(&self) -> &std::path::Path {
        self.files.first().map_or(std::path::Path::new(""), PathBuf::as_path)
    }

    /// A stage by its name; walks over all of them (a `Graph` has an index).
    pub fn stage(&self, name: &str) -> Option<&Stage> {
        self.stages.iter().find(|stage| stage.name.value == name)
    }
}

impl Stage {
    /// The kind, as a pipeline file writes it.
    pub fn kind(&self) -> &str {
        match &self.work {
            Work::Kind { kind, .. } => kind,
            Work::Command { .. } => "command",
        }
    }

    /// An output by its name, or the default one.
    pub fn output(&self, name: Option<&str>) -> Option<&Port> {
        match name {
            Some(name) => self.outputs.iter().find(|port| port.name == name),
            None => self.outputs.first(),
        }
    }

    /// The params without positions, complete.
    pub fn params_json(&self) -> Value {
        self.params.iter().map(|(name, at)| (name.clone(), at.value.clone())).collect()
    }
}
