//! How much has happened that the reporters have not seen yet.
//!
//! Purpose: whoever reads what stages say waits while the reporters are far behind, so that a stage that says much costs
//! time and not memory.
//! Invariant: what has happened is never dropped; a reader waits between two reads, never in the middle of an event.
//! Must not know: what happens, who reports it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// With more events than this, nothing more is read.
const MOST: usize = 10_000;
/// How often it is looked again.
const PAUSE: Duration = Duration::from_millis(10);

/// Counts events between their making and their reporting.
#[derive(Debug, Clone, Default)]
pub struct Backlog(Arc<AtomicUsize>);

impl Backlog {
    /// Counts events that were made.
    pub fn made(&self, events: usize) {
        self.0.fetch_add(events, Ordering::Relaxed);
    }

    /// Counts events that were reported.
    pub fn reported(&self, events: usize) {
        // Those that did not come from a stage were not counted.
        let less = |count: usize| Some(count.saturating_sub(events));
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// Waits until the reporters have caught up.
    pub async fn eased(&self) {
        while self.0.load(Ordering::Relaxed) > MOST {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_reader_waits_while_the_reporters_are_far_behind() {
        let backlog = Backlog::default();
        backlog.made(MOST);
        backlog.eased().await;
        backlog.made(1);
        let waits = tokio::time::timeout(3 * PAUSE, backlog.eased()).await;
        assert!(waits.is_err(), "it did not wait");
        backlog.reported(MOST);
        backlog.eased().await;
        backlog.reported(MOST);
        backlog.made(MOST + 1);
        assert!(tokio::time::timeout(PAUSE, backlog.eased()).await.is_err(), "it counted below zero");
    }
}
