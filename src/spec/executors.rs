//! The `executors` section of a pipeline file and of a user's file.
//!
//! Purpose: where stages can run beside this machine: a cluster, how jobs are submitted there, and by which store or remote
//! results come back.
//! Invariant: nothing here enters a key; `local` is this machine and is described nowhere; `slurm` and `ray` are there
//! without a description, with the cluster's defaults; what a user says counts before what a pipeline says, key by key.
//! Must not know: how a job is submitted.

use std::fmt::{Display, Write as _};
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::spec::code::Code;
use crate::spec::diagnostic::Diagnostics;
use crate::spec::document::node::{Entry, Node};
use crate::spec::fields;
use crate::spec::types::{Span, Spanned};

/// The key of the section.
pub const SECTION: &str = "executors";
/// The key that names the executor of a stage, or of all stages.
pub const DEFAULT: &str = "executor";
/// The executor that is this machine.
pub const LOCAL: &str = "local";
/// An engine, and its executor that needs no description.
pub const SLURM: &str = "slurm";
/// An engine, and its executor that needs no description.
pub const RAY: &str = "ray";
/// Where Ray listens, unless the description says otherwise.
const RAY_ADDRESS: &str = "http://127.0.0.1:8265";

/// The most jobs at a time that a file can ask for.
const MOST_JOBS: u32 = 100_000;
/// How many jobs are queued or running at a time, unless the description says otherwise.
const JOBS: u32 = 100;
/// Stages that took less the last time run where the runner is, unless the description says otherwise.
const SHORT: Duration = Duration::from_secs(30);

/// The texts of a description.
const TEXTS: [&str; 10] =
    ["partition", "account", "qos", "gres", "constraint", "prologue", "kiln", "store", "remote", "address"];
/// The keys that are for one engine alone.
const OF_SLURM: [&str; 6] = ["partition", "account", "qos", "gres", "constraint", "options"];
const OF_RAY: [&str; 1] = ["address"];
/// The other keys of a description.
const OTHERS: [&str; 5] = ["kind", "time", "options", "max_jobs", "short"];

/// The engine of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// Slurm, by its commands.
    Slurm,
    /// Ray, by its Jobs API.
    Ray,
}

/// A cluster, and how stages run there.
#[derive(Debug, Clone, PartialEq)]
pub struct ExecutorSpec {
    /// Its name.
    pub name: String,
    /// Where the name stands; nowhere when nobody has described it.
    pub span: Span,
    /// Its engine.
    pub engine: Engine,
    /// The partition of its jobs.
    pub partition: Option<String>,
    /// The account that pays for them.
    pub account: Option<String>,
    /// Their quality of service.
    pub qos: Option<String>,
    /// The generic resources of each job, such as `gpu:a100:1`; from the GPUs of the stage when none.
    pub gres: Option<String>,
    /// The features that a node must have.
    pub constraint: Option<String>,
    /// Lines of shell that run on the node first, such as `module load cuda`.
    pub prologue: Option<String>,
    /// The program on the node; that of the runner when none.
    pub kiln: Option<String>,
    /// The store on the node, which may name variables of the node; that of the runner when none, which is then on a file
    /// system that the nodes share.
    pub store: Option<String>,
    /// The remote by which the runner and its jobs exchange results, where they share no store.
    pub remote: Option<String>,
    /// Where the engine listens; where Ray does by default when none.
    pub address: Option<String>,
    /// The time limit of jobs whose stage has none.
    pub time: Option<Duration>,
    /// More options of the program that submits a job.
    pub options: Vec<String>,
    /// The most jobs that are queued or running at a time.
    max_jobs: Option<u32>,
    /// Stages that took less the last time run where the runner is, unless they name this executor themselves.
    short: Option<Duration>,
}

impl ExecutorSpec {
    /// With this name, and everything as the cluster has it.
    pub fn new(name: &str, span: Span) -> Self {
        Self {
            name: name.to_owned(),
            span,
            engine: if name == RAY { Engine::Ray } else { Engine::Slurm },
            partition: None,
            account: None,
            qos: None,
            gres: None,
            constraint: None,
            prologue: None,
            kiln: None,
            store: None,
            remote: None,
            address: None,
            time: None,
            options: Vec::new(),
            max_jobs: None,
            short: None,
        }
    }

    /// The most jobs that are queued or running at a time.
    pub fn max_jobs(&self) -> u32 {
        self.max_jobs.unwrap_or(JOBS)
    }

    /// Stages that took less the last time run where the runner is, unless they name this executor themselves.
    pub fn short(&self) -> Duration {
        self.short.unwrap_or(SHORT)
    }

