//! Small files that people may read too: records and hints.
//!
//! Purpose: name and read them.
//! Invariant: none is read beyond a limit.
//! Must not know: what stands in them.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::digest::Digest;

/// The most bytes that are read of such a file.
const MOST_BYTES: u64 = 64 << 20;

/// A file name for any text: plain names as they are, others by their digest.
pub(super) fn file_name(text: &str, extension: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '=' | ',' | '[' | ']');
    if !text.is_empty() && text.len() <= 100 && !text.starts_with('.') && text.chars().all(plain) {
        return format!("{text}.{extension}");
    }
    format!("sha256-{}.{extension}", Digest::of_bytes(text.as_bytes()))
}

pub(super) fn bounded(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(file)?.take(MOST_BYTES).read_to_string(&mut text)?;
    Ok(text)
}
