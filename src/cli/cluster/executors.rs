//! Which executors there are.
//!
//! Purpose: the descriptions of the pipeline and of the user's file, by name; a check of the names that are used.
//! Invariant: what the user says of a name counts before what a pipeline says of it, key by key; `slurm` and `ray` are
//! there even if nobody describes them.
//! Must not know: where a stage runs.

use crate::cli::CliError;
use crate::cli::context::Context;
use crate::cli::remotes::config;
use crate::executor::cluster::Placement;
use crate::executor::cluster::site::needs_project;
use crate::spec::Code;
use crate::spec::diagnostic::{did_you_mean, list_names};
use crate::spec::executors::{ExecutorSpec, LOCAL, RAY, SLURM};
use crate::spec::types::{Pipeline, Span, Spanned};

/// The executors of the user's file, and those that need no description.
///
/// # Errors
/// The user's file is wrong.
pub fn described() -> Result<Vec<ExecutorSpec>, CliError> {
    let mut all = config::read()?.executors;
    for name in [SLURM, RAY] {
        if !all.iter().any(|known| known.name == name) {
            all.push(ExecutorSpec::new(name, Span::default()));
        }
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
        let merged = own.iter().find(|known| known.name == spec.name).map(|own| own.over(spec));
        all.retain(|known| known.name != spec.name);
        all.push(merged.unwrap_or_else(|| spec.clone()));
    }
    Ok(all)
}

/// Checks that what the clusters of a run need is there.
///
/// # Errors
/// A run is to detach and has no cluster; a remote of a cluster is not there.
pub fn check_placement(context: &Context, placement: &Placement) -> Result<(), CliError> {
    if placement.detaches && placement.executors.is_empty() {
        return Err(CliError::Call(
            "`--detach` leaves stages to a cluster, and none of them runs on one; `--executor NAME` names it"
                .to_owned(),
        ));
    }
    for spec in &placement.executors {
        let Some(name) = &spec.remote else { continue };
        let Some(remotes) = context.store.remotes() else {
            return Err(CliError::Call(format!(
                "executor `{}` needs the remote `{name}`, and no remote is used; `kiln remote add` adds one, and `--offline` \
                 uses none",
                spec.name
            )));
        };
        if !remotes.iter().any(|remote| remote.name == *name && remote.access.writes()) {
            let there = list_names(remotes.iter().map(|remote| remote.name.as_str()));
            return Err(CliError::Call(format!(
                "executor `{}` needs the remote `{name}`, which is not there or may not be written; there is: {there}; \
                 `kiln remote add {name} URL` adds it",
                spec.name
            )));
        }
    }
    Ok(())
}

/// What is said of stages that run here, since they are short.
pub fn short(placement: &Placement) -> Option<String> {
    let (_, executor) = placement.short.first()?;
    let names = list_names(placement.short.iter().map(|(stage, _)| stage.as_str()));
    Some(format!(
        "run here, since they were short the last time (`short: 0s` of the executor `{executor}` sends them there): {names}"
    ))
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
                "{whose} is `{}`, which is no executor that is described; there is: {}",
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
