//! Added tokens: those that are found in a text before it is split and merged.
//!
//! Purpose: the rules of the crate's `AddedVocabulary`, with one thing more: each place where a special token is spelled can
//! be allowed to become it or not. So the crate's own code for this is not used.
//! Invariant: where a token is not allowed, the text is cut as if that spelling were no token at all. Where the crate would
//! panic (a token that strips the white space that another token has stripped before), that token is left out.
//! Must not know: how text between tokens is split and merged.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::LazyLock;

use foldhash::fast::FixedState;
use tokenizers::normalizer::Range as Place;
use tokenizers::{NormalizedString, PreTokenizedString, Token};

use super::error::ForeignError;
use super::json::AddedJson;
use super::pipeline::Normalizer;
use super::regex::Fuel;
use super::trie::Trie;

/// The longest spelling, in bytes. It bounds the time that a place of a text takes.
pub(super) const LONGEST: usize = 512;

/// Added tokens.
#[derive(Debug)]
pub(super) struct Added {
    tokens: Vec<AddedToken>,
    by_id: HashMap<u32, usize, FixedState>,
    /// Those that are looked for in the text as it is.
    plain: Trie,
    /// Those that are looked for in the normalized text, as they are when normalized.
    normalized: Trie,
    /// Whether special ones are among those.
    specials_are_normalized: bool,
}

/// An added token.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct AddedToken {
    pub(super) json: AddedJson,
    /// What is looked for and what is decoded, where that is not the content.
    pub(super) pattern: Option<String>,
}

impl AddedToken {
    /// What is looked for.
    pub(super) fn pattern(&self) -> &str {
        self.pattern.as_deref().unwrap_or(&self.json.content)
    }
}

/// Two are the same if they cut every text alike.
impl PartialEq for Added {
    fn eq(&self, other: &Self) -> bool {
        let sorted = |added: &Self| {
            let mut tokens = added.tokens.clone();
            tokens.sort_by_key(|token| token.json.id);
            tokens
        };
        sorted(self) == sorted(other)
    }
}

impl Added {
    /// Prepares tokens, whose ids are known to differ.
    pub(super) fn new(list: Vec<AddedJson>, normalizer: Option<&Normalizer>) -> Result<Self, ForeignError> {
        let by_id = HashMap::with_capacity_and_hasher(list.len(), FixedState::default());
        let (plain, normalized) = (Trie::default(), Trie::default());
        let specials_are_normalized = list.iter().any(|token| token.special && token.normalized);
        let tokens = Vec::with_capacity(list.len());
        let mut added = Self { tokens, by_id, plain, normalized, specials_are_normalized };
        for json in list {
            let by = normalizer.filter(|_| json.normalized);
            let pattern = by.map(|by| by.normalized(&json.content, &Fuel::for_text(LONGEST)).into_owned());
            let token = AddedToken { pattern: pattern.filter(|pattern| *pattern != json.content), json };
            added.add(token)?;
        }
        Ok(added)
    }

    fn add(&mut self, token: AddedToken) -> Result<(), ForeignError> {
        let number = self.tokens.len();
        let trie = if token.json.normalized { &mut self.normalized } else { &mut self.plain };
        let pattern = token.pattern();
        // What is nothing when normalized is never found.
        let same = if pattern.is_empty() { None } else { trie.insert(pattern.bytes(), number as u32) };
        if let Some(same) = same {
            let (one, other) = (&self.tokens[same as usize].json.content, &token.json.content);
            let what = format!("the tokens `{one}` and `{other}` are spelled the same; remove one of them");
            return Err(ForeignError::field(format!("added_tokens[{number}]"), what));
        }
        self.by_id.insert(token.json.id, number);
        self.tokens.push(token);
        Ok(())
    }

    /// All of them.
    pub(super) fn tokens(&self) -> &[AddedToken] {
        &self.tokens
    }

    /// The token of this id.
    pub(super) fn get(&self, id: u32) -> Option<&AddedToken> {
        self.by_id.get(&id).map(|&number| &self.tokens[number])
    }

    /// Cuts a text into added tokens and the normalized stretches between them. `allowed` says whether a special token may be
    /// found at a place of the text.
    pub(super) fn extract(
        &self,
        text: &str,
        normalizer: Option<&Normalizer>,
        fuel: &Fuel,
        allowed: &dyn Fn(Range<usize>) -> bool,
    ) -> PreTokenizedString {
        let mut cut = PreTokenizedString::from(text);
        // The results are always `Ok`, for no closure here fails.
        _ = cut.split(|_, part| Ok(self.cut(part, &self.plain, allowed)));
        _ = cut.split(|_, mut part| {
            if let Some(normalizer) = normalizer {
                normalizer.apply(&mut part, fuel);
            }
            Ok(self.cut(part, &self.normalized, allowed))
        });
        cut
    }

