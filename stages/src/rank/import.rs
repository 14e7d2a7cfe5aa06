//! Rankings that others made.
//!
//! Purpose: check imported rankings against the completions they should be about.
//! Invariant: what passes ranks each prompt's own completions, all of them; several annotators may
//! rank the same prompt.
//! Must not know: who ranked, and whether well.

use std::collections::HashMap;

use crate::data::{CompletionSet, Ranking, spoken};

/// Why imported rankings do not fit the completions.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// A prompt that was never sampled.
    #[error("ranking {row} is about a prompt that the completions lack: {prompt:?}")]
    UnknownPrompt {
        /// The ranking's number, from 1.
        row: usize,
        /// Its prompt.
        prompt: String,
    },
    /// Other texts than those that were sampled.
    #[error(
        "ranking {row} does not rank the completions of its prompt {prompt:?}; \
         were they sampled anew since? label these, or give the file to `reward` or `dpo` as a source of the type rankings"
    )]
    OtherCompletions {
        /// The ranking's number, from 1.
        row: usize,
        /// Its prompt.
        prompt: String,
    },
}

/// Checks that each ranking ranks exactly the completions of its prompt, in any order. Where a
/// ranking held bare texts, what the completions know of `finished` is put in.
///
/// # Errors
/// [`ImportError`] names the first ranking that does not fit.
pub fn check_imported(rankings: &mut [Ranking], sets: &[CompletionSet]) -> Result<(), ImportError> {
    let known: HashMap<String, &CompletionSet> = sets.iter().map(|set| (spoken(&set.prompt), set)).collect();
    for (index, ranking) in rankings.iter_mut().enumerate() {
        let (row, prompt) = (index + 1, spoken(&ranking.prompt));
        let Some(set) = known.get(&prompt) else {
            return Err(ImportError::UnknownPrompt { row, prompt });
        };
        if !adopt(ranking, set) {
            return Err(ImportError::OtherCompletions { row, prompt });
        }
    }
    Ok(())
}

/// Pairs each ranked text with a sampled one; false when some are left over.
fn adopt(ranking: &mut Ranking, set: &CompletionSet) -> bool {
    let mut left = set.completions.clone();
    for completion in &mut ranking.completions {
        let exact = left.iter().position(|other| other == completion);
        let Some(place) = exact.or_else(|| left.iter().position(|other| other.text == completion.text))
        else {
            return false;
        };
        *completion = left.swap_remove(place);
    }
    left.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Completion, Message};

    fn completion(text: &str, finished: bool) -> Completion {
        Completion { text: text.into(), finished, tokens: Vec::new() }
    }

    fn ranking(texts: &[&str]) -> Ranking {
        Ranking {
            prompt: vec![Message::user("p")],
            completions: texts.iter().map(|text| completion(text, true)).collect(),
            ranks: (1..=texts.len() as u32).collect(),
            annotator: "ada".into(),
            seconds: 3.5,
            flags: vec![],
        }
    }

    fn sets() -> Vec<CompletionSet> {
        vec![CompletionSet {
            prompt: vec![Message::user("p")],
            completions: vec![completion("a", true), completion("b", false)],
        }]
    }

    #[test]
    fn rankings_of_the_sampled_texts_pass_in_any_order_and_learn_which_were_cut_off() {
        let mut rankings = [ranking(&["b", "a"])];
        check_imported(&mut rankings, &sets()).unwrap();
        assert_eq!(rankings[0].completions, [completion("b", false), completion("a", true)]);
    }

    #[test]
    fn other_texts_and_missing_ones_are_errors() {
        for texts in [&["a", "c"][..], &["a"], &["a", "a"], &["a", "b", "b"]] {
            let error = check_imported(&mut [ranking(texts)], &sets()).unwrap_err();
            assert_eq!(error, ImportError::OtherCompletions { row: 1, prompt: "p".into() });
        }
    }

    #[test]
    fn an_unknown_prompt_is_an_error() {
        let mut stray = ranking(&["a", "b"]);
        stray.prompt = vec![Message::user("q")];
        let error = check_imported(&mut [ranking(&["a", "b"]), stray], &sets()).unwrap_err();
        assert_eq!(error, ImportError::UnknownPrompt { row: 2, prompt: "q".into() });
    }
}
