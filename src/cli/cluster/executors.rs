//! Which executors there are.
//!
//! Purpose: the descriptions of the pipeline and of the user's file, by name; a check of the names that are used.
//! Invariant: the user's description of a name counts before that of a pipeline; `slurm` is there even if nobody describes
//! it.
//! Must not know: where a stage runs.

use crate::cli::CliError;
use crate::cli::context::Context;
use crate::cli::remotes::config;
use crate::executor::cluster::site::needs_project;
use crate::spec::Code;
use crate::spec::diagnostic::{did_you_mean, list_names};
use crate::spec::executors::{ExecutorSpec, LOCAL, SLURM};
use crate::spec::types::{Pipeline, Span, Spanned};

/// The executors of the user's file, and those that need no description.
///
/// # Errors
/// The user's file is wrong.
pub fn described() -> Result<Vec<ExecutorSpec>, CliError> {
    let mut all = config::read()?.executors;
    if !all.iter().any(|known| known.name == SLURM) {
        all.push(ExecutorSpec::new(SLURM, Span::default()));
    }
    Ok(all)
}

/// All executors beside this machine.
///
/// # Errors
/// The user's file is wrong.
pub fn known(pipeline: &Pipeline) -> Result<Vec<ExecutorSpec>, CliError> {
    let own = config::read()?.executors;
    let mut all = described()?;
    for spec in &pipeline.executors {
        if !own.iter().any(|known| known.name == spec.name) {
            all.retain(|known| known.name != spec.name);
            all.push(spec.clone());
        }
    }
    Ok(all)
}

/// Checks that the executors that a pipeline and a call name are there, and fit their stages.
///
/// # Errors
/// Everything that is wrong.
pub fn check(context: &Context, known: &[ExecutorSpec], call: Option<&str>) -> Result<(), CliError> {
    let pipeline = context.graph.pipeline();
    let names = || known.iter().map(|spec| spec.name.as_str()).chain([LOCAL]);
    let is_known = |name: &str| names().any(|known| known == name);
    if let Some(name) = call.filter(|name| !is_known(name)) {
        let hint = did_you_mean(name, names()).unwrap_or_default();
        let there = list_names(names());
        return Err(CliError::Call(
            format!("`--executor {name}`: there is: {there}; {hint}").trim_end_matches("; ").to_owned(),
        ));
    }
    let mut wrong = Vec::new();
    let mut unknown = |whose: String, name: &Spanned<String>| {
        if !is_known(&name.value) {
            let message = format!(
                "{whose} is `{}`, which nobody describes; there is: {}",
                name.value,
                list_names(names())
            );
            let hint = did_you_mean(&name.value, names());
            let diagnostic = context.diagnostic(Code::UnknownExecutor, name.span, message);
            wrong.push(crate::spec::Diagnostic { hint, ..diagnostic });
        }
    };
    pipeline.executor.iter().for_each(|name| unknown("`executor`".to_owned(), name));
    for stage in &pipeline.stages {
        let own = stage.executor.iter();
        own.for_each(|name| unknown(format!("`executor` of stage `{}`", stage.name.value), name));
    }
    for stage in pipeline.stages.iter().filter(|stage| needs_project(stage)) {
        if let Some(name) = stage.executor.as_ref().filter(|name| name.value != LOCAL) {
            let message = format!(
                "stage `{}` has `sandbox: off` and runs in the folder of the project, which a job of `{}` does not have",
                stage.name.value, name.value
            );
            wrong.push(context.diagnostic(Code::Choice, name.span, message));
        }
    }
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(CliError::Pipeline(wrong)),
    }
}
