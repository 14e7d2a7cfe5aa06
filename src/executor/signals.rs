//! Ctrl-C and its like.
//!
//! Purpose: a message to the driver for each signal that asks to stop.
//! Invariant: a signal that was ignored when the runner started (`nohup`, a background job) stays ignored.
//! Must not know: what a stop means.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::UnboundedSender;

use super::driver::Message;

/// Sends a message for each SIGINT, SIGTERM and SIGHUP. Call it inside of the runtime.
pub fn watch(messages: UnboundedSender<Message>) {
    let ignored = ignored();
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
        if ignored & (1 << (kind.as_raw_value() - 1)) != 0 {
            continue;
        }
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

/// The signals that this process ignores, a bit each.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
