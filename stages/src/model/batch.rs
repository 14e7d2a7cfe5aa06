//! Rows of tokens, and many of them as one batch without padding.
//!
//! Purpose: what every model reads and what is asked of it.
//! Invariant: the sequences of a batch lie one after the other, and their positions begin at 0; padding does not exist, so
//! it can change nothing.
//! Must not know: models.

use std::ops::Range;

/// A row of tokens of which some are targets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRow {
    /// The tokens.
    pub ids: Vec<u32>,
    /// The first token that is a target (at least 1: nothing predicts token 0); all after it are but the gaps.
    pub from: usize,
    /// Places after `from` that are no targets: what others say in a conversation. They rise and do not overlap.
    pub gaps: Vec<Range<usize>>,
}

impl TokenRow {
    /// A row whose tokens are targets from a place on.
    pub fn new(ids: Vec<u32>, from: usize) -> Self {
        Self { ids, from, gaps: Vec::new() }
    }

    /// A row of which the marked tokens are targets. What follows the last target is left out, for it teaches nothing.
    pub fn masked(mut ids: Vec<u32>, mask: &[bool]) -> Self {
        let end = mask.iter().rposition(|&is_target| is_target).map_or(0, |last| last + 1);
        let from = mask.iter().position(|&is_target| is_target).unwrap_or(0);
        ids.truncate(end);
        let mut gaps: Vec<Range<usize>> = Vec::new();
        for place in (from..end).filter(|&place| !mask[place]) {
            match gaps.last_mut() {
                Some(gap) if gap.end == place => gap.end += 1,
                _ => gaps.push(place..place + 1),
            }
        }
        Self { ids, from, gaps }
    }

    /// Cuts the row at its end.
    pub fn truncate(&mut self, length: usize) {
        self.ids.truncate(length);
        self.gaps.retain_mut(|gap| {
            gap.end = gap.end.min(length);
            gap.start < gap.end
        });
    }

    /// The places of the targets, in order.
    pub fn places(&self) -> impl Iterator<Item = usize> {
        (self.from.max(1)..self.ids.len()).filter(|place| !self.gaps.iter().any(|gap| gap.contains(place)))
    }

    /// The places at which the targets are predicted: each is before its target.
    pub fn states(&self) -> Vec<usize> {
        self.places().map(|place| place - 1).collect()
    }

    /// How many targets the row has.
    pub fn targets(&self) -> usize {
        let left_out: usize = self.gaps.iter().map(ExactSizeIterator::len).sum();
        self.ids.len().saturating_sub(self.from.max(1) + left_out)
    }
}

/// What a model is asked about rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Readout {
    /// The log-probability of each target, of `softmax(logits / temperature)`.
    LogProbs {
        /// Divides the logits.
        temperature: f32,
    },
    /// The value before each target: that of the state in which it is chosen.
    Values,
    /// The score of each row, at its last token.
    Scores,
}

impl Readout {
    /// How many numbers a row gives.
    pub fn outputs(self, row: &TokenRow) -> usize {
        if self == Self::Scores { 1 } else { row.targets() }
    }
}

/// Sequences of tokens, one after the other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// `[tokens]`.
    pub input_ids: Vec<u32>,
    /// `[tokens]`: the position of each within its sequence.
    pub position_ids: Vec<u32>,
    /// `[tokens]`: whether something is read here.
    pub loss_mask: Vec<bool>,
    /// The token after each position that is read, as many as the mask has.
    pub labels: Vec<u32>,
}

impl Batch {
    /// The sequences of rows. The last token of a row predicts nothing that is asked for, so only scores read it.
    pub fn new(rows: &[TokenRow], readout: Readout) -> Self {
        let mut out = Self::default();
        for row in rows {
            let length = row.ids.len() - usize::from(readout != Readout::Scores);
            out.input_ids.extend(&row.ids[..length]);
            out.position_ids.extend(0..length as u32);
            match readout {
                Readout::Scores => {
                    out.loss_mask.extend((1..=length).map(|t| t == length));
                    out.labels.push(0);
                }
                _ => {
                    let start = out.loss_mask.len();
                    out.loss_mask.resize(start + length, false);
                    // What a place predicts is the token after it.
                    row.places().for_each(|place| out.loss_mask[start + place - 1] = true);
                    out.labels.extend(row.places().map(|place| row.ids[place]));
                }
            }
        }
        out
    }

