//! Here-documents of a script.
//!
//! Purpose: where the body of a here-document ends.
//! Invariants: no placeholder stands in a body; a body about whose end shells may differ is refused.
//! Must not know: what comes before and after.

use super::error::{CommandError, Refusal, Region};
use super::script::{Mark, Marked, Reader, odd_dollars};
use super::slot::{Slot, slot};

/// A here-document whose body is still to come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HereDocument {
    delimiter: String,
    /// No expansions in the body.
    quoted: bool,
    /// Tabs before a line do not count.
    tabs: bool,
}

impl Reader<'_> {
    /// `<<EOF`, without the body.
    pub(super) fn heredoc(&mut self) -> Result<(), CommandError> {
        self.at += 2;
        let tabs = self.peek(0) == Some(b'-');
        self.at += usize::from(tabs);
        while matches!(self.peek(0), Some(b' ' | b'\t')) {
            self.at += 1;
        }
        let mut document = HereDocument { delimiter: String::new(), quoted: false, tabs };
        let mut quote = None;
        for (index, c) in self.text[self.at..].char_indices() {
            match (quote, c) {
                (_, '$' | '`' | '\\' | '{') | (Some(_), '\n') => {
                    return self.lost("the end mark of a here-document is not a plain or quoted word");
                }
                (Some(open), _) if open == c => quote = None,
                (None, '\'' | '"') => {
                    quote = Some(c);
                    document.quoted = true;
                }
                (None, ' ' | '\t' | '\n' | ';' | '&' | '|' | '<' | '>' | '(' | ')') => {
                    self.at += index;
                    return self.push_heredoc(document);
                }
                _ => document.delimiter.push(c),
            }
        }
        self.lost("a here-document has no body")
    }

    fn push_heredoc(&mut self, document: HereDocument) -> Result<(), CommandError> {
        if document.delimiter.is_empty() {
            return self.lost("a here-document has no end mark");
        }
        self.heredocs.push(document);
        Ok(())
    }

    /// The bodies that begin behind a newline.
    pub(super) fn bodies(&mut self) -> Result<(), CommandError> {
        for (index, document) in std::mem::take(&mut self.heredocs).iter().enumerate() {
            // Behind the end mark of the one before stands its newline.
            self.at += usize::from(index > 0 && self.peek(0) == Some(b'\n'));
            self.body(document)?;
        }
        Ok(())
    }

    fn body(&mut self, document: &HereDocument) -> Result<(), CommandError> {
        let mut joined = false;
        loop {
            let (text, start) = (self.text, self.at);
            let rest = &text[start..];
            let line = rest.split('\n').next().unwrap_or_default();
            let shown = if document.tabs { line.trim_start_matches('\t') } else { line };
            if shown == document.delimiter {
                if joined {
                    return self
                        .lost("the end mark of a here-document behind a line that ends in a backslash");
                }
                self.at = start + line.len();
                return Ok(());
            }
            if rest.len() == line.len() {
                return self.lost("a here-document is not closed");
            }
            self.body_line(start, line)?;
            if !document.quoted {
                if !closes_what_it_opens(line) {
                    return self.lost("an expansion over several lines of a here-document");
                }
                joined = line.bytes().rev().take_while(|b| *b == b'\\').count() % 2 == 1;
            }
            self.at = start + line.len() + 1;
        }
    }

    fn body_line(&mut self, start: usize, line: &str) -> Result<(), CommandError> {
        let mut next = 0;
        for (index, _) in line.match_indices('{') {
            if index < next {
                continue;
            }
            let at = start + index;
            let found = slot(self.text, at);
            if odd_dollars(self.bytes, at) && !matches!(found, Slot::Escaped { .. }) {
                self.dollar_brace(&found, at)?;
                continue;
            }
            match found {
                Slot::Plain => {}
                Slot::Escaped { text, end } => {
                    self.marks.push(Mark { start: at, end, what: Marked::Escaped(text) });
                    next = end - start;
                }
                Slot::Slip { text, right, .. } => {
                    return self.error(at, Refusal::Slip { text: text.to_owned(), right });
                }
                Slot::Value { space, name, .. } => {
                    return self.region_error(at, space, name, Region::HereDocument);
                }
            }
        }
        Ok(())
    }
}

/// True when no expansion of a line goes on in the next one.
fn closes_what_it_opens(line: &str) -> bool {
    let count = |c: char| line.matches(c).count();
    (!line.contains("$(") || count('(') == count(')'))
        && (!line.contains("${") || count('{') == count('}'))
        && count('`').is_multiple_of(2)
}
