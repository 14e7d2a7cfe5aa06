//! The split of a text into the pieces that merges never cross.
//!
//! Purpose: the GPT-2 and GPT-4 patterns by name, scanned by hand in linear time: about ten times as
//! fast as a regex engine, and free of the lookahead that linear-time engines lack.
//! Invariant: the pieces of a text, in order, are the text; they are the matches of
//! [`Pattern::regex`], character classes being those of the `regex` crate.
//! Must not know: tokens.

use std::sync::OnceLock;

use regex::Regex;

use super::TokenizerError;

/// A published split pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pattern {
    /// GPT-2's: contractions, letters, numbers, the rest, each with a space before it.
    Gpt2,
    /// GPT-4's (cl100k): numbers in threes, contractions in either case, newlines kept apart.
    #[default]
    Gpt4,
}

impl Pattern {
    /// All patterns.
    pub const ALL: [Pattern; 2] = [Pattern::Gpt2, Pattern::Gpt4];

    /// The name in recipes: `gpt2` or `gpt4`.
    pub fn name(self) -> &'static str {
        match self {
            Pattern::Gpt2 => "gpt2",
            Pattern::Gpt4 => "gpt4",
        }
    }

    /// The pattern of that name.
    pub fn named(name: &str) -> Result<Self, TokenizerError> {
        let found = Self::ALL.into_iter().find(|pattern| pattern.name() == name);
        found.ok_or_else(|| TokenizerError::Pattern(name.into()))
    }

    /// The regular expression as published (GPT-2's encoder.py; cl100k_base as Hugging Face writes it).
    pub fn regex(self) -> &'static str {
        match self {
            Pattern::Gpt2 => r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
            Pattern::Gpt4 => {
                r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
            }
        }
    }

    /// The pieces of `text`.
    pub fn pieces(self, text: &str) -> impl Iterator<Item = &str> {
        Pieces { text, pattern: self, at: 0 }
    }
}

/// `text` in stretches of about `size` bytes that split into the same pieces as the whole.
pub(super) fn stretches(text: &str, size: usize) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (head, tail) = rest.split_at(first_cut(rest, size).unwrap_or(rest.len()));
        rest = tail;
        (!head.is_empty()).then_some(head)
    })
}

/// The first place after `near` bytes at which a text can be cut.
fn first_cut(text: &str, near: usize) -> Option<usize> {
    let near = text.ceil_char_boundary(near.max(1));
    let mut before = class_of(text[..near].chars().next_back()?);
    text[near..].char_indices().find_map(|(at, character)| {
        let after = class_of(character);
        let found = is_cut(before, after).then_some(near + at);
        before = after;
        found
    })
}

/// The last place at which a text can be cut so that both parts split into the pieces of the whole.
pub fn last_cut(text: &str) -> Option<usize> {
    let mut after = None;
    text.char_indices().rev().find_map(|(at, character)| {
        let before = class_of(character);
        let found = after.is_some_and(|after| is_cut(before, after)).then_some(at + character.len_utf8());
        after = Some(before);
        found
    })
}

/// Both patterns end a piece after a run of letters or of numbers, and look ahead only from spaces.
fn is_cut(before: Class, after: Class) -> bool {
    matches!(before, Class::Letter | Class::Number) && before != after
}

/// What the patterns see in a character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Letter,
    Number,
    /// White space but CR and LF.
    Blank,
    /// CR or LF.
    Newline,
    Other,
}

impl Class {
    fn is_space(self) -> bool {
        matches!(self, Class::Blank | Class::Newline)
    }
}

const ASCII: [Class; 128] = {
    let mut table = [Class::Other; 128];
    let mut byte = 0;
    while byte < 128 {
        table[byte] = match byte as u8 {
            b'a'..=b'z' | b'A'..=b'Z' => Class::Letter,
            b'0'..=b'9' => Class::Number,
            b'\r' | b'\n' => Class::Newline,
            b' ' | b'\t' | 0x0b | 0x0c => Class::Blank,
            _ => Class::Other,
        };
        byte += 1;
    }
    table
};

/// Characters a page of the table of classes.
const PAGE: usize = 1024;
/// The classes of all characters, a page made when a text first needs it.
static PAGES: [OnceLock<Box<[Class]>>; 0x11_0000 / PAGE] = [const { OnceLock::new() }; 0x11_0000 / PAGE];

/// The class of a character; the `regex` crate's tables decide.
fn class_of(character: char) -> Class {
    let code = character as usize;
    PAGES[code / PAGE].get_or_init(|| page(code / PAGE))[code % PAGE]
}

fn page(index: usize) -> Box<[Class]> {
    // Constant expressions that always compile; a test classes every character there is.
    let [letter, number, space] = [r"\p{L}", r"\p{N}", r"\s"].map(|class| Regex::new(class).ok());
    let is = |class: &Option<Regex>, text: &str| class.as_ref().is_some_and(|class| class.is_match(text));
    let mut buffer = [0; 4];
    let mut classify = |code: usize| {
        let Some(character) = u32::try_from(code).ok().and_then(char::from_u32) else { return Class::Other };
        let text = &*character.encode_utf8(&mut buffer);
        match () {
            () if is(&letter, text) => Class::Letter,
            () if is(&number, text) => Class::Number,
            () if matches!(character, '\r' | '\n') => Class::Newline,
            () if is(&space, text) => Class::Blank,
            () => Class::Other,
        }
    };
    (index * PAGE..(index + 1) * PAGE).map(&mut classify).collect()
}

