//! Reads a pipeline file.
//!
//! Purpose: the one entry point from a file to a typed [`Pipeline`] with every error it holds.
//! Invariant: without diagnostics the pipeline is complete; with some it holds what could be
//! understood, and [`Damage`] says which parts could not, so that later checks stay quiet on them.
//! Must not know: the store, plans, how a provider is started.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::protocol::Description;
use crate::spec::catalog::{self, COMMAND, Catalog};
use crate::spec::diagnostic::{Diagnostics, did_you_mean};
use crate::spec::node::{Entry, Node};
use crate::spec::stage::{self, Context, SharedParam};
use crate::spec::types::{Pipeline, Position};
use crate::spec::{environment, fields, overrides, params, source, yaml};

/// The keys at the top of a pipeline file.
pub const KEYS: [&str; 5] = ["pipeline", "params", "sources", "stages", "providers"];

/// What a load depends on beside the file.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// The project root; relative paths of the file start here.
    pub root: PathBuf,
    /// `path=value`, such as `stages.sft.learning_rate=1e-5` or `params.seed=2`; the value is YAML.
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
    /// What could not.
    pub damage: Damage,
    /// Every error found.
    pub diagnostics: Diagnostics,
}

/// The parts of a file that could not be understood; checks must not complain about them again.
#[derive(Debug, Clone, Default)]
pub struct Damage {
    /// Stages whose ports are not known (a bad kind, say): any reference to them may be right.
    pub stages: BTreeSet<String>,
    /// True when names may be missing (a section that is no mapping): a reference to a name that
    /// nobody has may be right.
    pub names: bool,
}

/// Reads a pipeline file, with every error in it.
pub fn load(file: &Path, options: &LoadOptions, providers: &mut dyn Providers) -> Loaded {
    let mut loaded = Loaded {
        pipeline: blank(file, &options.root),
        damage: Damage { names: true, ..Damage::default() },
        diagnostics: Diagnostics::new(file, String::new()),
    };
    match read_text(file) {
        Ok(text) => loaded.diagnostics = Diagnostics::new(file, text),
        Err(message) => {
            loaded.diagnostics.push("io", (Position::default(), 0), message);
            return loaded;
        }
    }
    match yaml::parse(loaded.diagnostics.text()) {
        Ok(root) => loaded.read(root, options, providers),
        Err(error) => loaded.diagnostics.push("syntax", (error.at, 1), error.message),
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
    fn read(&mut self, mut root: Node, options: &LoadOptions, providers: &mut dyn Providers) {
        let out = &mut self.diagnostics;
        fields::drop_duplicates(&mut root, out);
        environment::expand(&mut root, &options.environment, out);
        overrides::apply(&mut root, &options.set, &options.unset, &stage::KEYS, out);
        let Some(entries) = fields::mapping(&root, "a pipeline file", out) else { return };
        let meant = fields::only(entries, &KEYS, "a pipeline file", out);
        // A misspelt section may hold any name.
        self.damage.names = meant.iter().any(|key| ["stages", "sources"].contains(key));
        if let Some(node) = root.get("pipeline")
            && let Some(name) = fields::string(node, "`pipeline`", out)
        {
            self.pipeline.name = name.to_owned();
        }
        if let Some(node) = root.get("sources") {
            match source::read(node, out) {
                Some(sources) => self.pipeline.sources = sources,
                None => self.damage.names = true,
            }
        }
        self.read_stages(&root, &meant, providers);
    }

    fn read_stages(&mut self, root: &Node, meant: &[&str], providers: &mut dyn Providers) {
        let out = &mut self.diagnostics;
        let programs =
            root.get("providers").map(|n| catalog::programs(n, &self.pipeline.root, out)).unwrap_or_default();
        self.pipeline.providers.extend(programs.iter().map(|(program, _)| program.clone()));
        let (mut shared, shared_known) = read_shared(root, out);
        let Some(stages) = root.get("stages") else {
            if !meant.contains(&"stages") {
                let message = "a pipeline file needs `stages`".to_owned();
                out.push("missing-key", (Position { line: 1, column: 1 }, 1), message);
            }
            return;
        };
        let Some(entries) = fields::mapping(stages, "`stages`", out) else {
            self.damage.names = true;
            return;
        };
        let wanted: Vec<_> = entries
            .iter()
            .filter_map(|e| stage::kind_of(&e.value))
            .filter(|(kind, _)| *kind != COMMAND)
            .collect();
        let catalog = Catalog::gather(&wanted, &programs, providers, out);
        let sources = &self.pipeline.sources;
        let mut context = Context { catalog: &catalog, sources, shared: &mut shared, out };
        self.pipeline.stages.reserve(entries.len());
        for Entry { key, value } in entries {
            if let Some(source) = sources.get(&key.text) {
                let message = format!("stage `{}` has the name of a source", key.text);
                let hint = format!("the source is at line {}", source.span.start.line);
                context.out.push_hint("duplicate-name", key.place(), message, Some(hint));
            }
            let (stage, opaque) = stage::read(key, value, &mut context);
            if opaque {
                self.damage.stages.insert(key.text.clone());
            }
            self.pipeline.stages.push(stage);
        }
        if self.damage.stages.is_empty() && shared_known {
            report_unused(&shared, &catalog, &mut self.diagnostics);
        }
    }
}

/// The params of the pipeline; false when the section could not be read.
fn read_shared(root: &Node, out: &mut Diagnostics) -> (BTreeMap<String, SharedParam>, bool) {
    let Some(node) = root.get("params") else { return (BTreeMap::new(), true) };
    let Some(entries) = fields::mapping(node, "`params`", out) else { return (BTreeMap::new(), false) };
    let shared = entries.iter().map(|Entry { key, value }| {
        let param = SharedParam { place: key.place(), node: value.clone(), taken: false, reported: false };
        (key.text.clone(), param)
    });
    (shared.collect(), true)
}

/// A param of the pipeline that no stage takes is a slip of the pen.
fn report_unused(shared: &BTreeMap<String, SharedParam>, catalog: &Catalog, out: &mut Diagnostics) {
    for (name, param) in shared.iter().filter(|(_, param)| !param.taken) {
        let known = catalog
            .kinds()
            .flat_map(|kind| params::names(kind.params.get("properties").and_then(|p| p.as_object())));
        let message = format!("no stage takes the pipeline's parameter `{name}`");
        out.push_hint("unused-param", param.place, message, did_you_mean(name, known));
    }
}
