//! A conversation with a model, through its provider.
//!
//! Purpose: `PROVIDER converse` as a function from a prompt to a reply, told piece by piece.
//! Invariant: a provider that ends or errs ends the conversation with what it said last; nothing is
//! left running when the conversation is dropped.
//! Must not know: who talks, where replies are shown.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use rustix::fs::{MemfdFlags, memfd_create};
use serde::Serialize;
use serde_json::Value;

use super::environment::{self, provider_environment};
use crate::protocol::{ConverseRequest, Event, ReplyEnd, Turn};

/// The longest line that is read.
const LONGEST_LINE: u64 = 16 << 20;

/// Why a conversation ended.
#[derive(Debug, thiserror::Error)]
pub enum ConversationError {
    /// The provider cannot be started or spoken to.
    #[error("cannot talk to {}: {source}", program.display())]
    Io {
        /// The program.
        program: PathBuf,
        /// What the machine said.
        source: io::Error,
    },
    /// The provider said that it failed.
    #[error("{0}")]
    Failed(String),
    /// It ended without an answer.
    #[error("`{} {verb}` ended without an answer{said}", program.display())]
    Ended {
        /// The program.
        program: PathBuf,
        /// What it was asked to do.
        verb: String,
        /// The end of what it wrote to stderr.
        said: String,
    },
}

/// What is said before a reply is whole.
#[derive(Debug, Clone, Copy)]
pub enum Said<'a> {
    /// A piece of the reply.
    Piece(&'a str),
    /// A warning about the prompt.
    Warning(&'a str),
}

/// A whole reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Its text.
    pub text: String,
    /// Whether the model ended it by itself.
    pub finished: bool,
    /// How many tokens were made.
    pub tokens: u64,
    /// Why it ended, if the provider says so.
    pub end: Option<ReplyEnd>,
}

/// A provider that waits for prompts.
#[derive(Debug)]
pub struct Conversation {
    program: PathBuf,
    child: Child,
    prompts: Option<ChildStdin>,
    replies: BufReader<ChildStdout>,
    complaints: File,
}

impl Conversation {
    /// Starts the provider with a model.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn begin(program: &Path, request: &ConverseRequest) -> Result<Self, ConversationError> {
        let fail = |source| ConversationError::Io { program: program.to_owned(), source };
        let complaints = memfd_create("complaints", MemfdFlags::CLOEXEC).map_err(|e| fail(e.into()))?;
        let complaints = File::from(complaints);
        let mut command = Command::new(program);
        command.arg("converse").env_clear().envs(provider_environment(None, &environment::caller()));
        command.env("OMP_NUM_THREADS", request.threads.to_string());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(complaints.try_clone().map_err(fail)?);
        let mut child = command.spawn().map_err(fail)?;
        let (prompts, replies) = (child.stdin.take(), child.stdout.take());
        let replies = replies.ok_or_else(|| fail(io::ErrorKind::BrokenPipe.into()))?;
        let replies = BufReader::new(replies);
        let mut this = Self { program: program.to_owned(), child, prompts, replies, complaints };
        this.send(request)?;
        Ok(this)
    }

    /// Says something and waits for the reply, and hands on what is said until then.
    ///
    /// # Errors
    /// The provider fails or ends.
    pub fn ask(&mut self, prompt: &str, mut on: impl FnMut(Said<'_>)) -> Result<Reply, ConversationError> {
        self.send(&Turn { prompt: prompt.to_owned() })?;
        loop {
            let mut line = Vec::new();
            let read = self.replies.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line);
            if read.map_err(|source| self.io(source))? == 0 {
                return Err(self.ended());
            }
            match serde_json::from_slice(&line) {
                Ok(Event::Token { text }) => on(Said::Piece(&text)),
                Ok(Event::Reply { text, finished, tokens, end }) => {
                    return Ok(Reply { text, finished, tokens, end });
                }
                Ok(Event::Log { level, message }) if level == "warn" => on(Said::Warning(&message)),
                Ok(Event::Error { message }) => return Err(ConversationError::Failed(message)),
                // To go on would be to wait for a reply that was given.
                Err(e) if is_reply(&line) => {
                    return Err(ConversationError::Failed(format!(
                        "the provider's reply cannot be read: {e}"
                    )));
                }
                // Anything else is for a log, or for a later version.
                Ok(_) | Err(_) => tracing::debug!("{}", String::from_utf8_lossy(&line).trim_end()),
            }
        }
    }

    /// Says goodbye: the provider sees the end of its stdin and ends.
    ///
    /// # Errors
    /// It ends badly.
    pub fn end(mut self) -> Result<(), ConversationError> {
        drop(self.prompts.take());
        let status = self.child.wait().map_err(|source| self.io(source))?;
        if status.success() { Ok(()) } else { Err(self.ended()) }
    }

    fn send(&mut self, words: &impl Serialize) -> Result<(), ConversationError> {
        let line = serde_json::to_string(words).map_err(|e| self.io(e.into()))?;
        match self.prompts.as_mut().map(|prompts| prompts.write_all(format!("{line}\n").as_bytes())) {
            // It is gone; what it said before tells more. An `error` event may still be in the pipe.
            Some(Err(e)) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            Some(Err(source)) => Err(self.io(source)),
            Some(Ok(())) | None => Ok(()),
        }
    }

    fn io(&self, source: io::Error) -> ConversationError {
        ConversationError::Io { program: self.program.clone(), source }
    }

    fn ended(&mut self) -> ConversationError {
        let (program, said) = (self.program.clone(), end_of(&mut self.complaints));
        ConversationError::Ended { program, verb: "converse".to_owned(), said }
    }
}

/// The last lines that a provider wrote to stderr, for a message.
pub(super) fn end_of(complaints: &mut File) -> String {
    let mut text = String::new();
    // What it said is a help, no more.
    let _ = complaints.seek(SeekFrom::Start(0));
    let _ = complaints.take(1 << 20).read_to_string(&mut text);
    let last: Vec<_> = text.lines().rev().filter(|line| !line.trim().is_empty()).take(3).collect();
    let last: Vec<_> = last.into_iter().rev().collect();
    if last.is_empty() { String::new() } else { format!(": {}", last.join(" | ")) }
}

fn is_reply(line: &[u8]) -> bool {
    serde_json::from_slice::<Value>(line).is_ok_and(|value| value["event"] == "reply")
}

impl Drop for Conversation {
    fn drop(&mut self) {
        // Nothing to be done about one that will not go.
        let _ = self.child.kill().and_then(|()| self.child.wait());
    }
}