    /// This description, with what `base` says where it says nothing itself. One of another engine says nothing of use.
    pub fn over(&self, base: &Self) -> Self {
        let mut merged = self.clone();
        if base.engine != self.engine {
            return merged;
        }
        let mut base = base.clone();
        for key in TEXTS {
            let (mine, other) = (merged.text(key), base.text(key));
            if let (Some(mine @ None), Some(other)) = (mine, other) {
                *mine = other.take();
            }
        }
        merged.time = merged.time.or(base.time);
        merged.max_jobs = merged.max_jobs.or(base.max_jobs);
        merged.short = merged.short.or(base.short);
        if merged.options.is_empty() {
            merged.options = base.options;
        }
        merged
    }

    /// Where the engine listens; none for Slurm, whose commands know.
    pub fn address(&self) -> Option<&str> {
        match self.engine {
            Engine::Slurm => None,
            Engine::Ray => Some(self.address.as_deref().unwrap_or(RAY_ADDRESS)),
        }
    }

    fn text(&mut self, key: &str) -> Option<&mut Option<String>> {
        Some(match key {
            "partition" => &mut self.partition,
            "account" => &mut self.account,
            "qos" => &mut self.qos,
            "gres" => &mut self.gres,
            "constraint" => &mut self.constraint,
            "prologue" => &mut self.prologue,
            "kiln" => &mut self.kiln,
            "store" => &mut self.store,
            "remote" => &mut self.remote,
            "address" => &mut self.address,
            _ => return None,
        })
    }
}

/// The name of an executor, wherever it is described.
pub fn name(node: &Node, what: impl Display, out: &mut Diagnostics) -> Option<Spanned<String>> {
    let text = fields::string(node, what, out)?;
    Some(Spanned { value: text.to_owned(), span: node.span })
}

/// Reads the section.
pub fn read(node: &Node, out: &mut Diagnostics) -> Vec<ExecutorSpec> {
    let entries = fields::mapping(node, format_args!("`{SECTION}`"), out).unwrap_or_default();
    entries.iter().filter_map(|entry| executor(entry, out)).collect()
}

fn executor(entry: &Entry, out: &mut Diagnostics) -> Option<ExecutorSpec> {
    let Entry { key, value } = entry;
    fields::check_name(key, "an executor", out);
    if key.text == LOCAL {
        let message = format!("`{LOCAL}` is this machine, and cannot be described");
        out.push(Code::BadName, key.span, message);
        return None;
    }
    let what = format!("executor `{}`", key.text);
    let entries = fields::mapping(value, &what, out)?;
    fields::only(entries, &[&OTHERS[..], &TEXTS[..]].concat(), &what, out);
    let mut spec = ExecutorSpec::new(&key.text, key.span);
    if value.get("kind").is_none() && ![SLURM, RAY].contains(&key.text.as_str()) {
        out.push(Code::MissingKey, key.span, format!("{what} has no `kind`, such as `{SLURM}`"));
    }
    for Entry { key, value } in entries {
        let whose = format!("`{}` of {what}", key.text);
        field(&mut spec, &key.text, value, &whose, out);
    }
    let (others, engine) = match spec.engine {
        Engine::Slurm => (&OF_RAY[..], RAY),
        Engine::Ray => (&OF_SLURM[..], SLURM),
    };
    for Entry { key, .. } in entries.iter().filter(|entry| others.contains(&entry.key.text.as_str())) {
        let message = format!("`{}` of {what} is for executors of the kind `{engine}`", key.text);
        out.push(Code::UnknownKey, key.span, message);
    }
    if spec.store.is_some() && spec.remote.is_none() {
        let message = format!("{what} has a `store` of its own, and no `remote` by which results come back");
        let hint = "name a remote that may be written, or leave out `store` where the nodes see the store of the runner";
        out.push_hint(Code::MissingKey, key.span, message, Some(hint.to_owned()));
    }
    Some(spec)
}

