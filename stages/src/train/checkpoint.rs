//! Mid-stage checkpoints: what a killed stage needs to go on as if nothing had happened.
//!
//! Purpose: decides when the state is saved, and whether a saved state is resumed or discarded.
//! Invariant: a checkpoint that cannot be used (damaged, or of another origin) is removed, and the
//! stage starts over: a checkpoint never fails a stage for good. After `Interrupted` the
//! state is on disk, durably.
//! Must not know: what the tensors are.
//!
//! **A resume is on trial** until a newer state has been saved, which happens right after the first
//! step, or until the training has ended. A bad state that passes all checks (written by a faulty
//! memory, for example) would otherwise fail every attempt:
//! - When a resumed attempt ends in an error or a panic during the trial, the checkpoint is removed
//!   at once, and the next attempt starts over.
//! - When its process dies without an event (a crash, `kill -9`, out of memory), a file `resuming`
//!   beside the checkpoint remains, which counts the resumes of that very state. A checkpoint is
//!   resumed at most [`RESUMES`] times in this way; the attempt after that starts over. So a
//!   `kill -9` at any moment loses nothing unless it hits the first step after a resume twice in a row.
//! - A request to stop ends the trial: nobody can tell the state from a good one, and it is kept.

use std::cell::OnceCell;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kiln::protocol::Event;
use serde::{Deserialize, Serialize};

use super::origin::Origin;
use super::state::{Reader, Saved};
use super::state_file::{StateFile, replace};
use crate::context::{Context, StageError, emit};

/// Checkpointing takes at most one part in so many of the time.
const SHARE: u32 = 50;
/// The shortest time between two checkpoints.
const INTERVAL: Duration = Duration::from_secs(2);
/// The environment variable that sets another interval in seconds, whatever its cost, for tests
/// that call the worker themselves (the runner does not hand it on). It changes no output.
pub const INTERVAL_VARIABLE: &str = "KILN_CHECKPOINT_SECONDS";
/// The state's file within the checkpoint folder.
pub const STATE: &str = "state.checkpoint";
/// The file that counts the resumes of a state.
pub const MARKER: &str = "resuming";
/// So many times the same state is resumed; then the stage starts over.
pub const RESUMES: u32 = 2;

/// The checkpoint file of a stage, and when it is due.
pub struct Checkpoints {
    path: PathBuf,
    marker: PathBuf,
    values: u64,
    origin: OnceCell<Origin>,
    trial: Trial,
    last: Instant,
    cost: Duration,
    interval: Option<Duration>,
    /// Whether the last one could not be written.
    has_failed: bool,
}

/// How far a resumed state has proved itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trial {
    /// There is nothing to prove.
    Over,
    /// The state was read, and is what the file holds.
    Resumed,
    /// The first step after it is on its way.
    Stepping,
}

/// What the marker says.
#[derive(Debug, Serialize, Deserialize)]
struct Marker {
    checkpoint: String,
    resumes: u32,
}

impl Checkpoints {
    /// In the folder that the request names, of a state that has at most so many values.
    pub fn new(ctx: &Context, values: usize) -> Self {
        Self {
            path: ctx.checkpoint().join(STATE),
            marker: ctx.checkpoint().join(MARKER),
            values: values as u64,
            origin: OnceCell::new(),
            trial: Trial::Over,
            last: Instant::now(),
            cost: Duration::ZERO,
            interval: std::env::var(INTERVAL_VARIABLE).ok().and_then(|v| interval(&v)),
            has_failed: false,
        }
    }

    /// The program is hashed for it, so only where there is something to read or to write.
    fn origin(&self, ctx: &Context) -> &Origin {
        self.origin.get_or_init(|| Origin::new(ctx))
    }

    /// What `restore` makes of the state that an earlier attempt left; none where there is none. One that cannot be used is
    /// removed.
    pub fn resume<T>(
        &mut self,
        ctx: &Context,
        restore: impl FnOnce(Reader) -> Result<T, String>,
    ) -> Option<T> {
        match self.restored(ctx, restore) {
            Ok(Some(state)) => {
                ctx.log("resuming from the checkpoint of an earlier attempt");
                Some(state)
            }
            Ok(None) => {
                remove(&self.marker);
                None
            }
            Err(reason) => {
                self.discard(&reason);
                None
            }
        }
    }

    fn restored<T>(
        &mut self,
        ctx: &Context,
        restore: impl FnOnce(Reader) -> Result<T, String>,
    ) -> Result<Option<T>, String> {
        let Some(file) = StateFile::read(&self.path, self.values)? else { return Ok(None) };
        self.begin_trial(&file.checksum())?;
        let reader = file.parse(self.origin(ctx))?;
        drop(file);
        restore(reader).map(Some)
    }

