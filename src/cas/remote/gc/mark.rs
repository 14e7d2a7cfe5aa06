//! What the records that stay need.
//!
//! Purpose: from the records that stay, and from what somebody is about to name, to blobs, recipes and packs.
//! Invariant: a request that fails ends the collection: what could not be read never counts as needing nothing. A
//! record or recipe that is damaged needs nothing, for whoever reads it treats it as absent.
//! Must not know: what is removed, and when.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::stream::{self, StreamExt, TryStreamExt};
use object_store::ObjectMeta;

use super::survey::Survey;
use crate::cas::remote::claims::read_intent;
use crate::cas::remote::error::RemoteError;
use crate::cas::remote::object::Remote;
use crate::cas::tree::MOST_TREE_BYTES;
use crate::cas::types::{ArtifactRef, Tree};
use crate::digest::Digest;

/// How many objects are read at a time.
const READS: usize = 64;

/// What is needed.
#[derive(Default)]
pub(super) struct Live {
    /// Records that stay.
    pub actions: BTreeSet<Digest>,
    /// Blobs, small or large, and listings.
    pub blobs: BTreeSet<Digest>,
    /// Packs.
    pub packs: BTreeSet<Digest>,
}

/// What was read already: records as they were then, and what never changes.
#[derive(Default)]
pub(super) struct Marker {
    actions: BTreeMap<Digest, (ObjectMeta, Vec<ArtifactRef>)>,
    trees: BTreeMap<Digest, Vec<Digest>>,
    recipes: BTreeMap<Digest, (ObjectMeta, Vec<Digest>, Option<Digest>)>,
}

impl Marker {
    /// Marks what records need that are pinned, or not older than `oldest` (milliseconds by the server's clock), and
    /// what those who are sending are about to name.
    pub async fn mark(&mut self, remote: &Remote, survey: &Survey, oldest: i64) -> Result<Live, RemoteError> {
        let mut live = Live::default();
        for pin in &survey.pins {
            live.actions.extend(remote.read_pin(&pin.location).await?.into_iter().flat_map(|pin| pin.keys));
        }
        let recent =
            survey.actions.iter().filter(|(_, meta)| meta.last_modified.timestamp_millis() >= oldest);
        live.actions.extend(recent.map(|(key, _)| *key));
        for owner in survey.intents.values().filter(|owner| !owner.is_dead) {
            for object in owner.objects.iter().filter(|object| object.location.extension() != Some("beat")) {
                live.blobs.extend(read_intent(remote, &object.location).await?.into_iter().flatten());
            }
        }
        self.read_actions(remote, survey, &live.actions).await?;
        let mut trees = Vec::new();
        for key in &live.actions {
            for output in self.actions.get(key).into_iter().flat_map(|(_, outputs)| outputs) {
                live.blobs.insert(output.digest);
                trees.extend(output.tree.then_some(output.digest));
            }
        }
        self.read_trees(remote, survey, &trees).await?;
        live.blobs.extend(trees.iter().filter_map(|tree| self.trees.get(tree)).flatten());
        self.mark_packs(remote, survey, &mut live).await?;
        Ok(live)
    }

    async fn read_actions(
        &mut self,
        remote: &Remote,
        survey: &Survey,
        keys: &BTreeSet<Digest>,
    ) -> Result<(), RemoteError> {
        let unread = keys.iter().filter_map(|key| Some((*key, survey.actions.get(key)?)));
        let unread =
            unread.filter(|(key, meta)| self.actions.get(key).is_none_or(|(known, _)| known != *meta));
        let read = unread.map(|(key, meta)| async move {
            let action = undamaged(remote.action(&key).await)?;
            let outputs = action.map(|action| action.outputs.into_values().collect()).unwrap_or_default();
            Ok::<_, RemoteError>((key, (meta.clone(), outputs)))
        });
        let read: Vec<_> =
            stream::iter(read.collect::<Vec<_>>()).buffer_unordered(READS).try_collect().await?;
        self.actions.extend(read);
        Ok(())
    }

    async fn read_trees(
        &mut self,
        remote: &Remote,
        survey: &Survey,
        trees: &[Digest],
    ) -> Result<(), RemoteError> {
        for digest in trees {
            let Some(meta) = survey.blobs.get(digest).filter(|_| !self.trees.contains_key(digest)) else {
                continue;
            };
            let bytes = undamaged(remote.small(&meta.location, MOST_TREE_BYTES, "read a listing").await)?;
            let bytes = bytes.filter(|bytes| Digest::of_bytes(bytes) == *digest);
            let tree = bytes.and_then(|bytes| Tree::parse(&bytes).ok());
            // What is damaged or gone now may be whole the next time.
            if let Some(tree) = tree {
                self.trees.insert(*digest, tree.files.iter().map(|file| file.digest).collect());
            }
        }
        Ok(())
    }

    /// Marks the packs of large blobs, and the blobs that these are the difference from.
    async fn mark_packs(
        &mut self,
        remote: &Remote,
        survey: &Survey,
        live: &mut Live,
    ) -> Result<(), RemoteError> {
        let mut next: Vec<Digest> = live.blobs.iter().copied().collect();
        while !next.is_empty() {
            let unread = next.iter().filter_map(|digest| Some((*digest, survey.recipes.get(digest)?)));
            let unread = unread
                .filter(|(digest, meta)| self.recipes.get(digest).is_none_or(|(known, ..)| known != *meta));
            let read = unread.map(|(digest, meta)| async move {
                let recipe = undamaged(remote.recipe(&digest).await)?;
                let (packs, base) = recipe.map(|recipe| (recipe.packs, recipe.base)).unwrap_or_default();
                Ok::<_, RemoteError>((digest, (meta.clone(), packs, base)))
            });
            let read: Vec<_> =
                stream::iter(read.collect::<Vec<_>>()).buffer_unordered(READS).try_collect().await?;
            self.recipes.extend(read);
            let mut bases = Vec::new();
            for digest in next {
                if let Some((_, packs, base)) = self.recipes.get(&digest) {
                    live.packs.extend(packs);
                    bases.extend(base.filter(|base| live.blobs.insert(*base)));
                }
            }
            next = bases;
        }
        Ok(())
    }
}

/// What was read; none when it is damaged or gone.
fn undamaged<T>(read: Result<Option<T>, RemoteError>) -> Result<Option<T>, RemoteError> {
    match read {
        Err(RemoteError::WrongBytes { .. }) => Ok(None),
        read => read,
    }
}