fn field(spec: &mut ExecutorSpec, key: &str, value: &Node, whose: &str, out: &mut Diagnostics) {
    match key {
        "kind" => {
            let engines = [(SLURM, Engine::Slurm), (RAY, Engine::Ray)];
            spec.engine = fields::choice(value, &engines, whose, out).unwrap_or(spec.engine);
        }
        "address" => {
            let text = one_line(value, whose, out);
            let is_url = |text: &&str| text.starts_with("http://") || text.starts_with("https://");
            spec.address = text.filter(is_url).map(|text| text.trim_end_matches('/').to_owned());
            if text.is_some() && spec.address.is_none() {
                let hint = format!("an address looks like `{RAY_ADDRESS}`");
                out.push_hint(Code::Type, value.span, format!("{whose} is no URL"), Some(hint));
            }
        }
        "time" => spec.time = fields::time_limit(value, whose, out),
        "short" => spec.short = fields::duration(value, whose, out),
        "max_jobs" => match fields::count(value, MOST_JOBS, whose, out) {
            Some(0) => out.push(Code::Range, value.span, format!("{whose} must be 1 or more")),
            most => spec.max_jobs = most,
        },
        "options" => {
            let items = fields::list(value).iter();
            spec.options = items.filter_map(|item| option(item, whose, out)).collect();
        }
        "prologue" => {
            // A text of several lines, or a list of lines.
            let lines = fields::list(value).iter().filter_map(|item| fields::string(item, whose, out));
            let text = lines.collect::<Vec<_>>().join("\n");
            if text.lines().any(|line| line.trim_start().starts_with("#SBATCH")) {
                let message = format!(
                    "{whose} holds `#SBATCH`, which has no effect there; write it as one of `options`"
                );
                out.push(Code::Choice, value.span, message);
            }
            if text.contains('\0') {
                out.push(
                    Code::Type,
                    value.span,
                    format!("{whose} holds a character that no script can hold"),
                );
            }
            spec.prologue = Some(text).filter(|text| !text.contains('\0'));
        }
        key => {
            let text = one_line(value, whose, out).map(str::to_owned);
            if let Some(field) = spec.text(key) {
                *field = text;
            }
        }
    }
}

/// An option of the program that submits a job; not one by which Kiln would lose sight of the job.
fn option(node: &Node, whose: &str, out: &mut Diagnostics) -> Option<String> {
    const REFUSED: [&str; 8] =
        ["--clusters", "--array", "--uid", "--gid", "--test-only", "--wrap", "--wait", "--quiet"];
    const LETTERS: [&str; 6] = ["-M", "-a", "-W", "-Q", "-V", "-h"];
    // Letters without a value, behind which others could hide.
    const ALONE: [&str; 4] = ["-H", "-k", "-s", "-v"];
    let text = one_line(node, whose, out)?;
    let name = text.split(['=', ' ']).next().unwrap_or_default();
    // A long option may be abbreviated.
    let is_long = name.len() > 2 && REFUSED.iter().any(|refused| refused.starts_with(name));
    let hides = text.len() > 2 && ALONE.iter().any(|letter| text.starts_with(letter));
    if !text.starts_with('-') {
        let hint = Some("write an option and its value as one, such as `--partition=long`".to_owned());
        out.push_hint(Code::Choice, node.span, format!("{whose} holds `{text}`, which is no option"), hint);
        return None;
    }
    if is_long || hides || LETTERS.iter().any(|letter| text.starts_with(letter)) {
        let message = format!(
            "{whose} holds `{text}`, with which the job of a stage could not be submitted or found again"
        );
        out.push(Code::Choice, node.span, message);
        return None;
    }
    Some(text.to_owned())
}

/// A text without line breaks: it becomes an argument, or a line of a script.
fn one_line<'n>(node: &'n Node, whose: &str, out: &mut Diagnostics) -> Option<&'n str> {
    let text = fields::string(node, whose, out)?;
    let usable = !text.is_empty() && !text.contains(char::is_control);
    if !usable {
        out.push(Code::Type, node.span, format!("{whose} must be a text of one line"));
    }
    usable.then_some(text)
}

/// The section as it stands in a user's file; nothing when it is empty.
pub fn to_text(executors: &[ExecutorSpec]) -> String {
    let mut text = String::new();
    for (n, spec) in executors.iter().enumerate() {
        let section = if n == 0 { "executors:\n" } else { "" };
        let _ = writeln!(text, "{section}  {}: {}", spec.name, to_json(spec));
    }
    text
}

fn to_json(spec: &ExecutorSpec) -> Value {
    let seconds = |time: Duration| json!(format!("{}s", time.as_secs_f64()));
    let mut map = Map::new();
    let kind = match spec.engine {
        Engine::Slurm => SLURM,
        Engine::Ray => RAY,
    };
    map.insert("kind".to_owned(), json!(kind));
    let mut copy = spec.clone();
    for key in TEXTS {
        if let Some(Some(text)) = copy.text(key).map(|text| text.take()) {
            map.insert(key.to_owned(), json!(text));
        }
    }
    map.extend(spec.time.map(|time| ("time".to_owned(), seconds(time))));
    if !spec.options.is_empty() {
        map.insert("options".to_owned(), json!(spec.options));
    }
    map.extend(spec.max_jobs.map(|most| ("max_jobs".to_owned(), json!(most))));
    map.extend(spec.short.map(|short| ("short".to_owned(), seconds(short))));
    map.into()
}
