//! Raw text as rows of tokens.
//!
//! Purpose: the tokens of documents, rows drawn from them, and rows that are held out.
//! Invariant: every document ends with the end-of-text token; a held-out token is a target at most once.
//! Must not know: which stage asks.

use std::path::Path;

use kiln_formats::bpe::last_cut;
use kiln_formats::tokenizer::Tokenizer;

use super::lm::lm_loss;
use super::run::Measured;
use crate::context::StageError;
use crate::data::{Corpus, DataError, Part, TokenStore};
use crate::model::{Network, TokenRow};

/// Bytes of text that are tokenized at a time, on all threads.
const BATCH: usize = 8 << 20;

/// The tokens of a corpus, each document ended by the end-of-text token, kept in a folder.
///
/// # Errors
/// Those of reading the texts and of keeping the tokens.
pub fn tokens(tokenizer: &Tokenizer, corpus: &Corpus, folder: &Path) -> Result<TokenStore, DataError> {
    let eot = [tokenizer.eot()];
    TokenStore::new(folder, tokenizer.vocab_size(), |push| {
        encode(tokenizer, corpus, |part, ids| {
            push(ids)?;
            push(if part.ends { &eot } else { &[] })
        })
    })
}

/// Tokenizes a corpus part by part, on all threads; `take` is given the parts in order.
///
/// # Errors
/// Those of reading the texts, and of `take`.
pub fn encode(
    tokenizer: &Tokenizer,
    corpus: &Corpus,
    mut take: impl FnMut(&Part, &[u32]) -> Result<(), DataError>,
) -> Result<(), DataError> {
    let mut parts = corpus.parts(last_cut).peekable();
    while parts.peek().is_some() {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while bytes < BATCH
            && let Some(part) = parts.next().transpose()?
        {
            bytes += part.text.len();
            batch.push(part);
        }
        let texts: Vec<&str> = batch.iter().map(|part| part.text.as_str()).collect();
        for (part, ids) in batch.iter().zip(tokenizer.encode_batch(&texts)) {
            take(part, &ids)?;
        }
    }
    Ok(())
}

/// A long text of which rows of `time` inputs and their successors are drawn.
pub struct Windows {
    tokens: TokenStore,
    time: usize,
}

impl Windows {
    /// Rows of these tokens.
    ///
    /// # Errors
    /// When there are too few tokens for one row.
    pub fn new(tokens: TokenStore, time: usize) -> Result<Self, String> {
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
    ///
    /// # Errors
    /// When the disk does not give it.
    pub fn row(&self, draw: u64) -> Result<TokenRow, DataError> {
        let start = (draw % (self.tokens.len() - self.time) as u64) as usize;
        Ok(TokenRow::new(self.tokens.read(start..start + self.time + 1)?, 1))
    }
}

/// The most tokens of held-out text that a validation looks at, unless told otherwise.
pub const VALIDATION_TOKENS: usize = 1 << 15;

/// Text kept away from training, as rows, with the length in bytes of their targets.
pub struct HeldOut {
    tokens: TokenStore,
    time: usize,
    /// Of so many rows one is taken.
    stride: usize,
    targets: usize,
    bytes: usize,
}

impl HeldOut {
    /// Cuts a text into rows of `time` targets, each token but the first a target once. Of a text of more than `most`
    /// tokens every n-th row is taken, always the same ones.
    ///
    /// # Errors
    /// When the disk does not give the tokens.
    pub fn new(
        tokenizer: &Tokenizer,
        tokens: TokenStore,
        time: usize,
        most: usize,
    ) -> Result<Self, DataError> {
        let rows = tokens.len().saturating_sub(1).div_ceil(time);
        let stride = rows.div_ceil((most / time).max(1)).max(1);
        let mut made = Self { tokens, time, stride, targets: 0, bytes: 0 };
        for row in made.starts() {
            let row = made.row(row)?;
            made.targets += row.targets();
            made.bytes += tokenizer.bytes_of(&row.ids[1..]);
        }
        Ok(made)
    }

    /// Where the rows begin.
    fn starts(&self) -> impl Iterator<Item = usize> + use<> {
        (0..self.tokens.len().saturating_sub(1)).step_by(self.time).step_by(self.stride)
    }

    fn row(&self, start: usize) -> Result<TokenRow, DataError> {
        let end = (start + self.time + 1).min(self.tokens.len());
        Ok(TokenRow::new(self.tokens.read(start..end)?, 1))
    }

    /// How many targets there are.
    pub fn targets(&self) -> usize {
        self.targets
    }

    /// Validation loss (nats a token) and bits per byte of the text.
    ///
    /// # Errors
    /// When the loss is not finite.
    pub fn measure(&self, model: &Network, micro: usize) -> Result<Measured, StageError> {
        if self.targets == 0 {
            return Ok(Vec::new());
        }
        let (sum, count, bytes) = self.sums(model, micro)?;
        let bits = sum / std::f64::consts::LN_2 / bytes.max(1) as f64;
        Ok(vec![("val/loss", sum / count as f64), ("val/bits_per_byte", bits)])
    }

