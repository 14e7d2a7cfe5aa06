//! The typed pipeline: what the rest of Kiln sees of a pipeline file.
//!
//! Purpose: plain data with spans, made by `spec::load` and read by everyone.
//! Invariant: a `Pipeline` that exists has passed every check of `spec`: kinds exist, params are
//! typed and complete, names are unique. References between stages are checked by `graph`.
//! Must not know: how YAML is parsed, what is cached, how stages run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cas::remote::{Access, Address};
use crate::protocol::Port;
pub use crate::spec::executors::ExecutorSpec;

/// A place in a text; lines and columns count from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Position {
    /// The line; 0 when the value stands in no file (a default, `--set`).
    pub line: u32,
    /// The column.
    pub column: u32,
}

/// A file of a pipeline: its index in `Pipeline::files`; 0 is the main one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct FileId(pub u16);

/// A part of a file. Of a list or mapping it is the first character.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Span {
    /// The file.
    pub file: FileId,
    /// Its first character.
    pub start: Position,
    /// The place after its last character.
    pub end: Position,
}

impl Span {
    /// A part of one line of the main file.
    pub fn on_line(start: Position, characters: u32) -> Self {
        let end = Position { line: start.line, column: start.column.saturating_add(characters) };
        Self { file: FileId::default(), start, end }
    }

    /// True when the value stands in no file (a default, `--set`).
    pub fn is_nowhere(&self) -> bool {
        self.start.line == 0
    }
}

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub span: Span,
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
    /// Lines in the syntax of gitignore: what sources and `uses` leave out.
    pub ignore: Vec<String>,
    /// Stores elsewhere, in the order of the file. They are only read.
    pub remotes: Vec<RemoteSpec>,
    /// Whether a record counts only with a signature by a key that the user trusts.
    pub demands_signatures: bool,
    /// The clusters that the file describes.
    pub executors: Vec<ExecutorSpec>,
    /// Where stages run that do not say so themselves.
    pub executor: Option<Spanned<String>>,
}

/// A store elsewhere, as a file names it.
#[derive(Debug, Clone, PartialEq)]
pub struct RemoteSpec {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub address: Address,
    /// What it is used for.
    pub access: Access,
    /// Whether runners that share it run an action once.
    pub leases: bool,
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

/// A stage. It can be written as JSON, by which a job on another machine gets it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Stage {
    /// Its name and where that stands.
    pub name: Spanned<String>,
    /// What it does.
    pub work: Work,
    /// What each input names, by port, in port order.
    pub inputs: BTreeMap<String, Spanned<Reference>>,
    /// The endings of inputs that are one file of the project or behind a URL, of a stage of a provider, which may tell
    /// formats apart by them.
    #[serde(default)]
    pub endings: BTreeMap<String, String>,
    /// Where a command finds an input, if not at `inputs/NAME` (`at:`); relative to the project root.
    pub places: BTreeMap<String, Spanned<String>>,
    /// The ports of its inputs, from the kind; for a command every input takes `any`.
    pub input_ports: Vec<Port>,
    /// Its outputs, in order; the first is the default one. Each has exactly one type.
    pub outputs: Vec<Port>,
    /// Where a command leaves an output, if not at `outputs/NAME` (`path:`); relative to the execution
    /// folder.
    pub output_paths: BTreeMap<String, Spanned<String>>,
    /// Its params; a default stands nowhere. Of a kind: typed, defaults filled in. Of a command: texts; a
    /// scalar as it is written, a list or mapping as JSON in which numbers keep their spelling.
    pub params: BTreeMap<String, Spanned<Value>>,
    /// Environment variables of its process.
    pub env: BTreeMap<String, EnvValue>,
    /// True when the numerics are part of its key (`cache: exact`).
    pub exact: bool,
    /// True when its key does not hold the operating system and architecture (`platform: any`).
    pub any_platform: bool,
    /// What it needs; never hashed.
    pub resources: Resources,
    /// Where it runs, if it says so itself; never hashed.
    pub executor: Option<Spanned<String>>,
    /// Runs again this often after a failure; never hashed.
    pub retries: u32,
    /// Is stopped after this long; never hashed.
    pub timeout: Option<Duration>,
    /// How long its other processes may outlive the first one, if not the usual time; never hashed.
    pub linger: Option<Duration>,
}

