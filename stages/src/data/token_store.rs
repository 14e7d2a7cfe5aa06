//! Tokens beyond what memory holds.
//!
//! Purpose: a run of token ids in a file without a name, written once and read anywhere.
//! Invariant: the file goes with the process, however it ends.
//! Must not know: tokenizers, rows.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::DataError;

/// Ids below this are kept in two bytes.
const SHORT: usize = 1 << 16;

/// Token ids that were written.
#[derive(Debug)]
pub struct TokenStore {
    folder: PathBuf,
    file: File,
    /// Bytes of an id.
    width: usize,
    length: usize,
}

impl TokenStore {
    /// Keeps ids below `vocab_size` in a file within a folder; `fill` is given what takes them.
    ///
    /// # Errors
    /// Those of `fill`; [`DataError`] when the folder takes no file, or is full.
    pub fn new<E: From<DataError>>(
        folder: &Path,
        vocab_size: usize,
        fill: impl FnOnce(&mut dyn FnMut(&[u32]) -> Result<(), DataError>) -> Result<(), E>,
    ) -> Result<Self, E> {
        let write = |source| DataError::Io {
            doing: "write the tokens of the text to",
            path: folder.to_owned(),
            source,
        };
        let file = tempfile::tempfile_in(folder).map_err(write)?;
        let width = if vocab_size <= SHORT { 2 } else { 4 };
        let (mut length, mut out) = (0, BufWriter::with_capacity(1 << 20, &file));
        fill(&mut |ids| {
            length += ids.len();
            ids.iter().try_for_each(|id| out.write_all(&id.to_le_bytes()[..width])).map_err(write)
        })?;
        out.flush().map_err(write)?;
        drop(out);
        Ok(Self { folder: folder.to_owned(), file, width, length })
    }

    /// How many ids there are.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The ids at these places.
    ///
    /// # Errors
    /// When the disk does not give them.
    pub fn read(&self, range: Range<usize>) -> Result<Vec<u32>, DataError> {
        let mut bytes = vec![0; range.len() * self.width];
        self.file.read_exact_at(&mut bytes, (range.start * self.width) as u64).map_err(|source| {
            DataError::Io { doing: "read the tokens of the text in", path: self.folder.clone(), source }
        })?;
        let id = |bytes: &[u8]| bytes.iter().rev().fold(0, |id, &byte| id << 8 | u32::from(byte));
        Ok(bytes.chunks_exact(self.width).map(id).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_either_width_are_read_as_they_were_written_and_leave_no_file() {
        let folder = tempfile::tempdir().unwrap();
        for vocab_size in [1 << 16, 1 << 20] {
            let ids: Vec<u32> =
                (0..10_000u32).map(|i| i.wrapping_mul(2_654_435_761) % vocab_size as u32).collect();
            let store =
                TokenStore::new(folder.path(), vocab_size, |push| ids.chunks(7).try_for_each(push)).unwrap();
            assert_eq!(store.len(), ids.len());
            for range in [0..0, 0..10_000, 9_999..10_000, 4_001..4_096] {
                assert_eq!(store.read(range.clone()).unwrap(), ids[range]);
            }
            assert!(store.read(9_999..10_001).is_err(), "there are no ids after the last");
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        }
    }

    #[test]
    fn a_folder_that_takes_no_file_is_named() {
        let error = TokenStore::new(Path::new("/nowhere"), 300, |_| Ok::<_, DataError>(())).unwrap_err();
        assert!(
            error.to_string().starts_with("cannot write the tokens of the text to /nowhere: "),
            "{error}"
        );
    }
}
