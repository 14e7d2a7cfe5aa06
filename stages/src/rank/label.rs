//! A programme as labeller.
//!
//! Purpose: order the completions of each prompt by gold / tau + Gumbel noise, which is a draw from
//! the Plackett-Luce model: P(i before j) = sigmoid((gold_i - gold_j) / tau).
//! Invariants: noise is keyed by (seed, prompt, completion); a completion equal to an earlier one
//! of its prompt shares its rank; ranks are those of a competition (1, 2, 2, 4).
//! Must not know: which rule made the gold scores.

use rand::Rng;
use rand::seq::SliceRandom;

use super::RankOptions;
use crate::data::{Completion, CompletionSet, Ranking};
use crate::rng::keyed;

/// The tau that stands for "no end of noise" in the search.
const LARGEST_TAU: f64 = 1e6;

/// What is wrong with a call to [`rank`].
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RankError {
    /// An option out of its range.
    #[error("{name} is {value}; {needed}")]
    Option {
        /// Which.
        name: &'static str,
        /// Its value.
        value: f64,
        /// What it must be.
        needed: &'static str,
    },
    /// A prompt with nothing to compare.
    #[error("prompt {prompt} has {completions} completion(s); a ranking needs two, so sample more a prompt")]
    TooFew {
        /// The prompt's number, from 1.
        prompt: usize,
        /// Its completions.
        completions: usize,
    },
    /// Scores that do not fit.
    #[error("prompt {prompt}: {scores} gold scores for {completions} completions, or one that is no number")]
    Scores {
        /// The prompt's number, from 1.
        prompt: usize,
        /// Its scores.
        scores: usize,
        /// Its completions.
        completions: usize,
    },
}

/// Rankings, and how far they agree with gold.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranked {
    /// One a prompt, in the order of the completions.
    pub rankings: Vec<Ranking>,
    /// The scale of noise that was used.
    pub tau: f64,
    /// How far labels and gold agree.
    pub agreement: Agreement,
}

/// How far labels and gold agree, over all pairs of completions of one prompt.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Agreement {
    /// Pairs in all.
    pub pairs: u64,
    /// Pairs that the labeller called a tie.
    pub ties: u64,
    /// Pairs that both gold and labels order.
    pub ordered: u64,
    /// Pairs that both order alike.
    pub agreeing: u64,
}

impl Agreement {
    /// The share of ordered pairs that gold and labels order alike: the best that a reward model
    /// can be expected to reach on such labels. None without such pairs.
    pub fn share(&self) -> Option<f64> {
        (self.ordered > 0).then(|| self.agreeing as f64 / self.ordered as f64)
    }
}

/// Ranks each set by its gold scores (`gold[p][k]` is of completion k of prompt p) and noise.
///
/// # Errors
/// [`RankError`] names the option or prompt that is wrong.
pub fn rank(sets: &[CompletionSet], gold: &[Vec<f64>], options: &RankOptions) -> Result<Ranked, RankError> {
    check(sets, gold, options)?;
    let tau = options.tau.unwrap_or_else(|| tau_for(options.agreement, gold));
    let (mut rankings, mut agreement) = (Vec::with_capacity(sets.len()), Agreement::default());
    for (prompt, (set, gold)) in sets.iter().zip(gold).enumerate() {
        let utilities = utilities(&set.completions, gold, tau, options, prompt as u64);
        let ranks = competition_ranks(&utilities);
        agreement.count(gold, &ranks);
        rankings.push(Ranking {
            prompt: set.prompt.clone(),
            completions: set.completions.clone(),
            ranks,
            annotator: if options.shuffle { "gold-shuffled".into() } else { "gold".into() },
            seconds: 0.0,
            flags: Vec::new(),
        });
    }
    Ok(Ranked { rankings, tau, agreement })
}

