//! Stopping a run.
//!
//! Purpose: two tokens that every stage of a run watches: stop (checkpoint and end) and kill.
//! Invariant: neither is ever taken back; a kill is also a stop.
//! Must not know: stages, processes, why the run is stopped.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// The tokens of a run.
#[derive(Debug, Clone, Default)]
pub struct Cancellation {
    stop: CancellationToken,
    kill: CancellationToken,
}

impl Cancellation {
    /// Asks everything to checkpoint and end.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Has everything end now.
    pub fn kill(&self) {
        self.stop.cancel();
        self.kill.cancel();
    }

    /// True when a stop was asked for.
    pub fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Waits until a stop is asked for.
    pub async fn stopping(&self) {
        self.stop.cancelled().await;
    }

    /// Waits until everything is to end now.
    pub async fn killing(&self) {
        self.kill.cancelled().await;
    }

    /// Sleeps, but no longer than until a stop is asked for; true when it was.
    pub async fn sleep(&self, time: Duration) -> bool {
        tokio::time::timeout(time, self.stop.cancelled()).await.is_ok()
    }
}
