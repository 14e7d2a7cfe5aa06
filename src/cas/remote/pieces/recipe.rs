//! How a blob is made from pieces.
//!
//! Purpose: the object `recipes/DIGEST` of a remote.
//! Invariant: the pieces of a recipe that was read make up exactly the size of the blob, and lie within packs of a
//! bounded size; so a hostile recipe costs no more than the blob that was asked for.
//! Must not know: how pieces are cut or coded.

use serde::{Deserialize, Serialize};

use super::coding::{DELTA, RAW};
use crate::digest::{Digest, sealed};

/// The format of a recipe.
const FORMAT: &str = "kiln.recipe/1";
/// The most bytes of a recipe.
const MOST_RECIPE_BYTES: u64 = 256 << 20;
/// The most bytes of a pack.
pub const MOST_PACK: u64 = 256 << 20;
/// The most differences that it takes to get a piece.
pub const MOST_DEPTH: u8 = 3;
/// The most bytes of a piece.
pub const MOST_PIECE: u64 = 64 << 20;

/// The most bytes of the recipe of a blob of this size. Pieces have 16 KiB at least, but for the last ones and small
/// tensors, and a piece takes some 250 bytes.
pub fn most_recipe_bytes(size: u64) -> u64 {
    MOST_RECIPE_BYTES.min((1 << 20) + size / 16)
}

/// The most bytes of a blob that one of this size may be the difference from: whoever wants the small one need not
/// fetch a huge one.
pub fn most_base_bytes(size: u64) -> u64 {
    size.saturating_mul(2).saturating_add(64 << 20)
}

/// The pieces of a blob, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    format: String,
    /// The blob.
    pub digest: Digest,
    /// Its size.
    pub size: u64,
    /// The blob that has the pieces from which pieces of this one are differences.
    pub base: Option<Digest>,
    /// How many blobs depend on each other from this one on.
    pub depth: u8,
    /// The packs that have its pieces.
    pub packs: Vec<Digest>,
    /// Its pieces.
    pub pieces: Vec<Stored>,
}

/// A piece in a pack: a list in JSON, because there are many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Row", into = "Row")]
pub struct Stored {
    /// The digest of the piece itself.
    pub digest: Digest,
    /// Its length.
    pub length: u64,
    /// Its pack, by its place in the list of packs.
    pub pack: usize,
    /// Where it begins in the pack.
    pub offset: u64,
    /// How many bytes it has there.
    pub stored: u64,
    /// How it is coded.
    pub coding: u8,
    /// The bytes of one number in it.
    pub element: u8,
    /// The piece that it is the difference from.
    pub base: Option<Digest>,
    /// How many differences it takes to get it.
    pub depth: u8,
}

type Row = (Digest, u64, usize, u64, u64, u8, u8, Option<Digest>, u8);

impl From<Row> for Stored {
    fn from((digest, length, pack, offset, stored, coding, element, base, depth): Row) -> Self {
        Self { digest, length, pack, offset, stored, coding, element, base, depth }
    }
}

impl From<Stored> for Row {
    fn from(piece: Stored) -> Self {
        let Stored { digest, length, pack, offset, stored, coding, element, base, depth } = piece;
        (digest, length, pack, offset, stored, coding, element, base, depth)
    }
}

impl Recipe {
    /// A recipe without pieces.
    pub fn of(digest: Digest, size: u64) -> Self {
        Self {
            format: FORMAT.to_owned(),
            digest,
            size,
            base: None,
            depth: 0,
            packs: Vec::new(),
            pieces: Vec::new(),
        }
    }

    /// Its bytes in a remote.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub fn to_bytes(&self) -> serde_json::Result<Vec<u8>> {
        Ok(sealed::seal(&serde_json::to_string(self)?).into_bytes())
    }

    /// Reads the recipe of a blob.
    ///
    /// # Errors
    /// The rule broken, as a fragment.
    pub fn parse(bytes: &[u8], digest: &Digest) -> Result<Self, String> {
        let recipe: Self = serde_json::from_str(sealed::open(bytes)?).map_err(|e| e.to_string())?;
        if recipe.format != FORMAT {
            return Err(format!("its format is not {FORMAT}"));
        }
        if recipe.digest != *digest {
            return Err("it is that of another blob".into());
        }
        if recipe.base.is_some() != (recipe.depth > 0) || recipe.depth > MOST_DEPTH {
            return Err("it depends on no blob, or on too many".into());
        }
        let mut size = 0_u64;
        for piece in &recipe.pieces {
            let fits = piece.offset.checked_add(piece.stored).is_some_and(|end| end <= MOST_PACK);
            let bounded =
                (1..=MOST_PIECE).contains(&piece.length) && (1..=piece.length).contains(&piece.stored);
            if !fits || !bounded || piece.pack >= recipe.packs.len() {
                return Err("a piece lies outside of its pack, or is too large".into());
            }
            let is_delta = piece.coding == DELTA;
            if is_delta != piece.base.is_some() || is_delta != (piece.depth > 0) || piece.depth > MOST_DEPTH {
                return Err("a difference has no base, or too long a chain of them".into());
            }
            if piece.coding == RAW && piece.stored != piece.length {
                return Err("a piece has another length than it says".into());
            }
            size = size.checked_add(piece.length).ok_or("its sizes do not add up")?;
        }
        if size == recipe.size { Ok(recipe) } else { Err("its sizes do not add up".into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Recipe {
        let mut recipe = Recipe::of(Digest::of_bytes(b"blob"), 30);
        recipe.packs = vec![Digest::of_bytes(b"pack")];
        let piece = |n: u64| Stored {
            digest: Digest::of_bytes(&[n as u8]),
            length: 10,
            pack: 0,
            offset: n * 10,
            stored: 10,
            coding: RAW,
            element: 1,
            base: None,
            depth: 0,
        };
        recipe.pieces = (0..3).map(piece).collect();
        recipe
    }

    #[test]
    fn a_recipe_is_read_back_and_one_that_breaks_a_rule_is_refused() {
        let recipe = sample();
        assert_eq!(Recipe::parse(&recipe.to_bytes().unwrap(), &recipe.digest).unwrap(), recipe);
        assert!(Recipe::parse(&recipe.to_bytes().unwrap(), &Digest::of_bytes(b"other")).is_err());
        let breaks: [fn(&mut Recipe); 11] = [
            |r| r.depth = 1,
            |r| (r.base, r.depth) = (Some(r.digest), MOST_DEPTH + 1),
            |r| r.pieces[0].base = Some(r.digest),
            |r| (r.pieces[0].base, r.pieces[0].coding, r.pieces[0].depth) = (Some(r.digest), DELTA, 4),
            |r| r.size += 1,
            |r| r.pieces[0].pack = 1,
            |r| r.pieces[0].offset = u64::MAX,
            |r| r.pieces[0].length = 0,
            |r| r.pieces[0].stored = 11,
            |r| r.pieces[0].stored = 9,
            |r| r.format = "kiln.recipe/2".into(),
        ];
        for (n, change) in breaks.into_iter().enumerate() {
            let mut broken = sample();
            change(&mut broken);
            assert!(Recipe::parse(&broken.to_bytes().unwrap(), &recipe.digest).is_err(), "{n}");
        }
    }
}
