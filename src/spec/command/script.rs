//! How each place of a script for a POSIX shell is quoted.
//!
//! Purpose: finds the placeholders of a script, each with the quoting that it stands in.
//! Invariants: it never guesses. A construct that it does not understand, or that shells read in different ways,
//! is an error as soon as the script has a placeholder at all; comments are passed over. It never goes back.
//! Must not know: values, names of a stage.
//!
//! Understood, with placeholders: words; `'..'`, `".."`, and `$'..'` in bash, ksh and zsh; `$(..)`, `<(..)`,
//! `>(..)`; `( )`, `{ }`, functions, `if`, loops, `case` (a pattern's `)` included); `a=(..)`, extended globs;
//! redirections and here-strings; `[[ ]]` without number tests; lines joined by a backslash; brace expansion.
//! Understood, and refused with a placeholder in it: here-documents; backticks; `${..}`; `$((..))`, `((..))`;
//! `[..]` within a word; `$".."`; behind a backslash; behind `>&`; in zsh the parentheses of
//! patterns, in ksh those of arrays.
//! Refused as soon as seen: unclosed quotes and parentheses; `$[..]`; `${ ..; }` and `${|..}`; a quote or a brace
//! within `${..}` that shells read in different ways; `((` that is no arithmetic; an operator that a backslash
//! and a newline cut in two; a `[` that its word does not close; a here-document that begins in one
//! `$(..)` and goes on behind it.
//! Not its business: what a command does with its words (`eval`, `trap`, `sh -c`, `declare -i`, `test -v`,
//! `let`, `alias`), and shells whose options change quoting (`rcquotes` of zsh is allowed for).

use super::error::{CommandError, Refusal, Region, Spot, variable};
use super::heredoc::HereDocument;
use super::shell::Dialect;
use super::slot::{Slot, Space, slot};

/// What a placeholder is surrounded by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quoting {
    /// No quotes.
    Outside(Plain),
    /// `".."`.
    Double,
    /// `'..'`.
    Single,
    /// `$'..'`.
    Escapes,
}

/// Which values need no quotes in a place outside of quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plain {
    /// None.
    Nothing,
    /// Plain paths: the word is made of plain characters, and nothing such as `(` follows.
    Path,
    /// Numbers: an end of `{1..9}`.
    Number,
}

/// A part of a script that is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark<'t> {
    /// Where it begins.
    pub(super) start: usize,
    /// Where it ends.
    pub(super) end: usize,
    /// What it is.
    pub(super) what: Marked<'t>,
}

/// What is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Marked<'t> {
    /// A placeholder.
    Value(Space, &'t str, Quoting),
    /// Plain text in doubled braces: the text with single ones.
    Escaped(&'t str),
}

/// Finds what is replaced in a script.
///
/// # Errors
/// A slip; a placeholder where no value is safe; a script that cannot be followed.
pub(super) fn marks(text: &str, dialect: Dialect) -> Result<Vec<Mark<'_>>, CommandError> {
    let mut reader = Reader {
        text,
        bytes: text.as_bytes(),
        at: 0,
        dialect,
        depth: 0,
        region: None,
        heredocs: Vec::new(),
        marks: Vec::new(),
    };
    reader.commands(false)?;
    Ok(reader.marks)
}

/// A word so far.
#[derive(Debug)]
pub(super) struct Word {
    pub(super) start: usize,
    /// No quotes and no expansions.
    pub(super) plain: bool,
    /// Only characters that mean nothing to any shell.
    harmless: bool,
    /// How many `[` are open.
    brackets: usize,
}

/// Reads a script.
pub(super) struct Reader<'t> {
    pub(super) text: &'t str,
    pub(super) bytes: &'t [u8],
    pub(super) at: usize,
    pub(super) dialect: Dialect,
    /// How deep the nesting is.
    pub(super) depth: usize,
    /// Why no placeholder may stand here.
    pub(super) region: Option<Region>,
    /// Here-documents whose bodies are still to come.
    pub(super) heredocs: Vec<HereDocument>,
    pub(super) marks: Vec<Mark<'t>>,
}

impl<'t> Reader<'t> {
    pub(super) fn peek(&self, ahead: usize) -> Option<u8> {
        self.bytes.get(self.at + ahead).copied()
    }

    pub(super) fn error<T>(&self, offset: usize, refusal: Refusal) -> Result<T, CommandError> {
        Err(CommandError { spot: Spot::of(self.text, offset, 0), refusal })
    }

    pub(super) fn lost<T>(&self, why: &'static str) -> Result<T, CommandError> {
        self.error(self.at.min(self.text.len()), Refusal::Lost(why))
    }

    /// One word, up to what ends it.
    pub(super) fn word(&mut self) -> Result<Word, CommandError> {
        let mut word = Word { start: self.at, plain: true, harmless: true, brackets: 0 };
        let outer = self.region;
        while let Some(byte) = self.peek(0) {
            match byte {
                b' ' | b'\t' | b'\n' | b';' | b'&' | b'|' | b')' => break,
                b'<' | b'>' if self.peek(1) != Some(b'(') || self.at > word.start => break,
                b'(' if self.region == Some(Region::Subscript) => {
                    return self.lost("a parenthesis within `[..]`");
                }
                b'(' if word.plain && self.closes_at_once_at_name(&word) => break,
                b'{' => self.brace_of_word(&mut word)?,
                b'[' | b']' => self.bracket(byte, &mut word, outer),
                b'\\' | b'\'' | b'"' | b'$' | b'`' | b'(' | b'<' | b'>' => {
                    (word.plain, word.harmless) = (false, false);
                    self.special(byte, &word)?;
                }
                _ => {
                    word.harmless &= byte.is_ascii_alphanumeric() || b"_./:@%+-=".contains(&byte);
                    self.at += 1;
                }
            }
        }
        self.region = outer;
        // `a[1 + 2]=3` is one word for shells with arrays.
        if word.brackets > 0 && !matches!(&self.text[word.start..self.at], "[" | "[[") {
            self.at = word.start;
            return self.lost("a `[` that is not closed in its word");
        }
        Ok(word)
    }

