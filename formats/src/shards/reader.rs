//! Reading tokens.
//!
//! Purpose: documents by their number, whole or in part.
//! Invariants: all sizes and places are checked when a folder is opened, and each id when it is read; memory holds eight bytes
//! for each document.
//! Must not know: in which order documents are visited.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::ShardError;
use super::header::{Dtype, HEADER, Header, Index};
use super::store::Store;

/// The largest index in bytes.
const LARGEST_INDEX: u64 = 64 << 20;
/// How many tokens are checked at a time.
const BLOCK: u64 = 1 << 20;

/// A document, or a piece of one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Document {
    /// Its ids.
    pub ids: Vec<u32>,
    /// Which of them are learnt; all where the tokens have no mask.
    pub mask: Vec<bool>,
}

/// A folder of tokens.
#[derive(Debug)]
pub struct Tokens {
    index: Index,
    shards: Vec<Shard>,
}

/// A shard of it.
#[derive(Debug)]
struct Shard {
    path: PathBuf,
    store: Store,
    header: Header,
    /// The number of its first document.
    first: u64,
    /// Where each document begins, and where the last one ends.
    starts: Vec<u64>,
}

impl Tokens {
    /// Opens a folder, and checks every size and place in it; the ids are checked as they are read.
    ///
    /// # Errors
    /// [`ShardError`] naming the file.
    pub fn open(folder: &Path) -> Result<Self, ShardError> {
        let path = folder.join("index.json");
        let mut bytes = Vec::new();
        let read = File::open(&path).and_then(|file| file.take(LARGEST_INDEX + 1).read_to_end(&mut bytes));
        read.map_err(ShardError::io("read", &path))?;
        if bytes.len() as u64 > LARGEST_INDEX {
            return Err(ShardError::file(&path, format!("it has more than {LARGEST_INDEX} bytes")));
        }
        Self::of(&path, &bytes, |name| {
            let path = folder.join(name);
            let store = Store::open(&path).map_err(ShardError::io("read", &path))?;
            Ok((path, store))
        })
    }

    /// Opens the shards that an index names.
    pub(super) fn of(
        path: &Path,
        index: &[u8],
        mut open: impl FnMut(&str) -> Result<(PathBuf, Store), ShardError>,
    ) -> Result<Self, ShardError> {
        let index = Index::read(index).map_err(|what| ShardError::file(path, what))?;
        let (mut shards, mut first) = (Vec::new(), 0);
        for part in &index.shards {
            let (path, store) = open(&part.file)?;
            shards.push(Shard::open(path, store, &index.header(part.documents, part.tokens), first)?);
            first += part.documents;
        }
        Ok(Self { index, shards })
    }

    /// How many documents there are.
    pub fn documents(&self) -> u64 {
        self.index.documents
    }

    /// How many tokens they have together.
    pub fn tokens(&self) -> u64 {
        self.index.tokens
    }

    /// How many ids there are; every id is below it.
    pub fn vocab_size(&self) -> u32 {
        self.index.vocab_size
    }

    /// The SHA-256 of the tokenizer, in hexadecimal.
    pub fn tokenizer(&self) -> &str {
        &self.index.tokenizer
    }

    /// Whether some tokens are not learnt.
    pub fn is_masked(&self) -> bool {
        self.index.mask
    }

    /// How many tokens a document has; 0 for one that is not there.
    pub fn length(&self, document: u64) -> u64 {
        self.find(document).map_or(0, |(_, range)| range.end - range.start)
    }

    /// A document.
    ///
    /// # Errors
    /// [`ShardError`] when there is none of this number, when an id is beyond the vocabulary, or when the disk fails.
    pub fn document(&self, document: u64) -> Result<Document, ShardError> {
        self.piece(document, 0..self.length(document))
    }

    /// The tokens of a document between two places.
    ///
    /// # Errors
    /// Those of [`Tokens::document`]; when the document is not so long.
    pub fn piece(&self, document: u64, range: Range<u64>) -> Result<Document, ShardError> {
        let mut piece = Document::default();
        self.append(document, range, &mut piece)?;
        Ok(piece)
    }

