//! Copies of files outside that the store keeps.
//!
//! Purpose: let many files enter the store with the syncs of one, for sources that are too large to copy each time.
//! Invariant: what is given is the name of bytes that are kept for good; the files stay as they are.
//! Must not know: why a file is kept.

use std::fs::Metadata;
use std::path::Path;

use super::commit::PendingCommit;
use super::staged::StagedOutput;
use crate::cas::error::StoreError;
use crate::cas::stat::Stat;
use crate::cas::store::Store;
use crate::cas::types::ArtifactRef;
use crate::digest::Digest;

impl Store {
    /// Keeps the bytes of these files as blobs; gives their digests and sizes. What is a blob already is not copied.
    ///
    /// # Errors
    /// A file cannot be read, or the disk refuses.
    pub(in crate::cas) fn keep_copies<'a>(
        &self,
        files: impl Iterator<Item = (&'a Path, &'a Metadata)>,
    ) -> Result<Vec<(Digest, u64)>, StoreError> {
        let (mut names, mut staged) = (Vec::new(), Vec::new());
        for (path, meta) in files {
            let name = self.blobs.identify_file(path, &Stat::of(meta))?;
            if self.blobs.verify(&name.0)?.is_some() {
                names.push(name);
                continue;
            }
            let copy = self.stage_copy(path, meta)?;
            names.push((copy.hashed.digest, copy.hashed.stat.size));
            staged.push(copy);
        }
        let Some(first) = staged.first() else { return Ok(names) };
        let (digest, size) = (first.hashed.digest, first.hashed.stat.size);
        let artifact = ArtifactRef { digest, tree: false, executable: false, size };
        let outputs = vec![StagedOutput { artifact, files: staged, tree: None }];
        let pending = PendingCommit { outputs, ..PendingCommit::default() };
        self.commit(vec![pending]).into_iter().try_for_each(|kept| kept.map(drop))?;
        Ok(names)
    }
}
