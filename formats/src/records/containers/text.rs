//! Plain text.
//!
//! Purpose: a file of text is one document; where the caller says how a text may be cut, it comes in parts of a few megabytes.
//! Invariants: the parts joined are the text; a blank file has no rows; without cuts a document is bounded, for it is held in
//! memory.
//! Must not know: tokenizers (it is told where a text may be cut), what the text is for.

use std::io::{BufRead, Read};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::super::RecordError;
use super::super::error::{At, Place};
use super::super::example::Text;
use super::super::files::DataFile;
use super::super::input::Stream;
use super::super::row::Row;
use super::kind::{Limits, Rows};

/// Bytes that are read at a time.
const BLOCK: usize = 4 << 20;
/// The largest document that is read as a whole, in bytes.
const LARGEST_WHOLE: u64 = 2 << 30;

/// Where a text may be cut, at the latest.
pub type Cut = fn(&str) -> Option<usize>;

/// The rows of a file of text: its parts.
pub(super) struct TextFile {
    path: Arc<Path>,
    stream: Stream,
    cut: Option<Cut>,
    /// What was read, and is in no part yet.
    rest: Vec<u8>,
    /// The place of the first byte of `rest` in the file.
    offset: u64,
    /// Whether the stream has ended.
    is_read: bool,
    ended: bool,
}

impl TextFile {
    pub(super) fn open(file: &DataFile, limits: Limits) -> Result<Self, RecordError> {
        let (stream, offset) = file.input.text(file.compression, limits.file)?;
        let path = Arc::clone(&file.path);
        let mut text =
            Self { path, stream, cut: limits.cut, rest: Vec::new(), offset, is_read: false, ended: false };
        text.ended = text.is_blank()?;
        if !text.ended {
            let (stream, offset) = file.input.text(file.compression, limits.file)?;
            (text.stream, text.offset, text.is_read) = (stream, offset, false);
            text.rest.clear();
        }
        Ok(text)
    }

    /// Reads until something stands there that is not white space.
    fn is_blank(&mut self) -> Result<bool, RecordError> {
        while !self.is_read {
            self.read()?;
            let valid = self.valid()?;
            if !valid.trim().is_empty() {
                return Ok(false);
            }
            let length = valid.len();
            self.offset += length as u64;
            self.rest.drain(..length);
        }
        Ok(true)
    }

    /// Reads a block, or as much as there is without a part already, so that a text without cuts takes linear time.
    fn read(&mut self) -> Result<(), RecordError> {
        let wanted = self.rest.len().max(BLOCK) as u64;
        let read = (&mut self.stream).take(wanted).read_to_end(&mut self.rest);
        read.map_err(|error| RecordError::read(&self.path, error))?;
        let next = self.stream.fill_buf().map_err(|error| RecordError::read(&self.path, error))?;
        self.is_read = next.is_empty();
        if self.cut.is_none() && self.rest.len() as u64 > LARGEST_WHOLE {
            return Err(RecordError::large(&self.path, At::File, LARGEST_WHOLE));
        }
        Ok(())
    }

    /// The text that was read, without a character that is cut at the end of the block.
    fn valid(&self) -> Result<&str, RecordError> {
        let error = match std::str::from_utf8(&self.rest) {
            Ok(text) => return Ok(text),
            Err(error) => error,
        };
        let valid = error.valid_up_to();
        if error.error_len().is_none() && !self.is_read {
            return Ok(std::str::from_utf8(&self.rest[..valid]).unwrap_or_default());
        }
        let place = Place { file: Arc::clone(&self.path), at: At::File };
        let byte = self.rest.get(valid).copied().unwrap_or_default();
        Err(RecordError::NotUtf8 { place, field: String::new(), at: self.offset + valid as u64, byte })
    }

    /// The next part: read until there is a place to cut it.
    fn part(&mut self) -> Result<Row, RecordError> {
        loop {
            self.read()?;
            let text = self.valid()?;
            let end = match self.cut {
                _ if self.is_read => Some(text.len()),
                Some(cut) => cut(text).filter(|&end| end > 0 && text.is_char_boundary(end)),
                None => None,
            };
            let Some(end) = end else { continue };
            let part = text[..end].to_owned();
            self.rest.drain(..end);
            self.offset += end as u64;
            self.ended = self.is_read;
            return Ok(Row::text(part, !self.is_read));
        }
    }
}

impl Rows for TextFile {
    fn next_row(&mut self, _names: bool) -> Option<Result<(At, Row), RecordError>> {
        if self.ended {
            return None;
        }
        let part = self.part();
        self.ended = self.ended || part.is_err();
        Some(part.map(|row| (At::File, row)))
    }

    fn count(&mut self) -> Result<u64, RecordError> {
        Ok(u64::from(!self.ended))
    }
}

/// The texts between two places of a dataset's bytes, for one part that is learnt and one that is held out: a character
/// belongs to the range in which its last byte lies. Documents stay apart, and a document without a character in the range is none.
pub fn span<E>(
    texts: impl Iterator<Item = Result<Text, E>>,
    range: Range<u64>,
) -> impl Iterator<Item = Result<Text, E>> {
    let mut place = 0_u64;
    // Whether the document that goes on has given something.
    let mut is_open = false;
    texts.filter_map(move |text| {
        let text = match text {
            Ok(text) => text,
            Err(error) => return Some(Err(error)),
        };
        let length = text.text.len() as u64;
        let from = boundary(&text.text, range.start.saturating_sub(place));
        let to = boundary(&text.text, range.end.saturating_sub(place)).max(from);
        // The document ends here for this range when it ends, or when the range does.
        let ends = text.ends || range.end <= place + length;
        place += length;
        if from == to && !(is_open && ends) {
            return None;
        }
        is_open = !ends;
        Some(Ok(Text { text: text.text.get(from..to).unwrap_or_default().to_owned(), ends }))
    })
}

/// The last place between characters at or before this byte.
fn boundary(text: &str, at: u64) -> usize {
    let at = usize::try_from(at).unwrap_or(usize::MAX).min(text.len());
    (0..=at).rev().find(|&place| text.is_char_boundary(place)).unwrap_or(0)
}
