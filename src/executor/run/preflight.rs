//! What stages need of this machine, looked at before anything runs.
//!
//! Purpose: all that is missing at once, with the stage and the next step.
//! Invariant: a stage that the plan found cached needs nothing.
//! Must not know: how stages run.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::Path;

use super::entry::Wanted;
use crate::plan::State;
use crate::provider::environment::{Variables, stage_environment};
use crate::spec::types::{Run, Sandbox, Stage, Work};

/// Checks what the stages that may run need.
///
/// # Errors
/// What is missing.
pub fn check(wanted: &Wanted<'_>, caller: &Variables) -> Result<(), Vec<String>> {
    let mut missing = BTreeSet::new();
    for planned in wanted.plan.stages.iter().filter(|planned| planned.state != State::Cached) {
        let stage = wanted.graph.stage(planned.stage);
        if let Err(e) = stage_environment(stage, None, caller) {
            missing.insert(e.to_string());
        }
        missing.extend(shell(stage, caller));
    }
    let strict = |stage: &Stage| matches!(stage.work, Work::Command { sandbox: Sandbox::Strict, .. });
    let stages = wanted.plan.stages.iter().filter(|planned| planned.state != State::Cached);
    if let Some(stage) = stages.map(|planned| wanted.graph.stage(planned.stage)).find(|stage| strict(stage)) {
        missing.extend(sandbox(wanted, stage));
    }
    if missing.is_empty() { Ok(()) } else { Err(missing.into_iter().collect()) }
}

fn shell(stage: &Stage, caller: &Variables) -> Option<String> {
    let Work::Command { run: Run::Script(_), shell, .. } = &stage.work else { return None };
    let program = shell.first()?;
    let found = if program.contains('/') { Path::new(program).exists() } else { on_path(program, caller) };
    let name = &stage.name.value;
    (!found).then(|| {
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

fn sandbox(wanted: &Wanted<'_>, stage: &Stage) -> Option<String> {
    let work = wanted.store.root().join("work");
    if let Err(e) = std::fs::create_dir_all(&work) {
        return Some(format!("cannot make {}: {e}", work.display()));
    }
    let strict = crate::executor::sandbox::Strict {
        execution: work.clone(),
        checkpoint: work.clone(),
        tmp: work,
        project: wanted.graph.pipeline().root.clone(),
        store: wanted.store.root().to_owned(),
        readable: Vec::new(),
    };
    let name = &stage.name.value;
    strict
        .prepare()
        .err()
        .map(|e| format!("stage `{name}` has `sandbox: strict`, which cannot be had here: {e}"))
}
