//! The reading of tokens as a function of any bytes.
//!
//! Purpose: a fuzz target that panics when a rule is broken: what opens can be read or says why not, an epoch has each token
//! once, and a row has the tokens of its pieces.
//! Invariant: nothing is written, and no file is touched.
//! Must not know: who makes the bytes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::store::Store;
use super::{Cursor, Packed, Packing, Tokens};

/// How many tokens a row has.
const LENGTH: u32 = 7;

/// Reads bytes as an index, of which the first two bytes tell the length, and as the shard that it names.
pub fn shards(bytes: &[u8]) {
    let Some((length, rest)) = bytes.split_first_chunk::<2>() else { return };
    let (index, shard) = rest.split_at(usize::from(u16::from_le_bytes(*length)).min(rest.len()));
    let shard: Arc<[u8]> = shard.into();
    let opened = Tokens::of(Path::new("<index>"), index, |name| {
        Ok((PathBuf::from(name), Store::Memory(Arc::clone(&shard))))
    });
    let tokens = match opened {
        Ok(tokens) => tokens,
        Err(error) => {
            assert!(!error.to_string().is_empty(), "an error says nothing");
            return;
        }
    };
    let lengths = (0..tokens.documents()).map(|document| tokens.length(document));
    assert_eq!(lengths.sum::<u64>(), tokens.tokens(), "documents and tokens do not add up");
    let is_sound = tokens.verify().is_ok();
    for document in 0..tokens.documents().min(64) {
        if let Ok(read) = tokens.document(document) {
            assert_eq!(read.ids.len() as u64, tokens.length(document));
            assert_eq!(read.mask.len(), read.ids.len());
            assert!(read.ids.iter().all(|&id| id < tokens.vocab_size()), "an id is beyond the vocabulary");
        } else {
            assert!(!is_sound, "a document of sound tokens cannot be read");
        }
    }
    for packing in [Packing::Sequential, Packing::FirstFit] {
        let Ok(mut packed) = Packed::new(&tokens, LENGTH, packing, Some(1)) else { return };
        let rows = packed.rows(3);
        let pieces = (0..rows).map(|row| packed.pieces(Cursor { epoch: 3, row })).collect::<Vec<_>>();
        let total: u64 = pieces.iter().flatten().map(|piece| u64::from(piece.length)).sum();
        assert_eq!(total, tokens.tokens(), "an epoch has not each token once");
        for row in 0..rows.min(64) {
            let read = packed.row(Cursor { epoch: 3, row });
            assert!(read.is_ok() || !is_sound, "a row of sound tokens cannot be read");
            let Ok(read) = read else { continue };
            let lengths = (read.ids.len(), read.mask.len(), read.positions.len());
            assert!(lengths.0 <= LENGTH as usize && lengths == (lengths.0, lengths.0, lengths.0));
            let ids = read.pieces.iter().flat_map(|piece| {
                let range = piece.start..piece.start + u64::from(piece.length);
                tokens.piece(piece.document, range).map(|read| read.ids).unwrap_or_default()
            });
            assert!(ids.eq(read.ids), "a row has other tokens than its pieces");
        }
    }
}
