//! Ctrl-C and its like.
//!
//! Purpose: a message to the driver for each signal that asks to stop.
//! Invariant: a SIGHUP that was ignored when the runner started (`nohup`) stays ignored.
//! Must not know: what a stop means.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::UnboundedSender;

use super::message::Message;

/// Sends a message for each SIGINT, SIGTERM and SIGHUP. Call it inside of the runtime.
pub fn watch(messages: UnboundedSender<Message>) {
    let mut kinds = vec![SignalKind::interrupt(), SignalKind::terminate()];
    if !is_ignored(SignalKind::hangup()) {
        kinds.push(SignalKind::hangup());
    }
    for kind in kinds {
        let mut stream = match signal(kind) {
            Ok(stream) => stream,
            Err(e) => {
                tracing::warn!("a signal cannot be caught, so it ends stages without a checkpoint: {e}");
                continue;
            }
        };
        let messages = messages.clone();
        tokio::spawn(async move {
            while stream.recv().await.is_some() {
                if messages.send(Message::Signal).is_err() {
                    return;
                }
            }
        });
    }
}

fn is_ignored(kind: SignalKind) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask & (1 << (kind.as_raw_value() - 1)) != 0
}
