//! Scratch folders that runs which died have left.
//!
//! Purpose: remove them, in the background, when a run starts.
//! Invariant: a folder is removed under the lock of its key only; a checkpoint stays, however its action
//! stands (a forced stage has an action and may still be resumed), until nobody has used it for weeks; what
//! waits to be collected stays.
//! Must not know: stages.

use std::sync::Arc;

use crate::cas::Store;
use crate::executor::scratch::Scratch;
use crate::executor::spares;
use crate::state::Lock;

/// Starts the sweep.
pub fn start(store: &Arc<Store>) {
    let store = Arc::clone(store);
    tokio::task::spawn_blocking(move || sweep(&store));
}

fn sweep(store: &Store) {
    spares::sweep(&store.root().join("work"));
    for key in store.works() {
        let scratch = Scratch::at(store.work(&key));
        if scratch.manifest().exists() {
            continue;
        }
        let Ok(Lock::Acquired(_lock)) = store.try_lock(&key, "sweep") else { continue };
        let swept = if scratch.has_checkpoint() && !scratch.is_old() {
            scratch.clear().and_then(|()| store.label_work(&key))
        } else {
            scratch.remove()
        };
        if let Err(e) = swept {
            tracing::debug!(folder = %scratch.root().display(), "scratch files were not removed: {e}");
        }
    }
}
