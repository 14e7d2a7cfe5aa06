//! Watches a process until it and all its descendants have ended.
//!
//! Purpose: passes on events, and replaces secrets in what is printed.
//! Invariant: a wait that is cancelled loses nothing; when it returns, the process and its descendants are gone
//! and their pipes are read to the end.
//! Must not know: when a process is to be stopped, what becomes of the stage.

use std::io;

use tokio::net::unix::pipe::Receiver;

use super::events::{EventReader, Sink};
use super::lines::Lines;
use crate::executor::attempt::{AttemptError, Exit, Request};
use crate::executor::machine::Claim;
use crate::executor::orphans;
use crate::executor::supervise::Process;

/// An attempt that has started.
#[derive(Debug)]
pub struct Started {
    process: Process,
    /// Events of a provider, or what a command prints when there are secrets.
    output: Stream,
    /// What it prints on stderr when there are secrets.
    errors: Stream,
    /// The reader of events, of a provider.
    events: Option<EventReader>,
    /// What the supervisor has reported so far.
    report: Vec<u8>,
    _claim: Claim,
}

impl Started {
    /// A process with the read ends of its pipes.
    pub fn new(process: Process, pipes: [Option<Receiver>; 2], events: bool, claim: Claim) -> Self {
        let [output, errors] = pipes.map(Stream::new);
        let events = events.then(EventReader::default);
        Self { process, output, errors, events, report: Vec::new(), _claim: claim }
    }

    /// Its process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Waits for the end of the process.
    ///
    /// # Errors
    /// The process can no longer be watched.
    pub async fn wait(&mut self, request: &Request<'_>) -> Result<Exit, AttemptError> {
        let io = |what| move |source| AttemptError::Io { what, source };
        let to = Sink { log: request.log, emit: request.emit };
        let ended = loop {
            tokio::select! {
                read = self.output.read(), if self.output.is_open() => {
                    read.map_err(io("read what the stage says"))?;
                    self.output.lines(|line| take(&mut self.events, line, to));
                    request.context.backlog.eased().await;
                }
                read = self.errors.read(), if self.errors.is_open() => {
                    read.map_err(io("read what the stage prints"))?;
                    self.errors.lines(|line| to.log.line(line));
                }
                ended = self.process.ended(&mut self.report) => {
                    break ended.map_err(io("wait for the stage"))?;
                }
            }
        };
        if ended.is_none() {
            // Whatever lost its supervisor is ended here, before anything else may run for this key.
            orphans::end_holders(request.lock.path()).await;
        }
        self.output.drain(|line| take(&mut self.events, line, to)).await;
        self.errors.drain(|line| to.log.line(line)).await;
        let mut reader = self.events.take().unwrap_or_default();
        reader.finish(to);
        let (leader, asked, left) = match ended {
            Some(ended) => (Some(ended.leader), ended.asked, ended.left),
            None => (None, false, Vec::new()),
        };
        Ok(Exit { leader, asked, timed_out: false, left, error: reader.error, done: reader.done })
    }
}

/// Takes a line of stdout: an event of a provider, or text.
fn take(events: &mut Option<EventReader>, line: &[u8], to: Sink<'_>) {
    match events {
        Some(reader) => reader.line(line, to),
        None => to.log.line(line),
    }
}

/// A pipe that is read as lines.
#[derive(Debug)]
struct Stream {
    pipe: Option<Receiver>,
    lines: Lines,
    chunk: Vec<u8>,
}

impl Stream {
    fn new(pipe: Option<Receiver>) -> Self {
        Self { pipe, lines: Lines::default(), chunk: Vec::new() }
    }

    fn is_open(&self) -> bool {
        self.pipe.is_some()
    }

    /// Reads once. Cancelling it loses nothing.
    async fn read(&mut self) -> io::Result<()> {
        let Some(pipe) = &self.pipe else { return Ok(()) };
        pipe.readable().await?;
        self.chunk.clear();
        self.chunk.reserve(64 * 1024);
        match pipe.try_read_buf(&mut self.chunk) {
            Ok(0) => self.pipe = None,
            Err(e) if e.kind() != io::ErrorKind::WouldBlock => return Err(e),
            _ => {}
        }
        Ok(())
    }

    /// Hands on the lines that the last read completed.
    fn lines(&mut self, on_line: impl FnMut(&[u8])) {
        self.lines.push(&self.chunk, on_line);
        self.chunk.clear();
    }

    /// Reads to the end; nobody holds the other end any more.
    async fn drain(&mut self, mut on_line: impl FnMut(&[u8])) {
        while self.is_open() {
            if self.read().await.is_err() {
                break;
            }
            self.lines(&mut on_line);
        }
        self.lines.finish(&mut on_line);
    }
}
