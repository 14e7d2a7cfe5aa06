//! What has its own rules within a script: quotes, expansions, groups.
//!
//! Purpose: each construct of `script` that begins in a word, up to its end.
//! Invariant: as there: where shells differ about the end of a construct, the script is refused.
//! Must not know: positions of commands.

use super::error::{CommandError, Refusal, Region};
use super::script::{Quoting, Reader};
use super::shell::Dialect;
use super::slot::{Slot, slot};

/// Deeper nesting than people write.
const DEEPEST: usize = 100;

type Done = Result<(), CommandError>;

impl<'t> Reader<'t> {
    /// One level deeper.
    pub(super) fn deeper(&mut self, read: impl FnOnce(&mut Self) -> Done) -> Done {
        self.depth += 1;
        if self.depth > DEEPEST {
            return self.lost("it is nested too deeply");
        }
        read(self)?;
        self.depth -= 1;
        Ok(())
    }

    /// Goes past an opening and reads up to the end of what it opens. No here-document reaches in or out.
    pub(super) fn nested(&mut self, opening: usize, read: impl FnOnce(&mut Self) -> Done) -> Done {
        let start = self.at;
        self.at += opening;
        let waiting = std::mem::take(&mut self.heredocs);
        self.deeper(read)?;
        let newline = self.bytes[start..self.at].contains(&b'\n');
        if !self.heredocs.is_empty() || (newline && !waiting.is_empty()) {
            return self.lost("a here-document that begins in one construct and goes on in another");
        }
        self.heredocs = waiting;
        Ok(())
    }

    /// Reads a part in which no placeholder may stand.
    pub(super) fn within(&mut self, region: Region, read: impl FnOnce(&mut Self) -> Done) -> Done {
        let outer = self.region.replace(region);
        read(self)?;
        self.region = outer;
        Ok(())
    }

    /// A backslash outside of quotes or in double ones.
    pub(super) fn backslash(&mut self) -> Done {
        self.refuse_slot(1, Region::Backslash)?;
        self.at = (self.at + 2).min(self.bytes.len());
        Ok(())
    }

    /// Refuses a placeholder so many bytes ahead.
    fn refuse_slot(&self, ahead: usize, region: Region) -> Done {
        let at = self.at + ahead;
        if self.bytes.get(at) == Some(&b'{')
            && let Slot::Value { space, name, .. } = slot(self.text, at)
        {
            return self.region_error(at, space, name, region);
        }
        Ok(())
    }

