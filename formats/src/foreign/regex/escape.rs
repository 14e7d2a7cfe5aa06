//! What begins with a backslash or a bracket.
//!
//! Purpose: escapes, and classes rewritten in the syntax of `regex-syntax`, which has the tables of Unicode.
//! Invariant: an escape that Oniguruma reads otherwise than `regex-syntax` is translated or refused, never passed on.
//! Must not know: groups, quantifiers.

use super::PatternError;
use super::charset::{LATIN_WORD, WORD};
use super::parse::{Assertion, Node, One, Parser};

/// Classes in classes.
const DEEPEST: usize = 12;
/// The longest name of a property.
const LONGEST_NAME: usize = 64;

impl Parser<'_> {
    /// An escape outside of a class.
    pub(super) fn escape(&mut self) -> Result<Node, PatternError> {
        let start = self.at;
        self.take();
        let Some(char) = self.take() else { return Err(self.error("a backslash ends the pattern")) };
        match char {
            'A' => Ok(Node::Assert(Assertion::TextStart)),
            'z' => Ok(Node::Assert(Assertion::TextEnd)),
            'Z' => Ok(Node::Assert(Assertion::TextEndOrNewline)),
            'b' => Ok(Node::Assert(Assertion::WordBoundary)),
            'B' => Ok(Node::Assert(Assertion::NotWordBoundary)),
            'w' => self.set(&format!("[{WORD}{LATIN_WORD}]")),
            'W' => self.set(&format!("[^{WORD}{LATIN_WORD}]")),
            'R' => {
                let break_ = self.set(r"[\n-\r\x{85}\x{2028}\x{2029}]")?;
                let both = Node::Concat(vec![Node::One(One::Char('\r')), Node::One(One::Char('\n'))]);
                Ok(Node::Atomic(Box::new(Node::Alternate(vec![both, break_]))))
            }
            '1'..='9' if !self.peek().is_some_and(|next| next.is_ascii_digit()) => {
                let number = char as u32 - '0' as u32;
                self.highest_backref = self.highest_backref.max(number);
                Ok(Node::Backref(number))
            }
            _ => {
                self.at = start;
                match self.escaped()? {
                    Escaped::Char(char) => self.literal(char),
                    Escaped::Class(text) => self.set(&format!("[{text}]")),
                }
            }
        }
    }

    /// A bracketed class.
    pub(super) fn class(&mut self) -> Result<Node, PatternError> {
        let mut text = String::new();
        self.bracket(&mut text, 0)?;
        self.set(&text)
    }

    /// Rewrites a class, from its `[` to its `]`.
    fn bracket(&mut self, text: &mut String, depth: usize) -> Result<(), PatternError> {
        let start = self.at;
        if depth > DEEPEST {
            return Err(self.error(format!("classes are nested more than {DEEPEST} deep")));
        }
        self.take();
        text.push('[');
        if self.eat("^") {
            text.push('^');
        }
        if self.eat("]") {
            text.push_str(r"\]");
        }
        loop {
            match self.peek() {
                None => {
                    self.at = start;
                    return Err(self.error("`[` without `]`"));
                }
                Some(']') => {
                    self.take();
                    text.push(']');
                    return Ok(());
                }
                Some('[') if self.rest().starts_with("[:") => self.posix(text)?,
                Some('[') => self.bracket(text, depth + 1)?,
                Some('\\') => match self.escaped()? {
                    Escaped::Char(char) => push_char(text, char),
                    Escaped::Class(class) => text.push_str(&class),
                },
                Some('&') if self.eat("&&") => text.push_str("&&"),
                Some('-') if self.rest().starts_with("--") => {
                    return Err(self.error("`--` in a class means something else elsewhere; write `\\-`"));
                }
                Some('-') => {
                    self.take();
                    text.push('-');
                }
                Some(char) => {
                    self.take();
                    push_char(text, char);
                }
            }
        }
    }

    /// `[:alpha:]` and its like, which Oniguruma takes to be of all Unicode.
    fn posix(&mut self, text: &mut String) -> Result<(), PatternError> {
        let known = [
            ("[:alpha:]", r"\p{Alphabetic}"),
            ("[:digit:]", r"\p{Nd}"),
            ("[:alnum:]", r"\p{Alphabetic}\p{Nd}"),
            ("[:upper:]", r"\p{Uppercase}"),
            ("[:lower:]", r"\p{Lowercase}"),
            ("[:space:]", r"\s"),
            ("[:xdigit:]", "0-9A-Fa-f"),
            ("[:word:]", WORD),
        ];
        match known.iter().find(|(name, _)| self.eat(name)) {
            Some((_, class)) => text.push_str(class),
            None => return Err(self.error("this class of POSIX is not understood")),
        }
        Ok(())
    }

    /// An escape that means the same within a class and outside.
    fn escaped(&mut self) -> Result<Escaped, PatternError> {
        let start = self.at;
        self.take();
        let char = self.take();
        let class = |text: &str| Ok(Escaped::Class(text.into()));
        match char {
            Some('d') => class(r"\d"),
            Some('D') => class(r"\D"),
            Some('s') => class(r"\s"),
            Some('S') => class(r"\S"),
            Some('w') => class(WORD),
            Some('W') => class(&format!("[^{WORD}]")),
            Some('h') => class("0-9A-Fa-f"),
            Some('H') => class("[^0-9A-Fa-f]"),
            Some(case @ ('p' | 'P')) => self.property(start, case == 'P'),
            Some('n') => Ok(Escaped::Char('\n')),
            Some('r') => Ok(Escaped::Char('\r')),
            Some('t') => Ok(Escaped::Char('\t')),
            Some('f') => Ok(Escaped::Char('\x0c')),
            Some('v') => Ok(Escaped::Char('\x0b')),
            Some('a') => Ok(Escaped::Char('\x07')),
            Some('e') => Ok(Escaped::Char('\x1b')),
            Some('x') => self.hexadecimal(start, 1..=2, '\x7f'),
            Some('u') => self.hexadecimal(start, 4..=4, char::MAX),
            Some(other) if !other.is_ascii_alphanumeric() => Ok(Escaped::Char(other)),
            _ => {
                self.at = start;
                Err(self.error("this escape is not understood"))
            }
        }
    }

    /// `\p{Name}`, `\P{Name}` or `\p{^Name}`.
    fn property(&mut self, start: usize, capital: bool) -> Result<Escaped, PatternError> {
        let inside = self.rest().strip_prefix('{').and_then(|rest| rest.split_once('}'));
        let fits = |name: &str| {
            let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b' ' | b'-');
            (1..=LONGEST_NAME).contains(&name.len()) && name.bytes().all(known)
        };
        let (negated, name) = match inside {
            Some((name, _)) if name.starts_with('^') => (true, &name[1..]),
            Some((name, _)) => (false, name),
            None => (false, ""),
        };
        if !fits(name) {
            self.at = start;
            return Err(self.error("a property is written as `\\p{Name}`"));
        }
        self.at += name.len() + 2 + usize::from(negated);
        let letter = if negated == capital { 'p' } else { 'P' };
        Ok(Escaped::Class(format!("\\{letter}{{{name}}}")))
    }

    /// The digits after `\x` or `\u`, or `{..}` with up to six of them.
    fn hexadecimal(
        &mut self,
        start: usize,
        digits: std::ops::RangeInclusive<usize>,
        largest: char,
    ) -> Result<Escaped, PatternError> {
        let braces = self.rest().strip_prefix('{').and_then(|rest| rest.split_once('}'));
        let hex = |byte: &u8| byte.is_ascii_hexdigit();
        let (text, length, largest) = match braces {
            Some((text, _)) if text.bytes().all(|byte| hex(&byte)) => (text, text.len() + 2, char::MAX),
            _ => {
                let count = self.rest().bytes().take(*digits.end()).take_while(hex).count();
                if !digits.contains(&count) {
                    self.at = start;
                    return Err(self.error("this escape lacks digits"));
                }
                (&self.rest()[..count], count, largest)
            }
        };
        let value = u32::from_str_radix(text, 16).ok().filter(|_| text.len() <= 6);
        match value.and_then(char::from_u32).filter(|&char| char <= largest) {
            Some(char) => {
                self.at += length;
                Ok(Escaped::Char(char))
            }
            None => {
                self.at = start;
                Err(self.error("this number is not a character; write `\\x{..}` with its code point"))
            }
        }
    }
}

/// What an escape stands for.
enum Escaped {
    Char(char),
    /// Items of a class.
    Class(String),
}

/// A character of a class, which there means nothing but itself.
fn push_char(text: &mut String, char: char) {
    // Before these two, a backslash would mean the border of a word.
    if char.is_ascii_punctuation() && !matches!(char, '<' | '>') {
        text.push('\\');
    }
    text.push(char);
}
