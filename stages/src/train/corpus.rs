//! Raw text as rows of tokens.
//!
//! Purpose: the tokens of documents, rows drawn from them, and rows that are held out.
//! Invariant: every document ends with the end-of-text token; a held-out token is a target at most once.
//! Must not know: which stage asks.

use super::lm::lm_loss;
use super::run::Measured;
use crate::bpe::Tokenizer;
use crate::context::StageError;
use crate::model::{Network, TokenRow};

/// A long text of which rows of `time` inputs and their successors are drawn.
pub struct Windows {
    tokens: Vec<u32>,
    time: usize,
}

impl Windows {
    /// Rows of these tokens.
    ///
    /// # Errors
    /// When there are too few tokens for one row.
    pub fn new(tokens: Vec<u32>, time: usize) -> Result<Self, String> {
        match tokens.len() > time {
            true => Ok(Self { tokens, time }),
            false => Err(format!(
                "the text has {} tokens and one row needs {}: add text or shorten the context",
                tokens.len(),
                time + 1
            )),
        }
    }

    /// How many tokens there are.
    pub fn tokens(&self) -> usize {
        self.tokens.len()
    }

    /// A row; `draw` says where it starts.
    pub fn row(&self, draw: u64) -> TokenRow {
        let start = (draw % (self.tokens.len() - self.time) as u64) as usize;
        TokenRow { ids: self.tokens[start..=start + self.time].to_vec(), from: 1 }
    }
}

/// Tokens of documents, each ended by the end-of-text token.
pub fn joined(tokenizer: &Tokenizer, texts: &[&str]) -> Vec<u32> {
    let mut out = Vec::new();
    for ids in tokenizer.encode_batch(texts) {
        out.extend(ids);
        out.push(tokenizer.eot());
    }
    out
}

/// Documents cut in two at a part of their bytes, at a character. A part above 0 holds out at least a character.
pub fn split<'t>(texts: &[&'t str], held_out: f64) -> (Vec<&'t str>, Vec<&'t str>) {
    let bytes: usize = texts.iter().map(|text| text.len()).sum();
    // However small the part is, one byte is beyond it, and so its character.
    let most = if held_out > 0.0 { bytes.saturating_sub(1) } else { bytes };
    let mut left = ((bytes as f64 * (1.0 - held_out)) as usize).min(most);
    let (mut training, mut held) = (Vec::new(), Vec::new());
    for text in texts {
        let (head, tail) = text.split_at(text.floor_char_boundary(left));
        left -= left.min(text.len());
        training.extend(Some(head).filter(|head| !head.is_empty()));
        held.extend(Some(tail).filter(|tail| !tail.is_empty()));
    }
    (training, held)
}

/// The most tokens of held-out text that a validation looks at, unless told otherwise.
pub const VALIDATION_TOKENS: usize = 1 << 15;

/// Text kept away from training, as rows, with the length in bytes of their targets.
pub struct HeldOut {
    rows: Vec<TokenRow>,
    bytes: usize,
}

impl HeldOut {
    /// Cuts documents into rows of `time` targets, each token but the first a target once. Of a text of more than `most`
    /// tokens every n-th row is taken, always the same ones.
    pub fn new(tokenizer: &Tokenizer, texts: &[&str], time: usize, most: usize) -> Self {
        let tokens = joined(tokenizer, texts);
        let starts = (0..tokens.len().saturating_sub(1)).step_by(time);
        let stride = starts.len().div_ceil((most / time).max(1)).max(1);
        let rows: Vec<TokenRow> = starts
            .step_by(stride)
            .map(|i| TokenRow { ids: tokens[i..(i + time + 1).min(tokens.len())].to_vec(), from: 1 })
            .collect();
        let bytes = rows.iter().map(|r| tokenizer.decode_bytes(&r.ids[1..]).len()).sum();
        Self { rows, bytes }
    }

    /// How many targets there are.
    pub fn targets(&self) -> usize {
        self.rows.iter().map(TokenRow::targets).sum()
    }

    /// Validation loss (nats a token) and bits per byte of the text.
    ///
    /// # Errors
    /// When the loss is not finite.
    pub fn measure(&self, model: &Network, micro: usize) -> Result<Measured, StageError> {
        if self.rows.is_empty() {
            return Ok(Vec::new());
        }
        let (sum, count, bytes) = self.sums(model, micro)?;
        let bits = sum / std::f64::consts::LN_2 / bytes.max(1) as f64;
        Ok(vec![("val/loss", sum / count as f64), ("val/bits_per_byte", bits)])
    }

