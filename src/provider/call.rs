//! One request to a provider, and one answer.
//!
//! Purpose: `PROVIDER VERB` as a function from a request on its stdin to the summary of its `done` event.
//! Invariant: a provider that ends without `done` has failed, with what it said last.
//! Must not know: what the verbs do.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::{MemfdFlags, memfd_create};
use serde::Serialize;

use super::conversation::{ConversationError, end_of};
use super::environment::{self, provider_environment};
use crate::protocol::Event;

/// The longest line that is read.
const LONGEST_LINE: u64 = 16 << 20;

/// Runs a verb of a provider on so many cores; `warn` is told its warnings.
///
/// # Errors
/// It cannot be started, fails or ends without an answer.
pub fn call(
    program: &Path,
    verb: &str,
    request: &impl Serialize,
    threads: u32,
    mut warn: impl FnMut(&str),
) -> Result<Vec<(String, f64)>, ConversationError> {
    let fail = |source| ConversationError::Io { program: program.to_owned(), source };
    let complaints = memfd_create("complaints", MemfdFlags::CLOEXEC).map_err(|e| fail(e.into()))?;
    let mut complaints = File::from(complaints);
    let mut command = Command::new(program);
    command.arg(verb).env_clear().envs(provider_environment(None, &environment::caller()));
    command.env("OMP_NUM_THREADS", threads.to_string());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(complaints.try_clone().map_err(fail)?);
    let mut child = command.spawn().map_err(fail)?;
    let text = serde_json::to_vec(request).map_err(|e| fail(e.into()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that does not read has said why, or will.
        let _ = stdin.write_all(&text);
    }
    let mut answer = None;
    if let Some(stdout) = child.stdout.take() {
        let mut stdout = BufReader::new(stdout);
        loop {
            let mut line = Vec::new();
            if stdout.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line).map_err(fail)? == 0 {
                break;
            }
            match serde_json::from_slice(&line) {
                Ok(Event::Done { summary }) => answer = Some(Ok(summary)),
                Ok(Event::Error { message }) => answer = Some(Err(ConversationError::Failed(message))),
                Ok(Event::Log { level, message }) if level == "warn" => warn(&message),
                Ok(_) | Err(_) => tracing::debug!("{}", String::from_utf8_lossy(&line).trim_end()),
            }
        }
    }
    let status = child.wait().map_err(fail)?;
    match answer {
        Some(Ok(summary)) if status.success() => Ok(summary),
        Some(Err(error)) => Err(error),
        _ => Err(ConversationError::Ended {
            program: program.to_owned(),
            verb: verb.to_owned(),
            said: end_of(&mut complaints),
        }),
    }
}
