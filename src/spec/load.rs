//! Reads a pipeline file.
//!
//! Purpose: the one entry point from a file to a typed [`Pipeline`] with every error it holds.
//! Invariant: without diagnostics the pipeline is complete; with some it holds what could be
//! understood, and [`Unresolved`] says which names are not known, so that later checks stay quiet on them.
//! Must not know: the store, plans, how a provider is started.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::protocol::Description;
use crate::spec::catalog::{self, COMMAND, Catalog, Wanted};
use crate::spec::code::Code;
use crate::spec::diagnostic::{Diagnostics, did_you_mean};
use crate::spec::document::node::{Entry, Node};
use crate::spec::document::overrides::StageKeys;
use crate::spec::document::{environment, overrides, yaml};
use crate::spec::source::{self, Sources};
use crate::spec::stage::{self, Context, SharedParam};
use crate::spec::types::{Pipeline, Position, Span};
use crate::spec::{endings, executors, fields, params, remotes};

/// The keys at the top of a pipeline file.
pub const KEYS: [&str; 10] = [
    "pipeline",
    "params",
    "sources",
    "stages",
    "providers",
    "ignore",
    "remotes",
    remotes::SIGNATURES,
    executors::SECTION,
    executors::DEFAULT,
];

/// What a load depends on beside the file.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// The project root; relative paths of the file start here.
    pub root: PathBuf,
    /// The folder of the store, which no source may contain; empty when there is none.
    pub store: PathBuf,
    /// `path=value`, such as `stages.sft.learning_rate=1e-5` or `params.seed=2`; the value is JSON where it
    /// parses as JSON, else the text as typed.
    pub set: Vec<String>,
    /// Paths whose key is taken away, such as `stages.sft.learning_rate`.
    pub unset: Vec<String>,
    /// The variables that `${NAME:-default}` sees.
    pub environment: BTreeMap<String, String>,
}

impl LoadOptions {
    /// Options for a root, with the variables of this process.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        let environment =
            std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
        Self { root: root.into(), environment: environment.collect(), ..Self::default() }
    }
}

/// Who knows what a provider offers.
pub trait Providers {
    /// The description of a provider; of the default one when `program` is none. Asked only when a
    /// stage wants a kind that no provider asked before offers.
    ///
    /// # Errors
    /// What went wrong and what to do about it, for the user.
    fn describe(&mut self, program: Option<&Path>) -> Result<Description, String>;
}

/// What a load gives.
#[derive(Debug)]
pub struct Loaded {
    /// The pipeline, as far as it could be understood.
    pub pipeline: Pipeline,
    /// The names that are not known.
    pub unresolved: Unresolved,
    /// Every error found.
    pub diagnostics: Diagnostics,
}

/// The names that could not be understood; checks must not complain about them again.
#[derive(Debug, Clone, Default)]
pub struct Unresolved {
    /// Stages whose ports are not known (a bad kind, say): any reference to them may be right.
    pub stages: BTreeSet<String>,
    /// True when names may be missing (a section that is no mapping): a reference to a name that
    /// nobody has may be right.
    pub names: bool,
}

/// Reads a pipeline file, with every error in it.
pub fn load(file: &Path, options: &LoadOptions, providers: &mut dyn Providers) -> Loaded {
    match read_text(file) {
        Ok(text) => load_text(file, text, options, providers),
        Err(message) => {
            let mut loaded = Loaded::nothing(file, String::new(), options);
            loaded.diagnostics.push(Code::Io, Span::default(), message);
            loaded
        }
    }
}

/// As [`load`], with the text of the file.
pub(crate) fn load_text(
    file: &Path,
    text: String,
    options: &LoadOptions,
    providers: &mut dyn Providers,
) -> Loaded {
    let mut loaded = Loaded::nothing(file, text, options);
    match yaml::parse(loaded.diagnostics.text()) {
        Ok(root) => loaded.read(root, options, providers),
        Err(error) => loaded.diagnostics.push(Code::Syntax, error.span, error.message),
    }
    loaded
}

