//! What every command that reads a pipeline needs.
//!
//! Purpose: finds the pipeline file, the store and the providers, and plans.
//! Invariant: opening a pipeline may ask a provider to describe itself and cache its answer in the store;
//! planning may save the stat index. Nothing else is written.
//! Must not know: how answers are printed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cas::Store;
use crate::cli::CliError;
use crate::cli::args::{Common, PipelineArgs};
use crate::cli::remotes::config;
use crate::cli::root::{STORE, find_root};
use crate::digest::Digest;
use crate::executor::cluster::site::away;
use crate::graph::{self, Graph};
use crate::plan::{Plan, PlanError, Planner, Settings};
use crate::provider::{Known, ProviderFacts, Providers};
use crate::report::lockfile::LockFile;
use crate::spec::types::Span;
use crate::spec::{Code, Diagnostic, LoadOptions};

/// A pipeline, its store and its providers.
pub struct Context {
    /// The pipeline's graph.
    pub graph: Arc<Graph>,
    /// The store.
    pub store: Arc<Store>,
    /// What the providers offer.
    pub providers: Arc<Known>,
    /// The requested device.
    pub device: &'static str,
}

impl Context {
    /// Opens the pipeline of a command.
    ///
    /// # Errors
    /// The file is wrong or missing, or the store cannot be opened.
    pub fn open(common: &Common, args: &PipelineArgs) -> Result<Self, CliError> {
        let named = args.split().0;
        let root = find_root(named.as_deref())?;
        let store = Arc::new(open_store(common, &root)?);
        let file = named.map_or_else(|| find_file(&root), Ok)?;
        let mut options = LoadOptions::new(&root);
        options.set.clone_from(&args.set);
        options.unset.clone_from(&args.unset);
        options.store = store.root().to_owned();
        let mut providers = Providers::new(&store);
        let graph = Arc::new(graph::load(&file, &options, &mut providers).map_err(CliError::Pipeline)?);
        let providers = Arc::new(providers.into_known());
        store.set_trust(config::trust(graph.pipeline())?);
        if let Some(remotes) = config::open(graph.pipeline(), common)? {
            store.share_with(remotes);
        }
        Ok(Self { graph, store, providers, device: args.device.name() })
    }

    /// A planner for this pipeline, whose stages run where the file or `executor` says.
    ///
    /// # Errors
    /// `forced` names no stage; the store fails.
    pub fn planner(&self, forced: &[String], executor: Option<&str>) -> Result<Planner, CliError> {
        if !forced.is_empty() {
            self.graph.targets(forced).map_err(CliError::Pipeline)?;
        }
        let settings = Settings {
            forced: forced.iter().cloned().collect(),
            cores: cores(),
            away: away(&self.graph, executor),
            providers: self.provider_facts(),
            locked: self.locked(),
        };
        Planner::new(Arc::clone(&self.graph), Arc::clone(&self.store), settings).map_err(CliError::Plan)
    }

    /// The keys that the lock file names, where remotes may have their results: what has changed since then is why a
    /// stage runs in a checkout in which nothing has run yet.
    fn locked(&self) -> BTreeMap<String, Digest> {
        let name = &self.graph.pipeline().name;
        let has_run = self.store.history().last_keys(name).is_ok_and(|keys| !keys.is_empty());
        if has_run || self.store.remotes().is_none() {
            return BTreeMap::new();
        }
        let Ok(lock) = LockFile::of(self.graph.pipeline().file()) else { return BTreeMap::new() };
        let stages = self.graph.pipeline().stages.iter().map(|stage| &stage.name.value);
        stages.filter_map(|stage| Some((stage.clone(), lock.key(stage)?))).collect()
    }

    /// Checks that a plan has the stages that are to be run whatever is known.
    ///
    /// # Errors
    /// One is not needed by the targets.
    pub fn check_forced(plan: &Plan, graph: &Graph, forced: &[String]) -> Result<(), CliError> {
        let planned =
            |name: &String| plan.stages.iter().any(|planned| graph.stage(planned.stage).name.value == **name);
        match forced.iter().find(|name| !planned(name)) {
            Some(name) => Err(CliError::Call(format!(
                "`--force {name}`: no target needs the stage `{name}`, so it would not run; name it as a target, too"
            ))),
            None => Ok(()),
        }
    }

    /// The plan of the targets and all they need; of all stages when none is named.
    ///
    /// # Errors
    /// A target or `forced` names no stage; a source is missing; the store fails.
    pub fn plan(&self, targets: &[String], forced: &[String]) -> Result<Plan, CliError> {
        let targets = self.graph.targets(targets).map_err(CliError::Pipeline)?;
        let plan = self.planner(forced, None)?.plan(&targets).map_err(|e| self.plan_error(e));
        let plan = plan.and_then(|plan| Self::check_forced(&plan, &self.graph, forced).map(|()| plan));
        self.store.flush_or_warn();
        plan
    }

    /// A planning error, with its position in the pipeline file if it has one.
    pub fn plan_error(&self, error: PlanError) -> CliError {
        let Some((span, code)) = error.place() else { return CliError::Plan(error) };
        CliError::Pipeline(vec![self.diagnostic(code, span, error.to_string())])
    }

    /// An error at a place of the pipeline file.
    pub fn diagnostic(&self, code: Code, span: Span, message: String) -> Diagnostic {
        let file = self.graph.pipeline().file().to_owned();
        let text = fs::read_to_string(&file).unwrap_or_default();
        let source = text.lines().nth((span.start.line as usize).wrapping_sub(1)).map(str::to_owned);
        Diagnostic { code, message, file, span, hint: None, source }
    }

    fn provider_facts(&self) -> Vec<ProviderFacts> {
        let facts = |program: &PathBuf| {
            let mut facts = self.providers.facts(program);
            if self.device != "auto" {
                facts.numerics.insert("device".into(), self.device.into());
            }
            facts
        };
        self.graph.pipeline().providers.iter().map(facts).collect()
    }
}

/// The cores of this machine that we may use.
pub fn cores() -> u32 {
    std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX))
}

/// The store of `--store`, or that of the root.
///
/// # Errors
/// It cannot be opened.
pub fn open_store(common: &Common, root: &Path) -> Result<Store, CliError> {
    let folder = common.store.clone().unwrap_or_else(|| root.join(STORE));
    Ok(Store::open(&folder)?)
}

/// The only pipeline file: under `pipelines/`, or `kiln.yaml`.
///
/// # Errors
/// There is none, or there are several.
pub fn find_file(root: &Path) -> Result<PathBuf, CliError> {
    let here = Path::new("");
    let mut found = candidates(here);
    // In a folder inside a project, use the root of the project.
    if found.is_empty() {
        found = candidates(root);
    }
    match found.as_slice() {
        [file] => Ok(file.clone()),
        [] => Err(CliError::Call("no pipeline file here: name one, or write one with `kiln init`".into())),
        several => {
            let names: Vec<_> = several.iter().map(|f| f.display().to_string()).collect();
            Err(CliError::Call(format!("several pipeline files here, name one of: {}", names.join(", "))))
        }
    }
}

fn candidates(folder: &Path) -> Vec<PathBuf> {
    let pipelines = folder.join("pipelines");
    let is_yaml =
        |path: &PathBuf| path.extension().is_some_and(|e| e == "yaml" || e == "yml") && path.is_file();
    let mut found: Vec<_> = fs::read_dir(&pipelines)
        .map(|entries| entries.flatten().map(|e| e.path()).filter(is_yaml).collect())
        .unwrap_or_default();
    found.sort();
    found.extend(Some(folder.join("kiln.yaml")).filter(|f| f.is_file()));
    found
}
