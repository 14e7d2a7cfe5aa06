//! Small files that people may read too: records and hints.
//!
//! Purpose: name, replace, append to and read them.
//! Invariant: a file is replaced as a whole or not at all; none is read beyond a limit.
//! Must not know: what stands in them.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::path::Path;

use super::disk::{Disk, Os};
use super::error::{During, StoreError};
use super::stat;
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

/// Writes a file beside its place, syncs it, and puts it there.
pub(super) fn replace(file: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let temporary = file.with_extension(format!("{}-{:x}.tmp", std::process::id(), stat::now()));
    let disk = Os::default();
    let put = disk.write(&temporary, bytes).and_then(|()| disk.sync(&temporary));
    let put = put.and_then(|()| disk.rename(&temporary, file));
    if put.is_err() {
        let _ = disk.remove(&temporary);
    }
    put.during("write", file)
}

pub(super) fn append_to(file: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(file)
}

pub(super) fn bounded(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(file)?.take(MOST_BYTES).read_to_string(&mut text)?;
    Ok(text)
}