    /// The summed loss in nats, the tokens it is over, and the bytes of the text.
    ///
    /// # Errors
    /// When the loss is not finite.
    pub fn sums(&self, model: &Network, micro: usize) -> Result<(f64, usize, usize), StageError> {
        let (sum, count) = lm_loss(model, &self.rows, micro)?;
        Ok((sum, count, self.bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{cpu, tokenizer};

    #[test]
    fn a_window_lies_within_the_tokens_wherever_it_begins() {
        let windows = Windows::new((0..20).collect(), 8).unwrap();
        let mut starts = std::collections::BTreeSet::new();
        for draw in (0..40).chain([u64::MAX]) {
            let row = windows.row(draw);
            assert_eq!(row.targets(), 8);
            assert!(row.ids.windows(2).all(|pair| pair[1] == pair[0] + 1));
            starts.insert(row.ids[0]);
        }
        assert_eq!(starts, (0..12).collect(), "the first and the last window are drawn too");
        assert_eq!(Windows::new((0..9).collect(), 8).unwrap().row(5).ids, (0..9).collect::<Vec<u32>>());
        assert!(Windows::new((0..8).collect(), 8).is_err());
    }

    #[test]
    fn every_held_out_token_but_the_first_is_a_target_once() {
        let (tokenizer, texts) = (tokenizer(), ["the sun rose over the hill", "birds sang"]);
        let tokens = joined(&tokenizer, &texts);
        for time in [1, 4, 7, 100] {
            let held_out = HeldOut::new(&tokenizer, &texts, time, usize::MAX);
            let targets: Vec<u32> = held_out.rows.iter().flat_map(|r| r.ids[1..].to_vec()).collect();
            assert_eq!(targets, tokens[1..], "rows of {time}");
            assert!(held_out.rows.iter().all(|r| r.targets() <= time));
        }
        assert_eq!(tokens.iter().filter(|&&t| t == tokenizer.eot()).count(), 2, "each document ends");
    }

    #[test]
    fn of_a_long_text_rows_from_all_over_are_held_out_and_no_more_than_a_bound() {
        let text = "the sun rose over the hill and the birds sang ".repeat(20_000);
        let held_out = HeldOut::new(&tokenizer(), &[&text], 64, VALIDATION_TOKENS);
        let targets: usize = held_out.rows.iter().map(TokenRow::targets).sum();
        assert!(targets <= VALIDATION_TOKENS && targets > VALIDATION_TOKENS / 2, "{targets}");
        let end = held_out.rows.last().unwrap();
        assert!(end.ids.len() == 65 || end.ids.last() == Some(&tokenizer().eot()));
    }

    #[test]
    fn bits_per_byte_are_the_summed_loss_over_the_bytes_of_the_text() {
        let (tokenizer, texts) = (tokenizer(), ["the sün rose over the hill"]);
        let config = crate::model::ModelConfig {
            vocab: tokenizer.vocab_size(),
            ..crate::testing::shapes()[0].clone()
        };
        let model = Network::drawn(&config, 0, &cpu());
        let held_out = HeldOut::new(&tokenizer, &texts, 8, usize::MAX);
        let (sum, tokens, bytes) = held_out.sums(&model, 2).unwrap();
        assert_eq!(bytes, texts[0].len() - tokenizer.decode_bytes(&tokenizer.encode(texts[0])[..1]).len());
        assert_eq!(tokens, joined(&tokenizer, &texts).len() - 1);
        // A fresh model guesses: about log V a token.
        assert!((sum / tokens as f64 - (config.vocab as f64).ln()).abs() < 0.1);
        let measured = held_out.measure(&model, 2).unwrap();
        assert_eq!(measured[0], ("val/loss", sum / tokens as f64));
        let bits = sum / std::f64::consts::LN_2 / bytes as f64;
        assert!(measured[1].0 == "val/bits_per_byte" && (measured[1].1 - bits).abs() < 1e-12);
    }

    #[test]
    fn the_end_of_the_text_is_held_out_and_cut_at_a_character() {
        let texts = ["the sün rose ö ".repeat(9), "the birds".to_owned(), "ö".to_owned()];
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        for hundredth in 0..=50 {
            let (training, held) = split(&texts, f64::from(hundredth) / 100.0);
            assert_eq!(training.concat() + &held.concat(), texts.concat(), "at {hundredth} %");
            assert_eq!(held.is_empty(), hundredth == 0);
            let cut = usize::from(training.len() + held.len() > texts.len());
            assert_eq!(training.len() + held.len(), texts.len() + cut, "no document is joined with another");
        }
        assert_eq!(split(&["ö"], 1e-300).1, ["ö"], "a part above 0 holds something out");
    }
}