    /// `'..'`, behind its beginning.
    pub(super) fn single(&mut self) -> Done {
        loop {
            match self.peek(0) {
                None => return self.lost("a single quote is not closed"),
                Some(b'\'') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'{') => drop(self.brace(Quoting::Single)?),
                Some(_) => self.at += 1,
            }
        }
    }

    /// `".."`, behind its beginning.
    pub(super) fn double(&mut self) -> Done {
        loop {
            match self.peek(0) {
                None => return self.lost("a double quote is not closed"),
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => self.backslash()?,
                Some(b'$') => self.dollar(true)?,
                Some(b'`') => self.nested(1, Self::backticks)?,
                Some(b'{') => drop(self.brace(Quoting::Double)?),
                Some(_) => self.at += 1,
            }
        }
    }

    /// `$'..'`, behind its beginning.
    fn escapes(&mut self) -> Done {
        loop {
            match self.peek(0) {
                None => return self.lost("a `$'` is not closed"),
                Some(b'\'') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') if !self.dialect.has_escape_strings() && self.peek(1) == Some(b'\'') => {
                    return self.lost("a `\\'` in a `$'..'`, which not every `sh` understands");
                }
                Some(b'\\') => {
                    self.refuse_slot(1, Region::Backslash)?;
                    if self.peek(1) == Some(b'c') {
                        self.refuse_slot(2, Region::Backslash)?;
                    }
                    self.at = (self.at + 2).min(self.bytes.len());
                }
                Some(b'{') => drop(self.brace(Quoting::Escapes)?),
                Some(_) => self.at += 1,
            }
        }
    }

    /// Old command substitution, behind its beginning: up to the next backtick without a backslash.
    pub(super) fn backticks(&mut self) -> Done {
        let mut quotes = 0;
        self.within(Region::Backticks, |reader| {
            loop {
                match reader.peek(0) {
                    None => return reader.lost("a backtick is not closed"),
                    Some(b'`') => break,
                    Some(b'\\') => reader.at = (reader.at + 2).min(reader.bytes.len()),
                    Some(b'{') => drop(reader.brace(Quoting::Double)?),
                    Some(byte) => {
                        quotes += usize::from(byte == b'\'');
                        reader.at += 1;
                    }
                }
            }
            if quotes % 2 == 1 {
                return reader.lost("a single quote in backticks that is not closed");
            }
            reader.at += 1;
            Ok(())
        })
    }

    /// A dollar sign and what it begins.
    pub(super) fn dollar(&mut self, quoted: bool) -> Done {
        if self.bytes[self.at + 1..].starts_with(b"\\\n") {
            return self.lost("an expansion that a line break cuts in two");
        }
        match self.peek(1) {
            Some(b'(') if self.peek(2) == Some(b'(') => {
                self.at += 1;
                self.arithmetic(false)
            }
            Some(b'(') if self.bytes[self.at + 2..].starts_with(b"\\\n") => {
                self.lost("an expansion that a line break cuts in two")
            }
            Some(b'(') => self.nested(2, |reader| reader.commands(true)),
            Some(b'{') => self.parameter(quoted),
            Some(b'[') => self.lost("`$[`, which some shells take for arithmetic"),
            Some(b'\'') if !quoted && self.dialect.has_escape_strings() => self.nested(2, Self::escapes),
            Some(b'\'') if !quoted => {
                self.within(Region::EscapeString, |reader| reader.nested(2, Self::escapes))
            }
            Some(b'"') if !quoted => self.within(Region::Translated, |reader| reader.nested(2, Self::double)),
            Some(byte) if byte.is_ascii_alphabetic() || byte == b'_' => {
                self.at += 1;
                while self.peek(0).is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_') {
                    self.at += 1;
                }
                self.subscript_of_zsh()
            }
            Some(b'$') if self.dialect == Dialect::Zsh && self.opens_after_dollars() => {
                self.lost("`$$` before a quote or a brace, which zsh reads in its own way")
            }
            Some(byte) if byte.is_ascii_digit() || b"#?$!@*-".contains(&byte) => {
                self.at += 2;
                self.subscript_of_zsh()
            }
            _ => {
                self.at += 1;
                Ok(())
            }
        }
    }

    fn opens_after_dollars(&self) -> bool {
        self.peek(2).is_some_and(|byte| b"'\"({[`$\\".contains(&byte))
    }

    /// `$a[..]` is a subscript in zsh, in double quotes too.
    fn subscript_of_zsh(&self) -> Done {
        if self.dialect != Dialect::Zsh || self.peek(0) != Some(b'[') {
            return Ok(());
        }
        let length = self.text[self.at..].find(']').unwrap_or(self.text.len() - self.at);
        let braces = self.text[self.at..self.at + length].match_indices('{');
        braces.map(|(ahead, _)| ahead).try_for_each(|ahead| self.refuse_slot(ahead, Region::Subscript))
    }

    /// `${..}`.
    fn parameter(&mut self, quoted: bool) -> Done {
        let start = self.at + 1;
        let found = slot(self.text, start);
        if matches!(found, Slot::Escaped { .. }) {
            if self.dialect != Dialect::Ksh {
                let text = self.text[start + 1..].split('}').next().unwrap_or_default();
                return self.error(start, Refusal::Dollar { text: format!("{text}}}") });
            }
            self.at = start;
            return self.brace(Quoting::Double).map(drop);
        }
        self.dollar_brace(&found, start)?;
        if matches!(self.peek(2), Some(b' ' | b'\t' | b'\n' | b'|')) {
            return self.lost("`${` with a command in it");
        }
        let flags = self.peek(2) == Some(b'(');
        self.within(Region::Parameter, |reader| {
            reader.nested(2, |reader| {
                if flags {
                    reader.flags()?;
                }
                reader.parameter_rest(quoted)
            })
        })
    }

    /// The flags of zsh, `${(..)x}`, behind the brace.
    fn flags(&mut self) -> Done {
        let length = self.text[self.at..].find(')').unwrap_or(0);
        let flags = &self.text[self.at..self.at + length];
        if flags.contains(['\'', '"', '$', '`', '\\', '}', '{', '\n']) {
            return self.lost("flags of `${(..)}` with quotes in them");
        }
        self.at += length;
        Ok(())
    }

    fn parameter_rest(&mut self, quoted: bool) -> Done {
        loop {
            match self.peek(0) {
                None => return self.lost("a `${` is not closed"),
                Some(b'}') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => self.at = (self.at + 2).min(self.bytes.len()),
                Some(b'$') => self.dollar(quoted)?,
                Some(b'`') => self.nested(1, Self::backticks)?,
                Some(b'\'') if quoted => self.quote_in_quoted_parameter()?,
                Some(b'\'') => self.nested(1, Self::single)?,
                Some(b'"') => {
                    let start = self.at;
                    self.nested(1, Self::double)?;
                    if quoted && self.text[start..self.at].contains(['}', '{']) {
                        return self.lost(
                            "braces in quotes in a quoted `${..}`, which shells read in different ways",
                        );
                    }
                }
                Some(b'{') => {
                    self.brace(Quoting::Double)?;
                    return self.lost("a brace in `${..}`, which shells read in different ways");
                }
                Some(_) => self.at += 1,
            }
        }
    }

    /// A single quote in `"${..}"` is a quote for some shells and operators, and plain text for others. Goes past
    /// a pair of them where that makes no difference.
    fn quote_in_quoted_parameter(&mut self) -> Done {
        let inner = &self.text[self.at + 1..];
        let length = inner.find('\'').unwrap_or(inner.len());
        let pair = &inner[..length];
        if length == inner.len() || pair.contains(['}', '{', '"', '$', '`']) || pair.ends_with('\\') {
            return self.lost("a single quote in a quoted `${..}`, which shells read in different ways");
        }
        self.at += length + 2;
        Ok(())
    }

    /// `((..))`, at its beginning, and the rest of `$((..))`.
    pub(super) fn arithmetic(&mut self, is_loop: bool) -> Done {
        let command = self.at == 0 || self.bytes[self.at - 1] != b'$';
        self.within(Region::Arithmetic, |reader| {
            reader.nested(2, |reader| reader.arithmetic_rest(is_loop, command))
        })
    }

    fn arithmetic_rest(&mut self, is_loop: bool, command: bool) -> Done {
        let unclear = "`((` that is no plain arithmetic; write `( (` for two parentheses";
        let mut open = 0_usize;
        loop {
            match self.peek(0) {
                Some(b')') if open == 0 && self.peek(1) == Some(b')') => {
                    self.at += 2;
                    return Ok(());
                }
                Some(b')') if open > 0 => {
                    open -= 1;
                    self.at += 1;
                }
                Some(b'(') => {
                    open += 1;
                    self.at += 1;
                }
                Some(b'$') => self.dollar(true)?,
                Some(b'"') => self.nested(1, Self::double)?,
                Some(b'`') => self.nested(1, Self::backticks)?,
                Some(b'{') => drop(self.brace(Quoting::Double)?),
                Some(b'\\') if self.peek(1) == Some(b'\n') => self.at += 2,
                Some(b'<') if self.peek(1) == Some(b'<') && command && self.dialect == Dialect::Posix => {
                    return self.lost(unclear);
                }
                Some(b'#') if b" \t\n(".contains(&self.bytes[self.at - 1]) => return self.lost(unclear),
                Some(b';') if is_loop => self.at += 1,
                None | Some(b')' | b'\'' | b'\\' | b';') => return self.lost(unclear),
                Some(_) => self.at += 1,
            }
        }
    }

    /// `(..)` within a word: the words of an array, or a part of a pattern.
    pub(super) fn group(&mut self, array: bool) -> Done {
        self.nested(1, |reader| {
            loop {
                match reader.peek(0) {
                    None => return reader.lost("a parenthesis is not closed"),
                    Some(b')') => {
                        reader.at += 1;
                        return Ok(());
                    }
                    Some(b' ' | b'\t' | b'\n') => reader.at += 1,
                    Some(b'\\') if reader.peek(1) == Some(b'\n') => reader.at += 2,
                    Some(b'|') if !array => reader.at += 1,
                    Some(b'#') if array => {
                        let rest = &reader.text[reader.at..];
                        reader.at += rest.find('\n').unwrap_or(rest.len());
                    }
                    Some(b'(') if !array => reader.group(false)?,
                    Some(b'<' | b'>') if reader.peek(1) == Some(b'(') => {
                        reader.word()?;
                    }
                    Some(b'#' | b'<' | b'>' | b'(' | b'|' | b'&' | b';') => {
                        return reader.lost("parentheses that are neither an array nor a pattern");
                    }
                    Some(_) => {
                        let start = reader.at;
                        reader.word()?;
                        if array && &reader.text[start..reader.at] == "[" {
                            return reader.lost("a `[` that is not closed in its word");
                        }
                        if !array && &reader.text[start..reader.at] == "case" {
                            return reader.lost("a `case` in a place where its meaning is not clear");
                        }
                    }
                }
            }
        })
    }
}
