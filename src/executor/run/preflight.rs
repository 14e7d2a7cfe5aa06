//! What stages need of this machine and of the caller's environment, looked at before a run begins.
//!
//! Purpose: all that is missing at once, with the stage and the next step.
//! Invariant: a stage that the plan found cached needs nothing, and neither does one that runs on a cluster.
//! Must not know: how stages run.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::path::Path;

use super::entry::RunError;
use crate::cas::Store;
use crate::executor::cluster::Placement;
use crate::executor::log::Masks;
use crate::graph::Graph;
use crate::plan::{Plan, State};
use crate::provider::environment::{self, Variables, stage_environment};
use crate::spec::types::{EnvValue, Run, Sandbox, Stage, Work};

/// What the stages of a run get of the caller's environment.
pub struct Ready {
    /// The environment of the caller.
    pub caller: Variables,
    /// The values of all secrets of the run, which no message may show.
    pub masks: Masks,
}

/// Checks what the stages that may run need.
///
/// # Errors
/// What is missing.
pub fn preflight(
    graph: &Graph,
    store: &Store,
    plan: &Plan,
    placement: &Placement,
) -> Result<Ready, RunError> {
    let caller = environment::caller();
    let (mut missing, mut secrets, mut stages) = (BTreeSet::new(), Vec::new(), Vec::new());
    let mut shells = HashMap::new();
    for (slot, planned) in plan.stages.iter().enumerate() {
        let stage = graph.stage(planned.stage);
        // A job needs things on its node.
        let is_cached = planned.state == State::Cached || placement.of.get(slot).is_some_and(Option::is_some);
        // Those of cached stages, too: one runs after all when an output of it proves missing.
        if stage.env.values().any(|value| matches!(value, EnvValue::Secret(_))) {
            match stage_environment(stage, None, &caller) {
                Ok(environment) => secrets.extend(environment.secrets),
                Err(error) if !is_cached => _ = missing.insert(error.to_string()),
                Err(_) => {}
            }
        }
        if !is_cached {
            missing.extend(shell(stage, &caller, &mut shells));
            stages.push(stage);
        }
    }
    let strict = |stage: &&Stage| matches!(stage.work, Work::Command { sandbox: Sandbox::Strict, .. });
    if let Some(stage) = stages.into_iter().find(strict) {
        missing.extend(sandbox(graph, store, stage));
    }
    match missing.is_empty() {
        true => Ok(Ready { caller, masks: Masks::new(&secrets) }),
        false => Err(RunError::Preflight(missing.into_iter().collect())),
    }
}

/// `found` are the shells that were looked for before.
fn shell<'a>(stage: &'a Stage, caller: &Variables, found: &mut HashMap<&'a str, bool>) -> Option<String> {
    let Work::Command { run: Run::Script(_), shell, .. } = &stage.work else { return None };
    let program = shell.first()?;
    let is_there =
        || if program.contains('/') { Path::new(program).exists() } else { on_path(program, caller) };
    let found = found.entry(program).or_insert_with(is_there);
    let name = &stage.name.value;
    (!*found).then(|| {
        format!(
            "stage `{name}` runs in the shell `{program}`, which is not on PATH; install it, or name another \
             one with `shell:`, such as `shell: sh`"
        )
    })
}

fn on_path(program: &str, caller: &Variables) -> bool {
    let path = caller.get(OsStr::new("PATH"));
    path.is_some_and(|path| std::env::split_paths(path).any(|folder| folder.join(program).is_file()))
}

fn sandbox(graph: &Graph, store: &Store, stage: &Stage) -> Option<String> {
    let work = store.root().join("work");
    if let Err(e) = std::fs::create_dir_all(&work) {
        return Some(format!("cannot make {}: {e}", work.display()));
    }
    let strict = crate::executor::sandbox::Strict {
        execution: work.clone(),
        checkpoint: work.clone(),
        tmp: work,
        project: graph.pipeline().root.clone(),
        store: store.root().to_owned(),
        readable: Vec::new(),
    };
    let name = &stage.name.value;
    strict
        .prepare()
        .err()
        .map(|e| format!("stage `{name}` has `sandbox: strict`, which cannot be had here: {e}"))
}
