//! A large blob from packs.
//!
//! Purpose: fetch the pieces of a blob in order, take those that are here from files that are here, and put the file
//! together.
//! Invariant: every piece is compared with its digest before it is written, and the whole with that of the blob.
//! Must not know: which remote is asked, where the file lies.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};

use super::coding::decode;
use super::cut::Pieces;
use super::recipe::{Recipe, Stored};
use super::send::read_at;
use crate::digest::Digest;

/// The most bytes of one request.
const MOST_RANGE: u64 = 8 << 20;
/// How many requests are on their way at a time.
const RANGES: usize = 8;

/// Why a blob could not be put together.
#[derive(Debug)]
pub enum Broken {
    /// Pieces are differences from a blob that is not here.
    NoBase,
    /// A request failed, in words.
    Request(String),
    /// A piece has other bytes than it should.
    Wrong(String),
    /// The file cannot be written.
    Write(io::Error),
}

/// Where pieces lie in files that are here, by their digests.
#[derive(Debug, Default)]
pub struct Here(HashMap<Digest, (Arc<Path>, u64)>);

impl Here {
    /// The pieces of files that are cut for it. A file that cannot be read has none.
    pub fn in_files(files: &[PathBuf]) -> Self {
        let mut here = Self::default();
        for path in files {
            let _ = here.cut(path);
        }
        here
    }

    fn cut(&mut self, path: &Path) -> io::Result<()> {
        let path = Arc::<Path>::from(path);
        let mut pieces = Pieces::of(File::open(&path)?, path.metadata()?.len())?;
        let mut buffer = Vec::new();
        while let Some(piece) = pieces.next(&mut buffer)? {
            self.0.insert(Digest::of_bytes(&buffer), (Arc::clone(&path), piece.offset));
        }
        Ok(())
    }

    /// Adds the pieces at the front of a file that was being made by this recipe and was not finished. What is not
    /// what it should be ends them: a crash may have left anything there.
    pub fn add_front(&mut self, recipe: &Recipe, file: &Path) {
        let Ok(mut open) = File::open(file) else { return };
        let (mut at, file, mut buffer) = (0, Arc::<Path>::from(file), Vec::new());
        for piece in &recipe.pieces {
            buffer.clear();
            let read = open.by_ref().take(piece.length).read_to_end(&mut buffer);
            if read.is_err() || Digest::of_bytes(&buffer) != piece.digest {
                return;
            }
            self.0.insert(piece.digest, (Arc::clone(&file), at));
            at += piece.length;
        }
    }

    /// Adds the pieces of a file that was made by this recipe.
    pub fn add(&mut self, recipe: &Recipe, file: &Path) {
        let (mut at, file) = (0, Arc::<Path>::from(file));
        for piece in &recipe.pieces {
            self.0.insert(piece.digest, (Arc::clone(&file), at));
            at += piece.length;
        }
    }
}

fn find<'a>(here: &[&'a Here], piece: &Digest) -> Option<&'a (Arc<Path>, u64)> {
    here.iter().find_map(|here| here.0.get(piece))
}

/// Pieces that come next: of one range of a pack, or from a file that is here.
enum Step {
    Range { pack: usize, range: Range<u64>, pieces: Range<usize> },
    Here { file: Arc<Path>, offset: u64, piece: usize },
}

/// Gives the bytes of a blob to `write`, in order. Pieces that are `here` are taken from there; `get` reads a range of a
/// pack.
///
/// # Errors
/// The blob cannot be put together; what was written is of no use.
pub async fn receive<F: Future<Output = Result<Bytes, String>>>(
    recipe: &Recipe,
    here: &[&Here],
    get: impl Fn(Digest, Range<u64>) -> F,
    write: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> Result<(), Broken> {
    let lacks = |piece: &Digest| find(here, piece).is_none();
    let without = |piece: &&Stored| lacks(&piece.digest) && piece.base.is_some_and(|base| lacks(&base));
    if recipe.pieces.iter().any(|piece| without(&piece)) {
        return Err(Broken::NoBase);
    }
    let fetched = stream::iter(steps(recipe, here)).map(|step| {
        let request = match &step {
            Step::Range { pack, range, .. } => Some(get(recipe.packs[*pack], range.clone())),
            Step::Here { .. } => None,
        };
        async move {
            let bytes = match request {
                Some(request) => request.await.map(Some),
                None => Ok(None),
            };
            (step, bytes)
        }
    });
    let mut fetched = std::pin::pin!(fetched.buffered(RANGES));
    while let Some((step, bytes)) = fetched.next().await {
        match (step, bytes.map_err(Broken::Request)?) {
            (Step::Range { range, pieces, .. }, Some(bytes)) => {
                if bytes.len() as u64 != range.end - range.start {
                    return Err(Broken::Wrong(format!(
                        "{} bytes of a pack came instead of {range:?}",
                        bytes.len()
                    )));
                }
                for piece in &recipe.pieces[pieces] {
                    let from = (piece.offset - range.start) as usize;
                    let stored = bytes[from..from + piece.stored as usize].to_vec();
                    write(&checked(piece, stored, here)?).map_err(Broken::Write)?;
                }
            }
            (Step::Here { file, offset, piece }, _) => {
                let piece = &recipe.pieces[piece];
                let bytes = read_at(&file, offset, piece.length).unwrap_or_default();
                // It was looked at a moment ago; a file that has changed since is not used.
                if Digest::of_bytes(&bytes) != piece.digest {
                    return Err(Broken::Wrong(format!("{} changed", file.display())));
                }
                write(&bytes).map_err(Broken::Write)?;
            }
            (Step::Range { .. }, None) => {}
        }
    }
    Ok(())
}

/// The bytes of a piece, if they are what they should be.
fn checked(piece: &Stored, stored: Vec<u8>, here: &[&Here]) -> Result<Vec<u8>, Broken> {
    let base = piece.base.and_then(|base| find(here, &base));
    let base = base.and_then(|(file, offset)| read_at(file, *offset, piece.length).ok());
    let bytes = decode(stored, piece.coding, piece.length as usize, piece.element, base.as_deref());
    let bytes = bytes.map_err(Broken::Wrong)?;
    match Digest::of_bytes(&bytes) == piece.digest {
        true => Ok(bytes),
        false => Err(Broken::Wrong("a piece has other bytes than its digest says".into())),
    }
}

/// The steps to a blob: neighbours in a pack come in one request.
fn steps(recipe: &Recipe, here: &[&Here]) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for (n, piece) in recipe.pieces.iter().enumerate() {
        if let Some((file, offset)) = find(here, &piece.digest) {
            steps.push(Step::Here { file: Arc::clone(file), offset: *offset, piece: n });
            continue;
        }
        let end = piece.offset + piece.stored;
        match steps.last_mut() {
            Some(Step::Range { pack, range, pieces })
                if *pack == piece.pack && range.end == piece.offset && end - range.start <= MOST_RANGE =>
            {
                range.end = end;
                pieces.end = n + 1;
            }
            _ => steps.push(Step::Range { pack: piece.pack, range: piece.offset..end, pieces: n..n + 1 }),
        }
    }
    steps
}
