//! Large blobs in pieces.
//!
//! The way through: a file is cut where its content says (`cut`: safetensors tensor by tensor, anything else by
//! FastCDC) -> each piece is coded where that pays (`coding`) -> new pieces go into packs of some 64 MiB, and a recipe
//! says where each piece lies (`recipe`). `send` does this, and `receive` makes the file again.
//! A piece that is known from another recipe, or from a file that is here, is neither sent nor fetched.

use crate::cas::store::Store;
use crate::cas::types::ArtifactRef;
use crate::digest::Digest;

mod coding;
mod cut;
mod receive;
mod recipe;
mod send;

pub(crate) use coding::{decode, encode};
pub(crate) use receive::{Broken, Here, receive};
pub(super) use recipe::{MOST_DEPTH, most_base_bytes, most_recipe_bytes};
pub(crate) use recipe::{Recipe, Stored};
pub(super) use send::PACK;
pub(crate) use send::{Likeness, Near, pack_up};

/// From this size on a blob is sent in pieces.
pub(super) const LARGE: u64 = 1 << 20;

/// The large files of artifacts, as far as they are here.
pub(super) fn large_files(store: &Store, artifacts: &[ArtifactRef]) -> Vec<Digest> {
    let mut files = Vec::new();
    for artifact in artifacts {
        match artifact.tree {
            false => files.push(artifact.digest),
            true => files.extend(
                store.tree(&artifact.digest).into_iter().flat_map(|tree| tree.files).map(|f| f.digest),
            ),
        }
    }
    files.retain(|digest| std::fs::metadata(store.blob(digest)).is_ok_and(|meta| meta.len() >= LARGE));
    files.sort_unstable();
    files.dedup();
    files
}
