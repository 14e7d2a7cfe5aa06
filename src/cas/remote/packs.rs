//! Large blobs in a remote: their recipes and packs.
//!
//! Purpose: read and write `recipes/DIGEST` and `packs/DIGEST`, packs in parts and in ranges.
//! Invariant: a recipe that is given passed the rules of recipes; the caller verifies the bytes of packs. No more of a
//! pack is read than up to the end of a range. A bounded number of packs is on its way at a time.
//! Must not know: how a blob is cut.

use std::ops::Range;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use bytes::{Buf as _, Bytes};
use futures_util::TryFutureExt;
use futures_util::stream::{StreamExt, TryStreamExt};
use object_store::path::Path as ObjectPath;
use object_store::{Error, GetOptions, MultipartUpload, ObjectStoreExt, PutPayload};
use tokio::sync::Semaphore;

use super::error::RemoteError;
use super::object::Remote;
use super::pieces::{PACK, Recipe, most_recipe_bytes};
use crate::cas::unpoisoned;
use crate::digest::Digest;

/// The bytes of a part of an object that is sent in parts.
const PART: usize = 8 << 20;
/// How many parts of one object are on their way at a time.
const PARTS: usize = 4;
/// How many packs are sent at a time, over all blobs. Each takes memory until it is sent.
const PACKS: usize = 4;
/// Where the bytes of a full pack take no longer than this, it is sent in one request: in parts, the server has to put
/// it together, and a transfer that is broken off leaves parts there. Where they take longer it is sent in parts, which
/// are tried again one by one.
const SHORT: Duration = Duration::from_secs(4);

/// How packs are sent to a remote.
#[derive(Debug)]
pub(super) struct Sender {
    permits: Semaphore,
    way: Mutex<Way>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    /// The bytes of the last pack took long, or there was none.
    Parts,
    /// The bytes of the last pack took a short time.
    Whole,
    /// A pack was refused as one request: something on the way may take no such bodies.
    PartsAlone,
}

impl Default for Sender {
    fn default() -> Self {
        Self { permits: Semaphore::new(PACKS), way: Mutex::new(Way::Parts) }
    }
}

impl Sender {
    fn way(&self) -> Way {
        *unpoisoned(&self.way)
    }

    /// Chooses the way of the next pack by the time that the bytes of one took.
    fn note(&self, bytes: usize, took: Duration) {
        let full = took.mul_f64(PACK as f64 / bytes as f64);
        let mut way = unpoisoned(&self.way);
        if *way != Way::PartsAlone {
            *way = if full <= SHORT { Way::Whole } else { Way::Parts };
        }
    }
}

impl Remote {
    /// The recipe of a large blob; none when it has none that can be used.
    ///
    /// # Errors
    /// The request failed, or the recipe breaks a rule.
    pub async fn recipe(&self, digest: &Digest) -> Result<Option<Recipe>, RemoteError> {
        self.recipe_of_at_most(digest, u64::MAX).await
    }

    /// The recipe of a large blob of no more than so many bytes; no more is read than one of such a blob can have.
    ///
    /// # Errors
    /// As [`Self::recipe`].
    pub(super) async fn recipe_of_at_most(
        &self,
        digest: &Digest,
        size: u64,
    ) -> Result<Option<Recipe>, RemoteError> {
        let path = self.place("recipes", digest);
        let Some(bytes) = self.small(&path, most_recipe_bytes(size), "read a recipe").await? else {
            return Ok(None);
        };
        Recipe::parse(&bytes, digest).map(Some).map_err(|why| {
            self.note_damage(digest);
            let (remote, what) = (self.name.clone(), format!("the recipe {digest}"));
            RemoteError::WrongBytes { remote, what, why }
        })
    }

