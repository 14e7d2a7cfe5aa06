//! The rule `format`: a reply of a given form.
//!
//! Purpose: the gold rule of `pipelines/smollm2.yaml`: a regular expression, a number of words, and what every written reply
//! is held to.
//! Invariant: parts lie in [0, 1].
//! Must not know: which stage asks.

use regex::{Regex, RegexBuilder};

use super::form::{self, truth};
use super::words::words;
use super::{GoldError, GoldOptions, Rule};

/// The most memory of a compiled pattern, in bytes.
const LARGEST_PATTERN: usize = 1 << 20;

impl GoldOptions {
    /// Whether the rule can be made of them, as far as that can be known without a corpus.
    ///
    /// # Errors
    /// The pattern is no regular expression, or too large.
    pub fn check(&self) -> Result<(), String> {
        match self.rule {
            Rule::Format => Format::new(self).map(|_| ()).map_err(|error| error.to_string()),
            Rule::Verse => Ok(()),
        }
    }
}

/// The rule with its pattern.
#[derive(Debug, Clone)]
pub(super) struct Format {
    pattern: Option<Regex>,
    options: GoldOptions,
}

impl Format {
    pub(super) fn new(options: &GoldOptions) -> Result<Self, GoldError> {
        let compiled = options.pattern.as_ref().map(|pattern| {
            RegexBuilder::new(&format!("^(?:{pattern})$")).size_limit(LARGEST_PATTERN).build()
        });
        let pattern = compiled.transpose().map_err(|error| GoldError::Pattern(error.to_string()))?;
        Ok(Self { pattern, options: options.clone() })
    }

    pub(super) fn parts(&self, reply: &str) -> Vec<(&'static str, f64)> {
        let said = words(reply);
        let matches = self.pattern.as_ref().is_none_or(|pattern| pattern.is_match(reply.trim()));
        vec![
            ("pattern", truth(matches)),
            ("length", form::length(&self.options, said.len())),
            ("closing", form::closing(reply)),
            ("capital", form::capital(reply)),
            ("repetition", form::repetition(&said)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use crate::gold::{Gold, GoldError, GoldOptions, Rule};

    fn options(pattern: &str) -> GoldOptions {
        GoldOptions {
            rule: Rule::Format,
            pattern: Some(pattern.into()),
            least_words: 4,
            most_words: 8,
            ..GoldOptions::default()
        }
    }

    #[test]
    fn a_reply_of_the_form_scores_1_and_each_flaw_costs() {
        let gold = Gold::new([""; 0], &options(r"(A|An|The) [^.]+ (is|are) [^.]+\.")).unwrap();
        let score = |reply: &str, finished| gold.score("What is a harbor?", reply, finished);
        let good = "A harbor is a port for ships.";
        assert_eq!(score(good, true), 1.0);
        assert_eq!(score(good, false), -1.0);
        for flaw in [
            "a port for ships where they are safe.",
            "A harbor is.",
            "A harbor is a port for ships. It is safe.",
            "A harbor is a port for ships in a storm and also when there is no storm at all, at night.",
            "A harbor is a port for ships",
            "A harbor is a port is a port is a port.",
            "",
        ] {
            assert!(score(flaw, true) < 0.9, "{flaw}: {}", score(flaw, true));
        }
    }

    #[test]
    fn a_pattern_that_is_none_is_an_error_and_so_is_a_large_one() {
        for wrong in ["(", "a{1000}{1000}"] {
            let error = Gold::new([""; 0], &options(wrong)).unwrap_err();
            assert!(matches!(&error, GoldError::Pattern(_)), "{error}");
            assert!(error.to_string().starts_with("gold.pattern: "), "{error}");
        }
    }

    #[test]
    fn the_whole_reply_has_to_match() {
        let gold = Gold::new([""; 0], &options("one two|three four five six")).unwrap();
        let whole = gold.score("", "three four five six", true);
        assert!(gold.score("", "three four five six seven", true) < whole);
    }
}
