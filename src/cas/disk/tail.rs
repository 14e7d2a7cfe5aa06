//! The last lines of a log.
//!
//! Purpose: show the end of a file that a program wrote.
//! Invariant: a bounded part of the file is read, and no control character comes out.
//! Must not know: which stage wrote it, or how it is shown.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// How much of the end of a file is read at most.
const MOST_BYTES: u64 = 64 * 1024;
/// The longest line that is shown, in characters.
const LONGEST_LINE: usize = 400;

/// The last lines of a file, without control characters.
///
/// # Errors
/// The file cannot be read.
pub fn tail(path: &Path, lines: usize) -> io::Result<Vec<String>> {
    let mut file = File::open(path)?;
    let start = file.metadata()?.len().saturating_sub(MOST_BYTES);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(MOST_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    Ok(all[all.len().saturating_sub(lines)..].iter().map(|line| clean(line)).collect())
}

/// A line as a terminal would leave it: what stands after the last carriage return, without escape sequences
/// and control characters, except for tabs.
fn clean(line: &str) -> String {
    let line = line.trim_end_matches('\r');
    let line = line.rsplit('\r').next().unwrap_or(line);
    let mut clean = String::with_capacity(line.len());
    let mut characters = line.chars().peekable();
    while let Some(c) = characters.next() {
        if c == '\u{1b}' && characters.peek() == Some(&'[') {
            // A control sequence ends with its first byte from `@` to `~`.
            characters.next();
            let _ = characters.find(|c| ('@'..='~').contains(c));
        } else if c == '\t' || !c.is_control() {
            clean.push(c);
        }
    }
    clean.chars().take(LONGEST_LINE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_come_without_what_would_move_the_cursor() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        std::fs::write(&log, "one\ntwo\n\x1b[31mred\x1b[0m\tend\r\n10 %\r 99 %\n\x07bell").unwrap();
        assert_eq!(tail(&log, 3).unwrap(), ["red\tend", " 99 %", "bell"]);
        assert_eq!(tail(&log, 100).unwrap().len(), 5);
        assert!(tail(&dir.path().join("none"), 3).is_err());
    }

    #[test]
    fn a_line_without_an_end_is_read_in_part() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        std::fs::write(&log, vec![b'x'; 3 << 20]).unwrap();
        assert_eq!(tail(&log, 1).unwrap()[0].len(), LONGEST_LINE);
    }
}
