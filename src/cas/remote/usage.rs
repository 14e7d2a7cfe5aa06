//! What a remote holds.
//!
//! Purpose: count the objects of a remote and their bytes by kind, by listing it.
//! Invariant: nothing is written and no listing is held: objects are counted as they come. What is none of our objects
//! is counted as something else, whoever left it there.
//! Must not know: what is needed, what objects hold.

use std::ops::AddAssign;

use futures_util::StreamExt;
use object_store::ObjectMeta;
use object_store::path::Path as ObjectPath;
use serde::Serialize;

use super::error::{RemoteError, is_denied};
use super::list::Remotes;
use super::object::{Remote, SILENCE};
use crate::digest::Digest;

/// Objects and their bytes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Count {
    /// How many objects.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What a remote holds, by kind.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct RemoteUsage {
    /// Records.
    pub actions: Count,
    /// Small blobs and listings.
    pub blobs: Count,
    /// How large blobs are made from pieces.
    pub recipes: Count,
    /// Pieces.
    pub packs: Count,
    /// Everything else below the remote's prefix.
    pub other: Count,
}

impl AddAssign for Count {
    fn add_assign(&mut self, more: Self) {
        self.objects = self.objects.saturating_add(more.objects);
        self.bytes = self.bytes.saturating_add(more.bytes);
    }
}

impl RemoteUsage {
    /// The counts with the names of their kinds.
    pub fn parts(&self) -> [(&'static str, Count); 5] {
        let Self { actions, blobs, recipes, packs, other } = *self;
        [("actions", actions), ("blobs", blobs), ("recipes", recipes), ("packs", packs), ("other", other)]
    }

    /// All of it.
    pub fn total(&self) -> Count {
        self.parts().into_iter().fold(Count::default(), |mut sum, (_, count)| {
            sum += count;
            sum
        })
    }

    /// The count of a kind of object, by its path below the remote's prefix.
    fn of(&mut self, kind: &str, name: &str) -> &mut Count {
        match kind {
            _ if name.parse::<Digest>().is_err() => &mut self.other,
            "actions" => &mut self.actions,
            "blobs" => &mut self.blobs,
            "recipes" => &mut self.recipes,
            "packs" => &mut self.packs,
            _ => &mut self.other,
        }
    }
}

impl Remotes {
    /// Counts what each of the remotes holds; gives the sum.
    ///
    /// # Errors
    /// The first remote that cannot be listed, does not answer, or has another format.
    pub fn usage(&self) -> Result<RemoteUsage, RemoteError> {
        let count = async {
            let mut usage = RemoteUsage::default();
            for remote in self.iter() {
                remote.count(&mut usage).await?;
            }
            Ok(usage)
        };
        self.runtime.block_on(count)
    }
}

impl Remote {
    async fn count(&self, usage: &mut RemoteUsage) -> Result<(), RemoteError> {
        self.check_listable()?;
        self.knows_format().await?;
        let prefix = self.at(&[]);
        self.each_object(&prefix, |meta| {
            let mut parts = meta.location.prefix_match(&prefix).into_iter().flatten();
            let (kind, name, more) = (parts.next(), parts.next(), parts.next());
            let count = match (kind, name, more) {
                (Some(kind), Some(name), None) => usage.of(kind.as_ref(), name.as_ref()),
                _ => &mut usage.other,
            };
            *count += Count { objects: 1, bytes: meta.size };
        })
        .await?;
        for half in super::gc::halves(self).await {
            usage.other += Count { objects: 1, bytes: half.size };
        }
        Ok(())
    }

    /// Fails for a server of files.
    pub(super) fn check_listable(&self) -> Result<(), RemoteError> {
        match self.address.is_read_only() {
            true => Err(RemoteError::Unlistable(self.name.clone())),
            false => Ok(()),
        }
    }

    /// Fails for a remote whose layout another version has made.
    async fn knows_format(&self) -> Result<(), RemoteError> {
        let answer = tokio::time::timeout(SILENCE, self.prepare()).await;
        answer.unwrap_or_else(|_| Err(self.silent("read its format", SILENCE)))
    }

    /// Gives every object below a path as it comes.
    ///
    /// # Errors
    /// It cannot be listed; a request failed; nothing came for long; `Denied` when the credentials allow no listing.
    pub(super) async fn each_object(
        &self,
        below: &ObjectPath,
        mut each: impl FnMut(ObjectMeta),
    ) -> Result<(), RemoteError> {
        self.check_listable()?;
        self.check_alive()?;
        let what = "list its objects";
        let mut listing = self.store.list(Some(below));
        loop {
            match tokio::time::timeout(SILENCE, listing.next()).await {
                Ok(None) => return Ok(()),
                Ok(Some(Ok(meta))) => each(meta),
                Ok(Some(Err(error))) if is_denied(&error) => {
                    return Err(RemoteError::Denied { remote: self.name.clone(), what });
                }
                Ok(Some(Err(error))) => return Err(self.failed(what, &error)),
                Err(_) => return Err(self.silent(what, SILENCE)),
            }
        }
    }
}
