//! The remotes of a project, in order.
//!
//! Purpose: own the runtime on which requests are made, and ask the remotes for actions, many at a time.
//! Invariant: the first remote that has an action gives it. A remote that fails is passed over and reported once.
//! Must not know: the local store, pipelines.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use object_store::ObjectMeta;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::claims::{Claim, Seen};
use super::error::RemoteError;
use super::object::Remote;
use super::push::Underway;
use crate::cas::trust::TrustPolicy;
use crate::cas::types::Action;
use crate::cas::unpoisoned;
use crate::digest::Digest;

/// How long nothing may come from a remote that is asked for an action.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long is waited, at the end, for leases to be given back and for used actions to be made young.
const GIVE_BACK: Duration = Duration::from_secs(5);
/// How many actions are asked for at a time.
const LOOKUPS: usize = 64;
/// How many large blobs are fetched at a time; each takes up to 64 MiB of memory.
const LARGE_FETCHES: usize = 4;
/// How many actions are sent at a time; each takes up to 200 MiB of memory.
const SENDS: usize = 4;

/// All remotes of a project.
#[derive(Debug)]
pub struct Remotes {
    pub(super) list: Arc<[Arc<Remote>]>,
    pub(super) runtime: Runtime,
    pub(super) stopped: CancellationToken,
    /// Bounds the large blobs that are fetched at a time, over all stages, and the actions that are sent.
    pub(super) fetching: Semaphore,
    pub(super) sending: Arc<Semaphore>,
    /// Large artifacts that are on their way, until they are there.
    pub(super) underway: Underway,
    /// Leases of others that were seen, and our own that may not be given back yet.
    seen: Mutex<Seen>,
    /// Actions that were used and are made young.
    renewals: TaskTracker,
    leases: Mutex<Vec<JoinHandle<()>>>,
}

/// A count of bytes that goes on.
#[derive(Debug)]
pub struct Moved(Vec<Arc<AtomicU64>>);

impl Moved {
    /// The bytes that were sent and received so far.
    pub fn bytes(&self) -> u64 {
        self.0.iter().map(|remote| remote.load(Ordering::Relaxed)).sum()
    }
}

/// An action in a remote.
#[derive(Debug, Clone)]
pub struct Found {
    /// The action.
    pub action: Arc<Action>,
    /// The name of the remote.
    pub remote: String,
}

impl Remotes {
    /// The remotes in this order; none when there are none.
    ///
    /// # Errors
    /// The system gives us no thread for requests.
    pub fn new(list: Vec<Remote>) -> io::Result<Option<Self>> {
        if list.is_empty() {
            return Ok(None);
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("kiln-remote")
            .enable_all()
            .build()?;
        Ok(Some(Self {
            list: list.into_iter().map(Arc::new).collect(),
            runtime,
            stopped: CancellationToken::new(),
            fetching: Semaphore::new(LARGE_FETCHES),
            sending: Arc::new(Semaphore::new(SENDS)),
            underway: Underway::default(),
            seen: Mutex::default(),
            renewals: TaskTracker::new(),
            leases: Mutex::default(),
        }))
    }

    /// The remotes.
    pub fn iter(&self) -> impl Iterator<Item = &Remote> {
        self.list.iter().map(|remote| &**remote)
    }

    /// Counts the bytes that all remotes move.
    pub fn moved(&self) -> Moved {
        Moved(self.list.iter().map(|remote| Arc::clone(&remote.moved)).collect())
    }

    /// Ends what is being fetched and looked up, now and later: a fetch gives `Stopped`, a lookup finds nothing.
    pub fn stop(&self) {
        self.stopped.cancel();
    }

    /// Asks every remote for its format, and writes an object and reads it back where writing is allowed. Gives what they
    /// cannot do besides, for people.
    ///
    /// # Errors
    /// The first remote that does not answer, has another format, or cannot be used as it is meant to be.
    pub fn check(&self) -> Result<Vec<String>, RemoteError> {
        let check = async {
            let mut lacks = Vec::new();
            for remote in &*self.list {
                remote.prepare().await?;
                if remote.access.writes() {
                    lacks.extend(remote.probe().await?);
                }
            }
            Ok(lacks)
        };
        let lacks = self.runtime.block_on(check);
        self.give_back_leases();
        lacks
    }

    /// Asks for the lease of an action for a stage; none where no remote has leases, or none answers. That of the
    /// first remote which is both read and written counts.
    pub fn claim(&self, key: &Digest, stage: &str) -> Option<Claim> {
        let has_leases = |remote: &&Arc<Remote>| remote.has_leases() && remote.check_alive().is_ok();
        let remote = self.list.iter().find(has_leases)?;
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let holder = format!("process {} on {host} (stage {stage})", std::process::id());
        let asked = async {
            remote.prepare().await?;
            remote.claim(key, &holder, &self.seen).await
        };
        let asked = async {
            tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| {
                let (remote, why) =
                    (remote.name.clone(), format!("nothing came for {} s", PATIENCE.as_secs()));
                Err(RemoteError::Request { remote, what: "give a lease".to_owned(), why })
            })
        };
        match self.runtime.block_on(self.stopped.run_until_cancelled(asked))? {
            Ok((claim, task)) => {
                unpoisoned(&self.leases).extend(task);
                Some(claim)
            }
            Err(error) => {
                remote.give_up_leases(&error);
                None
            }
        }
    }

