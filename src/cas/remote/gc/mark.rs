//! What the records that stay need.
//!
//! Purpose: from the records that stay, and from what somebody is about to name, to blobs, recipes and packs.
//! Invariant: a request that fails ends the collection, and so does a record, listing or recipe that stays and is damaged:
//! what could not be read never counts as needing nothing. A server, or something before it, may have given other bytes
//! this once.
//! Must not know: what is removed, and when.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::stream::{self, StreamExt, TryStreamExt};
use object_store::ObjectMeta;
use object_store::path::Path as ObjectPath;

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

/// What a look is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// To see what may be garbage.
    First,
    /// To remove it.
    Last,
}

/// What was read already: records as they were then, and what never changes.
#[derive(Default)]
pub(super) struct Marker {
    actions: BTreeMap<Digest, (ObjectMeta, Vec<ArtifactRef>)>,
    trees: BTreeMap<Digest, Vec<Digest>>,
    recipes: BTreeMap<Digest, (ObjectMeta, Vec<Digest>, Option<Digest>)>,
    /// Whether something that was listed was gone when it was read: others remove things, too.
    gone: bool,
}

impl Marker {
    /// Marks what records need that are pinned, or not older than `oldest` (milliseconds by the server's clock), and
    /// what those who are sending are about to name. None when something that the survey lists is gone meanwhile.
    pub async fn mark(
        &mut self,
        remote: &Remote,
        survey: &Survey,
        oldest: i64,
        how: Look,
    ) -> Result<Option<Live>, RemoteError> {
        let mut live = Live::default();
        self.gone = false;
        for pin in &survey.pins {
            live.actions.extend(remote.read_pin(&pin.location).await?.into_iter().flat_map(|pin| pin.keys));
        }
        let recent =
            survey.actions.iter().filter(|(_, meta)| meta.last_modified.timestamp_millis() >= oldest);
        live.actions.extend(recent.map(|(key, _)| *key));
        for owner in survey.intents.values().filter(|owner| !owner.is_dead) {
            for object in owner.objects.iter().filter(|object| object.location.extension() != Some("beat")) {
                match read_intent(remote, &object.location).await {
                    // Whether its owner lives is not known yet.
                    Err(RemoteError::WrongBytes { .. }) if how == Look::First => {}
                    read => live.blobs.extend(read?.into_iter().flatten()),
                }
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
        Ok((!self.gone).then_some(live))
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
            let action = needed(remote, &meta.location, remote.action(&key).await)?;
            let outputs = action.map(|action| action.outputs.into_values().collect());
            Ok::<_, RemoteError>(outputs.map(|outputs| (key, (meta.clone(), outputs))))
        });
        let read: Vec<_> =
            stream::iter(read.collect::<Vec<_>>()).buffer_unordered(READS).try_collect().await?;
        self.gone |= read.iter().any(Option::is_none);
        self.actions.extend(read.into_iter().flatten());
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
            let read = remote.small(&meta.location, MOST_TREE_BYTES, "read a listing").await;
            let Some(bytes) = needed(remote, &meta.location, read)? else {
                self.gone = true;
                continue;
            };
            let tree = match Digest::of_bytes(&bytes) == *digest {
                true => Tree::parse(&bytes),
                false => Err("it has other bytes than its name says".to_owned()),
            };
            let tree = tree.map_err(|why| unreadable(remote, &meta.location, why))?;
            self.trees.insert(*digest, tree.files.iter().map(|file| file.digest).collect());
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
                let recipe = needed(remote, &meta.location, remote.recipe(&digest).await)?;
                Ok::<_, RemoteError>(recipe.map(|recipe| (digest, (meta.clone(), recipe.packs, recipe.base))))
            });
            let read: Vec<_> =
                stream::iter(read.collect::<Vec<_>>()).buffer_unordered(READS).try_collect().await?;
            self.gone |= read.iter().any(Option::is_none);
            self.recipes.extend(read.into_iter().flatten());
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

/// What was read of an object that was listed; none when it is gone.
fn needed<T>(
    remote: &Remote,
    path: &ObjectPath,
    read: Result<Option<T>, RemoteError>,
) -> Result<Option<T>, RemoteError> {
    match read {
        Err(RemoteError::WrongBytes { why, .. }) => Err(unreadable(remote, path, why)),
        read => read,
    }
}

pub(super) fn unreadable(remote: &Remote, path: &ObjectPath, why: String) -> RemoteError {
    RemoteError::Unreadable { remote: remote.name.clone(), what: path.to_string(), why }
}
