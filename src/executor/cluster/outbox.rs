//! What a job says while it runs.
//!
//! Purpose: numbered files of events and lines of the log, written by the job at intervals and read by the runner in order.
//! Invariant: what is said is in one file, and files are never changed; a reader that missed nothing has everything, and one
//! that starts later does, too. Sizes are bounded on both sides.
//! Must not know: what events mean.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::Mutex;

use serde::{Deserialize, Serialize};

use super::mail::{Mail, MailError};
use crate::cas::unpoisoned;
use crate::sched::StageEvent;

/// The most bytes of a file.
pub const MOST_BYTES: u64 = 8 << 20;
/// The most bytes of the log in a file; what is more waits for the next one.
const MOST_LOG: u64 = 256 << 10;
/// The most events in a file.
const MOST_PER_FILE: usize = 500;
/// The most files that are read at once.
const MOST_FILES: u64 = 1000;
/// The most files of a job that are read.
const MOST_IN_ALL: u64 = 1_000_000;
/// The most events that wait for the next file; the oldest progress gives way.
const MOST_EVENTS: usize = 10_000;

/// One thing that a job says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Said {
    /// An event of the stage.
    Event(StageEvent),
    /// A part of the log.
    Log(String),
}

/// The side of the job.
pub struct Outbox {
    mail: Mail,
    submission: String,
    log: PathBuf,
    state: Mutex<State>,
    /// Held while a file is written, so that they are written in order.
    writing: Mutex<()>,
}

#[derive(Default)]
struct State {
    events: Vec<StageEvent>,
    /// How much of the log was sent.
    sent: u64,
    /// The number of the last file.
    number: u64,
}

impl Outbox {
    /// For a submission whose log grows in this file. Files after number `last` are written: a job that runs again goes on.
    pub fn new(mail: Mail, submission: &str, log: PathBuf, last: u64) -> Self {
        let state = State { number: last, ..State::default() };
        Self {
            mail,
            submission: submission.to_owned(),
            log,
            state: Mutex::new(state),
            writing: Mutex::default(),
        }
    }

    /// Keeps an event for the next file.
    pub fn say(&self, event: StageEvent) {
        let mut state = unpoisoned(&self.state);
        if state.events.len() >= MOST_EVENTS {
            state.events.retain(|event| !matches!(event, StageEvent::Progress { .. }));
        }
        // How far a stage is, only the last one says.
        if matches!(event, StageEvent::Progress { .. }) {
            state.events.retain(|known| !matches!(known, StageEvent::Progress { .. }));
        }
        if state.events.len() < MOST_EVENTS {
            state.events.push(event);
        }
    }

    /// Writes what is new; false when nothing is. When the job has `ended`, half a line is one, too.
    ///
    /// # Errors
    /// The disk or the remote refuses; it is said with the next file then.
    pub fn flush(&self, ended: bool) -> Result<bool, MailError> {
        let _turn = unpoisoned(&self.writing);
        let (events, from, number) = {
            let mut state = unpoisoned(&self.state);
            let some = state.events.len().min(MOST_PER_FILE);
            (state.events.drain(..some).collect::<Vec<_>>(), state.sent, state.number + 1)
        };
        let log = self.new_log(from, ended);
        if events.is_empty() && log.is_empty() {
            return Ok(false);
        }
        let read = log.len() as u64;
        let mut said: Vec<_> = events.iter().cloned().map(Said::Event).collect();
        if read > 0 {
            // The log of an event stands before it as often as behind it.
            said.insert(0, Said::Log(String::from_utf8_lossy(&log).into_owned()));
        }
        let mut bytes = Vec::new();
        for one in &said {
            if serde_json::to_writer(&mut bytes, one).is_ok() {
                bytes.push(b'\n');
            }
        }
        let put = self.mail.put(&[&self.submission, &file_name(number)], bytes);
        let mut state = unpoisoned(&self.state);
        match &put {
            Ok(()) => (state.sent, state.number) = (from + read, number),
            Err(_) => _ = state.events.splice(0..0, events),
        }
        put.map(|()| true)
    }

    /// What is new in the log, up to the end of a line where there is one.
    fn new_log(&self, from: u64, ended: bool) -> Vec<u8> {
        let mut bytes = Vec::new();
        let read = File::open(&self.log).and_then(|mut file| {
            file.seek(SeekFrom::Start(from))?;
            file.take(MOST_LOG).read_to_end(&mut bytes)
        });
        if read.is_err() {
            return Vec::new();
        }
        match bytes.iter().rposition(|&byte| byte == b'\n') {
            Some(end) => bytes.truncate(end + 1),
            None if (bytes.len() as u64) < MOST_LOG && !ended => bytes.clear(),
            None => {}
        }
        bytes
    }
}

