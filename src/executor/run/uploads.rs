//! Sends results to the remotes while the run goes on.
//!
//! Purpose: a result is sent in the background as soon as it is committed here; at the end the run waits for what is
//! still on its way.
//! Invariant: what cannot be sent fails no stage, and is reported. After a stop was asked for nothing is waited for.
//! Must not know: how a result is sent, how it is shown.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::task::JoinHandle;

use crate::cas::remote::{Lease, Pushed, Remotes, Sending, Sent};
use crate::cas::{Store, StoreError, unpoisoned};
use crate::digest::Digest;
use crate::executor::cancel::Cancellation;
use crate::sched::{Event, SharedResults};

/// What is on its way.
pub struct Uploads {
    store: Arc<Store>,
    sent: Mutex<Vec<JoinHandle<Vec<Pushed>>>>,
}

impl Uploads {
    /// Nothing is on its way.
    pub fn new(store: Arc<Store>) -> Self {
        Self { store, sent: Mutex::default() }
    }

    /// Sends the result of a key, which was committed, unless there is no remote that may be written, and gives the
    /// lease back afterwards. Reads the disk.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn send(&self, key: &Digest, how: Sending, lease: Option<Lease>) -> Result<(), StoreError> {
        let Some(remotes) = self.store.remotes().filter(|remotes| remotes.has_writable()) else {
            return Ok(());
        };
        let Some(action) = self.store.action(key)? else { return Ok(()) };
        let sent = remotes.send(Arc::clone(&self.store), Arc::new(action), how, lease);
        unpoisoned(&self.sent).push(sent);
        Ok(())
    }

    /// Waits until everything was sent and no lease is ours any more, and says what was sent, by remote.
    pub async fn finish(&self, cancellation: &Cancellation) -> Vec<Event> {
        let mut all: BTreeMap<String, SharedResults> = BTreeMap::new();
        let on_the_way = std::mem::take(&mut *unpoisoned(&self.sent));
        for sent in on_the_way {
            let abort = sent.abort_handle();
            let pushed = tokio::select! {
                pushed = sent => pushed.unwrap_or_default(),
                () = cancellation.stopping() => {
                    abort.abort();
                    tracing::warn!("a result was not sent to the remotes; `kiln push` sends it");
                    continue;
                }
            };
            for Pushed { remote, sent, bytes } in pushed {
                let shared = all.entry(remote.clone()).or_insert_with(|| SharedResults::of(remote));
                shared.bytes += bytes;
                match sent {
                    Ok(Sent::New | Sent::Same) => shared.results += 1,
                    Ok(Sent::Conflict(theirs)) => {
                        shared.results += 1;
                        shared.conflicts.push(theirs.key);
                    }
                    Err(error) => {
                        shared.failed += 1;
                        shared.error.get_or_insert_with(|| error.to_string());
                    }
                }
            }
        }
        let store = Arc::clone(&self.store);
        let settled = tokio::task::spawn_blocking(move || store.remotes().map(Remotes::give_back_leases));
        if let Err(error) = settled.await {
            tracing::debug!("leases were not given back: {error}");
        }
        all.into_values().map(Event::Shared).collect()
    }
}
