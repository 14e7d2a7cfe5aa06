//! Processes that outlived both their runner and their supervisor.
//!
//! Purpose: every process of a stage holds the lock file of its key open, so whoever holds a lock whose
//! runner is dead is an orphan, and is ended before anything else runs for the key.
//! Invariant: a process is killed only when it holds the lock file of a key whose runner is gone; a
//! supervisor gets time to end its descendants itself first.
//! Must not know: stages, what a key stands for.

use std::path::Path;
use std::time::Duration;

use rustix::process::{Signal, kill_process};

use super::supervise::descendants;
use crate::cas::Store;
use crate::state::Holder;

/// How long supervisors get to end what they supervise.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often orphans are looked for while they end.
const PAUSE: Duration = Duration::from_millis(5);
/// How often at most.
const ROUNDS: u32 = 400;

/// True when the holder of a lock was a process of this machine that is dead.
pub fn is_dead(holder: &Holder) -> bool {
    let here = rustix::system::uname().nodename().to_string_lossy().into_owned();
    holder.pid != 0 && holder.host == here && !descendants::is_alive(holder.pid.cast_signed())
}

/// Ends the processes that hold this lock file open; says how many there were.
pub async fn end_holders(lock: &Path) -> usize {
    let mut ended = std::collections::BTreeSet::new();
    for _ in 0..ROUNDS {
        let holders = descendants::holders(lock);
        if holders.is_empty() {
            break;
        }
        for pid in holders {
            ended.insert(pid.as_raw_nonzero());
            let _ = kill_process(pid, Signal::KILL);
        }
        tokio::time::sleep(PAUSE).await;
    }
    ended.len()
}

/// Waits for the supervisors of a dead runner, then ends what still holds the lock file.
pub async fn take_over(lock: &Path) -> usize {
    let start = tokio::time::Instant::now();
    while start.elapsed() < PATIENCE {
        if descendants::holders(lock).is_empty() {
            return 0;
        }
        tokio::time::sleep(PAUSE).await;
    }
    end_holders(lock).await
}

/// Ends the orphans of every dead runner of this store, whatever they work for.
pub async fn sweep(store: &Store) -> usize {
    let mut ended = 0;
    for (key, path) in store.locks() {
        if let Ok(Some(holder)) = store.holder(&key)
            && is_dead(&holder)
        {
            ended += take_over(&path).await;
        }
    }
    ended
}
