//! What can be wrong with data on disk.
//!
//! Purpose: one error type for all readers and writers of `data`.
//! Invariant: every message names the file, the row where there is one, and what to do.
//! Must not know: which stage reads the data.

use std::path::PathBuf;

use kiln_formats::records::{RecordError, Shape};
use kiln_formats::shards::ShardError;

/// An error of reading or writing data.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The file system said no.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was tried, such as `read` or `list`.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A dataset could not be read.
    #[error(transparent)]
    Records(#[from] RecordError),
    /// Tokens on disk could not be read or written.
    #[error(transparent)]
    Tokens(#[from] ShardError),
    /// Tokens of another tokenizer than the model's.
    #[error("the tokens in {} were made with another tokenizer than the model's; tokenize the data with the model's", .0.display())]
    OtherTokenizer(PathBuf),
    /// A row has another shape than its artifact type asks for.
    #[error("{place}: this is a dataset of {found}, and {wanted} are {shapes}, such as {example}")]
    Shape {
        /// The file and the row.
        place: String,
        /// The shape of the dataset.
        found: Shape,
        /// The artifact type.
        wanted: &'static str,
        /// The shapes that such an artifact may have.
        shapes: String,
        /// A row of the usual one.
        example: &'static str,
    },
    /// A row lacks something.
    #[error("{place}: {message}")]
    Row {
        /// The file and the row.
        place: String,
        /// What it lacks.
        message: &'static str,
    },
    /// A text is not UTF-8.
    #[error("{} is not UTF-8 at byte {at}; convert it (iconv -t UTF-8) and run again", path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// The first byte that does not fit, from 0.
        at: usize,
    },
    /// A file or line is larger than Kiln reads.
    #[error("{} has {size} bytes, more than the {limit} that are read; split it", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// Nothing to read.
    #[error("{} is empty or blank: it needs {what}", path.display())]
    Empty {
        /// The file or folder.
        path: PathBuf,
        /// What is missing, such as `some text`.
        what: &'static str,
    },
}
