//! One stage of a pipeline file.
//!
//! Purpose: a stage's mapping -> a typed [`Stage`], with every error in it.
//! Invariant: a stage always comes out, so that its name is known; it is opaque when its ports are
//! not. Errors of one key never hide those of another.
//! Must not know: which other stages there are (`graph` checks references between stages).

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde_json::Value;

use crate::protocol::Kind;
use crate::spec::catalog::{COMMAND, Catalog};
use crate::spec::diagnostic::{Diagnostics, did_you_mean, list_names};
use crate::spec::node::{Entry, Key, Node, Place};
use crate::spec::params::{self, Checker};
use crate::spec::types::{EnvValue, Spanned, Span, Reference, Resources, Source, Stage, Work};
use crate::spec::{fields, units};

/// The keys of a stage.
pub const KEYS: [&str; 11] =
    ["kind", "inputs", "params", "run", "uses", "outputs", "env", "resources", "retries", "timeout", "cache"];
/// The keys that only commands have.
const COMMAND_KEYS: [&str; 3] = ["run", "uses", "outputs"];

const MOST_CPUS: u32 = 4096;
const MOST_RETRIES: u32 = 1000;

/// A param of the whole pipeline.
#[derive(Debug)]
pub struct SharedParam {
    /// Where its key stands.
    pub place: Place,
    /// Its value.
    pub node: Node,
    /// Whether some stage takes it.
    pub taken: bool,
    /// Whether an error in it was reported.
    pub reported: bool,
}

/// What reading a stage needs.
pub struct Context<'a> {
    /// The kinds.
    pub catalog: &'a Catalog,
    /// The sources.
    pub sources: &'a BTreeMap<String, Source>,
    /// The params of the pipeline.
    pub shared: &'a mut BTreeMap<String, SharedParam>,
    /// Where errors go.
    pub out: &'a mut Diagnostics,
}

/// A stage being read.
pub(super) struct Reader<'n, 'c, 'a> {
    pub(super) name: &'n Key,
    pub(super) node: &'n Node,
    pub(super) owner: Owner<'n>,
    /// Keys that misspelt ones seem to mean: not missing, though not there.
    pub(super) meant: Vec<&'static str>,
    pub(super) context: &'c mut Context<'a>,
}

/// Who has an error, for messages: ``stage `sft` (kind sft)``. Written only where there is one.
#[derive(Clone, Copy)]
pub(super) struct Owner<'n> {
    name: &'n str,
    kind: Option<&'n str>,
}

impl fmt::Display for Owner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stage `{}`", self.name)?;
        self.kind.map_or(Ok(()), |kind| write!(f, " (kind {kind})"))
    }
}

/// What a stage is.
enum What<'k> {
    Command,
    Kind(usize, &'k Kind),
    Unknown,
}

/// The kind that a stage names; `command` when it names none but has `run`.
pub fn kind_of(node: &Node) -> Option<(&str, Place)> {
    match node.get("kind") {
        Some(kind) => kind.as_str().map(|text| (text, kind.place())),
        None => node.get("run").map(|run| (COMMAND, run.place())),
    }
}

/// Reads a stage; true when its ports are not known.
pub fn read(name: &Key, node: &Node, context: &mut Context<'_>) -> (Stage, bool) {
    let catalog = context.catalog;
    fields::check_name(name, "a stage", context.out);
    let owner = Owner { name: &name.text, kind: kind_of(node).map(|(kind, _)| kind) };
    let mut reader = Reader { name, node, owner, meant: Vec::new(), context };
    let mut stage = reader.blank();
    let Some(entries) = fields::mapping(node, reader.owner, reader.context.out) else {
        return (stage, true);
    };
    reader.meant = fields::only(entries, &KEYS, reader.owner, reader.context.out);
    let what = reader.what(catalog);
    reader.check_command_keys(entries, &what);
    reader.common(&mut stage);
    match what {
        What::Command => reader.command(&mut stage),
        What::Kind(provider, kind) => reader.kind(provider, kind, &mut stage),
        What::Unknown => {
            let inputs = reader.section("inputs").unwrap_or_default();
            stage.inputs = reader.references(inputs);
            return (stage, true);
        }
    }
    (stage, false)
}

impl<'n> Reader<'n, '_, '_> {
    /// The stage with nothing known but its name.
    fn blank(&self) -> Stage {
        Stage {
            name: Spanned { value: self.name.text.clone(), span: self.name.at.into() },
            work: Work::Kind { kind: String::new(), revision: 0, provider: 0 },
            inputs: BTreeMap::new(),
            input_ports: Vec::new(),
            outputs: Vec::new(),
            params: BTreeMap::new(),
            places: BTreeMap::new(),
            output_paths: BTreeMap::new(),
            env: BTreeMap::new(),
            exact: false,
            any_platform: false,
            resources: Resources::default(),
            retries: 0,
            timeout: None,
            linger: None,
        }
    }

