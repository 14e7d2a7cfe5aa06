//! The program that minijinja runs, and where each part of it comes from.
//!
//! Purpose: [`Program::of`] is the whole way from a template's source; [`Writer`] collects the text on it.
//! Invariant: the text has no tag of Jinja2 but those that `statement` wrote; the marks rise in both columns.
//! Must not know: the grammar.

use super::{lexer, statement};
use crate::template::bounds::MAX_SOURCE;
use crate::template::error::{Place, TemplateError};

/// A template in minijinja's syntax.
#[derive(Debug)]
pub(in crate::template) struct Program {
    /// The text for minijinja.
    pub(in crate::template) text: String,
    /// Whether there is a `{% generation %}` block.
    pub(in crate::template) has_generation: bool,
    source: String,
    marks: Vec<(usize, usize)>,
}

impl Program {
    /// Translates a source.
    pub(in crate::template) fn of(source: &str) -> Result<Self, TemplateError> {
        if source.len() > MAX_SOURCE {
            return Err(TemplateError::Bounds(format!(
                "the source has {} bytes, the most is {MAX_SOURCE}",
                source.len()
            )));
        }
        let source = lexer::normalize(source);
        let tokens = lexer::tokens(&source)?;
        let mut writer = Writer { text: String::with_capacity(source.len() * 2), marks: Vec::new() };
        let has_generation = statement::translate(&source, &tokens, &mut writer)?;
        // minijinja takes one newline from the end.
        let end = if writer.text.ends_with('\n') { "\n" } else { "" };
        writer.push(end);
        Ok(Self { text: writer.text, has_generation, marks: writer.marks, source })
    }

    /// The place in the source of byte `offset` of the text.
    pub(in crate::template) fn place(&self, offset: usize) -> Place {
        let after = self.marks.partition_point(|mark| mark.0 <= offset);
        let from = after.checked_sub(1).and_then(|index| self.marks.get(index)).map_or(0, |mark| mark.1);
        Place::of(&self.source, from)
    }

    /// The place in the source of a line of the text, from 1.
    pub(in crate::template) fn place_of_line(&self, line: usize) -> Place {
        let skipped = self.text.split_inclusive('\n').take(line.saturating_sub(1));
        self.place(skipped.map(str::len).sum())
    }
}

/// Collects text for minijinja.
#[derive(Debug)]
pub(super) struct Writer {
    text: String,
    marks: Vec<(usize, usize)>,
}

impl Writer {
    /// Notes that what is written now comes from byte `at` of the source.
    pub(super) fn mark(&mut self, at: usize) {
        self.marks.push((self.text.len(), at));
    }

    /// Writes text.
    pub(super) fn push(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// The place of what is written next.
    pub(super) fn here(&self) -> usize {
        self.text.len()
    }

    /// Writes `text` at an earlier place.
    pub(super) fn insert(&mut self, place: usize, text: &str) {
        self.text.insert_str(place, text);
        for mark in self.marks.iter_mut().rev().take_while(|mark| mark.0 >= place) {
            mark.0 += text.len();
        }
    }

    /// Takes back what was written from `place` on.
    pub(super) fn take(&mut self, place: usize) -> String {
        self.marks.truncate(self.marks.partition_point(|mark| mark.0 < place));
        self.text.split_off(place)
    }

    /// Writes a string literal.
    pub(super) fn string(&mut self, text: &str) {
        self.text.push('"');
        for character in text.chars() {
            if matches!(character, '"' | '\\') {
                self.text.push('\\');
            }
            self.text.push(character);
        }
        self.text.push('"');
    }

    /// Writes text that stands outside of tags.
    pub(super) fn data(&mut self, text: &str) {
        if text.contains('{') {
            self.push("{{ ");
            self.string(text);
            self.push(" }}");
        } else {
            self.push(text);
        }
    }
}
