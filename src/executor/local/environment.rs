//! The environment of a stage's process.
//!
//! Purpose: what the pipeline and the policy say, and what this machine adds: folders, threads, GPUs, and the
//! values of placeholders.
//! Invariant: nothing that is added here may change what is made; a variable that the stage declares has the
//! last word.
//! Must not know: how a process is started.

use std::ffi::OsString;

use crate::executor::attempt::{AttemptError, Request};
use crate::executor::log::Masks;
use crate::executor::machine::Claim;
use crate::executor::supervise::launch::OsText;
use crate::protocol::Description;
use crate::provider::environment::stage_environment;
use crate::spec::command::Values;

/// Values that are longer than this are left out: the kernel bounds each of them, and all together.
const LONGEST_VALUE: usize = 64 * 1024;
/// How long a thread of libgomp spins before it sleeps. Long enough to bridge the gap between two
/// operations, short enough to cost little where somebody else is busy on this machine: libgomp's own
/// 300,000 took four times as long as this on two cores beside two compilers.
const SPIN_COUNT: &str = "2000";

/// The environment, and the masks for what it holds.
pub struct Environment {
    /// All variables.
    pub variables: Vec<(OsText, OsText)>,
    /// Replaces the values of secrets.
    pub masks: Masks,
}

/// Makes the environment of a stage.
///
/// # Errors
/// A secret is not set.
pub fn environment(
    request: &Request<'_>,
    description: Option<&Description>,
    values: &Values,
    claim: &Claim,
) -> Result<Environment, AttemptError> {
    let stage = request.stage();
    let base = stage_environment(stage, description, &request.context.caller)?;
    let mut variables: Vec<(OsString, OsString)> = base.variables;
    let mut set = |name: &str, value: OsString| {
        if !stage.env.contains_key(name) {
            variables.retain(|(known, _)| known != name);
            variables.push((name.into(), value));
        }
    };
    set("TMPDIR", request.scratch.tmp().into());
    // Git must not take the project around the store for the repository of the execution folder.
    set("GIT_CEILING_DIRECTORIES", request.scratch.root().into());
    set("OMP_NUM_THREADS", request.permit.threads.to_string().into());
    if request.permit.shared || (request.permit.pinned && claim.cores.is_empty()) {
        // Spinning on a core that another stage needs costs both dearly.
        set("OMP_WAIT_POLICY", "PASSIVE".into());
    } else {
        set("GOMP_SPINCOUNT", SPIN_COUNT.into());
    }
    if stage.resources.gpus > 0 {
        set("CUDA_VISIBLE_DEVICES", claim.gpus.join(",").into());
    }
    for (word, texts) in [("INPUT", &values.inputs), ("OUTPUT", &values.outputs), ("PARAM", &values.params)] {
        for (name, value) in texts.iter().filter(|(_, value)| value.len() <= LONGEST_VALUE) {
            set(&format!("KILN_{word}_{}", name.replace('-', "_")), value.into());
        }
    }
    if !values.checkpoint.is_empty() {
        set("KILN_CHECKPOINT", values.checkpoint.clone().into());
    }
    Ok(Environment {
        variables: variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
        masks: Masks::new(&base.secrets),
    })
}