    /// The place of each sequence.
    pub fn sequences(&self) -> Vec<Range<usize>> {
        let starts = (0..self.position_ids.len()).filter(|&t| self.position_ids[t] == 0);
        let starts: Vec<usize> = starts.chain([self.position_ids.len()]).collect();
        starts.windows(2).map(|pair| pair[0]..pair[1]).collect()
    }

    /// The places that are read.
    pub fn read(&self) -> Vec<usize> {
        (0..self.loss_mask.len()).filter(|&t| self.loss_mask[t]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of the tokens 1, 2, .. with their first targets.
    fn rows() -> Vec<TokenRow> {
        let row = |(length, from): (u32, usize)| TokenRow::new((1..=length).collect(), from);
        [(4, 2), (1, 1), (3, 0), (2, 5)].map(row).to_vec()
    }

    #[test]
    fn a_batch_for_targets_leaves_out_the_last_token_and_reads_where_each_target_is_predicted() {
        let batch = Batch::new(&rows(), Readout::Values);
        assert_eq!(batch.input_ids, [1, 2, 3, 1, 2, 1]);
        assert_eq!(batch.position_ids, [0, 1, 2, 0, 1, 0]);
        assert_eq!(batch.loss_mask, [false, true, true, true, true, false]);
        assert_eq!(batch.labels, [3, 4, 2, 3]);
        assert_eq!(batch.sequences(), [0..3, 3..5, 5..6]);
        assert_eq!(batch.read(), [1, 2, 3, 4]);
        assert_eq!(Batch::new(&rows(), Readout::LogProbs { temperature: 1.0 }), batch);
        let outputs = rows().iter().map(|row| Readout::Values.outputs(row)).collect::<Vec<_>>();
        assert_eq!(outputs, [2, 0, 2, 0]);
    }

    #[test]
    fn a_batch_for_scores_has_every_token_and_reads_the_last_of_each_row() {
        let batch = Batch::new(&rows(), Readout::Scores);
        assert_eq!(batch.input_ids, [1, 2, 3, 4, 1, 1, 2, 3, 1, 2]);
        assert_eq!(batch.sequences(), [0..4, 4..5, 5..8, 8..10]);
        assert_eq!(batch.read(), [3, 4, 7, 9]);
        assert_eq!(batch.labels.len(), 4);
    }

    #[test]
    fn what_is_not_marked_is_read_as_a_token_and_is_no_target() {
        let mask = [false, false, true, true, false, false, true, false];
        let row = TokenRow::masked((1..=8).collect(), &mask);
        assert_eq!((row.ids.len(), row.targets()), (7, 3));
        assert_eq!(row.places().collect::<Vec<_>>(), [2, 3, 6]);
        let batch = Batch::new(&[row.clone(), TokenRow::new(vec![9, 8], 1)], Readout::Values);
        assert_eq!(batch.input_ids, [1, 2, 3, 4, 5, 6, 9]);
        assert_eq!(batch.loss_mask, [false, true, true, false, false, true, true]);
        assert_eq!(batch.labels, [3, 4, 7, 8]);
        for (length, targets) in [(7, 3), (6, 2), (5, 2), (3, 1), (2, 0)] {
            let mut cut = row.clone();
            cut.truncate(length);
            assert_eq!((cut.targets(), cut.places().count()), (targets, targets), "{length}");
        }
        assert_eq!(TokenRow::masked(vec![1, 2], &[false; 2]).targets(), 0);
        assert_eq!(TokenRow::masked(vec![1, 2, 3], &[true; 3]).places().collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn a_batch_of_nothing_has_no_sequences() {
        assert!(Batch::new(&[], Readout::Scores).sequences().is_empty());
        let alone = TokenRow::new(vec![7], 1);
        let batch = Batch::new(&[alone], Readout::Values);
        assert!(batch.sequences().is_empty() && batch.read().is_empty());
    }
}
