//! The rows that a stage learns from, in memory or on disk.
//!
//! Purpose: examples by their number, whether they were tokenized just now or by a stage `tokenize`; and an epoch of tokens as
//! rows of one length.
//! Invariants: the same examples are the same rows, wherever they stand; on disk they may be larger than the memory; an epoch
//! of packed rows has each token once, and no document of a row sees another.
//! Must not know: which stage asks.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use kiln_formats::shards::{Cursor, Packed, Packing, Tokens};
use kiln_formats::tokenizer::Tokenizer;

use crate::context::StageError;
use crate::data::DataError;
use crate::model::TokenRow;

/// Whether an artifact holds tokens.
pub fn are_tokens(artifact: &Path) -> bool {
    artifact.join("index.json").is_file() && artifact.join("00000.tokens").is_file()
}

/// Opens tokens that were made with this tokenizer.
///
/// # Errors
/// When they are damaged, or were made with another one.
pub fn open(artifact: &Path, tokenizer: &Tokenizer) -> Result<Tokens, StageError> {
    let tokens = Tokens::open(artifact).map_err(DataError::from)?;
    if tokens.tokenizer() != tokenizer.digest().map_err(StageError::failed)? {
        return Err(DataError::OtherTokenizer(artifact.to_owned()).into());
    }
    Ok(tokens)
}

/// Examples as rows.
pub enum Examples {
    /// In memory.
    Rows(Vec<TokenRow>),
    /// On disk, of which these documents are used.
    Tokens(Tokens, Vec<u64>),
}

impl Examples {
    /// The documents of tokens that have something to learn and at most `context` tokens, and how many are longer.
    ///
    /// # Errors
    /// When the disk does not give them.
    pub fn fitting(tokens: Tokens, context: usize) -> Result<(Self, u64), StageError> {
        let fits = |document: &u64| tokens.length(*document) <= context as u64;
        let kept: Vec<u64> = (0..tokens.documents()).filter(fits).collect();
        let long = tokens.documents() - kept.len() as u64;
        match kept.is_empty() {
            true => Err(StageError::failed("no document of the tokens fits into the model's context")),
            false => Ok((Self::Tokens(tokens, kept), long)),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Rows(rows) => rows.len(),
            Self::Tokens(_, kept) => kept.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A row.
    ///
    /// # Errors
    /// When the disk does not give it.
    pub fn row(&self, place: usize) -> Result<TokenRow, DataError> {
        match self {
            Self::Rows(rows) => Ok(rows[place].clone()),
            Self::Tokens(tokens, kept) => {
                let document = tokens.document(kept[place])?;
                Ok(TokenRow::masked(document.ids, &document.mask))
            }
        }
    }

    /// Rows of these numbers.
    ///
    /// # Errors
    /// When the disk does not give one.
    pub fn rows(&self, places: impl IntoIterator<Item = usize>) -> Result<Vec<TokenRow>, DataError> {
        places.into_iter().map(|place| self.row(place)).collect()
    }
}

/// Epochs of tokens as rows of one length, one document after another, each epoch in an order of its own.
pub struct Epochs<'a> {
    packed: Mutex<Packed<'a>>,
    rows: u64,
}

impl<'a> Epochs<'a> {
    /// Rows of `length` tokens.
    ///
    /// # Errors
    /// When there are no tokens, or the length is 0.
    pub fn new(tokens: &'a Tokens, length: usize, seed: u64) -> Result<Self, DataError> {
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        let mut packed = Packed::new(tokens, length, Packing::Sequential, Some(seed))?;
        let rows = packed.rows(0);
        Ok(Self { packed: Mutex::new(packed), rows })
    }

    /// How many rows an epoch has.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The pieces of the documents in a row of all epochs, each as a sequence of its own. A piece of one token has nothing
    /// to learn, and is left out.
    ///
    /// # Errors
    /// When the disk does not give them.
    pub fn row(&self, number: u64) -> Result<Vec<TokenRow>, DataError> {
        let cursor = Cursor { epoch: number / self.rows, row: number % self.rows };
        let row = self.packed.lock().unwrap_or_else(PoisonError::into_inner).row(cursor)?;
        let mut start = 0;
        let pieces = row.pieces.iter().map(|piece| {
            let range = start..start + piece.length as usize;
            start = range.end;
            TokenRow::masked(row.ids[range.clone()].to_vec(), &row.mask[range])
        });
        Ok(pieces.filter(|row| row.targets() > 0).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_formats::shards::{Spec, Writer};

    fn tokens(documents: &[(&[u32], &[bool])]) -> (tempfile::TempDir, Tokens) {
        let folder = tempfile::tempdir().unwrap();
        let spec = Spec { masked: true, ..Spec::new(100, "0".repeat(64)) };
        let mut writer = Writer::create(folder.path(), &spec).unwrap();
        for (ids, mask) in documents {
            writer.document(ids, Some(mask)).unwrap();
        }
        writer.finish().unwrap();
        let tokens = Tokens::open(folder.path()).unwrap();
        (folder, tokens)
    }

    #[test]
    fn documents_that_are_too_long_are_left_out_and_counted() {
        let (_folder, tokens) =
            tokens(&[(&[1, 2, 3], &[false, true, true]), (&[4; 9], &[true; 9]), (&[5, 6], &[false, true])]);
        let (examples, long) = Examples::fitting(tokens, 4).unwrap();
        assert_eq!((examples.len(), long), (2, 1));
        assert_eq!(examples.rows([1, 0]).unwrap()[0], TokenRow::new(vec![5, 6], 1));
    }

    #[test]
    fn an_epoch_of_packed_rows_has_each_token_once_and_every_document_apart() {
        let documents: Vec<Vec<u32>> = (1..9u32).map(|i| vec![i; i as usize + 1]).collect();
        let with_masks: Vec<(&[u32], Vec<bool>)> =
            documents.iter().map(|ids| (ids.as_slice(), vec![true; ids.len()])).collect();
        let borrowed: Vec<(&[u32], &[bool])> =
            with_masks.iter().map(|(ids, mask)| (*ids, &mask[..])).collect();
        let (_folder, tokens) = tokens(&borrowed);
        let epochs = Epochs::new(&tokens, 7, 1).unwrap();
        assert_eq!(epochs.rows(), 44u64.div_ceil(7));
        let epoch = |epoch: u64| -> Vec<TokenRow> {
            (0..epochs.rows()).flat_map(|row| epochs.row(epoch * epochs.rows() + row).unwrap()).collect()
        };
        for rows in [epoch(0), epoch(1)] {
            assert!(rows.iter().all(|row| row.ids.iter().all(|id| *id == row.ids[0])), "one document each");
            let tokens: usize = rows.iter().map(|row| row.ids.len()).sum();
            // Where a row cuts off a single token, it has nothing to learn.
            assert!((44 - epochs.rows() as usize..=44).contains(&tokens), "{tokens}");
        }
        assert_ne!(epoch(0), epoch(1));
        assert_eq!(epoch(1), epoch(1));
    }
}
