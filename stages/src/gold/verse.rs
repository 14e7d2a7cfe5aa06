//! The rule `verse`: a speech that could stand in the corpus.
//!
//! Purpose: the gold rule of `pipelines/assistant.yaml`. A reply's parts say how well it does in ten respects, each from 0
//! to 1: a short safe phrase fails by `content`, a salad of fine words by `order`, one good phrase for every prompt by `fresh`.
//! Invariant: parts lie in [0, 1].
//! Must not know: which stage asks.

use std::collections::HashMap;

use super::form::{self, ramp, truth};
use super::words::words;
use super::{GoldOptions, Lexicon, Reply};

/// A word that the corpus has this often is known; what it has once may be a misprint.
const KNOWN: u32 = 2;
/// Length of the word runs that tell whether replies are alike.
const RUN: usize = 4;
/// Length of the openings that tell the same.
const OPENING: usize = 3;

/// How well a reply does, each from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Parts {
    /// Words that the corpus knows: 0 at half of them, 1 from 95 in 100.
    pub known: f64,
    /// Mean bond of neighbouring words: 0 where shuffled words lie, 1 where most people's lie.
    pub order: f64,
    /// Number of words: 1 from `least_words` to `most_words`, falling to 0 at none and at twice.
    pub length: f64,
    /// 1 when the reply ends in `.`, `!` or `?`, perhaps within quotes.
    pub closing: f64,
    /// 1 when its first letter is a capital.
    pub capital: f64,
    /// Share of distinct pairs of neighbours: 0 at .6, 1 from .95.
    pub repetition: f64,
    /// Share of content words: 1 from a quarter, which most people's replies have.
    pub content: f64,
    /// 1 less the share of its word pairs that are the prompt's.
    pub own: f64,
    /// 1 when it takes up a content word of the prompt, or the prompt has none.
    pub relation: f64,
    /// 1 when no other reply of the set has its runs of words; 1/n when n replies share them all.
    pub fresh: f64,
}

impl Parts {
    /// The parts with their names, which are those of their weights.
    pub fn named(&self) -> [(&'static str, f64); 10] {
        [
            ("known", self.known),
            ("order", self.order),
            ("length", self.length),
            ("closing", self.closing),
            ("capital", self.capital),
            ("repetition", self.repetition),
            ("content", self.content),
            ("own", self.own),
            ("relation", self.relation),
            ("fresh", self.fresh),
        ]
    }
}

/// The rule with what it has learnt from the corpus.
#[derive(Debug, Clone)]
pub(super) struct Verse {
    lexicon: Lexicon,
    options: GoldOptions,
}

impl Verse {
    /// None when the texts have no words.
    pub fn new<T: AsRef<str>>(texts: impl IntoIterator<Item = T>, options: &GoldOptions) -> Option<Self> {
        let lexicon = Lexicon::new(texts);
        (!lexicon.is_empty()).then(|| Self { lexicon, options: options.clone() })
    }

    pub fn parts(&self, prompt: &str, reply: &str) -> Parts {
        let said = words(reply);
        let asked = words(prompt);
        Parts {
            known: ramp(share(&said, |word| self.lexicon.occurrences(word) >= KNOWN), 0.5, 0.95),
            order: ramp(self.mean_bond(&said), -0.3, 0.15),
            length: form::length(&self.options, said.len()),
            closing: form::closing(reply),
            capital: form::capital(reply),
            repetition: form::repetition(&said),
            content: ramp(share(&said, |word| self.is_content(word)), 0.0, 0.25),
            own: own(&asked, &said),
            relation: self.relation(&asked, &said),
            fresh: 1.0,
        }
    }

