//! JSON, value by value.
//!
//! Purpose: finds where the values of an array or an object begin and end, so that a file larger than the memory is read one
//! value at a time; what a value holds is read elsewhere.
//! Invariants: brackets match; nesting and the kept bytes are bounded.
//! Must not know: rows.

use std::io::BufRead;

use super::super::input::Stream;

/// How deep values may be nested: as deep as serde_json reads.
const DEEPEST: usize = 128;

/// What is wrong with the text of JSON.
#[derive(Debug)]
pub(super) enum ScanError {
    Io(std::io::Error),
    /// A value has more bytes than the limit.
    TooLarge,
    /// A few words that say what, with the line.
    Syntax(String),
}

impl From<std::io::Error> for ScanError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

/// A stream of JSON.
pub(super) struct Scanner {
    stream: Stream,
    /// The line of the next byte, from 1.
    pub(super) line: u64,
    /// The place of the next byte in the text, from 0.
    pub(super) offset: u64,
}

impl Scanner {
    /// Reads a stream from its beginning.
    pub(super) fn new(stream: Stream) -> Self {
        Self { stream, line: 1, offset: 0 }
    }

    /// An error at this line.
    pub(super) fn wrong(&self, what: &str) -> ScanError {
        ScanError::Syntax(format!("{what} at line {}", self.line))
    }

    /// The next byte that is no white space; it stays where it is.
    pub(super) fn peek(&mut self) -> Result<Option<u8>, ScanError> {
        loop {
            let buffer = self.stream.fill_buf()?;
            let Some(place) = buffer.iter().position(|byte| !byte.is_ascii_whitespace()) else {
                let length = buffer.len();
                if length == 0 {
                    return Ok(None);
                }
                self.consume(length)?;
                continue;
            };
            let byte = buffer[place];
            self.consume(place)?;
            return Ok(Some(byte));
        }
    }

    /// Steps over one byte after white space, which must be this one.
    pub(super) fn expect(&mut self, wanted: u8, what: &str) -> Result<(), ScanError> {
        match self.peek()? {
            Some(byte) if byte == wanted => self.consume(1),
            Some(byte) => Err(self.wrong(&format!("{what}, found `{}`", byte.escape_ascii()))),
            None => Err(self.wrong(&format!("{what}, but the file ends"))),
        }
    }

    /// Steps over a separator: true after a comma, false after the end of the array or object.
    pub(super) fn goes_on(&mut self, end: u8) -> Result<bool, ScanError> {
        match self.peek()? {
            Some(b',') => self.consume(1).map(|()| true),
            Some(byte) if byte == end => self.consume(1).map(|()| false),
            Some(byte) => {
                let (end, found) = (char::from(end), byte.escape_ascii());
                Err(self.wrong(&format!("expected `,` or `{end}`, found `{found}`")))
            }
            None => Err(self.wrong("this JSON has no end; the file ends")),
        }
    }

    /// Steps over the beginning of an array or object; true when something stands in it.
    pub(super) fn begins(&mut self, begin: u8, end: u8) -> Result<bool, ScanError> {
        self.expect(begin, &format!("expected `{}`", char::from(begin)))?;
        if self.peek()? == Some(end) {
            self.consume(1)?;
            return Ok(false);
        }
        Ok(true)
    }

    /// The key of the next entry of an object, and steps over its colon.
    pub(super) fn key(&mut self) -> Result<String, ScanError> {
        if self.peek()? != Some(b'"') {
            return Err(self.wrong("expected the name of a field, in double quotes"));
        }
        let mut bytes = Vec::new();
        self.value(Some((&mut bytes, 1 << 16)))?;
        let key = serde_json::from_slice(&bytes).map_err(|_| self.wrong("expected the name of a field"))?;
        self.expect(b':', "expected `:`")?;
        Ok(key)
    }

    /// Steps over bytes.
    fn consume(&mut self, bytes: usize) -> Result<(), ScanError> {
        let passed = self.stream.fill_buf()?.get(..bytes).unwrap_or_default();
        self.line += passed.iter().filter(|&&byte| byte == b'\n').count() as u64;
        self.offset += bytes as u64;
        self.stream.consume(bytes);
        Ok(())
    }

    /// Steps over bytes without looking at them.
    pub(super) fn skip_to(&mut self, offset: u64, line: u64) -> Result<(), ScanError> {
        while self.offset < offset {
            let length = self.stream.fill_buf()?.len() as u64;
            if length == 0 {
                return Err(self.wrong("the file has become shorter"));
            }
            let step = length.min(offset - self.offset);
            self.stream.consume(step as usize);
            self.offset += step;
        }
        self.line = line;
        Ok(())
    }

    /// Steps over a value; its bytes are kept in `out` where it is given, at most as many as the limit.
    pub(super) fn value(&mut self, mut out: Option<(&mut Vec<u8>, u64)>) -> Result<(), ScanError> {
        self.peek()?;
        let (began, mut state) = (self.line, State::default());
        loop {
            let buffer = self.stream.fill_buf()?;
            if buffer.is_empty() {
                if state.is_number {
                    return Ok(());
                }
                return Err(ScanError::Syntax(format!(
                    "this JSON, which begins at line {began}, has no end"
                )));
            }
            let (taken, ended) = match state.take(buffer) {
                Ok(step) => step,
                Err(what) => return Err(self.wrong(what)),
            };
            if let Some((out, limit)) = &mut out {
                if out.len() as u64 + taken as u64 > *limit {
                    return Err(ScanError::TooLarge);
                }
                out.extend_from_slice(&buffer[..taken]);
            }
            self.consume(taken)?;
            if ended {
                return Ok(());
            }
        }
    }
}

/// Where in a value the scanner is.
#[derive(Default)]
struct State {
    /// The ends of the arrays and objects that are open.
    open: Vec<u8>,
    in_string: bool,
    is_escaped: bool,
    /// In a number or a word: it ends before the next separator.
    is_number: bool,
}

impl State {
    /// How many of these bytes belong to the value, and whether it ends with them.
    fn take(&mut self, bytes: &[u8]) -> Result<(usize, bool), &'static str> {
        for (place, &byte) in bytes.iter().enumerate() {
            if self.in_string {
                match byte {
                    _ if self.is_escaped => self.is_escaped = false,
                    b'\\' => self.is_escaped = true,
                    b'"' => {
                        self.in_string = false;
                        if self.open.is_empty() {
                            return Ok((place + 1, true));
                        }
                    }
                    _ => {}
                }
                continue;
            }
            if self.is_number && (b",]}:\"{[".contains(&byte) || byte.is_ascii_whitespace()) {
                return Ok((place, true));
            }
            match byte {
                b'"' => self.in_string = true,
                b'{' => self.open.push(b'}'),
                b'[' => self.open.push(b']'),
                b'}' | b']' => {
                    if self.open.pop() != Some(byte) {
                        return Err("a bracket closes what is not open");
                    }
                    if self.open.is_empty() {
                        return Ok((place + 1, true));
                    }
                }
                _ => self.is_number = self.open.is_empty(),
            }
            if self.open.len() > DEEPEST {
                return Err("JSON is nested more than 128 deep");
            }
        }
        Ok((bytes.len(), false))
    }
}