/// The pieces of a text, in order.
struct Pieces<'a> {
    text: &'a str,
    pattern: Pattern,
    at: usize,
}

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let start = self.at;
        let (first, width) = self.look(start)?;
        self.at = match self.pattern {
            Pattern::Gpt2 => self.gpt2(start, first, width),
            Pattern::Gpt4 => self.gpt4(start, first, width),
        };
        Some(&self.text[start..self.at])
    }
}

impl Pieces<'_> {
    /// The class and width in bytes of the character at `at`, or None at the end.
    #[inline]
    fn look(&self, at: usize) -> Option<(Class, usize)> {
        let byte = *self.text.as_bytes().get(at)?;
        if byte < 128 {
            return Some((ASCII[byte as usize], 1));
        }
        let character = self.text[at..].chars().next()?;
        Some((class_of(character), character.len_utf8()))
    }

    fn class(&self, at: usize) -> Option<Class> {
        self.look(at).map(|(class, _)| class)
    }

    fn byte(&self, at: usize) -> u8 {
        self.text.as_bytes().get(at).copied().unwrap_or(0)
    }

    /// The end of the run of `class` that starts at `at`.
    #[inline]
    fn run(&self, mut at: usize, class: Class) -> usize {
        while let Some((found, width)) = self.look(at)
            && found == class
        {
            at += width;
        }
        at
    }

    /// The end of a GPT-2 piece that starts at `start` with a character of class `first`.
    fn gpt2(&self, start: usize, first: Class, width: usize) -> usize {
        if let Some(end) = self.contraction(start, false) {
            return end;
        }
        if !first.is_space() {
            return self.run(start + width, first);
        }
        match self.class(start + width) {
            Some(second) if self.byte(start) == b' ' && !second.is_space() => self.run(start + 1, second),
            _ => self.spaces(start).gap(),
        }
    }

    /// The end of a GPT-4 piece that starts at `start` with a character of class `first`.
    fn gpt4(&self, start: usize, first: Class, width: usize) -> usize {
        if let Some(end) = self.contraction(start, true) {
            return end;
        }
        let second = self.class(start + width);
        match first {
            Class::Letter => self.run(start + width, Class::Letter),
            Class::Number => self.number(start),
            Class::Other | Class::Blank if second == Some(Class::Letter) => {
                self.run(start + width, Class::Letter)
            }
            Class::Other => self.run(self.run(start, Class::Other), Class::Newline),
            Class::Blank if self.byte(start) == b' ' && second == Some(Class::Other) => {
                self.run(self.run(start + 1, Class::Other), Class::Newline)
            }
            Class::Blank | Class::Newline => {
                let spaces = self.spaces(start);
                spaces.newline.unwrap_or_else(|| spaces.gap())
            }
        }
    }

    /// The end of `'s`, `'t`, `'re`, `'ve`, `'m`, `'ll` or `'d` at `start`, if one is there.
    /// Without case, the long s (U+017F) is an s too.
    #[inline]
    fn contraction(&self, start: usize, any_case: bool) -> Option<usize> {
        let rest = self.text.as_bytes()[start..].strip_prefix(b"'")?;
        if any_case && rest.starts_with("\u{17f}".as_bytes()) {
            return Some(start + 3);
        }
        let fold = |byte: u8| if any_case { byte.to_ascii_lowercase() } else { byte };
        let pair = [fold(*rest.first()?), fold(rest.get(1).copied().unwrap_or(0))];
        match &pair {
            [b's' | b't' | b'm' | b'd', _] => Some(start + 2),
            b"re" | b"ve" | b"ll" => Some(start + 3),
            _ => None,
        }
    }

    /// The end of up to three numbers from `start` on.
    fn number(&self, start: usize) -> usize {
        let mut at = start;
        for _ in 0..3 {
            match self.look(at) {
                Some((Class::Number, width)) => at += width,
                _ => break,
            }
        }
        at
    }

    /// The run of white space that starts at `start`.
    fn spaces(&self, start: usize) -> Spaces {
        let mut spaces = Spaces { start, last: start, end: start, newline: None, at_end: true };
        while let Some((class, width)) = self.look(spaces.end) {
            if !class.is_space() {
                spaces.at_end = false;
                break;
            }
            spaces.last = spaces.end;
            spaces.end += width;
            if class == Class::Newline {
                spaces.newline = Some(spaces.end);
            }
        }
        spaces
    }
}

/// A run of white space.
struct Spaces {
    start: usize,
    /// Where its last character starts.
    last: usize,
    end: usize,
    /// The end of its last CR or LF.
    newline: Option<usize>,
    /// Whether the text ends with it.
    at_end: bool,
}

impl Spaces {
    /// The end of `\s+(?!\S)|\s+`: all of the run at the end of the text, all but its last character
    /// before something else, and a lone character as it is.
    fn gap(&self) -> usize {
        if self.at_end || self.last == self.start { self.end } else { self.last }
    }
}
