//! Sets of characters.
//!
//! Invariant: a set is sorted ranges without overlap, and the same characters as a bitmap for ASCII.
//! Must not know: patterns.

use std::sync::LazyLock;

use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Class, HirKind};

/// The word characters of Oniguruma in a bracketed class: unlike those of Rust without joiners.
pub(super) const WORD: &str = r"\p{Alphabetic}\p{M}\p{Nd}\p{Pc}";
/// Those that are word characters for `\w` and `\b` outside of brackets as well.
pub(super) const LATIN_WORD: &str = "²³¹¼½¾";
/// Classes may stand in classes; more levels than this are refused.
const DEEPEST: u32 = 16;

/// Which characters a class has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CharSet {
    ascii: u128,
    ranges: Box<[(char, char)]>,
}

impl CharSet {
    /// The set of a class in the syntax of `regex-syntax`, say `[\p{L}a-z&&[^b]]`.
    pub(super) fn new(class: &str, ignore_case: bool) -> Result<Self, String> {
        let mut builder = ParserBuilder::new();
        let mut parser = builder.unicode(true).case_insensitive(ignore_case).nest_limit(DEEPEST).build();
        let tree = parser.parse(class).map_err(|error| one_line(&error.to_string()))?;
        let ranges: Vec<(char, char)> = match tree.into_kind() {
            HirKind::Class(Class::Unicode(class)) => {
                class.iter().map(|range| (range.start(), range.end())).collect()
            }
            // A class of a single character.
            HirKind::Literal(literal) => match std::str::from_utf8(&literal.0) {
                Ok(text) => text.chars().map(|only| (only, only)).collect(),
                Err(_) => return Err("a class of bytes that are no characters".into()),
            },
            _ => return Err("a class that is none".into()),
        };
        Ok(Self::from_ranges(ranges))
    }

    fn from_ranges(ranges: Vec<(char, char)>) -> Self {
        let has = |byte: u32| ranges.iter().any(|&(low, high)| (low as u32..=high as u32).contains(&byte));
        let ascii = (0..128).filter(|&byte| has(byte)).fold(0, |bits, byte| bits | 1 << byte);
        Self { ascii, ranges: ranges.into() }
    }

    /// Whether `char` is in it.
    #[inline]
    pub(super) fn has(&self, char: char) -> bool {
        if char.is_ascii() {
            return self.ascii >> (char as u32) & 1 == 1;
        }
        let after = self.ranges.partition_point(|&(low, _)| low <= char);
        after > 0 && self.ranges[after - 1].1 >= char
    }

    /// Its characters below 128, as bits.
    pub(super) fn ascii(&self) -> u128 {
        self.ascii
    }
}

/// Whether `char` is a word character of Oniguruma.
pub(super) fn is_word(char: char) -> bool {
    static SET: LazyLock<Option<CharSet>> =
        LazyLock::new(|| CharSet::new(&format!("[{WORD}{LATIN_WORD}]"), false).ok());
    SET.as_ref().is_some_and(|set| set.has(char))
}

/// The last line of a message of `regex-syntax`, whose other lines draw the pattern.
fn one_line(message: &str) -> String {
    let line = message.lines().last().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).into()
}