    /// Counts one more resume of the state with this checksum.
    fn begin_trial(&mut self, checkpoint: &str) -> Result<(), String> {
        let earlier = read_marker(&self.marker).filter(|m| m.checkpoint == checkpoint);
        let resumes = earlier.map_or(0, |m| m.resumes);
        if resumes >= RESUMES {
            return Err(format!("{resumes} attempts that resumed from it died before their next checkpoint"));
        }
        let marker = Marker { checkpoint: checkpoint.to_owned(), resumes: resumes + 1 };
        // On a disk that takes no marker, resuming is still better than starting over.
        if let Ok(text) = serde_json::to_string(&marker) {
            let _ = replace(&self.marker, |file| file.write_all(text.as_bytes()));
        }
        self.trial = Trial::Resumed;
        Ok(())
    }

    fn end_trial(&mut self) {
        self.trial = Trial::Over;
        remove(&self.marker);
    }

    /// Removes the checkpoint, and says why.
    fn discard(&mut self, reason: &str) {
        remove(&self.path);
        self.end_trial();
        let message = format!(
            "the checkpoint of an earlier attempt is discarded ({reason}); the stage starts over without it"
        );
        emit(&Event::Log { level: "warn".to_owned(), message });
    }

    /// Saves the state if it is time, and always when the stage should stop, which it then does.
    /// Call it before each step.
    ///
    /// # Errors
    /// `Interrupted` after saving on request; a failure when the state cannot be saved then. At any
    /// other time that is only logged.
    pub fn save_if_due<'a>(
        &mut self,
        ctx: &Context,
        state: impl FnOnce() -> Saved<'a>,
    ) -> Result<(), StageError> {
        let stop = ctx.should_stop();
        if self.trial == Trial::Resumed {
            // The file holds this very state.
            self.trial = Trial::Stepping;
            return if stop { self.interrupted() } else { Ok(()) };
        }
        let interval = self.interval.unwrap_or_else(|| INTERVAL.max(self.cost * SHARE));
        if !stop && self.trial == Trial::Over && self.last.elapsed() < interval {
            return Ok(());
        }
        let origin = self.origin(ctx);
        let start = Instant::now();
        let written = StateFile::write(&self.path, origin, &state());
        self.cost = start.elapsed();
        self.last = Instant::now();
        match written {
            Ok(()) if stop => self.interrupted(),
            Ok(()) => {
                self.has_failed = false;
                self.end_trial();
                Ok(())
            }
            Err(e) => {
                // The state that was resumed is not to blame for this; its marker remains.
                self.trial = Trial::Over;
                let message = format!("{}: the checkpoint cannot be written: {e}", self.path.display());
                if stop {
                    return Err(StageError::failed(message));
                }
                if !std::mem::replace(&mut self.has_failed, true) {
                    ctx.warn(format!("{message}; the stage goes on and tries again later"));
                }
                Ok(())
            }
        }
    }

    fn interrupted(&mut self) -> Result<(), StageError> {
        self.end_trial();
        Err(StageError::Interrupted)
    }

    /// The training has ended: an error after it is not the checkpoint's. The marker stays until the
    /// runner removes the folder, so that a process which always dies later is counted too.
    pub fn finish(mut self) {
        self.trial = Trial::Over;
    }
}

/// An attempt that ends during the trial has failed, by an error or a panic.
impl Drop for Checkpoints {
    fn drop(&mut self) {
        if self.trial != Trial::Over {
            self.discard("the attempt that resumed from it failed before its next checkpoint");
        }
    }
}

/// The marker, if there is one that can be read.
fn read_marker(path: &Path) -> Option<Marker> {
    if !fs::symlink_metadata(path).ok()?.is_file() {
        return None;
    }
    let mut text = String::new();
    File::open(path).ok()?.take(4096).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

/// Removes whatever is there. What cannot be removed is replaced at the next save, or found bad again.
fn remove(path: &Path) {
    if let Err(e) = fs::remove_file(path)
        && e.kind() != ErrorKind::NotFound
    {
        let _ = fs::remove_dir_all(path);
    }
}

/// An interval in seconds, if it is one.
fn interval(text: &str) -> Option<Duration> {
    text.trim().parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_a_number_of_seconds_and_anything_else_is_none() {
        assert_eq!(interval("0"), Some(Duration::ZERO));
        assert_eq!(interval(" 0.5 "), Some(Duration::from_millis(500)));
        for text in ["", "soon", "-1", "inf", "NaN"] {
            assert_eq!(interval(text), None, "{text}");
        }
    }
}