/// The value of an environment variable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EnvValue {
    /// A text; hashed.
    Literal(String),
    /// The value of the caller's variable of this name; not hashed.
    Pass(String),
    /// The same, and neither stored nor printed.
    Secret(String),
}

/// What a stage does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
        /// The shell of a script: a program and its arguments, which the script's file follows.
        shell: Vec<String>,
        /// Files hashed with it, relative to the root.
        uses: Vec<Spanned<String>>,
        /// The folder that it starts in, below the execution folder; the execution folder when none.
        cwd: Option<Spanned<String>>,
        /// What it may see.
        sandbox: Sandbox,
    },
    /// The bytes behind a URL: a source with `url` and `sha256`.
    Download(Download),
}

/// Bytes elsewhere that are known by their digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Download {
    /// One file.
    File(Link),
    /// A folder of files, by their paths in it.
    Folder(BTreeMap<String, Link>),
}

/// A file elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Where it is; never hashed, for equal bytes may be at many places.
    pub url: String,
    /// The SHA-256 of its bytes, in lower-case hexadecimal digits.
    pub sha256: String,
}

/// The command of a `command` stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Run {
    /// For the shell.
    Script(String),
    /// For exec.
    Exec(Vec<String>),
}

/// What a command may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Sandbox {
    /// It runs in an execution folder that holds what it declared.
    #[default]
    Folder,
    /// The rest of the project and the store are shut off as well.
    Strict,
    /// It runs in the project root.
    Off,
}

/// What an input names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Resources {
    /// Cores; 0 means all of the machine.
    pub cpus: u32,
    /// Bytes of memory; 0 means not declared.
    pub memory: u64,
    /// GPUs.
    pub gpus: u32,
    /// The time limit of its job on a cluster; that of the executor when none.
    pub time: Option<Duration>,
}

impl Pipeline {
    /// The main file, as the user named it.
    pub fn file(&self) -> &Path {
        self.files.first().map_or(Path::new(""), PathBuf::as_path)
    }

    /// A stage by its name; walks over all of them (a `Graph` has an index).
    pub fn stage(&self, name: &str) -> Option<&Stage> {
        self.stages.iter().find(|stage| stage.name.value == name)
    }
}

impl Stage {
    /// A stage of which nothing is known but its name; it takes one core.
    pub fn named(name: Spanned<String>) -> Self {
        Self {
            name,
            work: Work::Kind { kind: String::new(), revision: 0, provider: 0 },
            inputs: BTreeMap::new(),
            endings: BTreeMap::new(),
            places: BTreeMap::new(),
            input_ports: Vec::new(),
            outputs: Vec::new(),
            output_paths: BTreeMap::new(),
            params: BTreeMap::new(),
            env: BTreeMap::new(),
            exact: false,
            any_platform: false,
            resources: Resources { cpus: 1, ..Resources::default() },
            executor: None,
            retries: 0,
            timeout: None,
            linger: None,
        }
    }

    /// The kind, as a pipeline file writes it.
    pub fn kind(&self) -> &str {
        match &self.work {
            Work::Kind { kind, .. } => kind,
            Work::Command { .. } => "command",
            Work::Download(_) => "download",
        }
    }

    /// Whether its process says what it does in events of the provider protocol; a command prints what it likes.
    pub fn has_events(&self) -> bool {
        !matches!(self.work, Work::Command { .. })
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
        self.params.iter().map(|(name, param)| (name.clone(), param.value.clone())).collect()
    }
}