    /// Waits until the leases that were dropped are free, for a few seconds.
    pub fn give_back_leases(&self) {
        let leases = std::mem::take(&mut *unpoisoned(&self.leases));
        let all = futures_util::future::join_all(leases);
        let given_back = async { tokio::time::timeout(GIVE_BACK, all).await };
        if self.runtime.block_on(given_back).is_err() {
            tracing::debug!("a lease was not given back in time; it ends by itself");
        }
    }

    /// Asks for the actions of these keys, all at once. Gives them in the order of the keys; those that do not count
    /// are absent.
    pub fn lookup(&self, keys: &[Digest], trust: &TrustPolicy) -> Vec<Option<Found>> {
        let asked = keys.iter().map(|key| look_up(&self.list, *key, trust, &self.renewals));
        let answers = futures_util::stream::iter(asked).buffered(LOOKUPS).collect();
        let answers = self.runtime.block_on(self.stopped.run_until_cancelled(answers));
        answers.unwrap_or_else(|| vec![None; keys.len()])
    }
}

impl Drop for Remotes {
    /// What was used stays there: its time is changed before this process ends, if that does not take long.
    fn drop(&mut self) {
        self.renewals.close();
        if !self.renewals.is_empty() {
            let renewed = async { tokio::time::timeout(GIVE_BACK, self.renewals.wait()).await };
            if self.runtime.block_on(renewed).is_err() {
                tracing::debug!("actions that are used were not renewed in time");
            }
        }
    }
}

/// The remotes that results are taken from, in order, but for those that cannot be used.
pub(super) fn readable(list: &[Arc<Remote>]) -> impl Iterator<Item = &Remote> {
    list.iter().map(|remote| &**remote).filter(|remote| is_readable(remote))
}

fn is_readable(remote: &Remote) -> bool {
    remote.access.reads() && remote.check_alive().is_ok()
}

async fn look_up(
    list: &[Arc<Remote>],
    key: Digest,
    trust: &TrustPolicy,
    renewals: &TaskTracker,
) -> Option<Found> {
    for remote in list.iter().filter(|remote| is_readable(remote)) {
        match ask(remote, &key).await {
            Ok(Some((action, _))) if !trust.accepts(&action) => {
                // Whoever wrote the record wrote this text.
                let shown = |id: &str| id.chars().filter(char::is_ascii_hexdigit).take(16).collect();
                let signer = action.signatures.first().map(|signature| shown(&signature.keyid));
                remote.report(&RemoteError::Untrusted { remote: remote.name.clone(), key, signer });
            }
            Ok(Some((action, object))) => {
                if remote.access.writes() && remote.is_old(&object) {
                    let remote = Arc::clone(remote);
                    renewals.spawn(async move { remote.renew_old(object).await });
                }
                return Some(Found { action: Arc::new(action), remote: remote.name.clone() });
            }
            Ok(None) => {}
            Err(error) => remote.report(&error),
        }
    }
    None
}

async fn ask(remote: &Remote, key: &Digest) -> Result<Option<(Action, ObjectMeta)>, RemoteError> {
    let asked = async {
        remote.prepare().await?;
        remote.action_object(key).await
    };
    // A server that accepts requests and never answers them must not hold up a plan; one that is slow may.
    tokio::pin!(asked);
    loop {
        let moved = remote.moved.load(Ordering::Relaxed);
        match tokio::time::timeout(PATIENCE, &mut asked).await {
            Ok(answer) => return answer,
            Err(_) if remote.moved.load(Ordering::Relaxed) == moved => {
                return Err(remote.silent("give an action", PATIENCE));
            }
            Err(_) => {}
        }
    }
}