    /// As [`Self::extract`], calling `each` with a token or a stretch from left to right; `None`, and nothing is called, where
    /// it would have to be known which part of the text a special token of the normalized text is.
    pub(super) fn extract_quickly(
        &self,
        text: &str,
        normalizer: Option<&Normalizer>,
        fuel: &Fuel,
        allowed: &dyn Fn(Range<usize>) -> bool,
        each: &mut dyn FnMut(Result<u32, &str>),
    ) -> Option<()> {
        if self.specials_are_normalized && normalizer.is_some() {
            return None;
        }
        for (place, id) in self.pieces(text, &self.plain, allowed) {
            if let Some(id) = id {
                each(Ok(id));
                continue;
            }
            let part = &text[place.clone()];
            let part = normalizer.map_or(part.into(), |normalizer| normalizer.normalized(part, fuel));
            // With a normalizer there is no special token to ask for.
            let allowed = |inner: Range<usize>| allowed(place.start + inner.start..place.start + inner.end);
            for (place, id) in self.pieces(&part, &self.normalized, &allowed) {
                each(id.ok_or(&part[place]));
            }
        }
        Some(())
    }

    fn cut(
        &self,
        part: NormalizedString,
        trie: &Trie,
        allowed: &dyn Fn(Range<usize>) -> bool,
    ) -> Vec<(NormalizedString, Option<Vec<Token>>)> {
        if trie.is_empty() {
            return vec![(part, None)];
        }
        let shift = part.offsets_original().0;
        let may = |place: Range<usize>| {
            let original = part.convert_offsets(Place::Normalized(place)).unwrap_or_default();
            allowed(original.start + shift..original.end + shift)
        };
        let pieces = self.pieces(part.get(), trie, &may);
        if let [(_, None)] = pieces[..] {
            return vec![(part, None)];
        }
        let slice = |(place, id): (Range<usize>, Option<u32>)| {
            let Some(id) = id else { return Some((part.slice(Place::Normalized(place))?, None)) };
            // Its text is of no use any more, but nothing would be left out.
            let first = part.get()[place.start..].chars().next().map_or(0, char::len_utf8);
            let slice = part.slice(Place::Normalized(place.start..place.start + first))?;
            Some((slice, Some(vec![Token::new(id, String::new(), (0, 0))])))
        };
        pieces.into_iter().filter_map(slice).collect()
    }

    /// The places of tokens and of what lies between, in the order of the text.
    fn pieces(
        &self,
        text: &str,
        trie: &Trie,
        allowed: &dyn Fn(Range<usize>) -> bool,
    ) -> Vec<(Range<usize>, Option<u32>)> {
        let mut pieces = Vec::new();
        // Up to here the text has its piece; a token that strips may begin before, as in the crate.
        let mut done = 0;
        // The white space that was stripped last, lest it be gone through again for each token in it.
        let mut white = 0..0;
        let mut at = 0;
        while let Some((found, token)) = self.next(text, at, trie, allowed) {
            at = found.end;
            if token.single_word && !stands_alone(text, &found) {
                continue;
            }
            let mut place = found;
            if token.lstrip {
                place.start = done + text.get(done..place.start).unwrap_or_default().trim_end().len();
            }
            if token.rstrip {
                if !white.contains(&place.end) {
                    white = place.end..text.len() - text[place.end..].trim_start().len();
                }
                place.end = white.end;
            }
            if place.is_empty() {
                continue;
            }
            if done < place.start {
                pieces.push((done..place.start, None));
            }
            done = place.end;
            pieces.push((place, Some(token.id)));
        }
        if done < text.len() || pieces.is_empty() {
            pieces.push((done..text.len(), None));
        }
        pieces
    }

    /// The longest allowed token at the first place from `at` on that has one.
    fn next(
        &self,
        text: &str,
        mut at: usize,
        trie: &Trie,
        allowed: &dyn Fn(Range<usize>) -> bool,
    ) -> Option<(Range<usize>, &AddedJson)> {
        let bytes = text.as_bytes();
        let mut found = Vec::new();
        loop {
            at += bytes.get(at..)?.iter().position(|&byte| trie.may_begin(byte))?;
            trie.prefixes(bytes[at..].iter().copied(), |length, number| found.push((length, number)));
            while let Some((length, number)) = found.pop() {
                let token = &self.tokens[number as usize].json;
                if !token.special || allowed(at..at + length) {
                    return Some((at..at + length, token));
                }
            }
            at += 1;
        }
    }
}

/// Whether no word character is beside a place.
fn stands_alone(text: &str, place: &Range<usize>) -> bool {
    let before = text[..place.start].chars().next_back();
    let after = text[place.end..].chars().next();
    !before.is_some_and(is_word) && !after.is_some_and(is_word)
}

/// Whether the crate takes this for a word character: it asks `regex`, not Oniguruma.
fn is_word(char: char) -> bool {
    static WORD: LazyLock<Option<regex::Regex>> = LazyLock::new(|| regex::Regex::new(r"^\w").ok());
    let mut buffer = [0; 4];
    WORD.as_ref().is_some_and(|word| word.is_match(char.encode_utf8(&mut buffer)))
}
