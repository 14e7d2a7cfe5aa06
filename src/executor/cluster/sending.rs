//! What a job sends while its stage runs.
//!
//! Purpose: at intervals, and once more at the end, what is new in events and log, and checkpoints where the job has a store
//! of its own.
//! Invariant: what cannot be sent ends no stage.
//! Must not know: what the stage does.

use std::sync::Arc;
use std::time::Duration;

use super::checkpoint;
use super::node::Call;
use super::outbox::Outbox;
use crate::executor::blocking;
use crate::executor::scratch::Scratch;
use crate::state::Lock;

/// How often what is new is written, into a folder and into a remote.
const EVERY: Duration = Duration::from_secs(1);
const EVERY_REMOTE: Duration = Duration::from_secs(5);
/// How often at least, however long the job has been running.
const RARELY: Duration = Duration::from_secs(30);
const RARELY_REMOTE: Duration = Duration::from_secs(120);
/// How often a checkpoint is sent to a remote.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(30);

/// Tells the runner what happens, and sends checkpoints where there is need, until the stage has ended.
pub struct Sending {
    task: tokio::task::JoinHandle<()>,
    stop: tokio::sync::oneshot::Sender<()>,
}

impl Sending {
    /// Begins, with the checkpoint of an earlier job where there is one.
    pub async fn start(call: &Arc<Call>, scratch: &Scratch, outbox: &Arc<Outbox>) -> Self {
        let (stop, mut stopped) = tokio::sync::oneshot::channel();
        let mail = &call.mail;
        let state = Arc::new(State {
            call: Arc::clone(call),
            scratch: scratch.clone(),
            outbox: Arc::clone(outbox),
            sent: std::sync::Mutex::default(),
        });
        if mail.is_remote() {
            blocking(&state, State::begin).await;
        }
        let (first, most) = if mail.is_remote() { (EVERY_REMOTE, RARELY_REMOTE) } else { (EVERY, RARELY) };
        let task = tokio::spawn(async move {
            let began = tokio::time::Instant::now();
            let mut last = began;
            loop {
                // A job that runs for weeks has thousands of files, not millions.
                let every = (began.elapsed() / 600).clamp(first, most);
                let ended = tokio::time::timeout(every, &mut stopped).await.is_ok();
                let checkpoint = state.call.mail.is_remote() && (ended || last.elapsed() >= CHECKPOINT_EVERY);
                if checkpoint {
                    last = tokio::time::Instant::now();
                }
                blocking(&state, move |state| state.send(checkpoint, ended)).await;
                if ended {
                    return;
                }
            }
        });
        Self { task, stop }
    }

    /// Sends the rest.
    pub async fn finish(self) {
        let _ = self.stop.send(());
        let _ = self.task.await;
    }
}

struct State {
    call: Arc<Call>,
    scratch: Scratch,
    outbox: Arc<Outbox>,
    sent: std::sync::Mutex<checkpoint::Sent>,
}

impl State {
    /// Takes over the checkpoint of an earlier job, unless this machine has one.
    fn begin(&self) {
        // Nobody signs a checkpoint, and what is made from it would be signed.
        if self.scratch.has_checkpoint() || self.call.store.trust().demanded {
            return;
        }
        // Another job of the key may be at work in the folder.
        let Ok(Lock::Acquired(_lock)) = self.call.store.try_lock(&self.call.key, "checkpoint") else {
            return;
        };
        if let Err(error) = checkpoint::receive(&self.call.mail, &self.scratch) {
            tracing::warn!("the stage starts from the beginning: {error}");
        }
    }

    fn send(&self, checkpoint: bool, ended: bool) {
        // A log may be longer than one file.
        loop {
            match self.outbox.flush(ended) {
                Ok(true) if ended => {}
                Ok(_) => break,
                Err(error) => {
                    tracing::warn!("the runner was not told how far the stage is: {error}");
                    break;
                }
            }
        }
        if checkpoint
            && let Err(error) = crate::cas::unpoisoned(&self.sent).send(&self.call.mail, &self.scratch)
        {
            tracing::warn!("a checkpoint was not sent: {error}");
        }
    }
}