    /// Appends the tokens of a document between two places to a piece.
    pub(super) fn append(
        &self,
        document: u64,
        range: Range<u64>,
        to: &mut Document,
    ) -> Result<(), ShardError> {
        let found = self.find(document).and_then(|(shard, whole)| {
            let start = whole.start.checked_add(range.start)?;
            let end = whole.start.checked_add(range.end).filter(|&end| end <= whole.end)?;
            (start <= end).then_some((shard, start..end))
        });
        let Some((shard, range)) = found else {
            let (documents, length) = (self.documents(), self.length(document));
            let what = format!(
                "there are no tokens {range:?} in document {document}: it has {length}, and there are {documents} documents"
            );
            return Err(ShardError::Usage(what));
        };
        shard.read(range, to)
    }

    /// Reads everything, and checks each id.
    ///
    /// # Errors
    /// [`ShardError`] naming the shard.
    pub fn verify(&self) -> Result<(), ShardError> {
        for shard in &self.shards {
            for start in (0..shard.header.tokens).step_by(BLOCK as usize) {
                let end = (start + BLOCK).min(shard.header.tokens);
                shard.read(start..end, &mut Document::default())?;
            }
        }
        Ok(())
    }

    /// The shard of a document, and its tokens there.
    fn find(&self, document: u64) -> Option<(&Shard, Range<u64>)> {
        let after = self.shards.partition_point(|shard| shard.first <= document);
        let shard = self.shards.get(after.checked_sub(1)?)?;
        let place = usize::try_from(document - shard.first).ok()?;
        Some((shard, *shard.starts.get(place)?..*shard.starts.get(place.checked_add(1)?)?))
    }
}

impl Shard {
    fn open(path: PathBuf, store: Store, wanted: &Header, first: u64) -> Result<Self, ShardError> {
        let wrong = |what: &str| ShardError::file(&path, what);
        let io = |source| ShardError::Io { doing: "read", path: path.clone(), source };
        if store.size() < HEADER {
            return Err(wrong("it is too short for its header"));
        }
        let header = Header::read(&store.read(0, HEADER).map_err(io)?).map_err(|what| wrong(&what))?;
        if header != *wanted {
            return Err(wrong("its header is not what index.json says of it"));
        }
        if store.size() != header.size() {
            let what = format!("it has {} bytes, and its header tells of {}", store.size(), header.size());
            return Err(wrong(&what));
        }
        let bytes = store.read(header.offsets_at(), (header.documents + 1) * 8).map_err(io)?;
        let starts: Vec<u64> =
            bytes.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect();
        let is_rising = starts.windows(2).all(|pair| matches!(pair, [start, end] if start < end));
        if starts.first() != Some(&0) || starts.last() != Some(&header.tokens) || !is_rising {
            return Err(wrong("the places of its documents are damaged"));
        }
        Ok(Self { path, store, header, first, starts })
    }

    /// Appends the tokens between two places of the shard.
    fn read(&self, range: Range<u64>, to: &mut Document) -> Result<(), ShardError> {
        let io = |source| ShardError::Io { doing: "read", path: self.path.clone(), source };
        let (count, width) = (range.end - range.start, self.header.dtype.width());
        let bytes = self.store.read(HEADER + range.start * width, count * width).map_err(io)?;
        let before = to.ids.len();
        match self.header.dtype {
            Dtype::U16 => {
                to.ids.extend(bytes.as_chunks::<2>().0.iter().map(|id| u32::from(u16::from_le_bytes(*id))))
            }
            Dtype::U32 => to.ids.extend(bytes.as_chunks::<4>().0.iter().map(|id| u32::from_le_bytes(*id))),
        }
        let read = to.ids.get(before..).unwrap_or_default();
        if let Some(place) = read.iter().position(|&id| id >= self.header.vocab_size) {
            let (at, id) = (range.start + place as u64, read[place]);
            let what =
                format!("token {at} has the id {id}, beyond the vocabulary of {}", self.header.vocab_size);
            return Err(ShardError::file(&self.path, what));
        }
        if !self.header.mask {
            to.mask.resize(to.ids.len(), true);
            return Ok(());
        }
        let first = range.start / 8;
        let bits =
            self.store.read(self.header.mask_at() + first, range.end.div_ceil(8) - first).map_err(io)?;
        to.mask.extend(range.map(|place| {
            let byte = bits.get((place / 8 - first) as usize).copied().unwrap_or(0);
            byte >> (place % 8) & 1 == 1
        }));
        Ok(())
    }
}
