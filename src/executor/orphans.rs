//! Processes that outlived both their runner and their supervisor.
//!
//! Purpose: every process of a stage holds the lock file of its key open, so whoever holds a lock whose
//! runner is dead is an orphan, and is ended before anything else runs for the key.
//! Invariant: a process is killed only while it holds the lock file of a key whose owner is gone; a
//! supervisor gets time to end its descendants itself first.
//! Must not know: stages, what a key stands for.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Signal, kill_process};

use super::supervise::descendants;
use crate::cas::Store;
use crate::digest::Digest;
use crate::state::Holder;

/// How long supervisors get to end what they supervise.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often orphans are looked for while they end.
const PAUSE: Duration = Duration::from_millis(5);
/// How often at most.
const ROUNDS: u32 = 800;

/// True when the holder of a lock was a process of this machine that is dead.
pub fn is_dead(holder: &Holder) -> bool {
    let here = rustix::system::uname().nodename().to_string_lossy().into_owned();
    holder.pid != 0 && holder.host == here && !descendants::is_alive(holder.pid.cast_signed())
}

/// Ends the other processes that hold this lock file open, which is ours; says how many there were.
pub async fn end_holders(lock: &Path) -> usize {
    let mut ended = BTreeSet::new();
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

/// Waits for the supervisors of a dead runner, then ends what still holds the lock of a key; says how many there were.
///
/// The owner is looked up each time: as soon as another runner has the lock, nothing is ended any more. A process is
/// ended when it has held the lock of a dead owner twice in a row, for a runner holds it for a moment before it says
/// that it is the owner.
pub async fn take_over(store: &Store, key: &Digest) -> usize {
    let (start, lock) = (tokio::time::Instant::now(), store.lock_path(key));
    let (mut before, mut ended) = (Vec::new(), BTreeSet::new());
    for _ in 0..ROUNDS {
        let holders = match store.holder(key) {
            Ok(Some(owner)) if is_dead(&owner) => descendants::holders(&lock),
            _ => break,
        };
        if start.elapsed() >= PATIENCE {
            for pid in holders.iter().filter(|pid| before.contains(*pid)) {
                ended.insert(pid.as_raw_nonzero());
                let _ = kill_process(*pid, Signal::KILL);
            }
        }
        before = holders;
        tokio::time::sleep(PAUSE).await;
    }
    ended.len()
}

/// Ends the orphans of every dead runner of this store, whatever they work for.
pub async fn sweep(store: &Store) -> usize {
    let mut ended = 0;
    for (key, _) in store.locks() {
        ended += take_over(store, &key).await;
    }
    ended
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use super::*;

    /// A process that has the lock and says so after a while, as a runner does that the machine does not let go on.
    fn late_runner(store: &Store, key: &Digest, says: &str) -> std::process::Child {
        let lock = store.lock_path(key);
        fs::create_dir_all(lock.parent().unwrap()).unwrap();
        let dead =
            Command::new("true").spawn().and_then(|mut child| child.wait().map(|_| child.id())).unwrap();
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        fs::write(&lock, format!("{{\"pid\":{dead},\"host\":\"{host}\"}}\n")).unwrap();
        let script = format!(
            "exec 9<>\"$0\"; flock 9; sleep 1; [ {says} = no ] || echo '{{\"pid\":'$$',\"host\":\"{host}\"}}' >> \"$0\"; \
             exec sleep 20"
        );
        let child = Command::new("bash").args(["-c", &script]).arg(&lock).spawn().unwrap();
        while !matches!(store.holder(key), Ok(Some(_))) {
            std::thread::sleep(Duration::from_millis(5));
        }
        child
    }

    #[tokio::test]
    async fn a_runner_that_says_late_that_it_has_a_lock_is_not_taken_for_an_orphan() {
        for (says, ended) in [("yes", 0), ("no", 1)] {
            let (folder, key) = (tempfile::tempdir().unwrap(), Digest::of_bytes(b"key"));
            let store = Store::open(&folder.path().join("artifacts")).unwrap();
            let mut runner = late_runner(&store, &key, says);
            assert_eq!(take_over(&store, &key).await, ended, "{says}");
            assert_eq!(runner.try_wait().unwrap().is_some(), ended == 1, "{says}");
            let _ = runner.kill();
            let _ = runner.wait();
        }
    }
}
