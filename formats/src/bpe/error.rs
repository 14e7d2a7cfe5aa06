//! What can be wrong with a tokenizer, its options or its files.
//!
//! Invariant: every message names the file or option and says what to do next.
//! Must not know: how the errors are shown.

use std::path::{Path, PathBuf};

/// A tokenizer could not be trained, read or written.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// The options ask for less than the smallest or more than the largest vocabulary.
    #[error("vocab_size {asked} is out of range: {least} (256 bytes and {} special tokens) to {most}", least - 256)]
    VocabSize {
        /// What was asked for.
        asked: usize,
        /// The least that works.
        least: usize,
        /// The most that works.
        most: usize,
    },
    /// No split pattern has this name.
    #[error("unknown split pattern `{0}`; there are: gpt2, gpt4")]
    Pattern(String),
    /// The distinct words of the text do not fit the trainer's 32-bit positions.
    #[error("the text has more than 4 GiB of distinct words; train on a sample of it")]
    TooMuchText,
    /// The file system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is not what Kiln writes.
    #[error("{}: {what}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        what: String,
    },
    /// Merges that no training could have made.
    #[error("merge {index} is unusable: {what}")]
    Merge {
        /// Its place in the list of merges, from 0.
        index: usize,
        /// Why.
        what: String,
    },
}

impl TokenizerError {
    /// An error of the file system at `path`.
    pub(super) fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io { path: path.to_path_buf(), source }
    }

    /// A file at `path` that is not what Kiln writes.
    pub(super) fn file(path: &Path, what: impl Into<String>) -> Self {
        Self::File { path: path.to_path_buf(), what: what.into() }
    }
}
