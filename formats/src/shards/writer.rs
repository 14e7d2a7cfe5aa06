//! Writing tokens.
//!
//! Purpose: documents go into shards of a bounded size, one after another.
//! Invariants: the same documents are the same bytes; the index is written last, so that a folder without it is unfinished;
//! memory holds the places and bits of one shard, and no ids.
//! Must not know: how the tokens are read.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::ShardError;
use super::header::{Dtype, FORMAT, HEADER, Index, Part, is_digest, shard_name};

/// The most documents of a shard.
const MOST_DOCUMENTS: usize = 1 << 24;

/// What the tokens are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// How many ids there are; every id is below it.
    pub vocab_size: u32,
    /// The SHA-256 of the tokenizer, in hexadecimal.
    pub tokenizer: String,
    /// Whether some tokens are not learnt: each document brings a mask then.
    pub masked: bool,
    /// A new shard begins with the document before which the last one has so many tokens.
    pub shard_tokens: u64,
}

impl Spec {
    /// Tokens of this vocabulary and tokenizer, without masks, in shards of about half a gigabyte.
    pub fn new(vocab_size: u32, tokenizer: impl Into<String>) -> Self {
        Self { vocab_size, tokenizer: tokenizer.into(), masked: false, shard_tokens: 1 << 28 }
    }
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// How many documents.
    pub documents: u64,
    /// How many tokens.
    pub tokens: u64,
    /// How many shards.
    pub shards: usize,
}

/// A folder of tokens that is being written.
#[derive(Debug)]
pub struct Writer {
    folder: PathBuf,
    index: Index,
    shard_tokens: u64,
    shard: Option<Shard>,
}

/// A shard that is being written.
#[derive(Debug)]
struct Shard {
    path: PathBuf,
    out: BufWriter<File>,
    /// Where each document begins.
    starts: Vec<u64>,
    tokens: u64,
    bits: Vec<u8>,
}

impl Writer {
    /// Begins a folder, which is made where it is missing and must hold no tokens yet.
    ///
    /// # Errors
    /// [`ShardError`] when the options make no sense, or the folder cannot be written to.
    pub fn create(folder: &Path, spec: &Spec) -> Result<Self, ShardError> {
        if spec.vocab_size == 0 || spec.shard_tokens == 0 {
            return Err(ShardError::Usage("a vocabulary and a shard have at least one token".into()));
        }
        if !is_digest(&spec.tokenizer) {
            let what = "the digest of the tokenizer is no SHA-256 in lowercase hexadecimal";
            return Err(ShardError::Usage(what.into()));
        }
        std::fs::create_dir_all(folder).map_err(ShardError::io("make", folder))?;
        let index = Index {
            format: FORMAT.into(),
            dtype: Dtype::of(spec.vocab_size),
            documents: 0,
            tokens: 0,
            mask: spec.masked,
            vocab_size: spec.vocab_size,
            tokenizer: spec.tokenizer.clone(),
            shards: Vec::new(),
        };
        if folder.join("index.json").exists() {
            return Err(ShardError::Usage(format!(
                "{} holds tokens already; write to another folder",
                folder.display()
            )));
        }
        Ok(Self { folder: folder.to_path_buf(), index, shard_tokens: spec.shard_tokens, shard: None })
    }

    /// Adds a document. `mask` says which of its tokens are learnt; it is given when and only when the tokens are masked.
    ///
    /// # Errors
    /// Those of [`Writer::tokens`] and [`Writer::end_document`].
    pub fn document(&mut self, ids: &[u32], mask: Option<&[bool]>) -> Result<(), ShardError> {
        self.tokens(ids, mask)?;
        self.end_document()
    }

    /// Adds tokens to the document that is open.
    ///
    /// # Errors
    /// [`ShardError`] when an id is beyond the vocabulary, when there are not as many bits as ids, or when the disk is full.
    pub fn tokens(&mut self, ids: &[u32], mask: Option<&[bool]>) -> Result<(), ShardError> {
        if let Some(id) = ids.iter().find(|&&id| id >= self.index.vocab_size) {
            let what = format!("token {id} is beyond the vocabulary of {}", self.index.vocab_size);
            return Err(ShardError::Usage(what));
        }
        if self.index.mask != mask.is_some() || mask.is_some_and(|mask| mask.len() != ids.len()) {
            return Err(ShardError::Usage(
                "a mask has a bit for each token, and is given when the tokens are masked".into(),
            ));
        }
        let dtype = self.index.dtype;
        let shard = match self.shard.take() {
            Some(shard) => self.shard.insert(shard),
            None => {
                let shard = Shard::create(self.folder.join(shard_name(self.index.shards.len())))?;
                self.shard.insert(shard)
            }
        };
        shard.write(ids, dtype)?;
        if let Some(mask) = mask {
            shard.mark(mask);
        }
        shard.tokens += ids.len() as u64;
        Ok(())
    }

