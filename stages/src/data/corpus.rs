//! Raw text.
//!
//! Purpose: read a `corpus` artifact, a text file or a folder of them.
//! Invariants: documents come in the order of their names, whatever the file system says; all text
//! is UTF-8; links are not followed out of the artifact (they are not read at all).
//! Must not know: tokenizers, what the text is for.

use std::path::{Path, PathBuf};

use super::DataError;

/// The largest text file that is read, in bytes.
const LARGEST_FILE: u64 = 2 << 30;
/// Folders below the artifact that are looked into.
const DEEPEST: usize = 16;

/// One text of a corpus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Its path inside the artifact, or its file name when the artifact is a file.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// The documents of a corpus, sorted by name; empty files and hidden ones are left out.
///
/// # Errors
/// [`DataError`] naming the file; a corpus without any text is one.
pub fn read_corpus(artifact: &Path) -> Result<Vec<Document>, DataError> {
    let mut files = Vec::new();
    if artifact.is_dir() {
        collect(artifact, DEEPEST, &mut files)?;
    } else {
        files.push(artifact.to_path_buf());
    }
    let mut documents = Vec::new();
    for path in files {
        let text = read_text(&path)?;
        if !text.trim().is_empty() {
            let inside = path.strip_prefix(artifact).ok().filter(|inside| !inside.as_os_str().is_empty());
            let name = inside.unwrap_or_else(|| path.file_name().map_or(&path, Path::new));
            documents.push(Document { name: name.to_string_lossy().into_owned(), text });
        }
    }
    documents.sort_by(|a, b| a.name.cmp(&b.name));
    if documents.is_empty() {
        return Err(DataError::Empty { path: artifact.to_path_buf(), what: "no text" });
    }
    Ok(documents)
}

fn collect(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), DataError> {
    let io = |source| DataError::Io { doing: "list", path: folder.to_path_buf(), source };
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let entry = entry.map_err(io)?;
        let kind = entry.file_type().map_err(io)?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        if kind.is_dir() && depth > 0 {
            collect(&entry.path(), depth - 1, files)?;
        } else if kind.is_file() || links_to_file(&entry.path(), kind) {
            files.push(entry.path());
        }
    }
    Ok(())
}

/// The runner hands artifacts over as folders of links into its store, and lets no other link
/// through; a link to a folder is not followed, for it could lead in a circle.
fn links_to_file(path: &Path, kind: std::fs::FileType) -> bool {
    kind.is_symlink() && path.is_file()
}

fn read_text(path: &Path) -> Result<String, DataError> {
    let io = |source| DataError::Io { doing: "read", path: path.to_path_buf(), source };
    let size = std::fs::metadata(path).map_err(io)?.len();
    if size > LARGEST_FILE {
        return Err(DataError::TooLarge { path: path.to_path_buf(), size, limit: LARGEST_FILE });
    }
    String::from_utf8(std::fs::read(path).map_err(io)?).map_err(|error| DataError::NotUtf8 {
        path: path.to_path_buf(),
        at: error.utf8_error().valid_up_to(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        read_corpus(folder).unwrap().into_iter().map(|document| document.name).collect()
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
}