fn blank(file: &Path, root: &Path) -> Pipeline {
    Pipeline {
        files: vec![file.to_owned()],
        root: root.to_owned(),
        name: file.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        sources: BTreeMap::new(),
        stages: Vec::new(),
        providers: vec![PathBuf::new()],
        ignore: Vec::new(),
        remotes: Vec::new(),
        demands_signatures: false,
        executors: Vec::new(),
        executor: None,
    }
}

fn read_text(file: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    std::fs::File::open(file)
        .and_then(|f| f.take(yaml::MAX_BYTES as u64 + 1).read_to_end(&mut bytes))
        .map_err(|error| format!("cannot read the pipeline file: {error}"))?;
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = valid.iter().filter(|byte| **byte == b'\n').count() + 1;
        format!("the pipeline file is not UTF-8 (line {line}): save it as UTF-8")
    })
}

impl Loaded {
    fn nothing(file: &Path, text: String, options: &LoadOptions) -> Self {
        Self {
            pipeline: blank(file, &options.root),
            unresolved: Unresolved { names: true, ..Unresolved::default() },
            diagnostics: Diagnostics::new(file, text),
        }
    }

    fn read(&mut self, mut root: Node, options: &LoadOptions, providers: &mut dyn Providers) {
        let out = &mut self.diagnostics;
        fields::drop_duplicates(&mut root, out);
        environment::expand(&mut root, &options.environment, out);
        let known = StageKeys { keys: &stage::KEYS, names: stage::names };
        overrides::apply(&mut root, &options.set, &options.unset, &known, out);
        let Some(entries) = fields::mapping(&root, "a pipeline file", out) else { return };
        let meant = fields::only(entries, &KEYS, "a pipeline file", out);
        // A misspelt section may hold any name.
        self.unresolved.names = meant.iter().any(|key| ["stages", "sources"].contains(key));
        if let Some(node) = root.get("pipeline")
            && let Some(name) = fields::string(node, "`pipeline`", out)
        {
            self.pipeline.name = name.to_owned();
        }
        if let Some(node) = root.get("ignore") {
            self.pipeline.ignore = ignore_lines(node, out);
        }
        if let Some(node) = root.get("remotes") {
            self.pipeline.remotes = remotes::read(node, out);
        }
        if let Some(node) = root.get(remotes::SIGNATURES) {
            self.pipeline.demands_signatures = remotes::demands(node, out);
        }
        if let Some(node) = root.get(executors::SECTION) {
            self.pipeline.executors = executors::read(node, out);
        }
        if let Some(node) = root.get(executors::DEFAULT) {
            self.pipeline.executor = executors::name(node, "`executor`", out);
        }
        let programs =
            root.get("providers").map(|n| catalog::programs(n, &self.pipeline.root, out)).unwrap_or_default();
        self.pipeline.providers.extend(programs.iter().map(|(program, _)| program.clone()));
        let catalog = Catalog::gather(&wanted(&root), &programs, providers, out);
        let mut sources = Sources::default();
        if let Some(node) = root.get("sources") {
            match source::read(node, &catalog, options, out) {
                Some(read) => sources = read,
                None => self.unresolved.names = true,
            }
        }
        self.read_stages(&root, &meant, &catalog, &sources);
        self.pipeline.sources = sources.local;
        endings::fill(&mut self.pipeline);
    }