    /// Ends the document that is open.
    ///
    /// # Errors
    /// [`ShardError`] when it has no tokens, or when the disk is full.
    pub fn end_document(&mut self) -> Result<(), ShardError> {
        let is_empty = |shard: &Shard| shard.starts.last().is_none_or(|&start| start == shard.tokens);
        let Some(shard) = self.shard.as_mut().filter(|shard| !is_empty(shard)) else {
            return Err(ShardError::Usage("a document has at least one token".into()));
        };
        shard.starts.push(shard.tokens);
        if shard.tokens >= self.shard_tokens || shard.starts.len() > MOST_DOCUMENTS {
            self.end_shard()?;
        }
        Ok(())
    }

    /// Writes what is left and the index.
    ///
    /// # Errors
    /// [`ShardError`] when a document is open, when there is none, or when the disk is full.
    pub fn finish(mut self) -> Result<Summary, ShardError> {
        if self.shard.as_ref().is_some_and(|shard| shard.starts.last() != Some(&shard.tokens)) {
            return Err(ShardError::Usage("the last document was not ended".into()));
        }
        self.end_shard()?;
        if self.index.documents == 0 {
            return Err(ShardError::Usage("there is no document".into()));
        }
        let path = self.folder.join("index.json");
        let io = |source| ShardError::Io { doing: "write", path: path.clone(), source };
        let mut bytes = serde_json::to_vec_pretty(&self.index).map_err(|error| io(error.into()))?;
        bytes.push(b'\n');
        let mut file = File::create(&path).map_err(io)?;
        file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(io)?;
        let Index { documents, tokens, shards, .. } = self.index;
        Ok(Summary { documents, tokens, shards: shards.len() })
    }

    fn end_shard(&mut self) -> Result<(), ShardError> {
        let Some(shard) = self.shard.take() else { return Ok(()) };
        let (documents, tokens) = (shard.starts.len() as u64 - 1, shard.tokens);
        let header = self.index.header(documents, tokens);
        let path = shard.path.clone();
        let bytes = header.bytes().ok_or_else(|| ShardError::file(&path, "its header does not fit"))?;
        shard.finish(header.offsets_at(), &bytes).map_err(ShardError::io("write", &path))?;
        self.index.shards.push(Part { file: shard_name(self.index.shards.len()), documents, tokens });
        self.index.documents += documents;
        self.index.tokens += tokens;
        Ok(())
    }
}

impl Shard {
    fn create(path: PathBuf) -> Result<Self, ShardError> {
        let begin = || {
            let mut out = BufWriter::with_capacity(1 << 20, File::create(&path)?);
            // The header is known at the end.
            out.write_all(&vec![b' '; HEADER as usize])?;
            Ok(out)
        };
        let out = begin().map_err(ShardError::io("write", &path))?;
        Ok(Self { path, out, starts: vec![0], tokens: 0, bits: Vec::new() })
    }

    fn write(&mut self, ids: &[u32], dtype: Dtype) -> Result<(), ShardError> {
        let width = dtype.width() as usize;
        let written = ids.iter().try_for_each(|id| self.out.write_all(&id.to_le_bytes()[..width]));
        written.map_err(ShardError::io("write", &self.path))
    }

    /// Appends bits.
    fn mark(&mut self, mask: &[bool]) {
        for (place, &is_learnt) in (self.tokens..).zip(mask) {
            if place % 8 == 0 {
                self.bits.push(0);
            }
            if let Some(byte) = self.bits.last_mut() {
                *byte |= u8::from(is_learnt) << (place % 8);
            }
        }
    }

    /// Writes what follows the ids, and the header.
    fn finish(mut self, offsets_at: u64, header: &[u8]) -> std::io::Result<()> {
        let at = self.out.stream_position()?;
        self.out.write_all(&vec![0; offsets_at.saturating_sub(at) as usize])?;
        for start in &self.starts {
            self.out.write_all(&start.to_le_bytes())?;
        }
        self.out.write_all(&self.bits)?;
        self.out.seek(SeekFrom::Start(0))?;
        self.out.write_all(header)?;
        self.out.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()
    }
}
