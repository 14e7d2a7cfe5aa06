//! What a key is on the machine of a job.
//!
//! Purpose: the providers and the settings with which the key of a request is computed again, and why it is another one.
//! Invariant: nothing of the runner's machine is taken for granted: providers are asked, cores are counted.
//! Must not know: what is done with the key.

use std::path::PathBuf;

use super::request::JobRequest;
use crate::cas::Store;
use crate::plan::{Settings, key_differences};
use crate::provider::{Known, Providers};
use crate::spec::types::Work;

/// Asks the provider of the stage, and no other one.
pub(super) fn providers(store: &Store, request: &JobRequest) -> Result<Known, String> {
    let mut providers = Providers::new(store);
    if let Work::Kind { provider, .. } = &request.stage.work {
        let named = request.providers.get(*provider).filter(|path| !path.as_os_str().is_empty());
        let named: Option<&PathBuf> = named;
        providers.find(named.map(PathBuf::as_path)).map_err(|e| e.to_string())?;
    }
    Ok(providers.into_known())
}

pub(super) fn settings(request: &JobRequest, providers: &Known) -> Settings {
    let facts = |program: &PathBuf| {
        let mut facts = providers.facts(program);
        if request.device != "auto" {
            facts.numerics.insert("device".into(), request.device.clone());
        }
        facts
    };
    let cores =
        std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX));
    Settings {
        forced: request.replace.then(|| request.stage.name.value.clone()).into_iter().collect(),
        cores,
        away: std::collections::BTreeSet::new(),
        providers: request.providers.iter().map(facts).collect(),
        locked: std::collections::BTreeMap::new(),
    }
}

/// Why this machine would make another key.
pub(super) fn other_key(request: &JobRequest, here: &serde_json::Value) -> String {
    let changes = key_differences(&request.key_inputs, here);
    let shown: Vec<_> =
        changes.iter().take(5).map(|(what, runner, node)| format!("{what} {runner} -> {node}")).collect();
    format!(
        "this node would make another result than was asked for: {}; the runner and its nodes need the same kiln, the \
         same kind of machine, and for `cache: exact` the same libraries and cores",
        match shown.is_empty() {
            true => "its key differs".to_owned(),
            false => shown.join(", "),
        }
    )
}
