//! The inputs of a stage.
//!
//! Purpose: make an artifact readable where a stage expects it, and take it away again.
//! Invariant: nothing that a stage does to what is made here can change a blob unseen: links and hard links are
//! read-only, and `is_intact` finds a blob that was written to in spite of that.
//! Must not know: what a stage does with its inputs.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::cas::disk::remove_tree_on;
use crate::cas::error::{During, StoreError};
use crate::cas::local::unpoisoned;
use crate::cas::stat::Stat;
use crate::cas::store::Store;
use crate::cas::types::ArtifactRef;
use crate::digest::Digest;

/// How the files of an artifact become readable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// As symbolic links to blobs, which are read-only; executable files as copies, because a blob is never
    /// executable. For providers.
    Links,
    /// The same with relative links, which are right in a copy of the project too. For places in the folder of the
    /// store that stay.
    RelativeLinks,
    /// As reflinks, else as copies, with modes 0644 and 0755. Where reflinks are missing, the files of an artifact of
    /// 64 MiB and more that are not executable are hard links with mode 0444. For commands.
    Copies,
}

/// When blobs were last written: the inode and the time of the last change of bytes of each.
pub type LastWritten = Vec<Option<(u64, i64, i64)>>;

impl Store {
    /// When the blobs were last written that a stage shares with the store once the artifact is materialized in
    /// this way; nothing for copies. A write to a shared blob that is taken back leaves its bytes, and not this.
    pub fn last_written(&self, artifact: &ArtifactRef, how: How) -> LastWritten {
        if how == How::Copies && artifact.size < self.hard_links_from {
            return Vec::new();
        }
        let written = |digest: &Digest| {
            let meta = fs::symlink_metadata(self.blobs.path(digest)).ok()?;
            Some((meta.ino(), meta.mtime(), meta.mtime_nsec()))
        };
        self.digests_of(artifact).iter().map(written).collect()
    }

    /// Makes an artifact readable at `dest`, where nothing may be yet.
    ///
    /// # Errors
    /// `NotIntact` when a blob is missing or damaged; when `dest` exists or cannot be made.
    pub fn materialize(&self, artifact: &ArtifactRef, dest: &Path, how: How) -> Result<(), StoreError> {
        self.make_parent(dest)?;
        let hard_links = artifact.size >= self.hard_links_from;
        let place = |digest: &Digest, to: &Path, executable: bool| match how {
            How::Links if !executable => {
                self.disk().symlink(&self.blobs.intact(digest)?, to).during("link", to)
            }
            How::RelativeLinks if !executable => {
                let blob = self.blobs.intact(digest)?;
                self.disk().symlink(&self.from_inside(to, &blob), to).during("link", to)
            }
            How::Links | How::RelativeLinks => self.place_blob(digest, to, true, false),
            How::Copies => self.place_blob(digest, to, executable, hard_links),
        };
        if !artifact.tree {
            return place(&artifact.digest, dest, artifact.executable);
        }
        self.place_tree(artifact, dest, &place)
    }

    /// The target of a relative link at `at`, a path in the folder of the store, to something else in there.
    pub fn from_inside(&self, at: &Path, target: &Path) -> PathBuf {
        let below = |path: &Path| path.strip_prefix(self.root()).map(Path::to_owned).ok();
        match (at.parent().and_then(below), below(target)) {
            (Some(folder), Some(target)) => {
                folder.components().map(|_| "..").collect::<PathBuf>().join(target)
            }
            _ => target.to_owned(),
        }
    }

    pub(super) fn place_tree(
        &self,
        artifact: &ArtifactRef,
        dest: &Path,
        place: &dyn Fn(&Digest, &Path, bool) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let tree = self.tree(&artifact.digest)?;
        self.make_new_folder(dest)?;
        let mut made = HashSet::new();
        for file in &tree.files {
            let to = dest.join(&file.path);
            if let Some((folder, _)) = file.path.rsplit_once('/')
                && made.insert(folder)
            {
                self.make_parent(&to)?;
            }
            place(&file.digest, &to, file.executable)?;
        }
        self.place_links_and_folders(&tree, dest)
    }

    /// Removes a folder in which these artifacts were materialized, and whatever else is in it. Blobs that were
    /// trusted stay trusted, although the removal of a hard link changes their ctime; so ask `is_intact` first for
    /// what a stage may have written to.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn discard(&self, folder: &Path, inputs: &[ArtifactRef]) -> Result<(), StoreError> {
        let large = inputs.iter().filter(|input| input.size >= self.hard_links_from);
        let digests: HashSet<Digest> = large.flat_map(|input| self.digests_of(input)).collect();
        // Nobody waits for the removal of a folder without hard links.
        let _turn = (!digests.is_empty()).then(|| unpoisoned(&self.blobs.relinking));
        let trusted: Vec<_> = digests
            .iter()
            .filter_map(|digest| {
                let blob = self.blobs.path(digest);
                let meta = fs::symlink_metadata(&blob).ok().filter(|meta| meta.nlink() > 1)?;
                let stat = Stat::of(&meta);
                self.blobs.trust.blob(digest, &stat).then_some((digest, blob, stat))
            })
            .collect();
        let removed = remove_tree_on(&**self.disk(), folder).during("remove", folder);
        trusted.iter().for_each(|(digest, blob, before)| self.keep_trust(digest, blob, before));
        removed
    }

    /// The blobs of the files of an artifact; none when its tree cannot be read.
    pub(in crate::cas) fn digests_of(&self, artifact: &ArtifactRef) -> Vec<Digest> {
        if !artifact.tree {
            return vec![artifact.digest];
        }
        let files = self.tree(&artifact.digest).map(|tree| tree.files).unwrap_or_default();
        files.into_iter().map(|file| file.digest).collect()
    }
}
