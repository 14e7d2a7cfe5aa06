//! The providers of a pipeline.
//!
//! Purpose: finds each provider that is asked for and gets its description, from the cache where that is
//! sound, else from the program.
//! Invariant: a program is asked at most once in the life of a [`Providers`], and a second time only when it
//! declares variables that it was not given.
//! Must not know: which kinds there are, how a stage is run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::ask::{Limits, Question, ask};
use super::cache::Cache;
use super::discovery;
use super::environment::{self, Variables, provider_environment};
use super::error::ProviderError;
use super::validate::parse;
use crate::cas::{Ignore, Store};
use crate::digest::Digest;
use crate::protocol::{CheckAnswer, CheckRequest, Description, InspectAnswer, InspectRequest, StageParams};
use crate::spec;

/// The most characters of a problem.
const MOST_PROBLEM: usize = 1000;
/// What asks a program for its description.
const DESCRIBE: Question<'static> = Question { verb: "describe", request: b"" };

/// A provider that was found and has answered.
#[derive(Debug, Clone)]
pub struct Provider {
    /// Its program.
    pub program: PathBuf,
    /// The digest of its program.
    pub digest: Digest,
    /// What it offers.
    pub description: Description,
}

/// What the planner must know of a provider.
#[derive(Debug, Clone, Default)]
pub struct ProviderFacts {
    /// Its declared name (`Description::provider`).
    pub name: String,
    /// The digest of its program.
    pub program: Option<Digest>,
    /// What its numbers depend on (`Description::numerics`), with the device that this run asks for.
    pub numerics: BTreeMap<String, String>,
}

impl Provider {
    /// What the planner must know of it.
    pub fn facts(&self) -> ProviderFacts {
        ProviderFacts {
            name: self.description.provider.clone(),
            program: Some(self.digest),
            numerics: self.description.numerics.clone(),
        }
    }

    /// Lets it look at the params of stages; none are wrong where it does not do that.
    ///
    /// # Errors
    /// It does not answer as it should.
    pub fn check(&self, stages: Vec<StageParams>) -> Result<Vec<Option<String>>, ProviderError> {
        if !self.description.checks {
            return Ok(vec![None; stages.len()]);
        }
        let bad = |why: String| ProviderError::BadAnswer { program: self.program.clone(), why };
        let expected = stages.len();
        let request = serde_json::to_vec(&CheckRequest { stages }).map_err(|e| bad(e.to_string()))?;
        let environment = provider_environment(Some(&self.description), &environment::caller());
        let question = Question { verb: "check", request: &request };
        let text = ask(&self.program, question, &environment, Limits::default())?;
        let answer: CheckAnswer = serde_json::from_slice(&text).map_err(|e| bad(e.to_string()))?;
        let bounded = |problem: String| match problem.trim() {
            "" => "the provider does not say why".to_owned(),
            text => text.chars().take(MOST_PROBLEM).collect(),
        };
        match answer.problems.len() {
            given if given == expected => {
                Ok(answer.problems.into_iter().map(|problem| problem.map(bounded)).collect())
            }
            given => Err(bad(format!("it speaks of {given} stages, and was asked for {expected}"))),
        }
    }
}

impl Provider {
    /// What a dataset is; none from a provider that does not look at datasets.
    ///
    /// # Errors
    /// It cannot be asked, or answers nonsense.
    pub fn inspect(&self, request: &InspectRequest) -> Result<Option<InspectAnswer>, ProviderError> {
        if !self.description.inspects {
            return Ok(None);
        }
        let bad = |why: String| ProviderError::BadAnswer { program: self.program.clone(), why };
        let request = serde_json::to_vec(request).map_err(|e| bad(e.to_string()))?;
        let environment = provider_environment(Some(&self.description), &environment::caller());
        let question = Question { verb: "inspect", request: &request };
        // All rows are counted.
        let limits = Limits { time: Duration::from_secs(600), ..Limits::default() };
        let text = ask(&self.program, question, &environment, limits)?;
        serde_json::from_slice(&text).map(Some).map_err(|e| bad(e.to_string()))
    }
}

/// The providers known so far, by what the pipeline calls them; the default one by the empty path.
#[derive(Debug, Clone, Default)]
pub struct Known(BTreeMap<PathBuf, Provider>);

impl Known {
    /// A provider by what the pipeline calls it.
    pub fn get(&self, named: &Path) -> Option<&Provider> {
        self.0.get(named)
    }

    /// What the planner must know of it; nothing where no stage of the pipeline uses it.
    pub fn facts(&self, named: &Path) -> ProviderFacts {
        self.get(named).map(Provider::facts).unwrap_or_default()
    }
}

/// Finds providers and asks them.
pub struct Providers<'a> {
    store: &'a Store,
    caller: Variables,
    limits: Limits,
    known: Known,
}

impl<'a> Providers<'a> {
    /// Knows none yet; answers are kept below the store.
    pub fn new(store: &'a Store) -> Self {
        Self { store, caller: environment::caller(), limits: Limits::default(), known: Known::default() }
    }

    /// The same with another environment of the caller.
    #[must_use]
    pub fn with_caller(self, caller: Variables) -> Self {
        Self { caller, ..self }
    }

    #[cfg(test)]
    pub(super) fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// All that were asked for.
    pub fn into_known(self) -> Known {
        self.known
    }

    /// Finds a provider and asks it, once.
    ///
    /// # Errors
    /// It is missing or does not answer as it should.
    pub fn find(&mut self, named: Option<&Path>) -> Result<&Provider, ProviderError> {
        let name = named.unwrap_or(Path::new("")).to_owned();
        if !self.known.0.contains_key(&name) {
            let program = discovery::program(named)?;
            let digest = self.store.identify(&program, &Ignore::none())?.digest;
            let description = self.description(&program, &digest)?;
            self.known.0.insert(name.clone(), Provider { program, digest, description });
        }
        self.known.0.get(&name).ok_or(ProviderError::Missing(name))
    }

    fn description(&self, program: &Path, digest: &Digest) -> Result<Description, ProviderError> {
        let cache = Cache { store: self.store, program, digest, caller: &self.caller };
        if let Some(text) = cache.get()
            && let Ok(description) = parse(program, &text)
        {
            return Ok(description);
        }
        let (text, description) = self.ask(program)?;
        if self.store.identify(program, &Ignore::none())?.digest != *digest {
            // It was replaced meanwhile: whose answer this is cannot be known.
            return Ok(description);
        }
        if let Err(e) = cache.put(&text, &description) {
            tracing::debug!(program = %program.display(), "the description was not kept: {e}");
        }
        Ok(description)
    }

    /// Asks the program, and again with the variables that it declares, if it was not given all of them.
    fn ask(&self, program: &Path) -> Result<(Vec<u8>, Description), ProviderError> {
        let first = provider_environment(None, &self.caller);
        let text = ask(program, DESCRIBE, &first, self.limits)?;
        let description = parse(program, &text)?;
        let second = provider_environment(Some(&description), &self.caller);
        if second == first {
            return Ok((text, description));
        }
        let text = ask(program, DESCRIBE, &second, self.limits)?;
        let description = parse(program, &text)?;
        Ok((text, description))
    }
}

impl spec::Providers for Providers<'_> {
    fn describe(&mut self, program: Option<&Path>) -> Result<Description, String> {
        self.find(program).map(|provider| provider.description.clone()).map_err(|e| e.to_string())
    }
}
