//! A stage whose work others may do elsewhere.
//!
//! Purpose: take over a result that a remote has; ask for the lease of an action before it runs, so that runners on
//! several machines do not run it at the same time.
//! Invariant: a lease only saves work: without one, or without an answer, the stage runs.
//! Must not know: how a lease is kept, how a result is fetched.

use super::life::{Beginning, Early, StageRun};
use crate::cas::remote::{Claim, FetchError, Lease};
use crate::cas::types::Action;
use crate::cas::{PendingCommit, Store};
use crate::executor::job::StageEnd;
use crate::state::KeyLock;

/// Makes the action that a remote has our own, if its outputs are here or, with `fetch`, once they are. An action of ours
/// that has lost outputs has them again afterwards. Blocks on disk and network.
///
/// # Errors
/// An output cannot be fetched, or the disk refuses.
pub fn take_over(store: &Store, action: &Action, fetch: bool) -> Result<(), FetchError> {
    let was_here = store.action(&action.key)?.is_some();
    if !fetch && !was_here && store.outputs_intact(action, action.outputs.keys())?.is_some() {
        return Ok(());
    }
    let _in_use = store.share()?;
    store.fetch(&action.outputs.values().copied().collect::<Vec<_>>(), &action.inputs())?;
    // Whatever record of the key is here could not be used.
    let pending = PendingCommit { action: Some(action.clone()), replace: true, ..PendingCommit::default() };
    store.commit(vec![pending]).into_iter().try_for_each(|kept| kept.map(drop))?;
    Ok(())
}

impl StageRun {
    /// Asks for the lease of the action, under its lock. Blocks on the network.
    pub(super) fn claim(&self, lock: KeyLock) -> Result<Beginning, Early> {
        match self.lease() {
            Ok(lease) => Ok(Beginning::Ready(lock, lease)),
            Err(Early::End(StageEnd::Found(action))) => Ok(Beginning::Found(action)),
            Err(early) => Err(early),
        }
    }

    /// The lease of the action, where there are leases. Blocks on the network.
    pub(super) fn lease(&self) -> Result<Option<Lease>, Early> {
        let Some(remotes) = self.context.store.remotes().filter(|_| !self.job.replace) else {
            return Ok(None);
        };
        match remotes.claim(&self.job.key, &self.stage().name.value) {
            None => Ok(None),
            Some(Claim::Theirs(holder)) => Err(Early::End(StageEnd::HeldElsewhere(holder))),
            // Whoever had the lease before us may have sent the result since it was looked for.
            Some(Claim::Ours(lease)) => match self.made_elsewhere(true)? {
                Some(action) => Err(Early::End(StageEnd::Found(Box::new(action)))),
                None => Ok(Some(lease)),
            },
        }
    }

    /// The action, if a remote has it now and, with `fetch`, gives its outputs.
    pub(super) fn made_elsewhere(&self, fetch: bool) -> Result<Option<Action>, Early> {
        let (store, key) = (&self.context.store, &self.job.key);
        // Its record there has lost its blobs, or is damaged.
        if self.context.planner.was_lost_elsewhere(key) {
            return Ok(None);
        }
        self.context.planner.forget_answer(key);
        let Some(found) = self.context.planner.elsewhere(self.stage(), key) else { return Ok(None) };
        match take_over(store, &found.action, fetch) {
            Ok(()) => Ok(Some((*found.action).clone())),
            // Without room here the stage would find none, either.
            Err(FetchError::Store(error)) if error.is_of_disk() => Err(error.into()),
            Err(error) => {
                tracing::debug!("a result that `{}` has just got was not taken over: {error}", found.remote);
                Ok(None)
            }
        }
    }
}
