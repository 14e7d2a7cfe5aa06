//! Scratch folders that runs which died have left.
//!
//! Purpose: remove them before a run starts its stages, which would otherwise find their keys locked.
//! Invariant: a folder is removed under the lock of its key only; a checkpoint stays, however its action
//! stands (a forced stage has an action and may still be resumed), until nobody has used it for weeks; what
//! waits to be collected stays.
//! Must not know: stages.

use std::sync::Arc;

use crate::cas::Store;
use crate::executor::blocking;
use crate::executor::scratch::Scratch;
use crate::executor::spares;
use crate::state::Lock;

/// Removes what nobody uses.
pub async fn sweep(store: &Arc<Store>) {
    blocking(store, sweep_now).await;
}

fn sweep_now(store: &Store) {
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
