//! Commits the outputs of stages, those of several together.
//!
//! Purpose: while one batch is synced, the next one gathers, so that stages share their syncs.
//! Invariant: a stage gets its answer only when its outputs are durable; a batch that fails is an error
//! of each of its stages.
//! Must not know: how outputs were made, what becomes of the stage.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::cas::{Committed, PendingCommit, Store, StoreError};

/// The most stages in a batch.
const MOST: usize = 64;

type Answer = Result<Option<Committed>, StoreError>;

/// Sends outputs to be committed.
#[derive(Debug, Clone)]
pub struct Committer {
    requests: mpsc::UnboundedSender<(PendingCommit, oneshot::Sender<Answer>)>,
}

impl Committer {
    /// Starts the task that commits to this store; it ends when the last clone is dropped.
    pub fn start(store: Arc<Store>) -> Self {
        let (requests, mut queue) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut batch = Vec::new();
            while queue.recv_many(&mut batch, MOST).await > 0 {
                let (pending, replies): (Vec<_>, Vec<oneshot::Sender<Answer>>) = batch.drain(..).unzip();
                let store = Arc::clone(&store);
                let committed = tokio::task::spawn_blocking(move || {
                    let committed = store.commit(pending);
                    // The digests of files that were racily clean are completed bit by bit, so that the end is quick.
                    store.settle();
                    committed
                });
                let committed = committed.await.unwrap_or_default();
                for (reply, answer) in replies.into_iter().zip(committed) {
                    let _ = reply.send(answer);
                }
            }
        });
        Self { requests }
    }

    /// Commits the outputs of one stage; none when the commit panicked.
    pub async fn commit(&self, pending: PendingCommit) -> Option<Answer> {
        let (reply, answer) = oneshot::channel();
        self.requests.send((pending, reply)).ok()?;
        answer.await.ok()
    }
}
