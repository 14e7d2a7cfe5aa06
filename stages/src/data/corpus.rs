//! Raw text.
//!
//! Purpose: read a `corpus` artifact, a text file or a folder of them, part by part: it may be larger than the memory.
//! Invariants: documents come in the order of their names, whatever the file system says; all text
//! is UTF-8; links are not followed out of the artifact (they are not read at all).
//! Must not know: tokenizers (it is told where a text may be cut), what the text is for.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::{BYTE_ORDER_MARK, DataError};

/// Bytes that are read at a time.
const BLOCK: usize = 4 << 20;
/// The largest corpus that is read as a whole, in bytes.
const LARGEST_WHOLE: u64 = 2 << 30;

/// One text of a corpus.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Document {
    /// Its path inside the artifact, or its file name when the artifact is a file.
    name: String,
    path: PathBuf,
    /// The bytes of the file that belong to it.
    range: Range<u64>,
}

/// The documents of a corpus, sorted by name; empty files and hidden ones are left out.
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

impl Corpus {
    /// Lists the documents of an artifact.
    ///
    /// # Errors
    /// [`DataError`] naming the file; a corpus without any text is one.
    pub fn open(artifact: &Path) -> Result<Self, DataError> {
        let mut files = Vec::new();
        if artifact.is_dir() {
            files = collect(artifact)?;
        } else {
            files.push(artifact.to_path_buf());
        }
        let mut documents = Vec::new();
        for path in files {
            let io = |source| DataError::Io { doing: "read", path: path.clone(), source };
            let file = File::open(&path).map_err(io)?;
            let mut start = [0; BYTE_ORDER_MARK.len()];
            let is_marked = file.read_exact_at(&mut start, 0).is_ok() && start == *BYTE_ORDER_MARK;
            let first = if is_marked { BYTE_ORDER_MARK.len() as u64 } else { 0 };
            let range = first..file.metadata().map_err(io)?.len();
            let inside = path.strip_prefix(artifact).ok().filter(|inside| !inside.as_os_str().is_empty());
            let name = inside.unwrap_or_else(|| path.file_name().map_or(&path, Path::new));
            let document = Document { name: name.to_string_lossy().into_owned(), path, range };
            if !document.is_blank()? {
                documents.push(document);
            }
        }
        documents.sort_by(|a, b| a.name.cmp(&b.name));
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

impl Document {
    fn bytes(&self) -> u64 {
        self.range.end - self.range.start
    }

    fn io(&self) -> impl Fn(std::io::Error) -> DataError {
        |source| DataError::Io { doing: "read", path: self.path.clone(), source }
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
        File::open(&self.path).and_then(|file| file.read_exact_at(&mut bytes, start)).map_err(self.io())?;
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
        let Document { path, range, .. } = self.document;
        let file = match self.file.take() {
            Some(file) => file,
            None => File::open(path)?,
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
                let path = self.document.path.clone();
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

/// The files of a folder and of those below it; hidden ones are left out.
fn collect(artifact: &Path) -> Result<Vec<PathBuf>, DataError> {
    let (mut files, mut folders) = (Vec::new(), vec![artifact.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        let io = |source| DataError::Io { doing: "list", path: folder.clone(), source };
        for entry in std::fs::read_dir(&folder).map_err(io)? {
            let entry = entry.map_err(io)?;
            let kind = entry.file_type().map_err(io)?;
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() || links_to_file(&entry.path(), kind) {
                files.push(entry.path());
            }
        }
    }
    Ok(files)
}

/// The runner hands artifacts over as folders of links into its store, and lets no other link
/// through; a link to a folder is not followed, for it could lead in a circle.
fn links_to_file(path: &Path, kind: std::fs::FileType) -> bool {
    kind.is_symlink() && path.is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        Corpus::open(folder).unwrap().documents.into_iter().map(|document| document.name).collect()
    }

    #[test]
    fn every_folder_is_looked_into_however_deep_it_lies() {
        let folder = tempfile::tempdir().unwrap();
        let deep = (0..40).fold(folder.path().to_path_buf(), |path, i| path.join(format!("d{i}")));
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::write(deep.join("a.txt"), "text").unwrap();
        assert_eq!(names(folder.path()).len(), 1);
    }

    fn written(texts: &[&str]) -> (tempfile::TempDir, Corpus) {
        let folder = tempfile::tempdir().unwrap();
        for (i, text) in texts.iter().enumerate() {
            std::fs::write(folder.path().join(format!("{i:02}.txt")), text).unwrap();
        }
        let corpus = Corpus::open(folder.path()).unwrap();
        (folder, corpus)
    }

    fn texts(corpus: &Corpus) -> Vec<String> {
        corpus.documents.iter().map(|d| d.parts(|_| None).map(|part| part.unwrap().text).collect()).collect()
    }

    #[test]
    fn a_folder_is_read_in_the_order_of_names() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("b")).unwrap();
        for name in ["c.txt", "a.txt", "b/z.txt", "b/a.txt", ".hidden"] {
            std::fs::write(folder.path().join(name), name).unwrap();
        }
        std::fs::write(folder.path().join("empty.txt"), "\n").unwrap();
        assert_eq!(names(folder.path()), ["a.txt", "b/a.txt", "b/z.txt", "c.txt"]);
    }

    #[test]
    fn a_file_is_a_corpus_of_one_document() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text");
        std::fs::write(&path, "Words.").unwrap();
        assert_eq!(names(&path), ["text"]);
    }

    #[test]
    fn text_that_is_not_utf8_is_named_with_its_byte() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("latin.txt"), b"caf\xe9").unwrap();
        let message = read_corpus(folder.path()).unwrap_err().to_string();
        assert!(message.contains("latin.txt is not UTF-8 at byte 3"), "{message}");
    }