    fn read_stages(&mut self, root: &Node, meant: &[&str], catalog: &Catalog, sources: &Sources) {
        let out = &mut self.diagnostics;
        let (mut shared, shared_known) = read_shared(root, out);
        let Some(stages) = root.get("stages") else {
            if !meant.contains(&"stages") {
                let start = Span::on_line(Position { line: 1, column: 1 }, 1);
                out.push(Code::MissingKey, start, "a pipeline file needs `stages`".to_owned());
            }
            return;
        };
        let Some(entries) = fields::mapping(stages, "`stages`", out) else {
            self.unresolved.names = true;
            return;
        };
        self.pipeline.stages.extend(sources.downloads.iter().cloned());
        let mut context = Context::new(catalog, &sources.local, &mut shared, out);
        self.pipeline.stages.reserve(entries.len());
        for Entry { key, value } in entries {
            if let Some(span) = sources.span(&key.text) {
                let message = format!("stage `{}` has the name of a source", key.text);
                let hint = format!("the source is at line {}", span.start.line);
                context.out.push_hint(Code::DuplicateName, key.span, message, Some(hint));
            }
            let (stage, opaque) = stage::read(key, value, &mut context);
            if opaque {
                self.unresolved.stages.insert(key.text.clone());
            }
            self.pipeline.stages.push(stage);
        }
        if self.unresolved.stages.is_empty() && shared_known {
            report_unused(&shared, catalog, &mut self.diagnostics);
        }
    }
}

/// The kinds and artifact types that a file names.
fn wanted(root: &Node) -> Wanted<'_> {
    let mut wanted = Wanted::default();
    let mut types: Vec<&Node> = root.get("sources").map(|n| source::types(n).collect()).unwrap_or_default();
    for Entry { value, .. } in root.get("stages").map(Node::entries).unwrap_or_default() {
        let kind = stage::kind_of(value);
        wanted.kinds.extend(kind.filter(|(kind, _)| *kind != COMMAND));
        if kind.is_some_and(|(kind, _)| kind == COMMAND) {
            let outputs = value.get("outputs").map(Node::entries).unwrap_or_default();
            types.extend(outputs.iter().filter_map(|e| match e.value.as_str() {
                Some(_) => Some(&e.value),
                None => e.value.get("type"),
            }));
        }
    }
    wanted.types.extend(types.into_iter().filter_map(|node| Some((node.as_str()?, node.span))));
    wanted
}

/// The `ignore` section: lines in the syntax of gitignore, as a list or as one text.
fn ignore_lines(node: &Node, out: &mut Diagnostics) -> Vec<String> {
    let texts = fields::list(node).iter().filter_map(|item| fields::string(item, "a line of `ignore`", out));
    texts.flat_map(str::lines).map(str::to_owned).collect()
}

/// The params of the pipeline; false when the section could not be read.
fn read_shared(root: &Node, out: &mut Diagnostics) -> (BTreeMap<String, SharedParam>, bool) {
    let Some(node) = root.get("params") else { return (BTreeMap::new(), true) };
    let Some(entries) = fields::mapping(node, "`params`", out) else { return (BTreeMap::new(), false) };
    let shared = entries.iter().map(|Entry { key, value }| {
        let param = SharedParam { span: key.span, node: value.clone(), taken: false, reported: false };
        (key.text.clone(), param)
    });
    (shared.collect(), true)
}

/// A param of the pipeline that no stage takes is most likely misspelt.
fn report_unused(shared: &BTreeMap<String, SharedParam>, catalog: &Catalog, out: &mut Diagnostics) {
    let taken = || shared.iter().filter(|(_, param)| param.taken).map(|(name, _)| name.as_str());
    for (name, param) in shared.iter().filter(|(_, param)| !param.taken) {
        let of_kinds = catalog
            .kinds()
            .flat_map(|kind| params::names(kind.params.get("properties").and_then(|p| p.as_object())));
        let known: Vec<_> = of_kinds.chain(taken()).collect();
        let message = format!("no stage takes the pipeline's parameter `{name}`");
        let elsewhere = catalog.kinds().find_map(|kind| params::other_name(&kind.params, name));
        let hint = match known.contains(&name.as_str()) {
            true => Some(format!(
                "a stage that has `{name}` among its own parameters goes by that one: `stages.NAME.{name}`"
            )),
            false => elsewhere.or_else(|| did_you_mean(name, known)),
        };
        out.push_hint(Code::UnusedParam, param.span, message, hint);
    }
}
