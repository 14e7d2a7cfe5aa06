//! Watches a process until it and all its descendants have ended.
//!
//! Purpose: passes on events, replaces secrets in what is printed, and enforces timeouts and stops.
//! Invariant: when this returns, the process and its descendants are gone and their pipes are read to the
//! end.
//! Must not know: what becomes of the stage.

use std::io;
use std::time::Duration;

use tokio::net::unix::pipe::Receiver;
use tokio::time::{Instant, sleep_until};

use super::Started;
use super::events::EventReader;
use super::lines::Lines;
use crate::executor::attempt::{AttemptError, Exit, Made, Request};
use crate::executor::orphans;

/// How long a process that is out of time may take to end before it is killed.
const GRACE: Duration = Duration::from_secs(10);

/// Waits for the end of a process.
///
/// # Errors
/// The process can no longer be watched.
pub async fn watch(request: &Request<'_>, started: Started) -> Result<(Exit, Made), AttemptError> {
    let Started { process, stdout, stderr, events, made, .. } = started;
    let io = |what| move |source| AttemptError::Io { what, source };
    let cancellation = &request.context.cancellation;
    let mut reader = EventReader::new(request.log, request.emit);
    let mut output = Stream::new(stdout);
    let mut errors = Stream::new(stderr);
    let mut deadline = request.stage().timeout.map(|time| Instant::now() + time);
    let (mut timed_out, mut stopped, mut killed) = (false, false, false);
    let mut report = Vec::new();
    let ended = loop {
        tokio::select! {
            read = output.read(), if output.is_open() => {
                read.map_err(io("read what the stage says"))?;
                output.lines(|line| if events { reader.line(line) } else { request.log.line(line) });
            }
            read = errors.read(), if errors.is_open() => {
                read.map_err(io("read what the stage prints"))?;
                errors.lines(|line| request.log.line(line));
            }
            ended = process.ended(&mut report) => break ended.map_err(io("wait for the stage"))?,
            () = cancellation.stopping(), if !stopped => {
                stopped = true;
                process.stop();
            }
            () = cancellation.killing(), if !killed => {
                killed = true;
                process.kill();
            }
            () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                if timed_out { process.kill() } else { process.stop() }
                deadline = (!timed_out).then(|| Instant::now() + GRACE);
                timed_out = true;
            }
        }
    };
    if ended.is_none() {
        // Whatever lost its supervisor is ended here, before anything else may run for this key.
        orphans::end_holders(request.lock.path()).await;
    }
    output.drain(|line| if events { reader.line(line) } else { request.log.line(line) }).await;
    errors.drain(|line| request.log.line(line)).await;
    reader.finish();
    let (leader, asked, left) = match ended {
        Some(ended) => (Some(ended.leader), ended.asked, ended.left),
        None => (None, stopped, Vec::new()),
    };
    let exit = Exit { leader, asked, timed_out, left, error: reader.error, done: reader.done };
    Ok((exit, made))
}

/// A pipe that is read as lines.
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
