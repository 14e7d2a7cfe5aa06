//! Raw text.
//!
//! Purpose: read a `corpus` artifact, a text file, a folder of them, or a dataset of texts, part by part: it may be larger than
//! the memory.
//! Invariants: documents come in the order of their files' names and of their rows, whatever the file system says; all text
//! is UTF-8.
//! Must not know: tokenizers (it is told where a text may be cut), what the text is for.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kiln_formats::bpe::last_cut;
use kiln_formats::records::{self, Compression, Container, DataFile, Example, Options, Shape};

use super::DataError;

/// Bytes that are read at a time.
const BLOCK: usize = 4 << 20;
/// The largest corpus that is read as a whole, in bytes.
const LARGEST_WHOLE: u64 = 2 << 30;
/// What some editors write before UTF-8 text; it is no part of it.
const BYTE_ORDER_MARK: &[u8; 3] = b"\xef\xbb\xbf";

/// Where texts stand.
#[derive(Debug)]
enum Source {
    /// A file of text.
    Text(PathBuf),
    /// The texts of a dataset, one after another in a file without a name, which goes with the process.
    Rows { path: PathBuf, texts: File },
}

/// One text of a corpus.
#[derive(Debug, Clone)]
struct Document {
    source: Arc<Source>,
    /// The bytes of the source that belong to it.
    range: Range<u64>,
}

/// The documents of a corpus in order; empty files and hidden ones are left out.
#[derive(Debug, Clone)]
pub struct Corpus {
    documents: Vec<Document>,
}

/// A part of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its text.
    pub text: String,
    /// Whether the document ends with it.
    pub ends: bool,
}

/// Where a text may be cut, at the latest.
pub type Cut = fn(&str) -> Option<usize>;

impl Source {
    fn path(&self) -> &Path {
        match self {
            Self::Text(path) | Self::Rows { path, .. } => path,
        }
    }

    fn open(&self) -> std::io::Result<File> {
        match self {
            Self::Text(path) => File::open(path),
            Self::Rows { texts, .. } => texts.try_clone(),
        }
    }
}

impl Corpus {
    /// Lists the documents of an artifact: files of text, each a document, or the rows of a dataset of texts.
    ///
    /// # Errors
    /// [`DataError`] naming the file; a corpus without any text is one.
    pub fn open(artifact: &Path) -> Result<Self, DataError> {
        let files = records::files(artifact)?;
        let is_plain =
            |file: &DataFile| file.container == Container::Text && file.compression == Compression::None;
        let documents = match files.iter().all(is_plain) {
            true => texts(&files)?,
            false => rows(artifact)?,
        };
        match documents.is_empty() {
            true => Err(DataError::Empty { path: artifact.to_path_buf(), what: "some text" }),
            false => Ok(Self { documents }),
        }
    }

    /// How many bytes the texts have.
    pub fn bytes(&self) -> u64 {
        self.documents.iter().map(Document::bytes).sum()
    }

    /// The texts in parts of a few megabytes; a part ends where its document does or where `cut` says.
    pub fn parts(&self, cut: Cut) -> impl Iterator<Item = Result<Part, DataError>> {
        self.documents.iter().flat_map(move |document| document.parts(cut))
    }

    /// The corpus cut in two at a part of its bytes, at a character. A part above 0 holds out at least a character.
    ///
    /// # Errors
    /// When the file at the cut cannot be read.
    pub fn split(self, held_out: f64) -> Result<(Self, Self), DataError> {
        let bytes = self.bytes();
        // However small the part is, one byte is beyond it, and so its character.
        let most = if held_out > 0.0 { bytes.saturating_sub(1) } else { bytes };
        let mut left = ((bytes as f64 * (1.0 - held_out)) as u64).min(most);
        let (mut training, mut held) = (Vec::new(), Vec::new());
        for document in self.documents {
            let end = document.bytes().min(left);
            left -= end;
            let at = document.character_at(document.range.start + end)?;
            let head = Document { range: document.range.start..at, ..document.clone() };
            let tail = Document { range: at..document.range.end, ..document };
            training.extend(Some(head).filter(|head| head.bytes() > 0));
            held.extend(Some(tail).filter(|tail| tail.bytes() > 0));
        }
        Ok((Self { documents: training }, Self { documents: held }))
    }
}

/// Files of text, each a document.
fn texts(files: &[DataFile]) -> Result<Vec<Document>, DataError> {
    let mut documents = Vec::new();
    for DataFile { path, .. } in files {
        let io = |source| DataError::Io { doing: "read", path: path.to_path_buf(), source };
        let file = File::open(path).map_err(io)?;
        let mut start = [0; BYTE_ORDER_MARK.len()];
        let is_marked = file.read_exact_at(&mut start, 0).is_ok() && start == *BYTE_ORDER_MARK;
        let first = if is_marked { BYTE_ORDER_MARK.len() as u64 } else { 0 };
        let range = first..file.metadata().map_err(io)?.len();
        let document = Document { source: Arc::new(Source::Text(path.to_path_buf())), range };
        if !document.is_blank()? {
            documents.push(document);
        }
    }
    Ok(documents)
}