/// The side of the runner: reads the files after `number`, some of them at most, and counts it up to the last one.
///
/// # Errors
/// The disk or the remote refuses; what was read before counts.
pub fn read(
    mail: &Mail,
    submission: &str,
    number: &mut u64,
    each: &mut dyn FnMut(Said),
) -> Result<(), MailError> {
    let most = number.saturating_add(MOST_FILES);
    while *number < most
        && let Some(bytes) = mail.get(&[submission, &file_name(*number + 1)], MOST_BYTES)?
    {
        *number += 1;
        // What is not understood was said by another version.
        let lines = bytes.split(|&byte| byte == b'\n');
        lines.filter_map(|line| serde_json::from_slice(line).ok()).for_each(&mut *each);
    }
    Ok(())
}

/// Reads everything that a job has said, and gives the number of the last file.
///
/// # Errors
/// The disk or the remote refuses.
pub fn read_all(mail: &Mail, submission: &str, each: &mut dyn FnMut(Said)) -> Result<u64, MailError> {
    let mut number = 0;
    read_rest(mail, submission, &mut number, each)?;
    Ok(number)
}

/// Reads all files after `number`.
///
/// # Errors
/// The disk or the remote refuses; what was read before counts.
pub fn read_rest(
    mail: &Mail,
    submission: &str,
    number: &mut u64,
    each: &mut dyn FnMut(Said),
) -> Result<(), MailError> {
    while *number < MOST_IN_ALL {
        let before = *number;
        read(mail, submission, number, each)?;
        if *number == before {
            break;
        }
    }
    Ok(())
}

/// The lines of a part of a log, as they are.
pub fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.strip_suffix('\n').unwrap_or(text).split('\n')
}

fn file_name(number: u64) -> String {
    format!("said-{number:06}.jsonl")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cas::tests::place;
    use crate::digest::Digest;

    fn note(text: &str) -> StageEvent {
        StageEvent::Note { message: text.to_owned() }
    }

    #[test]
    fn a_runner_hears_everything_once_and_in_order_whenever_it_listens() {
        let p = place();
        let mail = Mail::in_store(&p.store, &Digest::of_bytes(b"key"));
        let log = p.file("log", "");
        let outbox = Outbox::new(mail.clone(), "0123abcd", log.clone(), 0);
        let (mut heard, mut number) = (Vec::new(), 0);
        outbox.say(note("one"));
        assert!(outbox.flush(false).unwrap() && !outbox.flush(false).unwrap(), "nothing is said twice");
        read(&mail, "0123abcd", &mut number, &mut |said| heard.push(said)).unwrap();
        std::fs::write(&log, "first line\nhalf a li").unwrap();
        outbox.say(note("two"));
        outbox.flush(false).unwrap();
        std::fs::write(&log, "first line\nhalf a line\n").unwrap();
        outbox.flush(false).unwrap();
        read(&mail, "0123abcd", &mut number, &mut |said| heard.push(said)).unwrap();
        let log = |text: &str| Said::Log(text.to_owned());
        let all =
            [Said::Event(note("one")), log("first line\n"), Said::Event(note("two")), log("half a line\n")];
        assert_eq!(heard, all);
        let mut again = Vec::new();
        read_all(&mail, "0123abcd", &mut |said| again.push(said)).unwrap();
        assert_eq!(again, all, "one that comes later hears the same");
    }

    #[test]
    fn a_job_that_says_much_is_heard_to_its_end_and_half_a_line_is_its_last_word() {
        let p = place();
        let mail = Mail::in_store(&p.store, &Digest::of_bytes(b"key"));
        let log = p.file("log", "");
        let outbox = Outbox::new(mail.clone(), "0123abcd", log.clone(), 0);
        for n in 0..MOST_FILES + 2 {
            outbox.say(note(&n.to_string()));
            outbox.flush(false).unwrap();
        }
        std::fs::write(&log, "last words").unwrap();
        assert!(!outbox.flush(false).unwrap() && outbox.flush(true).unwrap() && !outbox.flush(true).unwrap());
        let mut heard = Vec::new();
        assert_eq!(read_all(&mail, "0123abcd", &mut |said| heard.push(said)).unwrap(), MOST_FILES + 3);
        assert_eq!(heard.last(), Some(&Said::Log("last words".to_owned())));
        // One that cannot be read now is read later, and nothing is heard twice.
        let folder = super::super::intent::folder(&p.store, &Digest::of_bytes(b"key")).join("0123abcd");
        let (third, aside) = (folder.join(file_name(3)), folder.join("aside"));
        std::fs::rename(&third, &aside).unwrap();
        std::fs::create_dir(&third).unwrap();
        let (mut number, mut again) = (0, Vec::new());
        assert!(read(&mail, "0123abcd", &mut number, &mut |said| again.push(said)).is_err());
        std::fs::remove_dir(&third).unwrap();
        std::fs::rename(&aside, &third).unwrap();
        read_rest(&mail, "0123abcd", &mut number, &mut |said| again.push(said)).unwrap();
        assert_eq!(again, heard);
    }
}
