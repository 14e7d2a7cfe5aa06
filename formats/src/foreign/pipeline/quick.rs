//! The common pipelines without copies.
//!
//! Purpose: where pieces are only cut and then written in the characters that stand for bytes (GPT-2, Llama 3, Qwen, SmolLM),
//! the crate's aligned strings are not needed: they take most of the time, and 80 bytes and more for each byte of text.
//! Invariant: the pieces are those of [`PreTokenizer::apply`].
//! Must not know: tokens.

use tokenizers::pattern::Pattern;
use tokenizers::{Offsets, PreTokenizerWrapper, SplitDelimiterBehavior};

use super::super::regex::Fuel;
use super::find::{Finder, cover};
use super::split::{PreTokenizer, gpt2};

/// How text is cut, step by step.
pub(in crate::foreign) struct Quick<'p> {
    cuts: Vec<Cut<'p>>,
}

enum Cut<'p> {
    Finder(&'p Finder, SplitDelimiterBehavior),
    Digits { single: bool },
}

impl<'p> Quick<'p> {
    /// The steps; `None` where the pieces have to be changed or kept apart in other ways.
    pub(in crate::foreign) fn new(pre_tokenizer: &'p PreTokenizer) -> Option<Self> {
        let mut cuts = Vec::new();
        match pre_tokenizer {
            PreTokenizer::Sequence(parts) => {
                let (last, first) = parts.split_last()?;
                first.iter().try_for_each(|part| push(part, &mut cuts))?;
                push_byte_level(last, &mut cuts)?;
            }
            one => push_byte_level(one, &mut cuts)?,
        }
        Some(Self { cuts })
    }

    /// Calls `each` with the pieces of a text, from left to right.
    pub(in crate::foreign) fn pieces<'t>(&self, text: &'t str, fuel: &Fuel, each: &mut dyn FnMut(&'t str)) {
        self.cut(0, text, fuel, each);
    }

    fn cut<'t>(&self, index: usize, text: &'t str, fuel: &Fuel, each: &mut dyn FnMut(&'t str)) {
        let parts = match self.cuts.get(index) {
            _ if text.is_empty() => return,
            None => return each(text),
            Some(Cut::Finder(finder, behavior)) => {
                let mut parts = cover(finder.find_all(text, fuel), text.len());
                parts.retain(|(_, found)| !found || *behavior == SplitDelimiterBehavior::Isolated);
                parts
            }
            Some(Cut::Digits { single }) => digits(text, *single),
        };
        for ((start, end), _) in parts {
            self.cut(index + 1, &text[start..end], fuel, each);
        }
    }
}

fn push<'p>(part: &'p PreTokenizer, cuts: &mut Vec<Cut<'p>>) -> Option<()> {
    match part {
        PreTokenizer::Split { find, behavior, invert } => match behavior {
            SplitDelimiterBehavior::Isolated => cuts.push(Cut::Finder(find, *behavior)),
            SplitDelimiterBehavior::Removed if !invert => cuts.push(Cut::Finder(find, *behavior)),
            _ => return None,
        },
        PreTokenizer::Other(PreTokenizerWrapper::Digits(digits)) => {
            cuts.push(Cut::Digits { single: digits.individual_digits });
        }
        _ => return None,
    }
    Some(())
}

fn push_byte_level<'p>(part: &'p PreTokenizer, cuts: &mut Vec<Cut<'p>>) -> Option<()> {
    let PreTokenizer::ByteLevel { prefix_space: false, pattern } = part else { return None };
    if *pattern {
        cuts.push(Cut::Finder(gpt2()?, SplitDelimiterBehavior::Isolated));
    }
    Some(())
}

/// Digits one by one, or together.
fn digits(text: &str, single: bool) -> Vec<(Offsets, bool)> {
    let mut parts: Vec<(Offsets, bool)> = Vec::new();
    for (place, found) in char::is_numeric.find_matches(text).unwrap_or_default() {
        match parts.last_mut() {
            Some((last, true)) if found && !single => last.1 = place.1,
            _ => parts.push((place, found)),
        }
    }
    parts
}