    #[test]
    fn a_byte_order_mark_is_no_text() {
        let (_folder, corpus) = written(&["\u{feff}Words.", "\u{feff}", "ö\u{feff}"]);
        assert_eq!(texts(&corpus), ["Words.", "ö\u{feff}"]);
    }

    #[test]
    fn a_corpus_without_text_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(read_corpus(folder.path()), Err(DataError::Empty { .. })));
    }

    #[cfg(unix)]
    #[test]
    fn a_link_to_a_file_counts_as_the_file_and_one_to_a_folder_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (blob, corpus) = (folder.path().join("blob"), folder.path().join("corpus"));
        std::fs::write(&blob, "Words.").unwrap();
        std::fs::create_dir(&corpus).unwrap();
        std::os::unix::fs::symlink(&blob, corpus.join("a.txt")).unwrap();
        std::os::unix::fs::symlink(&corpus, corpus.join("circle")).unwrap();
        assert_eq!(names(&corpus), ["a.txt"]);
    }

    #[test]
    fn the_end_of_the_text_is_held_out_and_cut_at_a_character() {
        let long = "the sün rose ö ".repeat(9);
        let (_folder, corpus) = written(&[&long, "the birds", "ö"]);
        for hundredth in 0..=50 {
            let (training, held) = corpus.clone().split(f64::from(hundredth) / 100.0).unwrap();
            let (training, held) = (texts(&training), texts(&held));
            assert_eq!(training.concat() + &held.concat(), texts(&corpus).concat(), "at {hundredth} %");
            assert_eq!(held.is_empty(), hundredth == 0);
            let cut = usize::from(training.len() + held.len() > 3);
            assert_eq!(training.len() + held.len(), 3 + cut, "no document is joined with another");
        }
        let (_folder, corpus) = written(&["ö"]);
        assert_eq!(texts(&corpus.split(1e-300).unwrap().1), ["ö"], "a part above 0 holds something out");
    }

    #[test]
    fn a_text_longer_than_a_block_comes_in_parts_that_end_where_they_may() {
        let long = "zwölf Birnen, ".repeat(BLOCK / 4);
        let (_folder, corpus) = written(&[&long, "the birds"]);
        let parts: Vec<Part> = corpus.parts(|text| text.rfind(' ')).map(Result::unwrap).collect();
        assert!(parts.len() > 3 && parts.iter().all(|part| part.text.len() <= 2 * BLOCK));
        let ends: Vec<usize> = (0..parts.len()).filter(|&i| parts[i].ends).collect();
        assert_eq!(ends, [parts.len() - 2, parts.len() - 1], "each document ends once");
        assert!(parts[1..parts.len() - 1].iter().all(|part| part.text.starts_with(' ')));
        assert_eq!(parts.iter().map(|part| part.text.as_str()).collect::<String>(), long + "the birds");
    }

    #[test]
    fn a_byte_that_is_not_utf8_is_named_by_its_place_in_a_long_file() {
        let folder = tempfile::tempdir().unwrap();
        let mut bytes = "ö ".repeat(BLOCK).into_bytes();
        for (at, cut_short) in [(BLOCK + 5, false), (3 * BLOCK - 2, true)] {
            bytes[at - at % 3] = 0xc3;
            bytes[at - at % 3 + 1] = 0x20;
            if cut_short {
                bytes.truncate(at - at % 3 + 1);
            }
            let path = folder.path().join("text");
            std::fs::write(&path, &bytes).unwrap();
            let corpus = Corpus::open(&path).unwrap();
            let error = corpus.parts(|text| text.rfind(' ')).find_map(Result::err).unwrap();
            assert!(error.to_string().contains(&format!("at byte {}", at - at % 3)), "{error}");
            bytes = "ö ".repeat(BLOCK).into_bytes();
        }
    }
}