    fn what<'k>(&mut self, catalog: &'k Catalog) -> What<'k> {
        let out = &mut *self.context.out;
        let Some((kind, place)) = kind_of(self.node) else {
            match self.node.get("kind") {
                Some(kind) => {
                    out.push("type", kind.place(), format!("`kind` must be a string, not {}", kind.kind()))
                }
                None if self.meant.iter().any(|key| ["kind", "run"].contains(key)) => {}
                None => {
                    let message = format!("{} has no `kind` and no `run`", self.owner);
                    let hint = format!("there is: {}", list_names(catalog.names()));
                    out.push_hint("missing-key", self.name.place(), message, Some(hint));
                }
            }
            return What::Unknown;
        };
        if kind == COMMAND {
            return What::Command;
        }
        if let Some((provider, kind)) = catalog.find(kind) {
            return What::Kind(provider, kind);
        }
        if !catalog.incomplete {
            let names = catalog.names();
            let hint = did_you_mean(kind, names.iter().copied())
                .unwrap_or_else(|| format!("there is: {}", list_names(names)));
            let message = format!("stage `{}` has the kind `{kind}`, which does not exist", self.name.text);
            out.push_hint("unknown-kind", place, message, Some(hint));
        }
        What::Unknown
    }

    fn check_command_keys(&mut self, entries: &[Entry], what: &What<'_>) {
        if let What::Kind(..) = what {
            for Entry { key, .. } in entries.iter().filter(|e| COMMAND_KEYS.contains(&e.key.text.as_str())) {
                let message = format!("{} has `{}`, which only commands have", self.owner, key.text);
                self.context.out.push("unknown-key", key.place(), message);
            }
        }
    }

    /// The entries of a section that is a mapping; nothing where it is missing, none where it is
    /// something else or seems to be misspelt.
    pub(super) fn section(&mut self, key: &str) -> Option<&'n [Entry]> {
        let node = self.node;
        match node.get(key) {
            Some(section) => {
                let what = format_args!("`{key}` of {}", self.owner);
                fields::mapping(section, what, self.context.out)
            }
            None if self.meant.contains(&key) => None,
            None => Some(&[]),
        }
    }

    /// What every kind of stage has.
    fn common(&mut self, stage: &mut Stage) {
        stage.env = self.env();
        stage.retries = self.count("retries", MOST_RETRIES);
        stage.exact = self.exact();
        stage.timeout = self.timeout();
        stage.resources = self.resources();
    }

    fn count(&mut self, key: &str, most: u32) -> u32 {
        let Some(node) = self.node.get(key) else { return 0 };
        fields::count(node, most, format_args!("`{key}` of {}", self.owner), self.context.out).unwrap_or(0)
    }

    fn env(&mut self) -> BTreeMap<String, EnvValue> {
        let mut env = BTreeMap::new();
        for Entry { key, value } in self.section("env").unwrap_or_default() {
            let text = fields::scalar_text(value).filter(|text| !text.contains('\0'));
            match text.filter(|_| !key.text.is_empty() && !key.text.contains(['=', '\0'])) {
                Some(text) => _ = env.insert(key.text.clone(), EnvValue::Literal(text)),
                None => {
                    let message = format!("`env.{}` of {} must be a string", key.text, self.owner);
                    self.context.out.push("type", value.place(), message);
                }
            }
        }
        env
    }

    fn exact(&mut self) -> bool {
        let Some(node) = self.node.get("cache") else { return false };
        match node.as_str() {
            Some("exact") => return true,
            Some("normal") => {}
            other => {
                let message = format!("`cache` of {} must be `exact` or `normal`", self.owner);
                let hint = other.and_then(|text| did_you_mean(text, ["exact", "normal"]));
                self.context.out.push_hint("choice", node.place(), message, hint);
            }
        }
        false
    }

    fn timeout(&mut self) -> Option<Duration> {
        let node = self.node.get("timeout")?;
        let timeout = fields::scalar_text(node).and_then(|text| units::parse_duration(&text));
        if timeout.is_none() {
            let message =
                format!("`timeout` of {} must be a duration such as `90s`, `10m` or `2h`", self.owner);
            self.context.out.push("type", node.place(), message);
        }
        timeout
    }

    fn resources(&mut self) -> Resources {
        let entries = self.section("resources").unwrap_or_default();
        let owner = format_args!("`resources` of {}", self.owner);
        let out = &mut *self.context.out;
        fields::only(entries, &["cpus", "memory"], owner, out);
        let mut resources = Resources { cpus: 1, memory: 0, gpus: 0 };
        for Entry { key, value } in entries {
            if key.text == "cpus" {
                let what = format_args!("`cpus` in {owner}");
                resources.cpus = fields::count(value, MOST_CPUS, what, out).unwrap_or(1);
            } else if key.text == "memory" {
                match fields::scalar_text(value).and_then(|text| units::parse_size(&text)) {
                    Some(bytes) => resources.memory = bytes,
                    None => {
                        let message = format!("`memory` in {owner} must be a size such as `4GiB`");
                        out.push("type", value.place(), message);
                    }
                }
            }
        }
        resources
    }

    /// What each input names: a source, or else a stage; `graph` knows whether there is one.
    pub(super) fn references(&mut self, entries: &[Entry]) -> BTreeMap<String, Spanned<Reference>> {
        let mut inputs = BTreeMap::new();
        for Entry { key, value } in entries {
            let what = format_args!("input `{}` of {}", key.text, self.owner);
            let Some(text) = fields::string(value, what, self.context.out) else { continue };
            let reference = if self.context.sources.contains_key(text) {
                Reference::Source(text.to_owned())
            } else {
                let (stage, output) = match text.split_once('.') {
                    Some((stage, output)) => (stage, Some(output.to_owned())),
                    None => (text, None),
                };
                Reference::Stage { stage: stage.to_owned(), output }
            };
            inputs.insert(key.text.clone(), Spanned { value: reference, span: value.at.into() });
        }
        inputs
    }

    fn kind(&mut self, provider: usize, kind: &Kind, stage: &mut Stage) {
        stage.work = Work::Kind { kind: kind.name.clone(), revision: kind.revision, provider };
        stage.input_ports.clone_from(&kind.inputs);
        stage.outputs.clone_from(&kind.outputs);
        if self.node.get("resources").and_then(|r| r.get("cpus")).is_none() {
            stage.resources.cpus = kind.cpus;
        }
        if let Some(entries) = self.section("inputs") {
            self.check_ports(entries, kind);
            stage.inputs = self.references(entries);
        }
        if let Some(entries) = self.section("params") {
            stage.params = self.kind_params(entries, kind);
        }
    }

    fn check_ports(&mut self, entries: &[Entry], kind: &Kind) {
        let out = &mut *self.context.out;
        let names: Vec<_> = kind.inputs.iter().map(|port| port.name.as_str()).collect();
        let has = |name: &str| entries.iter().any(|e| e.key.text == name);
        let mut meant = Vec::new();
        for Entry { key, .. } in entries.iter().filter(|e| !names.contains(&e.key.text.as_str())) {
            meant.extend(fields::unknown_key(key, &names, format_args!("{} has no input", self.owner), out));
        }
        for port in kind.inputs.iter().filter(|port| !port.optional && !has(&port.name)) {
            if !meant.contains(&port.name.as_str()) {
                let message = format!("{} needs the input `{}`", self.owner, port.name);
                let hint = format!("it takes: {}", port.types.join(" or "));
                out.push_hint("missing-input", self.name.place(), message, Some(hint));
            }
        }
    }

    fn kind_params(&mut self, entries: &[Entry], kind: &Kind) -> BTreeMap<String, Spanned<Value>> {
        let mut checker = Checker::new(&kind.params, self.owner.to_string());
        let declared = checker.properties();
        let mut meant = Vec::new();
        let mut params = BTreeMap::new();
        for Entry { key, value } in entries {
            let typed = match declared.and_then(|p| p.get(&key.text)).or_else(|| checker.extra()) {
                Some(schema) => checker.value(value, schema, &key.text),
                None if checker.nested(&key.text).is_some() => {
                    let message = format!("{} has no parameter `{}`", self.owner, key.text);
                    let hint = checker.nested(&key.text).map(|path| format!("did you mean `{path}`?"));
                    self.context.out.push_hint("unknown-key", key.place(), message, hint);
                    None
                }
                None => {
                    let message = format_args!("{} has no parameter", self.owner);
                    let names = params::names(declared);
                    meant.extend(fields::unknown_key(key, &names, message, self.context.out));
                    None
                }
            };
            params.extend(typed.map(|typed| (key.text.clone(), Spanned { value: typed, span: value.at.into() })));
        }
        let given = |name: &str| entries.iter().any(|e| e.key.text == name) || meant.contains(&name);
        for (name, schema) in declared.into_iter().flatten().filter(|(name, _)| !given(name)) {
            if let Some(value) = self.shared_or_default(name, schema, &mut checker) {
                params.insert(name.clone(), value);
            }
        }
        for problem in checker.problems {
            self.context.out.push_hint(problem.code, problem.place, problem.message, problem.hint);
        }
        params
    }

    /// The value of a param that the stage does not set: the pipeline's, else the default.
    fn shared_or_default<'s>(
        &mut self,
        name: &str,
        schema: &'s Value,
        checker: &mut Checker<'s>,
    ) -> Option<Spanned<Value>> {
        if let Some(shared) = self.context.shared.get_mut(name) {
            shared.taken = true;
            let before = checker.problems.len();
            let value = checker.value(&shared.node, schema, name);
            if checker.problems.len() > before {
                // One report of a shared param, not one a stage.
                if shared.reported {
                    checker.problems.truncate(before);
                }
                shared.reported = true;
            }
            return value.map(|value| Spanned { value, span: shared.node.at.into() });
        }
        if checker.is_required(name) && schema.get("default").is_none() {
            let message = format!("{} needs the parameter `{name}`, which has no default", self.owner);
            self.context.out.push("missing-param", self.name.place(), message);
            return None;
        }
        checker.default(schema, name).map(|value| Spanned { value, span: Span::default() })
    }
}
