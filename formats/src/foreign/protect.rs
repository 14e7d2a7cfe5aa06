//! Text that spells special tokens, among text that means them.
//!
//! Purpose: a chat template renders one string from its own text, whose special tokens become tokens, and from what people
//! wrote, whose spellings must not. Before rendering, [`Protector::protect`] puts marks into what people wrote; after it,
//! [`unmark`] takes them out again and says where they were.
//! Invariant: a mark says that the character after it is no part of a special token. Marks are pairs that begin with the
//! noncharacter U+FDD0; one that the text itself has becomes such a pair too, so whatever the text has, taking the marks out
//! gives the text.
//! Must not know: templates.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeSet;

use super::added::{Added, AddedToken};
use super::pipeline::Normalizer;
use super::regex::Fuel;
use super::trie::Trie;

/// Begins a pair.
const PAIR: char = '\u{fdd0}';
/// After [`PAIR`]: the text has [`PAIR`] here.
const ITSELF: char = '\u{fdd1}';
/// After [`PAIR`]: the next character is no part of a special token.
const CUT: char = '\u{fdd2}';

/// Finds the spellings of special tokens.
#[derive(Debug, Default)]
pub(super) struct Protector {
    spellings: Trie,
    /// The same ones, read from their ends.
    backwards: Trie,
    longest: usize,
    /// Whether some are found in the normalized text.
    any_normalized: bool,
}

impl Protector {
    /// For these tokens, of which only the special ones count.
    pub(super) fn new(tokens: &[AddedToken]) -> Self {
        let mut new = Self::default();
        for token in tokens.iter().filter(|token| token.json.special) {
            let content = &token.json.content;
            new.spellings.insert(content.bytes(), 0);
            new.backwards.insert(content.bytes().rev(), 0);
            new.longest = new.longest.max(content.len());
            new.any_normalized |= token.json.normalized;
        }
        new
    }

    /// The text with marks in each spelling of a special token, and where one could come to be when other text stands before
    /// or after it.
    pub(super) fn protect<'t>(
        &self,
        text: &'t str,
        added: &Added,
        normalizer: Option<&Normalizer>,
    ) -> Cow<'t, str> {
        let mut cuts = BTreeSet::new();
        spelled(text, &self.spellings, |start, end| cut(text, start, end, &mut cuts));
        self.edges(text, &mut cuts);
        if let Some(normalizer) = normalizer.filter(|_| self.any_normalized) {
            self.normalized(text, added, normalizer, &mut cuts);
        }
        if cuts.is_empty() && !text.contains(PAIR) {
            return text.into();
        }
        let mut marked = String::with_capacity(text.len() + 16);
        for (at, char) in text.char_indices() {
            if cuts.contains(&at) {
                marked.extend([PAIR, CUT]);
            }
            marked.push(char);
            if char == PAIR {
                marked.push(ITSELF);
            }
        }
        marked.into()
    }

    /// Tokens of which the text, or what is left of it when white space is stripped, has only the start or only the end.
    fn edges(&self, text: &str, cuts: &mut BTreeSet<usize>) {
        for core in [text, text.trim_end()] {
            let from = core.len().saturating_sub(self.longest);
            let goes_on = |start: usize| self.spellings.prefixes(core.bytes().skip(start), |_, _| ());
            if (from..core.len()).any(goes_on) {
                cuts.extend(core.char_indices().next_back().map(|(last, _)| last));
            }
        }
        for core in [text, text.trim_start()] {
            let goes_on = |end: usize| self.backwards.prefixes(core.bytes().take(end).rev(), |_, _| ());
            if (1..=core.len().min(self.longest)).any(goes_on) {
                cuts.insert(text.len() - core.len());
            }
        }
    }

    /// Tokens that are found in the normalized text, by cutting the text as encoding does. How the normalized text looks
    /// depends on what stands around it, so the edges are marked whatever they are.
    fn normalized(&self, text: &str, added: &Added, normalizer: &Normalizer, cuts: &mut BTreeSet<usize>) {
        let found = RefCell::new(cuts);
        let fuel = Fuel::for_text(text.len());
        added.extract(text, Some(normalizer), &fuel, &|place| {
            cut(text, place.start, place.end, &mut found.borrow_mut());
            false
        });
        let start = text.len() - text.trim_start().len();
        if let Some((last, _)) = text.trim_end().char_indices().next_back() {
            found.borrow_mut().extend([start, last]);
        }
    }
}

/// Calls `found` with each place of `text` that is in the set; they may overlap.
fn spelled(text: &str, set: &Trie, mut found: impl FnMut(usize, usize)) {
    let bytes = text.as_bytes();
    for start in (0..bytes.len()).filter(|&start| set.may_begin(bytes[start])) {
        set.prefixes(bytes[start..].iter().copied(), |length, _| found(start, start + length));
    }
}

/// Puts a mark before the last character of a place that has none yet.
fn cut(text: &str, start: usize, end: usize, cuts: &mut BTreeSet<usize>) {
    if start < end && cuts.range(start..end).next().is_none() {
        let place = text.get(start..end).unwrap_or_default();
        cuts.extend(place.char_indices().next_back().map(|(last, _)| start + last));
    }
}

/// The text without marks, and the places of the characters that are no part of a special token.
pub(super) fn unmark(marked: &str) -> (Cow<'_, str>, Vec<usize>) {
    if !marked.contains(PAIR) {
        return (marked.into(), Vec::new());
    }
    let mut text = String::with_capacity(marked.len());
    let mut cuts = Vec::new();
    let mut chars = marked.chars().peekable();
    while let Some(char) = chars.next() {
        match chars.peek() {
            Some(&CUT) if char == PAIR => {
                chars.next();
                cuts.push(text.len());
            }
            after => {
                let is_itself = char == PAIR && after == Some(&ITSELF);
                text.push(char);
                if is_itself {
                    chars.next();
                }
            }
        }
    }
    (text.into(), cuts)
}
