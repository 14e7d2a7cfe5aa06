//! Bytes and rate of what is being transferred.
//!
//! Purpose: a line on a terminal while results are sent or fetched, and the rate for the line at the end.
//! Invariant: without a terminal nothing is shown before the end.
//! Must not know: what is transferred.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::cas::remote::{Moved, Remotes};
use crate::report::text::{bytes, seconds};

/// The time between two looks at the counter.
const TICK: Duration = Duration::from_millis(100);

/// A transfer that is shown until this is dropped.
pub struct Progress {
    began: Instant,
    ended: Arc<AtomicBool>,
    shown: Option<JoinHandle<()>>,
}

impl Progress {
    /// Shows what the remotes move from now on; `verb` is `sent` or `fetched`.
    pub fn of(remotes: &Remotes, verb: &'static str) -> Self {
        let (ended, moved) = (Arc::new(AtomicBool::new(false)), remotes.moved());
        let until = Arc::clone(&ended);
        let shown = std::thread::Builder::new().name("kiln-progress".into()).spawn(move || {
            show(&moved, verb, &until);
        });
        // Without a thread nothing is shown, and nothing is lost.
        Self { began: Instant::now(), ended, shown: shown.ok() }
    }

    /// So many bytes, with the time since the beginning and the rate: `48 MB in 3.2s, 15 MB/s`.
    pub fn summary(&self, count: u64) -> String {
        let time = self.began.elapsed().as_secs_f64();
        match count {
            0 => bytes(0),
            count => {
                let rate = bytes((count as f64 / time.max(1e-3)) as u64);
                format!("{} in {}, {rate}/s", bytes(count), seconds(time))
            }
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(shown) = self.shown.take() {
            let _ = shown.join();
        }
    }
}

fn show(moved: &Moved, verb: &str, ended: &AtomicBool) {
    let bar = ProgressBar::new_spinner();
    // A template that cannot be read leaves the default one.
    if let Ok(style) =
        ProgressStyle::with_template("{spinner} {decimal_bytes} {msg}, {decimal_bytes_per_sec}")
    {
        bar.set_style(style);
    }
    bar.set_message(verb.to_owned());
    let before = moved.bytes();
    while !ended.load(Ordering::Relaxed) {
        bar.set_position(moved.bytes() - before);
        std::thread::sleep(TICK);
    }
    bar.finish_and_clear();
}
