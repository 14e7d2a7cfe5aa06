//! The `executors` section of a pipeline file and of a user's file.
//!
//! Purpose: where stages can run beside this machine: a cluster, how jobs are submitted there, and by which store or remote
//! results come back.
//! Invariant: nothing here enters a key; `local` is this machine and is described nowhere; `slurm` is there without a
//! description, with the cluster's defaults.
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
/// The executor that needs no description.
pub const SLURM: &str = "slurm";

/// The most jobs at a time that a file can ask for.
const MOST_JOBS: u32 = 100_000;
/// How many jobs are queued or running at a time, unless the description says otherwise.
const JOBS: u32 = 100;
/// Stages that took less the last time run where the runner is, unless the description says otherwise.
const SHORT: Duration = Duration::from_secs(30);

/// The texts of a description: the key, and what a message calls it.
const TEXTS: [&str; 9] =
    ["partition", "account", "qos", "gres", "constraint", "prologue", "kiln", "store", "remote"];
/// The other keys of a description.
const OTHERS: [&str; 5] = ["kind", "time", "options", "max_jobs", "short"];

/// The engine of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// Slurm.
    Slurm,
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
    /// The time limit of jobs whose stage has none.
    pub time: Option<Duration>,
    /// More options of the program that submits a job.
    pub options: Vec<String>,
    /// The most jobs that are queued or running at a time.
    pub max_jobs: u32,
    /// Stages that took less the last time run where the runner is, unless they name this executor themselves.
    pub short: Duration,
}

impl ExecutorSpec {
    /// With this name, and everything as the cluster has it.
    pub fn new(name: &str, span: Span) -> Self {
        Self {
            name: name.to_owned(),
            span,
            engine: Engine::Slurm,
            partition: None,
            account: None,
            qos: None,
            gres: None,
            constraint: None,
            prologue: None,
            kiln: None,
            store: None,
            remote: None,
            time: None,
            options: Vec::new(),
            max_jobs: JOBS,
            short: SHORT,
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
    if value.get("kind").is_none() && key.text != SLURM {
        out.push(Code::MissingKey, key.span, format!("{what} has no `kind`, such as `{SLURM}`"));
    }
    for Entry { key, value } in entries {
        let whose = format!("`{}` of {what}", key.text);
        field(&mut spec, &key.text, value, &whose, out);
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
        "kind" => _ = fields::choice(value, &[(SLURM, Engine::Slurm)], whose, out),
        "time" => spec.time = fields::duration(value, whose, out),
        "short" => spec.short = fields::duration(value, whose, out).unwrap_or(SHORT),
        "max_jobs" => match fields::count(value, MOST_JOBS, whose, out) {
            Some(0) => out.push(Code::Range, value.span, format!("{whose} must be 1 or more")),
            most => spec.max_jobs = most.unwrap_or(JOBS),
        },
        "options" => {
            let items = fields::list(value).iter();
            spec.options = items.filter_map(|item| option(item, whose, out)).collect();
        }
        "prologue" => {
            // A text of several lines, or a list of lines.
            let lines = fields::list(value).iter().filter_map(|item| fields::string(item, whose, out));
            let text = lines.collect::<Vec<_>>().join("\n");
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
    const REFUSED: [&str; 6] = ["-M", "--cluster", "-a", "--array", "--job-name", "-J"];
    let text = one_line(node, whose, out)?;
    if REFUSED.iter().any(|refused| text.starts_with(refused)) {
        let message =
            format!("{whose} holds `{text}`, with which the job of a stage could not be found again");
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
    map.insert("kind".to_owned(), json!(SLURM));
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
    map.insert("max_jobs".to_owned(), json!(spec.max_jobs));
    map.insert("short".to_owned(), seconds(spec.short));
    map.into()
}