fn check(sets: &[CompletionSet], gold: &[Vec<f64>], options: &RankOptions) -> Result<(), RankError> {
    let agreement = options.agreement;
    if !(agreement > 0.5 && agreement <= 1.0) {
        let needed = "it must be above 0.5 and at most 1";
        return Err(RankError::Option { name: "agreement", value: agreement, needed });
    }
    if let Some(tau) = options.tau.filter(|tau| !(0.0..=LARGEST_TAU).contains(tau)) {
        return Err(RankError::Option { name: "tau", value: tau, needed: "it must lie between 0 and 1e6" });
    }
    for (index, set) in sets.iter().enumerate() {
        let (prompt, completions) = (index + 1, set.completions.len());
        let scores = gold.get(index).map_or(0, Vec::len);
        if completions < 2 {
            return Err(RankError::TooFew { prompt, completions });
        }
        if scores != completions || !gold[index].iter().all(|score| score.is_finite()) {
            return Err(RankError::Scores { prompt, scores, completions });
        }
    }
    Ok(())
}

/// gold / tau + Gumbel noise of each completion; the earlier one's for a text that came before.
fn utilities(
    completions: &[Completion],
    gold: &[f64],
    tau: f64,
    options: &RankOptions,
    prompt: u64,
) -> Vec<f64> {
    // Scaled by tau, so that tau 0 is plain gold and equal gold a tie.
    let draw = |k: usize| gold[k] + tau * gumbel(&mut keyed(options.seed, "rank/noise", prompt, k as u64));
    let mut utilities: Vec<f64> = (0..completions.len()).map(draw).collect();
    if options.shuffle {
        utilities.shuffle(&mut keyed(options.seed, "rank/shuffle", prompt, 0));
    }
    for k in 1..completions.len() {
        if let Some(first) = completions[..k].iter().position(|other| *other == completions[k]) {
            utilities[k] = utilities[first];
        }
    }
    utilities
}

/// A draw from the standard Gumbel distribution: -ln(-ln u), u in (0, 1).
fn gumbel(rng: &mut impl Rng) -> f64 {
    let u = (rng.random_range(0..1u64 << 52) as f64 + 0.5) / (1u64 << 52) as f64;
    -(-u.ln()).ln()
}

/// 1 plus the number of better ones: 1, 2, 2, 4.
fn competition_ranks(utilities: &[f64]) -> Vec<u32> {
    utilities.iter().map(|own| 1 + utilities.iter().filter(|other| *other > own).count() as u32).collect()
}

/// The tau at which the expected share of agreeing pairs is `target`: the mean of
/// sigmoid(|gold_i - gold_j| / tau) over pairs of unequal gold falls in tau; found by bisection.
fn tau_for(target: f64, gold: &[Vec<f64>]) -> f64 {
    let gaps: Vec<f64> = gold
        .iter()
        .flat_map(|scores| pairs(scores.len()).map(|(i, j)| (scores[i] - scores[j]).abs()))
        .filter(|gap| *gap > 0.0)
        .collect();
    if gaps.is_empty() || target >= 1.0 {
        return 0.0;
    }
    let expected =
        |tau: f64| gaps.iter().map(|gap| 1.0 / (1.0 + (-gap / tau).exp())).sum::<f64>() / gaps.len() as f64;
    let (mut low, mut high) = (1e-9f64, LARGEST_TAU);
    for _ in 0..100 {
        let middle = (low * high).sqrt();
        if expected(middle) > target { low = middle } else { high = middle }
    }
    (low * high).sqrt()
}

fn pairs(k: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..k).flat_map(move |j| (0..j).map(move |i| (i, j)))
}