    fn bracket(&mut self, byte: u8, word: &mut Word, outer: Option<Region>) {
        self.at += 1;
        word.harmless = false;
        word.brackets = if byte == b'[' { word.brackets + 1 } else { word.brackets.saturating_sub(1) };
        self.region = if word.brackets > 0 { outer.or(Some(Region::Subscript)) } else { outer };
    }

    /// True in front of the `()` of a function.
    fn closes_at_once_at_name(&self, word: &Word) -> bool {
        let name = &self.text[word.start..self.at];
        let after = self.text[self.at + 1..].trim_start_matches([' ', '\t']);
        after.starts_with(')') && !name.is_empty() && !name.ends_with('=')
    }

    /// A part of a word that is quoted or expanded.
    fn special(&mut self, byte: u8, word: &Word) -> Result<(), CommandError> {
        match byte {
            b'\\' => self.backslash(),
            b'\'' => self.nested(1, Self::single),
            b'"' => self.nested(1, Self::double),
            b'`' => self.nested(1, Self::backticks),
            b'<' | b'>' => self.nested(2, |reader| reader.commands(true)),
            b'(' => {
                let before = &self.text[word.start..self.at];
                let array = before.ends_with('=');
                match (self.dialect, array) {
                    (Dialect::Zsh, false) | (Dialect::Ksh, true) => {
                        self.within(Region::Parentheses, |reader| reader.group(array))
                    }
                    _ => self.group(array),
                }
            }
            _ => self.dollar(false),
        }
    }

    fn brace_of_word(&mut self, word: &mut Word) -> Result<(), CommandError> {
        let start = self.at;
        let before = &self.text[word.start..start];
        let path = word.harmless && !before.starts_with('=');
        let number = before.ends_with("..") || before.ends_with('{');
        let plain = match (number, path) {
            (true, _) => Plain::Number,
            (false, true) => Plain::Path,
            (false, false) => Plain::Nothing,
        };
        if self.brace(Quoting::Outside(plain))? {
            // What an earlier placeholder stands for is quoted or a plain path: the word is not plain.
            word.plain = false;
            let after = self.peek(0);
            let fits = match plain {
                Plain::Number => after.is_some_and(|b| b == b'.' || b == b'}'),
                _ => after.is_none_or(|b| b.is_ascii_alphanumeric() || b" \t\n;|&)_./-".contains(&b)),
            };
            if let (false, Some(Mark { what: Marked::Value(_, _, quoting), .. })) =
                (fits, self.marks.last_mut())
            {
                *quoting = Quoting::Outside(Plain::Nothing);
            }
        } else {
            word.harmless = false;
        }
        Ok(())
    }

    /// A brace. Gives true for a placeholder.
    pub(super) fn brace(&mut self, quoting: Quoting) -> Result<bool, CommandError> {
        let (start, text) = (self.at, self.text);
        let found = slot(text, start);
        if odd_dollars(self.bytes, start) && !matches!(found, Slot::Escaped { .. }) {
            self.dollar_brace(&found, start)?;
            self.at += 1;
            return Ok(false);
        }
        match found {
            Slot::Plain => self.at += 1,
            Slot::Escaped { text, end } => {
                self.marks.push(Mark { start, end, what: Marked::Escaped(text) });
                self.at = end;
            }
            Slot::Slip { text, right, .. } => {
                return self.error(start, Refusal::Slip { text: text.to_owned(), right });
            }
            Slot::Value { space, name, end } => {
                if let Some(region) = self.region {
                    return self.region_error(start, space, name, region);
                }
                self.marks.push(Mark { start, end, what: Marked::Value(space, name, quoting) });
                self.at = end;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Refuses `${params.x}`; `${checkpoint}` and `${inputs}` are variables of the shell.
    pub(super) fn dollar_brace(&self, found: &Slot<'_>, start: usize) -> Result<(), CommandError> {
        let text = match found {
            Slot::Value { space, name, .. } if *space != Space::Checkpoint => space.placeholder(name),
            Slot::Slip { right, dotted: true, .. } => right.clone(),
            _ => return Ok(()),
        };
        self.error(start, Refusal::Dollar { text })
    }

    pub(super) fn region_error<T>(
        &self,
        start: usize,
        space: Space,
        name: &str,
        region: Region,
    ) -> Result<T, CommandError> {
        let (text, variable) = (space.placeholder(name), variable(space, name));
        self.error(start, Refusal::Region { text, region, variable })
    }
}

/// True where a single dollar sign stands before a brace; two are the number of the shell's process.
pub(super) fn odd_dollars(bytes: &[u8], at: usize) -> bool {
    bytes[..at].iter().rev().take_while(|b| **b == b'$').count() % 2 == 1
}
