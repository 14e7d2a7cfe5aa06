//! Rows of one length.
//!
//! Purpose: an epoch of documents as rows for training: each row is a list of pieces of documents, and knows where each begins,
//! so that no piece need attend to another.
//! Invariants: an epoch has each token exactly once; a row is known from its epoch and number alone.
//! Must not know: models, devices.

use std::ops::Range;

use super::{Document, Order, ShardError, Tokens};

/// After so many documents their tokens are summed up; between, they are counted.
const STEP: u64 = 256;
/// How many rows stay open for documents that may still fit.
const OPEN: usize = 64;

/// How documents become rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Packing {
    /// One after another: every row but the last is full, and a document goes on in the next row where it does not fit.
    /// Memory: a few bytes for 256 documents.
    Sequential,
    /// Each document whole into the first row with room for it, so that only one that is longer than a row is cut; rows may
    /// have room left. Memory: 24 bytes for each document.
    FirstFit,
}

/// Where training stands: the next row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, PartialOrd, Ord)]
pub struct Cursor {
    /// The pass over the documents, from 0.
    pub epoch: u64,
    /// The row of that pass, from 0.
    pub row: u64,
}

/// A part of a document in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// The number of the document.
    pub document: u64,
    /// Where the piece begins in the document, in tokens.
    pub start: u64,
    /// How many tokens it has.
    pub length: u32,
}

/// A row: at most as many tokens as the length of a row.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Row {
    /// Its pieces, in order.
    pub pieces: Vec<Piece>,
    /// Their ids, one piece after another.
    pub ids: Vec<u32>,
    /// Which of them are learnt.
    pub mask: Vec<bool>,
    /// The position of each token in its piece, from 0: the model sees nothing before a piece, even of the same document.
    pub positions: Vec<u32>,
}

/// Tokens as rows, epoch after epoch.
#[derive(Debug)]
pub struct Packed<'a> {
    tokens: &'a Tokens,
    seed: Option<u64>,
    length: u32,
    packing: Packing,
    /// The plan of the epoch that was asked for last.
    plan: Option<(u64, Plan)>,
}

/// The rows of an epoch.
#[derive(Debug)]
enum Plan {
    Sequential {
        order: Order,
        /// The tokens before every 256th document of the order.
        sums: Vec<u64>,
    },
    FirstFit {
        pieces: Vec<Piece>,
        /// Where the pieces of each row end.
        ends: Vec<usize>,
    },
}

impl<'a> Packed<'a> {
    /// Tokens as rows of `length` tokens; without a seed every epoch has the documents as they were written.
    ///
    /// # Errors
    /// [`ShardError::Usage`] for a length of 0.
    pub fn new(
        tokens: &'a Tokens,
        length: u32,
        packing: Packing,
        seed: Option<u64>,
    ) -> Result<Self, ShardError> {
        if length == 0 {
            return Err(ShardError::Usage("a row has at least one token".into()));
        }
        Ok(Self { tokens, seed, length, packing, plan: None })
    }

    /// How many rows an epoch has.
    pub fn rows(&mut self, epoch: u64) -> u64 {
        let (total, length) = (self.tokens.tokens(), u64::from(self.length));
        match self.plan(epoch) {
            Plan::Sequential { .. } => total.div_ceil(length),
            Plan::FirstFit { ends, .. } => ends.len() as u64,
        }
    }

    /// The cursor after this one.
    pub fn after(&mut self, cursor: Cursor) -> Cursor {
        let row = cursor.row.saturating_add(1);
        if row < self.rows(cursor.epoch) {
            Cursor { row, ..cursor }
        } else {
            Cursor { epoch: cursor.epoch + 1, row: 0 }
        }
    }

    /// The pieces of a row; none beyond the last.
    pub fn pieces(&mut self, cursor: Cursor) -> Vec<Piece> {
        let (tokens, length) = (self.tokens, u64::from(self.length));
        match self.plan(cursor.epoch) {
            Plan::Sequential { order, sums } => {
                let start = cursor.row.saturating_mul(length).min(tokens.tokens());
                let end = start.saturating_add(length).min(tokens.tokens());
                between(tokens, order, sums, start..end)
            }
            Plan::FirstFit { pieces, ends } => {
                let row = usize::try_from(cursor.row).unwrap_or(usize::MAX);
                let start = row.checked_sub(1).map_or(Some(0), |before| ends.get(before).copied());
                let range = start.zip(ends.get(row)).map_or(0..0, |(start, &end)| start..end);
                pieces.get(range).unwrap_or_default().to_vec()
            }
        }
    }

