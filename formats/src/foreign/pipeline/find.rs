//! What `Split` and `Replace` look for.
//!
//! Invariant: an empty string to look for is an error: it would match between all characters.
//! Must not know: what happens with what is found.

use serde_json::Value;
use tokenizers::pattern::Pattern;
use tokenizers::{Offsets, Result};

use super::super::error::{ForeignError, Object};
use super::super::regex::{Fuel, Regex};

/// The longest text to look for.
const LONGEST: usize = 1024;

/// A text or a pattern.
#[derive(Debug, PartialEq)]
pub(in crate::foreign) enum Finder {
    Literal(String),
    Pattern(Regex),
}

impl Finder {
    /// Reads `{"String": ".."}` or `{"Regex": ".."}`.
    pub(super) fn read(object: &Object<'_>) -> std::result::Result<Self, ForeignError> {
        let pattern = object.get("pattern");
        let text = |key: &str| pattern.and_then(|pattern| pattern.get(key)).and_then(Value::as_str);
        match (text("String"), text("Regex")) {
            (Some(text), None) if (1..=LONGEST).contains(&text.len()) => Ok(Self::Literal(text.into())),
            (Some(_), None) => {
                Err(object.field_error("pattern.String", format!("this has to have 1 to {LONGEST} bytes")))
            }
            (None, Some(source)) => match Regex::new(source) {
                Ok(regex) => Ok(Self::Pattern(regex)),
                Err(error) => Err(object.field_error("pattern.Regex", error.to_string())),
            },
            _ => {
                Err(object
                    .field_error("pattern", "this has to be {\"String\": \"..\"} or {\"Regex\": \"..\"}"))
            }
        }
    }

    /// To hand to the crate's strings.
    pub(super) fn with<'a>(&'a self, fuel: &'a Fuel) -> Search<'a> {
        Search { finder: self, fuel }
    }

    /// Where it is found, from left to right, without overlap.
    pub(super) fn find_all(&self, inside: &str, fuel: &Fuel) -> Vec<Offsets> {
        match self {
            Self::Literal(text) => {
                inside.match_indices(text.as_str()).map(|(at, found)| (at, at + found.len())).collect()
            }
            Self::Pattern(regex) => regex.find_all(inside, fuel),
        }
    }

    /// How many bytes at most replace one byte, when `content` replaces what is found.
    pub(super) fn growth(&self, content: &str) -> u64 {
        match self {
            Self::Literal(text) => content.len().div_ceil(text.len()).max(1) as u64,
            // It may match nothing, before each character.
            Self::Pattern(_) => content.len() as u64 + 1,
        }
    }
}

/// A search with its fuel.
pub(super) struct Search<'a> {
    finder: &'a Finder,
    fuel: &'a Fuel,
}

impl Pattern for Search<'_> {
    fn find_matches(&self, inside: &str) -> Result<Vec<(Offsets, bool)>> {
        if inside.is_empty() {
            return Ok(vec![((0, 0), false)]);
        }
        Ok(cover(self.finder.find_all(inside, self.fuel), inside.len()))
    }
}

/// What is found, and what lies between.
pub(super) fn cover(found: Vec<Offsets>, length: usize) -> Vec<(Offsets, bool)> {
    let mut parts = Vec::with_capacity(2 * found.len() + 1);
    let mut last = 0;
    for (start, end) in found {
        if last != start {
            parts.push(((last, start), false));
        }
        parts.push(((start, end), true));
        last = end;
    }
    if last != length {
        parts.push(((last, length), false));
    }
    parts
}

/// What was found before.
pub(super) struct Found(pub(super) Vec<Offsets>);

impl Pattern for Found {
    fn find_matches(&self, inside: &str) -> Result<Vec<(Offsets, bool)>> {
        Ok(cover(self.0.clone(), inside.len()))
    }
}

/// What is found becomes what lies between.
pub(super) struct Inverted<'a>(pub(super) Search<'a>);

impl Pattern for Inverted<'_> {
    fn find_matches(&self, inside: &str) -> Result<Vec<(Offsets, bool)>> {
        let parts = self.0.find_matches(inside)?;
        Ok(parts.into_iter().map(|(place, found)| (place, !found)).collect())
    }
}