    /// The summed loss in nats, the tokens it is over, and the bytes of the text; `micro` rows are in memory at a time.
    ///
    /// # Errors
    /// When the loss is not finite, or the disk does not give a row.
    pub fn sums(&self, model: &Network, micro: usize) -> Result<(f64, usize, usize), StageError> {
        let (mut sum, mut starts) = (0.0, self.starts().peekable());
        while starts.peek().is_some() {
            let rows: Result<Vec<TokenRow>, DataError> =
                starts.by_ref().take(micro.max(1)).map(|start| self.row(start)).collect();
            sum += lm_loss(model, &rows?, micro)?.0;
        }
        Ok((sum, self.targets, self.bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{cpu, token_store, tokenizer};

    fn stored(texts: &[&str]) -> TokenStore {
        let folder = tempfile::tempdir().unwrap();
        for (i, text) in texts.iter().enumerate() {
            std::fs::write(folder.path().join(format!("{i:02}")), text).unwrap();
        }
        tokens(&tokenizer(), &Corpus::open(folder.path()).unwrap(), folder.path()).unwrap()
    }

    fn held_out(texts: &[&str], time: usize, most: usize) -> HeldOut {
        HeldOut::new(&tokenizer(), stored(texts), time, most).unwrap()
    }

    fn rows(held_out: &HeldOut) -> Vec<TokenRow> {
        held_out.starts().map(|start| held_out.row(start).unwrap()).collect()
    }

    /// The tokens of texts, all in memory.
    fn joined(texts: &[&str]) -> Vec<u32> {
        let (tokenizer, mut out) = (tokenizer(), Vec::new());
        for text in texts {
            out.extend(tokenizer.encode(text));
            out.push(tokenizer.eot());
        }
        out
    }

    #[test]
    fn a_text_in_parts_has_the_tokens_of_the_whole() {
        let text = "the sün rose over the hill, and 12345 birds sang\n\n".repeat(200_000);
        let texts = [text.as_str(), "the hill", &text[..BATCH / 3]];
        let stored = stored(&texts);
        assert_eq!(stored.read(0..stored.len()).unwrap(), joined(&texts));
    }

    #[test]
    fn a_window_lies_within_the_tokens_wherever_it_begins() {
        let windows = Windows::new(token_store(&(0..20).collect::<Vec<u32>>()), 8).unwrap();
        let mut starts = std::collections::BTreeSet::new();
        for draw in (0..40).chain([u64::MAX]) {
            let row = windows.row(draw).unwrap();
            assert_eq!(row.targets(), 8);
            assert!(row.ids.windows(2).all(|pair| pair[1] == pair[0] + 1));
            starts.insert(row.ids[0]);
        }
        assert_eq!(starts, (0..12).collect(), "the first and the last window are drawn too");
        let ids: Vec<u32> = (0..9).collect();
        assert_eq!(Windows::new(token_store(&ids), 8).unwrap().row(5).unwrap().ids, ids);
        assert!(Windows::new(token_store(&ids[..8]), 8).is_err());
    }

    #[test]
    fn every_held_out_token_but_the_first_is_a_target_once() {
        let (tokenizer, texts) = (tokenizer(), ["the sun rose over the hill", "birds sang"]);
        let tokens = joined(&texts);
        for time in [1, 4, 7, 100] {
            let rows = rows(&held_out(&texts, time, usize::MAX));
            let targets: Vec<u32> = rows.iter().flat_map(|r| r.ids[1..].to_vec()).collect();
            assert_eq!(targets, tokens[1..], "rows of {time}");
            assert!(rows.iter().all(|r| r.targets() <= time));
        }
        assert_eq!(tokens.iter().filter(|&&t| t == tokenizer.eot()).count(), 2, "each document ends");
    }

    #[test]
    fn of_a_long_text_rows_from_all_over_are_held_out_and_no_more_than_a_bound() {
        let text = "the sun rose over the hill and the birds sang ".repeat(20_000);
        let held_out = held_out(&[&text], 64, VALIDATION_TOKENS);
        let rows = rows(&held_out);
        let targets: usize = rows.iter().map(TokenRow::targets).sum();
        assert_eq!(targets, held_out.targets());
        assert!(targets <= VALIDATION_TOKENS && targets > VALIDATION_TOKENS / 2, "{targets}");
        let end = rows.last().unwrap();
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
        let held_out = held_out(&texts, 8, usize::MAX);
        let (sum, tokens, bytes) = held_out.sums(&model, 2).unwrap();
        assert_eq!(bytes, texts[0].len() - tokenizer.bytes_of(&tokenizer.encode(texts[0])[..1]));
        assert_eq!(tokens, joined(&texts).len() - 1);
        // A fresh model guesses: about log V a token.
        assert!((sum / tokens as f64 - (config.vocab as f64).ln()).abs() < 0.1);
        let measured = held_out.measure(&model, 2).unwrap();
        assert_eq!(measured[0], ("val/loss", sum / tokens as f64));
        let bits = sum / std::f64::consts::LN_2 / bytes as f64;
        assert!(measured[1].0 == "val/bits_per_byte" && (measured[1].1 - bits).abs() < 1e-12);
    }
}