impl Agreement {
    fn count(&mut self, gold: &[f64], ranks: &[u32]) {
        for (i, j) in pairs(gold.len()) {
            self.pairs += 1;
            self.ties += u64::from(ranks[i] == ranks[j]);
            if ranks[i] != ranks[j] && gold[i] != gold[j] {
                self.ordered += 1;
                self.agreeing += u64::from((gold[i] > gold[j]) == (ranks[i] < ranks[j]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sets(prompts: usize, texts: &[&str]) -> Vec<CompletionSet> {
        let completion =
            |text: &&str| Completion { text: text.to_string(), finished: true, tokens: Vec::new() };
        let one = |p| CompletionSet {
            prompt: vec![crate::data::Message::user(format!("p{p}"))],
            completions: texts.iter().map(completion).collect(),
        };
        (0..prompts).map(one).collect()
    }

    fn spread(prompts: usize) -> (Vec<CompletionSet>, Vec<Vec<f64>>) {
        let gold =
            (0..prompts).map(|p| (0..4).map(|k| ((p * 7 + k * 13) % 10) as f64 / 10.0).collect()).collect();
        (sets(prompts, &["a", "b", "c", "d"]), gold)
    }

    #[test]
    fn without_noise_the_ranks_are_those_of_gold() {
        let options = RankOptions { tau: Some(0.0), ..RankOptions::default() };
        let ranked = rank(&sets(1, &["a", "b", "c", "d"]), &[vec![0.2, 0.9, 0.9, -1.0]], &options).unwrap();
        assert_eq!(ranked.rankings[0].ranks, [3, 1, 1, 4]);
        assert_eq!(ranked.agreement, Agreement { pairs: 6, ties: 1, ordered: 5, agreeing: 5 });
    }

    #[test]
    fn equal_texts_are_a_tie_whatever_the_noise() {
        let gold = vec![vec![0.5, 0.1, 0.5]; 50];
        let options = RankOptions { tau: Some(5.0), ..RankOptions::default() };
        for ranking in rank(&sets(50, &["same", "other", "same"]), &gold, &options).unwrap().rankings {
            assert_eq!(ranking.ranks[0], ranking.ranks[2]);
            assert_ne!(ranking.ranks[0], ranking.ranks[1]);
        }
    }

    #[test]
    fn tau_is_tuned_to_the_agreement_asked_for() {
        let (sets, gold) = spread(2000);
        for target in [0.6, 0.75, 0.9] {
            let options = RankOptions { agreement: target, ..RankOptions::default() };
            let share = rank(&sets, &gold, &options).unwrap().agreement.share().unwrap();
            assert!((share - target).abs() < 0.015, "{share} for {target}");
        }
    }

    #[test]
    fn pairs_follow_the_plackett_luce_law() {
        // sigmoid((0.7 - 0.5) / 0.2) = sigmoid(1) = 0.7311
        let gold = vec![vec![0.7, 0.5]; 4000];
        let options = RankOptions { tau: Some(0.2), ..RankOptions::default() };
        let share = rank(&sets(4000, &["a", "b"]), &gold, &options).unwrap().agreement.share().unwrap();
        assert!((share - 0.7311).abs() < 0.02, "{share}");
    }

    #[test]
    fn shuffled_ranks_agree_with_gold_by_chance_only() {
        let (sets, gold) = spread(2000);
        let options = RankOptions { shuffle: true, ..RankOptions::default() };
        let share = rank(&sets, &gold, &options).unwrap().agreement.share().unwrap();
        assert!((share - 0.5).abs() < 0.02, "{share}");
    }

    #[test]
    fn a_ranking_depends_on_seed_and_number_alone() {
        let (sets, gold) = spread(20);
        let options = RankOptions { tau: Some(1.0), ..RankOptions::default() };
        let all = rank(&sets, &gold, &options).unwrap().rankings;
        assert_eq!(rank(&sets[..5], &gold[..5], &options).unwrap().rankings, all[..5]);
        let other = rank(&sets, &gold, &RankOptions { seed: 2, ..options }).unwrap().rankings;
        assert_ne!(other, all);
    }

    #[test]
    fn one_completion_cannot_be_ranked() {
        let error = rank(&sets(1, &["a"]), &[vec![0.0]], &RankOptions::default()).unwrap_err();
        assert_eq!(error, RankError::TooFew { prompt: 1, completions: 1 });
    }
}
