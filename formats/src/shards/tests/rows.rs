//! Documents packed into rows.

use std::collections::HashMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::{Cursor, Packed, Packing, Piece, Tokens};
use super::tokens;

/// All rows of an epoch.
fn rows(packed: &mut Packed<'_>, epoch: u64) -> Vec<Vec<Piece>> {
    (0..packed.rows(epoch)).map(|row| packed.pieces(Cursor { epoch, row })).collect()
}

/// How often each token of each document comes in these rows.
fn seen(rows: &[Vec<Piece>]) -> HashMap<(u64, u64), u32> {
    let mut seen = HashMap::new();
    for piece in rows.iter().flatten() {
        for place in piece.start..piece.start + u64::from(piece.length) {
            *seen.entry((piece.document, place)).or_default() += 1;
        }
    }
    seen
}

fn every_token_once(tokens: &Tokens, rows: &[Vec<Piece>]) {
    let seen = seen(rows);
    assert_eq!(seen.len() as u64, tokens.tokens(), "no token is lost");
    assert!(seen.values().all(|&times| times == 1), "no token is repeated");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn an_epoch_has_each_token_exactly_once(
        lengths in vec(1_usize..40, 1..60), length in 1_u32..50, seed: u64, epoch in 0_u64..1000, shard in 1_u64..200,
    ) {
        let (_folder, tokens) = tokens(&lengths, shard);
        for packing in [Packing::Sequential, Packing::FirstFit] {
            let mut packed = Packed::new(&tokens, length, packing, Some(seed)).unwrap();
            let rows = rows(&mut packed, epoch);
            every_token_once(&tokens, &rows);
            let used = |row: &Vec<Piece>| row.iter().map(|piece| piece.length).sum::<u32>();
            prop_assert!(rows.iter().all(|row| !row.is_empty() && used(row) <= length));
            let last = rows.len() - 1;
            if packing == Packing::Sequential {
                prop_assert!(rows[..last].iter().all(|row| used(row) == length), "every row but the last is full");
            } else {
                // Only a document that is longer than a row is cut.
                let mut pieces: HashMap<u64, u32> = HashMap::new();
                rows.iter().flatten().for_each(|piece| *pieces.entry(piece.document).or_default() += 1);
                for (document, count) in pieces {
                    prop_assert_eq!(u64::from(count), tokens.length(document).div_ceil(u64::from(length)));
                }
            }
        }
    }
}

#[test]
fn a_row_has_the_tokens_of_its_pieces_with_positions_of_their_own() {
    let (_folder, tokens) = tokens(&[3, 9, 2, 5], 6);
    for packing in [Packing::Sequential, Packing::FirstFit] {
        let mut packed = Packed::new(&tokens, 4, packing, Some(7)).unwrap();
        for row in 0..packed.rows(0) {
            let row = packed.row(Cursor { epoch: 0, row }).unwrap();
            let (mut ids, mut positions) = (Vec::new(), Vec::new());
            for piece in &row.pieces {
                let range = piece.start..piece.start + u64::from(piece.length);
                ids.extend(tokens.piece(piece.document, range).unwrap().ids);
                positions.extend(0..piece.length);
            }
            assert_eq!((row.ids.len(), row.mask.len()), (ids.len(), ids.len()));
            assert_eq!((row.ids, row.positions), (ids, positions));
        }
    }
}

#[test]
fn a_cursor_leads_through_one_epoch_into_the_next_and_any_row_is_found_alone() {
    let lengths: Vec<usize> = (0..2000).map(|i| 1 + i * 7 % 23).collect();
    let (_folder, tokens) = tokens(&lengths, 5000);
    for packing in [Packing::Sequential, Packing::FirstFit] {
        let mut packed = Packed::new(&tokens, 64, packing, Some(3)).unwrap();
        let (mut cursor, mut all) = (Cursor::default(), Vec::new());
        while cursor.epoch < 2 {
            all.push((cursor, packed.pieces(cursor)));
            cursor = packed.after(cursor);
        }
        assert_eq!(all.len() as u64, packed.rows(0) + packed.rows(1));
        let of =
            |epoch| all.iter().filter(move |(cursor, _)| cursor.epoch == epoch).map(|(_, row)| row.clone());
        assert_ne!(of(0).collect::<Vec<_>>(), of(1).collect::<Vec<_>>(), "another epoch is another order");
        for epoch in [0, 1] {
            every_token_once(&tokens, &of(epoch).collect::<Vec<_>>());
        }
        for (cursor, pieces) in all.iter().rev().step_by(97) {
            let mut fresh = Packed::new(&tokens, 64, packing, Some(3)).unwrap();
            assert_eq!(&fresh.pieces(*cursor), pieces, "{cursor:?}");
        }
        let beyond = Cursor { epoch: 0, row: packed.rows(0) };
        assert!(packed.pieces(beyond).is_empty());
        assert!(packed.row(beyond).unwrap_err().to_string().starts_with("epoch 0 has no row "));
    }
}

#[test]
fn without_a_seed_the_documents_come_as_they_were_written() {
    let (_folder, tokens) = tokens(&[2, 3, 4], 100);
    let mut packed = Packed::new(&tokens, 5, Packing::Sequential, None).unwrap();
    let piece = |document, start, length| Piece { document, start, length };
    let expected = vec![vec![piece(0, 0, 2), piece(1, 0, 3)], vec![piece(2, 0, 4)]];
    assert_eq!(rows(&mut packed, 9), expected);
    assert!(Packed::new(&tokens, 0, Packing::FirstFit, None).is_err());
}

#[test]
fn first_fit_leaves_little_room() {
    let lengths: Vec<usize> = (0..3000).map(|i| 1 + i * 7919 % 900).collect();
    let (_folder, tokens) = tokens(&lengths, 1 << 20);
    let mut packed = Packed::new(&tokens, 1024, Packing::FirstFit, Some(1)).unwrap();
    let filled = tokens.tokens() as f64 / (packed.rows(0) * 1024) as f64;
    assert!(filled > 0.95, "{filled}");
}
