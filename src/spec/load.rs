//! Reads a pipeline file.
//!
//! Purpose: the one entry point from a file to a typed [`Pipeline`] with every error it holds.
//! Invariant: without diagnostics the pipeline is complete; with some it holds what could be
//! understood, and [`Damage`] says which parts could not, so that later checks stay quiet on them.
//! Must not know: the store, plans, how a provider is started.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::protocol::Description;
use crate::spec::diagnostic::Diagnostics;
use crate::spec::types::Pipeline;

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
    /// The description of a provider; of the default one when `program` is none. Asked for the
    /// default one only when some stage's kind is not `command`.
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
    let _ = (file, options, providers);
    unimplemented!()
}