/// The texts of a dataset, each a document.
fn rows(artifact: &Path) -> Result<Vec<Document>, DataError> {
    let reader = records::open(artifact, &Options { cut: Some(last_cut), ..Options::default() })?;
    let found = reader.shape();
    let io = |source| DataError::Io {
        doing: "write to a temporary file the texts of",
        path: artifact.to_path_buf(),
        source,
    };
    let texts = tempfile::tempfile().map_err(io)?;
    let (mut out, mut at, mut ends) = (BufWriter::with_capacity(1 << 20, &texts), 0, Vec::new());
    for example in reader {
        let (place, example) = example?;
        let Example::Text(text) = example else {
            return Err(DataError::Shape {
                place: place.to_string(),
                found,
                wanted: "corpora",
                shapes: Shape::Text.name().to_owned(),
                example: Shape::Text.example(),
            });
        };
        out.write_all(text.text.as_bytes()).map_err(io)?;
        at += text.text.len() as u64;
        if text.ends {
            ends.push(at);
        }
    }
    out.flush().map_err(io)?;
    drop(out);
    let source = Arc::new(Source::Rows { path: artifact.to_path_buf(), texts });
    let starts = [0].into_iter().chain(ends.iter().copied());
    let document = |(start, &end)| Document { source: Arc::clone(&source), range: start..end };
    Ok(starts.zip(&ends).map(document).filter(|document| document.bytes() > 0).collect())
}

impl Document {
    fn bytes(&self) -> u64 {
        self.range.end - self.range.start
    }

    fn io(&self) -> impl Fn(std::io::Error) -> DataError {
        |source| DataError::Io { doing: "read", path: self.source.path().to_path_buf(), source }
    }

    fn is_blank(&self) -> Result<bool, DataError> {
        for part in self.parts(|text| Some(text.len())) {
            if !part?.text.trim().is_empty() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The place of the character that the byte at `at` belongs to.
    fn character_at(&self, at: u64) -> Result<u64, DataError> {
        if at == self.range.end {
            return Ok(at);
        }
        let start = at.saturating_sub(3).max(self.range.start);
        let mut bytes = vec![0; (at - start) as usize + 1];
        self.source.open().and_then(|file| file.read_exact_at(&mut bytes, start)).map_err(self.io())?;
        let continues = bytes.iter().rev().take_while(|&&byte| byte & 0xc0 == 0x80).count();
        Ok(at.saturating_sub(continues as u64).max(self.range.start))
    }

    fn parts(&self, cut: Cut) -> Parts<'_> {
        Parts { document: self, cut, file: None, at: self.range.start, rest: Vec::new(), ended: false }
    }
}

/// The parts of a document.
struct Parts<'a> {
    document: &'a Document,
    cut: Cut,
    file: Option<File>,
    /// Where the file is read next.
    at: u64,
    /// What was read, and is in no part yet.
    rest: Vec<u8>,
    ended: bool,
}

impl Iterator for Parts<'_> {
    type Item = Result<Part, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            let part = self.read().map_err(self.document.io()).and_then(|()| self.take());
            self.ended = self.ended || part.is_err();
            if let Some(part) = part.transpose() {
                return Some(part);
            }
        }
        None
    }
}

impl Parts<'_> {
    /// Reads a block, or as much as there is without a part already, so that a text without cuts takes linear time.
    fn read(&mut self) -> std::io::Result<()> {
        let Document { source, range } = self.document;
        let file = match self.file.take() {
            Some(file) => file,
            None => source.open()?,
        };
        let wanted = (self.rest.len().max(BLOCK) as u64).min(range.end - self.at) as usize;
        let old = self.rest.len();
        self.rest.resize(old + wanted, 0);
        file.read_exact_at(&mut self.rest[old..], self.at)?;
        self.file = Some(file);
        self.at += wanted as u64;
        Ok(())
    }

    /// Takes a part of what was read, if there is a place to cut it.
    fn take(&mut self) -> Result<Option<Part>, DataError> {
        let ends = self.at == self.document.range.end;
        let valid = match std::str::from_utf8(&self.rest) {
            Ok(text) => text.len(),
            Err(error) if error.error_len().is_none() && !ends => error.valid_up_to(),
            Err(error) => {
                let before = self.at as usize - self.rest.len();
                let path = self.document.source.path().to_path_buf();
                return Err(DataError::NotUtf8 { path, at: before + error.valid_up_to() });
            }
        };
        // So much was found to be valid.
        let text = std::str::from_utf8(&self.rest[..valid]).unwrap_or_default();
        let end = if ends { Some(valid) } else { (self.cut)(text) };
        let Some(end) = end.filter(|&end| ends || end > 0) else { return Ok(None) };
        let text = text[..end].to_owned();
        self.rest.drain(..end);
        self.ended = ends;
        Ok(Some(Part { text, ends }))
    }
}

/// The texts of a corpus that fits into memory.
///
/// # Errors
/// Those of [`Corpus::open`]; a corpus that is too large.
pub fn read_corpus(artifact: &Path) -> Result<Vec<String>, DataError> {
    let corpus = Corpus::open(artifact)?;
    if corpus.bytes() > LARGEST_WHOLE {
        let (path, size) = (artifact.to_path_buf(), corpus.bytes());
        return Err(DataError::TooLarge { path, size, limit: LARGEST_WHOLE });
    }
    corpus
        .documents
        .iter()
        .map(|document| document.parts(|_| None).map(|part| Ok(part?.text)).collect())
        .collect()
}

#[cfg(test)]
mod tests;
