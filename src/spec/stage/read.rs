//! The way into a stage of a pipeline file.
//!
//! Purpose: a stage's mapping -> a typed [`Stage`], with every error in it.
//! Invariant: a stage always comes out, so that its name is known; it is opaque when its ports are
//! not. Errors of one key never hide those of another.
//! Must not know: which other stages there are (`graph` checks references between stages).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::protocol::Kind;
use crate::spec::catalog::{COMMAND, Catalog};
use crate::spec::code::Code;
use crate::spec::diagnostic::{Diagnostics, did_you_mean, list_names};
use crate::spec::document::node::{Entry, Key, Node};
use crate::spec::fields;
use crate::spec::types::{Source, Span, Spanned, Stage};

/// The keys of a stage.
pub const KEYS: [&str; 17] = [
    "kind",
    "inputs",
    "params",
    "run",
    "shell",
    "uses",
    "outputs",
    "cwd",
    "sandbox",
    "env",
    "resources",
    "executor",
    "retries",
    "timeout",
    "linger",
    "cache",
    "platform",
];
/// The keys that only commands have.
const COMMAND_KEYS: [&str; 7] = ["run", "shell", "uses", "outputs", "cwd", "sandbox", "platform"];

/// A param of the whole pipeline.
#[derive(Debug)]
pub struct SharedParam {
    /// Where its key stands.
    pub span: Span,
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
    /// Kinds whose schema turned out to be without end; their params are not checked again.
    pub(super) endless: BTreeSet<String>,
    /// Where errors go.
    pub out: &'a mut Diagnostics,
}

impl<'a> Context<'a> {
    /// What reading the stages of one file needs.
    pub fn new(
        catalog: &'a Catalog,
        sources: &'a BTreeMap<String, Source>,
        shared: &'a mut BTreeMap<String, SharedParam>,
        out: &'a mut Diagnostics,
    ) -> Self {
        Self { catalog, sources, shared, endless: BTreeSet::new(), out }
    }
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
pub fn kind_of(node: &Node) -> Option<(&str, Span)> {
    match node.get("kind") {
        Some(kind) => kind.as_str().map(|text| (text, kind.span)),
        None => node.get("run").map(|run| (COMMAND, run.span)),
    }
}

/// Reads a stage; true when its ports are not known.
pub fn read(name: &Key, node: &Node, context: &mut Context<'_>) -> (Stage, bool) {
    let catalog = context.catalog;
    fields::check_name(name, "a stage", context.out);
    let owner = Owner { name: &name.text, kind: kind_of(node).map(|(kind, _)| kind) };
    let mut reader = Reader { name, node, owner, meant: Vec::new(), context };
    let mut stage = Stage::named(Spanned { value: name.text.clone(), span: name.span });
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
            stage.inputs = reader.references(inputs).0;
            return (stage, true);
        }
    }
    (stage, false)
}

impl<'n> Reader<'n, '_, '_> {
    fn what<'k>(&mut self, catalog: &'k Catalog) -> What<'k> {
        let out = &mut *self.context.out;
        let Some((kind, span)) = kind_of(self.node) else {
            match self.node.get("kind") {
                Some(kind) => {
                    out.push(Code::Type, kind.span, format!("`kind` must be a string, not {}", kind.kind()))
                }
                None if self.meant.iter().any(|key| ["kind", "run"].contains(key)) => {}
                None => {
                    let message = format!("{} has no `kind` and no `run`", self.owner);
                    let hint = format!("there is: {}", list_names(catalog.names()));
                    out.push_hint(Code::MissingKey, self.name.span, message, Some(hint));
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
            out.push_hint(Code::UnknownKind, span, message, Some(hint));
        }
        What::Unknown
    }

    fn check_command_keys(&mut self, entries: &[Entry], what: &What<'_>) {
        if let What::Kind(..) = what {
            for Entry { key, .. } in entries.iter().filter(|e| COMMAND_KEYS.contains(&e.key.text.as_str())) {
                let message = format!("{} has `{}`, which only commands have", self.owner, key.text);
                self.context.out.push(Code::UnknownKey, key.span, message);
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
}