    /// A row.
    ///
    /// # Errors
    /// [`ShardError`] when the epoch has no such row, or when its tokens cannot be read.
    pub fn row(&mut self, cursor: Cursor) -> Result<Row, ShardError> {
        let pieces = self.pieces(cursor);
        if pieces.is_empty() {
            let what = format!(
                "epoch {} has no row {}: it has {}",
                cursor.epoch,
                cursor.row,
                self.rows(cursor.epoch)
            );
            return Err(ShardError::Usage(what));
        }
        let (mut read, mut positions) = (Document::default(), Vec::new());
        for piece in &pieces {
            let range = piece.start..piece.start + u64::from(piece.length);
            self.tokens.append(piece.document, range, &mut read)?;
            positions.extend(0..piece.length);
        }
        Ok(Row { pieces, ids: read.ids, mask: read.mask, positions })
    }

    fn plan(&mut self, epoch: u64) -> &Plan {
        let plan = match self.plan.take() {
            Some((of, plan)) if of == epoch => plan,
            _ => {
                let documents = self.tokens.documents();
                let order = self.seed.map_or_else(
                    || Order::natural(documents),
                    |seed| Order::shuffled(seed, epoch, documents),
                );
                match self.packing {
                    Packing::Sequential => sequential(self.tokens, order),
                    Packing::FirstFit => first_fit(self.tokens, &order, self.length),
                }
            }
        };
        &self.plan.insert((epoch, plan)).1
    }
}

fn visited(order: &Order, places: Range<u64>) -> impl Iterator<Item = u64> + '_ {
    places.filter_map(|place| order.at(place))
}

fn sequential(tokens: &Tokens, order: Order) -> Plan {
    let (mut sums, mut sum) = (Vec::new(), 0);
    for (place, document) in visited(&order, 0..order.count()).enumerate() {
        if (place as u64).is_multiple_of(STEP) {
            sums.push(sum);
        }
        sum += tokens.length(document);
    }
    Plan::Sequential { order, sums }
}

/// The pieces between two places of the documents joined in their order.
fn between(tokens: &Tokens, order: &Order, sums: &[u64], range: Range<u64>) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let step = sums.partition_point(|&sum| sum <= range.start).saturating_sub(1);
    let mut place = sums.get(step).copied().unwrap_or(0);
    for document in visited(order, step as u64 * STEP..order.count()) {
        if place >= range.end {
            break;
        }
        let end = place + tokens.length(document);
        let (from, to) = (range.start.max(place), range.end.min(end));
        if from < to {
            // A row has fewer tokens than 32 bits count.
            pieces.push(Piece { document, start: from - place, length: (to - from) as u32 });
        }
        place = end;
    }
    pieces
}

fn first_fit(tokens: &Tokens, order: &Order, length: u32) -> Plan {
    let mut rows: Vec<Vec<Piece>> = Vec::new();
    // Rows with room, each with how much, in the order of their making.
    let mut open: Vec<(usize, u32)> = Vec::new();
    for document in visited(order, 0..order.count()) {
        let (whole, mut start) = (tokens.length(document), 0);
        while start < whole {
            let piece = Piece { document, start, length: (whole - start).min(u64::from(length)) as u32 };
            start += u64::from(piece.length);
            match open.iter().position(|(_, room)| *room >= piece.length) {
                Some(place) => {
                    let (row, room) = &mut open[place];
                    rows[*row].push(piece);
                    *room -= piece.length;
                    if *room == 0 {
                        open.remove(place);
                    }
                }
                None => {
                    if piece.length < length {
                        open.push((rows.len(), length - piece.length));
                    }
                    rows.push(vec![piece]);
                }
            }
            if open.len() > OPEN {
                open.remove(0);
            }
        }
    }
    let (mut pieces, mut ends) = (Vec::new(), Vec::with_capacity(rows.len()));
    for row in rows {
        pieces.extend(row);
        ends.push(pieces.len());
    }
    Plan::FirstFit { pieces, ends }
}
