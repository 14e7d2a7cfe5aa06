//! A large blob into packs.
//!
//! Purpose: cut a file, code what is new, and fill packs.
//! Invariant: the recipe is given only when all bytes that were read had the digest of the blob. A pack is named by
//! the digest of its bytes.
//! Must not know: how a pack gets to a remote.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::coding::{DELTA, encode};
use super::cut::{Piece, Pieces};
use super::recipe::{MOST_DEPTH, Recipe, Stored};
use crate::cas::error::{During, StoreError};
use crate::digest::{Digest, Hasher};

/// A pack is closed when it has so many bytes.
pub const PACK: usize = 64 << 20;

/// Where a piece lies, and in which pack.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    pack: Digest,
    piece: Stored,
}

/// A blob that another one may be like, and that is here: its recipe and its file.
#[derive(Debug)]
pub struct Near {
    /// Its recipe in the remote.
    pub recipe: Recipe,
    /// Its file.
    pub file: PathBuf,
}

/// What a remote has that other blobs may be like.
#[derive(Debug, Default)]
pub struct Likeness {
    near: Vec<Near>,
    /// The pieces that are whole: a difference is of no use without the blob that it needs.
    known: HashMap<Digest, Known>,
}

impl Likeness {
    /// Adds a blob.
    pub fn add(&mut self, near: Near) {
        let recipe = &near.recipe;
        let pieces = recipe.pieces.iter().filter(|piece| piece.base.is_none());
        self.known.extend(
            pieces.map(|piece| (piece.digest, Known { pack: recipe.packs[piece.pack], piece: *piece })),
        );
        self.near.push(near);
    }
}

/// Makes the packs and the recipe of a blob. Pieces that blobs that are like it have are not packed again, and a piece
/// may be packed as the difference from one of theirs. `on_pack` gets each pack with its name, and says whether
/// to go on.
///
/// # Errors
/// The file cannot be read, or has other bytes.
pub fn pack_up(
    file: &Path,
    digest: &Digest,
    size: u64,
    like: &Likeness,
    on_pack: &mut dyn FnMut(Digest, Vec<u8>) -> bool,
) -> Result<Option<Recipe>, StoreError> {
    // The pieces of this blob that are packed already.
    let mut packed = HashMap::new();
    let mut pieces = File::open(file).and_then(|open| Pieces::of(open, size)).during("read", file)?;
    let (mut hasher, mut filling) = (Hasher::default(), Filling::of(Recipe::of(*digest, size)));
    let base = like.near.iter().find_map(|near| Base::of(near, pieces.tensors()));
    let mut buffer = Vec::new();
    while let Some(piece) = pieces.next(&mut buffer).during("read", file)? {
        let n = filling.recipe.pieces.len();
        hasher.update(&buffer);
        let name = Digest::of_bytes(&buffer);
        if let Some(known) = packed.get(&name).or_else(|| like.known.get(&name)) {
            filling.reuse(known);
            continue;
        }
        let other = base.as_ref().and_then(|base| base.piece(n));
        let (coding, stored) =
            encode(&buffer, piece.element, other.as_ref().map(|(_, bytes)| bytes.as_slice()));
        let other = other.map(|(piece, _)| piece).filter(|_| coding == DELTA);
        let (offset, stored_length) = (filling.pack.len() as u64, stored.len() as u64);
        filling.pack.extend_from_slice(&stored);
        filling.open.push(filling.recipe.pieces.len());
        filling.recipe.pieces.push(Stored {
            digest: name,
            length: buffer.len() as u64,
            pack: usize::MAX,
            offset,
            stored: stored_length,
            coding,
            element: piece.element,
            base: other.map(|other| other.digest),
            depth: other.map_or(0, |other| other.depth + 1),
        });
        if other.is_some() {
            filling.recipe.base = base.as_ref().map(|base| base.digest);
            filling.recipe.depth = base.as_ref().map_or(0, |base| base.depth + 1);
        }
        if filling.pack.len() >= PACK && !filling.close(&mut packed, on_pack) {
            return Ok(None);
        }
    }
    if !filling.close(&mut packed, on_pack) {
        return Ok(None);
    }
    match hasher.finish().0 == *digest {
        true => Ok(Some(filling.recipe)),
        false => Err(StoreError::NotIntact(*digest)),
    }
}

/// The blob from which pieces may be differences: one that is cut in the same way.
struct Base<'a> {
    digest: Digest,
    depth: u8,
    file: &'a Path,
    /// Where its pieces begin, with what the remote has of them.
    pieces: Vec<(u64, Stored)>,
}

impl<'a> Base<'a> {
    fn of(near: &'a Near, pieces: &[Piece]) -> Option<Self> {
        let theirs = &near.recipe.pieces;
        let alike = |(ours, theirs): (&Piece, &Stored)| {
            // The header of a file may have another length.
            ours.element == theirs.element && (ours.length == theirs.length || ours.element == 1)
        };
        if near.recipe.depth >= MOST_DEPTH
            || theirs.len() != pieces.len()
            || !pieces.iter().zip(theirs).all(alike)
        {
            return None;
        }
        let mut at = 0;
        let pieces = theirs.iter().map(|piece| {
            at += piece.length;
            (at - piece.length, *piece)
        });
        Some(Self {
            digest: near.recipe.digest,
            depth: near.recipe.depth,
            file: &near.file,
            pieces: pieces.collect(),
        })
    }

    /// A piece with its bytes, if it can be the base of another one.
    fn piece(&self, n: usize) -> Option<(Stored, Vec<u8>)> {
        let (offset, piece) = *self.pieces.get(n)?;
        if piece.element < 2 || piece.depth >= MOST_DEPTH {
            return None;
        }
        let bytes = read_at(self.file, offset, piece.length).ok()?;
        (Digest::of_bytes(&bytes) == piece.digest).then_some((piece, bytes))
    }
}

/// Some bytes of a file.
pub fn read_at(path: &Path, offset: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A recipe with the pack that is being filled.
struct Filling {
    recipe: Recipe,
    pack: Vec<u8>,
    /// The pieces of the recipe that are in the pack.
    open: Vec<usize>,
}

impl Filling {
    fn of(recipe: Recipe) -> Self {
        Self { recipe, pack: Vec::new(), open: Vec::new() }
    }

    fn pack_index(&mut self, pack: Digest) -> usize {
        match self.recipe.packs.iter().rposition(|known| *known == pack) {
            Some(index) => index,
            None => {
                self.recipe.packs.push(pack);
                self.recipe.packs.len() - 1
            }
        }
    }

    fn reuse(&mut self, known: &Known) {
        let pack = self.pack_index(known.pack);
        self.recipe.pieces.push(Stored { pack, ..known.piece });
    }

    /// Names the pack and hands it on, if there is something in it.
    fn close(
        &mut self,
        packed: &mut HashMap<Digest, Known>,
        on_pack: &mut dyn FnMut(Digest, Vec<u8>) -> bool,
    ) -> bool {
        if self.pack.is_empty() {
            return true;
        }
        let bytes = std::mem::take(&mut self.pack);
        let name = Digest::of_bytes(&bytes);
        let index = self.pack_index(name);
        for at in std::mem::take(&mut self.open) {
            self.recipe.pieces[at].pack = index;
            let piece = self.recipe.pieces[at];
            packed.insert(piece.digest, Known { pack: name, piece });
        }
        on_pack(name, bytes)
    }
}