    pub fn parts_of_all(&self, replies: &[Reply<'_>]) -> Vec<Parts> {
        let runs: Vec<_> = replies.iter().map(|reply| runs(&words(reply.text))).collect();
        let mut holders: HashMap<&[String], u32> = HashMap::new();
        for run in runs.iter().flatten() {
            *holders.entry(run).or_default() += 1;
        }
        let alone = |runs: &Vec<Vec<String>>| {
            runs.iter().map(|run| 1.0 / f64::from(holders[run.as_slice()])).sum::<f64>()
                / runs.len().max(1) as f64
        };
        let parts = replies.iter().map(|reply| self.parts(reply.prompt, reply.text));
        parts.zip(&runs).map(|(parts, runs)| Parts { fresh: alone(runs), ..parts }).collect()
    }

    fn is_content(&self, word: &str) -> bool {
        let frequent_enough = self.lexicon.occurrences(word) >= KNOWN;
        frequent_enough && self.lexicon.rarity(word).is_some_and(|bits| bits >= self.options.content_bits)
    }

    fn mean_bond(&self, said: &[String]) -> f64 {
        let bonds = said.windows(2).map(|pair| self.lexicon.bond(&pair[0], &pair[1]));
        let pairs = said.len().saturating_sub(1);
        if pairs == 0 { 0.0 } else { bonds.sum::<f64>() / pairs as f64 }
    }

    fn relation(&self, asked: &[String], said: &[String]) -> f64 {
        let mut content = asked.iter().filter(|word| self.is_content(word)).peekable();
        truth(content.peek().is_none() || content.any(|word| said.contains(word)))
    }
}

/// The share of words of which something holds; 0 without words.
fn share(said: &[String], holds: impl Fn(&str) -> bool) -> f64 {
    said.iter().filter(|word| holds(word)).count() as f64 / said.len().max(1) as f64
}

fn own(asked: &[String], said: &[String]) -> f64 {
    let copied = said.windows(2).filter(|pair| asked.windows(2).any(|other| other == *pair)).count();
    1.0 - copied as f64 / said.len().saturating_sub(1).max(1) as f64
}

/// The distinct runs of a reply: its runs of four words (or all of it, when shorter), and its opening.
fn runs(said: &[String]) -> Vec<Vec<String>> {
    let mut runs: Vec<Vec<String>> =
        said.windows(RUN.min(said.len()).max(1)).map(<[String]>::to_vec).collect();
    runs.push(said.iter().take(OPENING).cloned().chain(["^".to_string()]).collect());
    runs.sort();
    runs.dedup();
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gold::{Gold, GoldError, Weights};
    use proptest::prelude::*;

    /// A small corpus in which every content word stands twice at least.
    const PAGES: &str = "The raven sleeps upon the tower, my lord.\n\nThen wake the raven, and ring the bell.\n\n\
        The bell is broken, and the tower is dark.\n\nA candle, then: the raven fears a candle.\n\n\
        My lord, the candle and the bell are lost, and it is dark upon the tower.\n\n\
        Ring the broken bell, my lord, and wake the castle.\n\nThe castle sleeps, and all are lost.";

    fn options() -> GoldOptions {
        GoldOptions { content_bits: 4.0, ..GoldOptions::default() }
    }

    fn gold() -> Gold {
        Gold::new([PAGES], &options()).unwrap()
    }

    fn verse() -> Verse {
        Verse::new([PAGES], &options()).unwrap()
    }

    #[test]
    fn a_speech_like_the_corpus_scores_near_one() {
        let score = gold().score("Who sleeps?", "The raven sleeps upon the dark tower.", true);
        assert!(score > 0.9, "{score}");
    }

    #[test]
    fn a_reply_without_stop_token_scores_minus_one() {
        assert_eq!(gold().score("Who sleeps?", "The raven sleeps upon the tower", false), -1.0);
    }

    #[test]
    fn every_flaw_costs() {
        let gold = gold();
        let score = |reply: &str| gold.score("Who wakes the castle?", reply, true);
        let good = score("The raven sleeps upon the dark tower.");
        let flaws = [
            ("unknown words", "The rxven slxxps upxn the dxrk tower."),
            ("shuffled", "Tower dark the sleeps raven upon."),
            ("too short", "Raven."),
            ("not closed", "The raven sleeps upon the dark tower"),
            ("no capital", "the raven sleeps upon the dark tower."),
            ("repeats itself", "The raven sleeps, the raven sleeps, the raven sleeps."),
            ("no content", "And it is my the, and it is and."),
            ("echoes the prompt", "Who wakes the castle?"),
            ("empty", ""),
        ];
        for (flaw, reply) in flaws {
            assert!(score(reply) < 0.85 * good, "{flaw}: {} against {good}", score(reply));
        }
    }

    #[test]
    fn one_phrase_for_every_prompt_loses_by_freshness() {
        let replies = |texts: [&'static str; 3]| {
            texts.map(|text| Reply { prompt: "Who sleeps?", text, finished: true })
        };
        let same = ["The raven sleeps upon the dark tower."; 3];
        let parts = verse().parts_of_all(&replies(same));
        assert!((parts[0].fresh - 1.0 / 3.0).abs() < 1e-12);
        let other = [same[0], "Ring the broken bell, my lord.", "It is dark upon the tower."];
        let parts = verse().parts_of_all(&replies(other));
        assert!((parts[0].fresh - 1.0).abs() < 1e-12);
        assert!(gold().score_all(&replies(same))[0] < 0.5 * gold().score_all(&replies(other))[0]);
    }

    #[test]
    fn parts_are_what_a_hand_computes() {
        let parts = verse().parts("Who wakes the bell?", "Ring the bell, ring the bell!");
        // Five pairs, three of them distinct: (.6 - .6) / .35 = 0.
        assert_eq!(parts.repetition, 0.0);
        // Two of five pairs are the prompt's "the bell".
        assert!((parts.own - 0.6).abs() < 1e-12);
        assert_eq!((parts.known, parts.length, parts.closing, parts.capital), (1.0, 1.0, 1.0, 1.0));
        let parts = verse().parts("a", "The tower");
        assert_eq!((parts.length, parts.closing), (0.5, 0.0));
    }

    #[test]
    fn a_part_of_weight_zero_counts_for_nothing() {
        let nothing = Weights { known: 0.0, order: 0.0, length: 0.0, ..Weights::default() };
        let weights = Weights {
            closing: 0.0,
            capital: 0.0,
            repetition: 0.0,
            content: 0.0,
            own: 0.0,
            fresh: 0.0,
            ..nothing
        };
        let gold = Gold::new([PAGES], &GoldOptions { weights, ..GoldOptions::default() }).unwrap();
        assert_eq!(gold.score("a", "xyzzy", true), 1.0);
    }

    #[test]
    fn wrong_options_are_named() {
        let weights = Weights { order: 1.5, ..Weights::default() };
        let error = Gold::new([PAGES], &GoldOptions { weights, ..GoldOptions::default() }).unwrap_err();
        assert_eq!(error, GoldError::Weight { name: "order", value: 1.5 });
        assert_eq!(Gold::new(["--"], &GoldOptions::default()).unwrap_err(), GoldError::NoWords);
        let lengths = GoldOptions { least_words: 9, most_words: 3, ..GoldOptions::default() };
        assert_eq!(Gold::new([PAGES], &lengths).unwrap_err(), GoldError::Lengths { least: 9, most: 3 });
    }

    proptest! {
        #[test]
        fn any_text_has_a_score_between_minus_one_and_one(
            prompt in "\\PC*",
            reply in "\\PC*",
            finished in any::<bool>(),
        ) {
            let score = gold().score(&prompt, &reply, finished);
            prop_assert!((-1.0..=1.0).contains(&score));
            let in_set = gold().score_all(&[Reply { prompt: &prompt, text: &reply, finished }])[0];
            prop_assert!((score - in_set).abs() < 1e-12);
        }
    }
}