    /// Sends a recipe, whose packs are there.
    ///
    /// # Errors
    /// The recipe cannot be written as JSON; the request failed.
    pub async fn put_recipe(&self, recipe: &Recipe) -> Result<(), RemoteError> {
        let bytes = recipe.to_bytes().map_err(|e| RemoteError::Request {
            remote: self.name.clone(),
            what: "write a recipe".into(),
            why: e.to_string(),
        })?;
        let bytes = PutPayload::from_bytes(bytes.into());
        let put = self.store.put(&self.place("recipes", &recipe.digest), bytes).await;
        self.done("write a recipe", put)
    }

    /// A range of a pack.
    ///
    /// # Errors
    /// The request failed, or there is no such pack.
    pub async fn range(&self, pack: &Digest, range: Range<u64>) -> Result<Bytes, RemoteError> {
        let wrong = |why: String| {
            let (remote, what) = (self.name.clone(), format!("the pack {pack}"));
            RemoteError::WrongBytes { remote, what, why }
        };
        let length = (range.end - range.start) as usize;
        let path = self.place("packs", pack);
        let options = GetOptions::new().with_range(Some(range.clone()));
        let (got, is_whole) = match self.store.get_opts(&path, options).await {
            // The server gives whole objects alone: what lies before the range is read and dropped.
            Err(Error::NotSupported { .. }) => (self.store.get(&path).await, true),
            got => (got, false),
        };
        let mut before = if is_whole { range.start } else { 0 };
        let Some(got) = self.noted("read a pack", got)? else { return Err(wrong("it is missing".into())) };
        let (mut bytes, mut body) = (Vec::with_capacity(length), got.into_stream());
        while let Some(mut chunk) = self.next(&mut body, "read a pack").await? {
            let dropped = before.min(chunk.len() as u64);
            chunk.advance(dropped as usize);
            before -= dropped;
            if is_whole {
                chunk.truncate(length - bytes.len());
            }
            if bytes.len() + chunk.len() > length {
                return Err(wrong(format!("more than {length} bytes came")));
            }
            bytes.extend_from_slice(&chunk);
            if is_whole && bytes.len() == length {
                break;
            }
        }
        Ok(bytes.into())
    }

    /// Sends a pack, in one request or in parts of some megabytes.
    ///
    /// # Errors
    /// A request failed.
    pub async fn put_pack(&self, pack: &Digest, bytes: Bytes) -> Result<(), RemoteError> {
        // It is never closed.
        let _permit = self.sender.permits.acquire().await;
        let (path, length, begun) = (self.place("packs", pack), bytes.len(), Instant::now());
        if length <= PART || self.sender.way() == Way::Whole {
            let put = self.store.put(&path, PutPayload::from_bytes(bytes.clone())).await;
            if put.is_ok() || length <= PART {
                self.done("write a pack", put)?;
                self.count_moved(length);
                if length > PART {
                    self.sender.note(length, begun.elapsed());
                }
                return Ok(());
            }
            *unpoisoned(&self.sender.way) = Way::PartsAlone;
        }
        self.put_parts(&path, bytes).await?;
        self.sender.note(length, begun.elapsed());
        Ok(())
    }

    async fn put_parts(&self, path: &ObjectPath, bytes: Bytes) -> Result<(), RemoteError> {
        let failed = |error: Error| self.write_failed("write a pack", &error);
        let mut upload = self.store.put_multipart(path).await.map_err(failed)?;
        let parts = (0..bytes.len()).step_by(PART).map(|at| bytes.slice(at..bytes.len().min(at + PART)));
        let mut send = |part: Bytes| {
            let length = part.len();
            upload.put_part(PutPayload::from_bytes(part)).inspect_ok(move |()| self.count_moved(length))
        };
        let sent = parts.map(&mut send).collect::<Vec<_>>();
        let sent = futures_util::stream::iter(sent).buffer_unordered(PARTS);
        match sent.try_collect::<Vec<()>>().await {
            Ok(_) => self.done("write a pack", upload.complete().await),
            Err(error) => {
                // What stays of it is no object; a rule of the bucket removes it in time.
                let _ = upload.abort().await;
                Err(failed(error))
            }
        }
    }
}
