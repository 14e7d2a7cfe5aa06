//! The remotes of a project, in order.
//!
//! Purpose: own the runtime on which requests are made, and ask the remotes for actions, many at a time.
//! Invariant: the first remote that has an action gives it. A remote that fails is passed over and reported once.
//! Must not know: the local store, pipelines.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::error::RemoteError;
use super::object::Remote;
use crate::cas::trust::TrustPolicy;
use crate::cas::types::Action;
use crate::digest::Digest;

/// How long the answer to a lookup may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many actions are asked for at a time.
const LOOKUPS: usize = 64;
/// How many large blobs are fetched at a time; each takes up to 64 MiB of memory.
const LARGE_FETCHES: usize = 4;
/// How many actions are sent at a time; each takes up to 200 MiB of memory.
const SENDS: usize = 4;

/// All remotes of a project.
#[derive(Debug)]
pub struct Remotes {
    pub(super) list: Arc<[Remote]>,
    pub(super) runtime: Runtime,
    pub(super) stopped: CancellationToken,
    /// Bounds the large blobs that are fetched at a time, over all stages, and the actions that are sent.
    pub(super) fetching: Semaphore,
    pub(super) sending: Arc<Semaphore>,
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
            list: list.into(),
            runtime,
            stopped: CancellationToken::new(),
            fetching: Semaphore::new(LARGE_FETCHES),
            sending: Arc::new(Semaphore::new(SENDS)),
        }))
    }

    /// The remotes.
    pub fn iter(&self) -> impl Iterator<Item = &Remote> {
        self.list.iter()
    }

    /// Ends what is being fetched and looked up, now and later: a fetch gives `Stopped`, a lookup finds nothing.
    pub fn stop(&self) {
        self.stopped.cancel();
    }

    /// Asks every remote for its format, and writes an object and reads it back where writing is allowed.
    ///
    /// # Errors
    /// The first remote that does not answer, has another format, or cannot be used as it is meant to be.
    pub fn check(&self) -> Result<(), RemoteError> {
        let check = async {
            for remote in self.iter() {
                remote.prepare().await?;
                if remote.access.writes() {
                    remote.probe().await?;
                }
            }
            Ok(())
        };
        self.runtime.block_on(check)
    }

    /// Asks for the actions of these keys, all at once. Gives them in the order of the keys; those that do not count
    /// are absent.
    pub fn lookup(&self, keys: &[Digest], trust: &TrustPolicy) -> Vec<Option<Found>> {
        let asked = keys.iter().map(|key| look_up(&self.list, *key, trust));
        let answers = futures_util::stream::iter(asked).buffered(LOOKUPS).collect();
        let answers = self.runtime.block_on(self.stopped.run_until_cancelled(answers));
        answers.unwrap_or_else(|| vec![None; keys.len()])
    }
}

/// The remotes that results are taken from, in order, but for those that cannot be used.
pub(super) fn readable(list: &[Remote]) -> impl Iterator<Item = &Remote> {
    list.iter().filter(|remote| remote.access.reads() && remote.check_alive().is_ok())
}

async fn look_up(list: &[Remote], key: Digest, trust: &TrustPolicy) -> Option<Found> {
    for remote in readable(list) {
        match ask(remote, &key).await {
            Ok(Some(action)) if !trust.accepts(&action) => {
                remote.report(&RemoteError::Untrusted { remote: remote.name.clone(), key });
            }
            Ok(Some(action)) => {
                return Some(Found { action: Arc::new(action), remote: remote.name.clone() });
            }
            Ok(None) => {}
            Err(error) => remote.report(&error),
        }
    }
    None
}

async fn ask(remote: &Remote, key: &Digest) -> Result<Option<Action>, RemoteError> {
    let asked = async {
        remote.prepare().await?;
        remote.action(key).await
    };
    // A server that accepts requests and never answers them must not hold up a plan.
    tokio::time::timeout(PATIENCE, asked)
        .await
        .unwrap_or_else(|_| Err(remote.silent("give an action", PATIENCE)))
}
