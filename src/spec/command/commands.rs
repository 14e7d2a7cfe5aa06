//! The commands of a script: what stands between words.
//!
//! Purpose: separators, redirections, parentheses, `case` and `[[ ]]`.
//! Invariant: as in `script`: what is not understood is refused.
//! Must not know: how quotes and expansions end.

use super::error::{CommandError, Region};
use super::position::{Effect, Position};
use super::script::{Mark, Marked, Reader};
use super::shell::Dialect;

impl Reader<'_> {
    /// Commands, up to the end of the script or past a `)`.
    pub(super) fn commands(&mut self, nested: bool) -> Result<(), CommandError> {
        let mut position = Position::Start;
        let mut cases = 0_usize;
        loop {
            let Some(byte) = self.peek(0) else {
                return match () {
                    () if nested => self.lost("a parenthesis is not closed"),
                    () if cases > 0 => self.lost("a `case` is not closed"),
                    () if !self.heredocs.is_empty() => self.lost("a here-document has no body"),
                    () => Ok(()),
                };
            };
            match byte {
                b' ' | b'\t' => self.at += 1,
                b'\\' if self.peek(1) == Some(b'\n') => self.at += 2,
                b'#' => self.comment(),
                b'\n' => {
                    self.at += 1;
                    self.bodies()?;
                    match position {
                        Position::CaseIn | Position::PatternStart => {}
                        Position::Pattern | Position::CaseSubject => {
                            return self.lost("a `case` that is not understood");
                        }
                        _ => position = Position::Start,
                    }
                }
                b';' | b'&' | b'|' => self.separator(&mut position, cases)?,
                b'<' | b'>' if self.peek(1) != Some(b'(') => self.redirection(&mut position)?,
                b'(' => self.parenthesis(&mut position)?,
                b')' if position == Position::Pattern => {
                    self.at += 1;
                    position = Position::Start;
                }
                b')' if nested && cases == 0 => {
                    self.at += 1;
                    return Ok(());
                }
                b')' => return self.lost("a `)` that closes nothing"),
                _ => self.command_word(&mut position, &mut cases)?,
            }
        }
    }

    fn command_word(&mut self, position: &mut Position, cases: &mut usize) -> Result<(), CommandError> {
        let start = self.at;
        let word = self.word()?;
        let plain = word.plain.then(|| &self.text[word.start..self.at]);
        match position.word(plain) {
            Effect::None => Ok(()),
            Effect::OpenCase => {
                *cases += 1;
                Ok(())
            }
            Effect::CloseCase if *cases > 0 => {
                *cases -= 1;
                Ok(())
            }
            Effect::OpenTest => self.test(),
            Effect::CloseCase | Effect::Lost => {
                self.at = start;
                self.lost("a `case` or `esac` in a place where its meaning is not clear")
            }
        }
    }

    fn comment(&mut self) {
        self.at += self.text[self.at..].find('\n').unwrap_or(self.text.len() - self.at);
    }

    /// `;`, `&`, `|` and what is made of them.
    fn separator(&mut self, position: &mut Position, cases: usize) -> Result<(), CommandError> {
        self.whole_operator()?;
        let rest = &self.bytes[self.at..];
        let ends_branch = [&b";;&"[..], b";;", b";&", b";|"].into_iter().find(|end| rest.starts_with(end));
        match (*position, ends_branch) {
            (Position::Pattern, None) if rest.starts_with(b"|") => {
                self.at += 1;
                return Ok(());
            }
            (Position::CaseSubject | Position::CaseIn | Position::PatternStart | Position::Pattern, _) => {
                return self.lost("a `case` that is not understood");
            }
            (_, Some(end)) if cases > 0 => {
                self.at += end.len();
                *position = Position::PatternStart;
            }
            (_, Some(_)) => return self.lost("the end of a branch of `case` outside of one"),
            (_, None) => {
                self.at += 1;
                *position = Position::Start;
            }
        }
        Ok(())
    }

    /// Refuses an operator that a backslash and a newline cut in two.
    fn whole_operator(&self) -> Result<(), CommandError> {
        let mut next = self.at + 1;
        while self.bytes[next..].starts_with(b"\\\n") {
            next += 2;
        }
        let cut = next > self.at + 1;
        if cut && self.bytes.get(next).is_some_and(|b| b";&|<>()-'\"{[$!".contains(b)) {
            return self.lost("an operator that a line break cuts in two");
        }
        Ok(())
    }

    fn redirection(&mut self, position: &mut Position) -> Result<(), CommandError> {
        if matches!(position, Position::PatternStart | Position::Pattern | Position::CaseIn) {
            return self.lost("a `case` that is not understood");
        }
        self.whole_operator()?;
        let rest = &self.bytes[self.at..];
        if rest.starts_with(b"<<") && !rest.starts_with(b"<<<") {
            self.heredoc()?;
            if *position == Position::Start {
                *position = Position::Unsure;
            }
            return Ok(());
        }
        let operators = [&b"<<<"[..], b"<>", b"<&", b">>", b">&", b">|", b"<", b">"];
        let length = operators.iter().find(|o| rest.starts_with(o)).map_or(1, |o| o.len());
        let duplicates = self.bytes[self.at..self.at + length].ends_with(b"&");
        self.at += length;
        position.redirection();
        if duplicates {
            self.duplicated()?;
            if *position == Position::RedirectTarget {
                *position = Position::Unsure;
            }
        }
        Ok(())
    }

    /// The word behind `>&`, which bash expands twice when it is no number.
    fn duplicated(&mut self) -> Result<(), CommandError> {
        let rest = &self.text[self.at..];
        let word = rest.trim_start_matches([' ', '\t', '\\', '\n']);
        self.at = self.text.len() - word.len();
        let start = self.at;
        self.within(Region::Duplicate, |reader| reader.word().map(drop))?;
        if self.at == start { self.lost("a `>&` without a word behind it") } else { Ok(()) }
    }

    /// `(` where no word has begun.
    fn parenthesis(&mut self, position: &mut Position) -> Result<(), CommandError> {
        self.whole_operator()?;
        let double = self.peek(1) == Some(b'(');
        match *position {
            Position::PatternStart => {
                self.at += 1;
                *position = Position::Pattern;
            }
            Position::ForName if double => {
                self.arithmetic(true)?;
                *position = Position::Start;
            }
            _ if position.takes_commands() && double => {
                self.arithmetic(false)?;
                *position = Position::Start;
            }
            _ if self.closes_at_once() => *position = Position::Start,
            _ if position.takes_commands() => {
                self.at += 1;
                self.deeper(|reader| reader.commands(true))?;
                *position = Position::Start;
            }
            _ if self.dialect == Dialect::Zsh => {
                self.within(Region::Parentheses, |reader| reader.group(false))?;
            }
            _ => return self.lost("a parenthesis in a place where its meaning is not clear"),
        }
        Ok(())
    }

    /// Goes past `()`, which makes a function of the word before.
    fn closes_at_once(&mut self) -> bool {
        let inner = &self.text[self.at + 1..];
        let rest = inner.trim_start_matches([' ', '\t']);
        let closes = rest.starts_with(')');
        if closes {
            self.at = self.text.len() - rest.len() + 1;
        }
        closes
    }

    /// `[[ .. ]]`, up to its end.
    fn test(&mut self) -> Result<(), CommandError> {
        let first = self.marks.len();
        let mut numbers = false;
        loop {
            match self.peek(0) {
                None | Some(b'#' | b';') => return self.lost("a `[[` that is not understood"),
                Some(b'<') if self.peek(1) == Some(b'<') => {
                    return self.lost("a `[[` that is not understood");
                }
                Some(b'\\') if self.peek(1) == Some(b'\n') => self.at += 2,
                Some(b'<' | b'>') if self.peek(1) == Some(b'(') => {
                    self.word()?;
                }
                Some(b' ' | b'\t' | b'\n' | b'(' | b')' | b'|' | b'&' | b'<' | b'>') => self.at += 1,
                Some(_) => {
                    let word = self.word()?;
                    match word.plain.then(|| &self.text[word.start..self.at]) {
                        Some("]]") => break,
                        Some("-eq" | "-ne" | "-lt" | "-le" | "-gt" | "-ge" | "-v" | "-R") => numbers = true,
                        _ => {}
                    }
                }
            }
        }
        let inside = self.marks[first..].iter().find(|mark| matches!(mark.what, Marked::Value(..)));
        match inside {
            Some(Mark { start, what: Marked::Value(space, name, _), .. }) if numbers => {
                self.region_error(*start, *space, name, Region::NumberTest)
            }
            _ => Ok(()),
        }
    }
}
