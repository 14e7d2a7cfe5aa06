//! Removes garbage from a remote.
//!
//! Purpose: plan what can go, and remove it in two phases.
//! Invariant: what goes was garbage twice, with the same time of change, and the second time after a flag was raised
//! for which senders wait. Records go before the blobs that they name, recipes before packs, so that a collector that
//! dies leaves nothing that names what is gone. A collector that was suspended removes nothing more.
//! Must not know: how people see it.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use object_store::path::Path as ObjectPath;
use object_store::{Error, ObjectMeta, ObjectStoreExt};
use tokio::time::{Instant, sleep};

use super::folder;
use super::mark::{Live, Look, Marker, unreadable};
use super::survey::{Owners, Survey};
use crate::cas::care::{Garbage, GcPlan, Kind};
use crate::cas::remote::claims::{COLLECTORS, Heartbeat, STANDSTILL, milliseconds};
use crate::cas::remote::error::RemoteError;
use crate::cas::remote::object::Remote;
use crate::digest::Digest;

/// For how long things are removed before senders that wait may go on.
const ROUND: Duration = Duration::from_secs(20);
/// How long senders have between two rounds.
const BETWEEN: Duration = Duration::from_secs(2);
/// How often it is looked again for what is needed, when others remove things meanwhile.
const LOOKS: usize = 10;
/// What runners and jobs of a cluster tell each other stays for so long after the last word: a job may wait in a queue.
const JOB_AGE: Duration = Duration::from_secs(30 * 86_400);
/// How many objects are removed at a time.
const REMOVALS: usize = 16;

/// What stays in a remote.
#[derive(Debug, Clone, Copy)]
pub struct GcRules {
    /// Records that were written or used in this time stay.
    pub keep: Duration,
    /// Whatever was written in this time stays.
    pub grace: Duration,
}

/// Something that can be removed.
struct Item {
    kind: Kind,
    key: Option<Digest>,
    meta: ObjectMeta,
    /// Whether its owner stood still so long that it is dead.
    of_dead: bool,
}

impl Remote {
    /// Plans what can be removed. Nothing is written: the age of things is that by the clock of this machine.
    ///
    /// # Errors
    /// A request failed.
    pub(in crate::cas::remote) async fn plan_gc(&self, rules: GcRules) -> Result<GcPlan, RemoteError> {
        self.look_at_format().await?;
        let now = jiff::Timestamp::now().as_millisecond();
        let (mut owners, mut marker) = (Owners::default(), Marker::default());
        let oldest = now - milliseconds(rules.keep);
        let (survey, live) = self.look(&mut owners, &mut marker, oldest, Look::First).await?;
        let items = garbage(&survey, &live, rules, now);
        Ok(plan(&survey, &items, now))
    }

    /// Removes what can be removed; gives it, and the bytes that are free now.
    ///
    /// # Errors
    /// A request failed. What was not removed is whole.
    pub(in crate::cas::remote) async fn collect_garbage(
        &self,
        rules: GcRules,
    ) -> Result<(GcPlan, u64), RemoteError> {
        self.prepare().await?;
        let (mut owners, mut marker) = (Owners::default(), Marker::default());
        let flag = Heartbeat::begin(self, "probes", Bytes::from_static(b"clock")).await?;
        let now = self.clock(flag.path()).await;
        flag.end().await;
        let now = now?;
        let oldest = now - milliseconds(rules.keep);
        let (survey, live) = self.look(&mut owners, &mut marker, oldest, Look::First).await?;
        let first = garbage(&survey, &live, rules, now);
        let planned = plan(&survey, &first, now);
        let has_owners =
            ![&survey.intents, &survey.collectors, &survey.leases].iter().all(|all| all.is_empty());
        if first.is_empty() && !has_owners {
            return Ok((planned, 0));
        }
        if has_owners {
            // Which of them stand still is known then.
            let wait = STANDSTILL + BETWEEN;
            tracing::warn!(
                "others send to the remote `{}` or clean it, or did; waiting {} s to see who still does",
                self.name,
                wait.as_secs()
            );
            sleep(wait).await;
        }
        let first: BTreeSet<_> = first.iter().map(identity).collect();
        let mut freed = 0;
        loop {
            let round = Round { remote: self, rules, first: &first };
            let (bytes, is_done) = round.run(&mut owners, &mut marker).await?;
            freed += bytes;
            if is_done {
                return Ok((planned, freed));
            }
            sleep(BETWEEN).await;
        }
    }

    /// What the remote has, and what of it is needed.
    async fn look(
        &self,
        owners: &mut Owners,
        marker: &mut Marker,
        oldest: i64,
        how: Look,
    ) -> Result<(Survey, Live), RemoteError> {
        for _ in 0..LOOKS {
            let survey = Survey::of(self, owners).await?;
            if let Some(live) = marker.mark(self, &survey, oldest, how).await? {
                return Ok((survey, live));
            }
        }
        let why = "objects that were listed are gone each time that they are read".to_owned();
        Err(unreadable(self, &self.at(&["actions"]), why))
    }

    /// The time of an object, in milliseconds by the server's clock.
    async fn clock(&self, path: &ObjectPath) -> Result<i64, RemoteError> {
        let head = self.store.head(path).await;
        match self.noted("look at what it has just written", head)? {
            Some(meta) => Ok(meta.last_modified.timestamp_millis()),
            None => Err(RemoteError::WrongBytes {
                remote: self.name.clone(),
                what: path.to_string(),
                why: "it was just written and is not there".into(),
            }),
        }
    }
}

/// One time in which senders wait.
struct Round<'a> {
    remote: &'a Remote,
    rules: GcRules,
    first: &'a BTreeSet<(ObjectPath, i64)>,
}

impl Round<'_> {
    /// Removes for a while; gives the bytes that are free now, and whether nothing is left to do.
    async fn run(&self, owners: &mut Owners, marker: &mut Marker) -> Result<(u64, bool), RemoteError> {
        let flag = Heartbeat::begin(self.remote, COLLECTORS, Bytes::from_static(b"collecting")).await?;
        let ran = tokio::select! {
            biased;
            ran = self.remove(&flag, owners, marker) => ran,
            never = flag.keep() => match never {},
        };
        flag.end().await;
        ran
    }

    async fn remove(
        &self,
        flag: &Heartbeat<'_>,
        owners: &mut Owners,
        marker: &mut Marker,
    ) -> Result<(u64, bool), RemoteError> {
        let now = self.remote.clock(flag.path()).await?;
        let oldest = now - milliseconds(self.rules.keep);
        let (survey, live) = self.remote.look(owners, marker, oldest, Look::Last).await?;
        let items = garbage(&survey, &live, self.rules, now);
        let twice = |item: &Item| item.of_dead || self.first.contains(&identity(item));
        let items: Vec<_> = items.into_iter().filter(twice).collect();
        let (until, mut freed) = (Instant::now() + ROUND, 0);
        for kind in [Kind::Action, Kind::Leftover, Kind::Recipe, Kind::Blob, Kind::Pack] {
            let of_kind = items.iter().filter(|item| item.kind == kind);
            let removals = of_kind.map(|item| async {
                // Who was suspended in between may have been taken for dead.
                if Instant::now() < until && flag.is_fresh() {
                    self.remove_one(item).await.map(Some)
                } else {
                    Ok(None)
                }
            });
            let removed: Vec<_> =
                stream::iter(removals.collect::<Vec<_>>()).buffer_unordered(REMOVALS).try_collect().await?;
            freed += removed.iter().flatten().sum::<u64>();
            if removed.contains(&None) {
                return Ok((freed, false));
            }
        }
        Ok((freed, true))
    }

    /// Removes an object; gives its bytes.
    async fn remove_one(&self, item: &Item) -> Result<u64, RemoteError> {
        if let Some(file) = folder::unfinished_file(self.remote, &item.meta.location) {
            let removed = folder::remove(&file).map_err(|e| {
                let error = Error::Generic { store: "file", source: e.into() };
                self.remote.write_failed("remove an object", &error)
            })?;
            return Ok(if removed { item.meta.size } else { 0 });
        }
        match self.remote.in_time("remove an object", self.remote.store.delete(&item.meta.location)).await? {
            // Somebody else was faster.
            Err(Error::NotFound { .. }) => Ok(0),
            removed => self.remote.done("remove an object", removed).map(|()| item.meta.size),
        }
    }
}

/// What stays the same of an object that was not touched between the two phases.
fn identity(item: &Item) -> (ObjectPath, i64) {
    (item.meta.location.clone(), item.meta.last_modified.timestamp_millis())
}

/// What can be removed.
fn garbage(survey: &Survey, live: &Live, rules: GcRules, now: i64) -> Vec<Item> {
    let before = now - milliseconds(rules.grace);
    let item = |kind, key, meta: &ObjectMeta| Item { kind, key, meta: meta.clone(), of_dead: false };
    let mut items = Vec::new();
    let dead = survey.actions.iter().filter(|(key, _)| !live.actions.contains(key));
    items.extend(dead.map(|(key, meta)| item(Kind::Action, Some(*key), meta)));
    let dead = survey.recipes.iter().filter(|(digest, _)| !live.blobs.contains(digest));
    items.extend(dead.map(|(_, meta)| item(Kind::Recipe, None, meta)));
    let dead = survey.blobs.iter().filter(|(digest, _)| !live.blobs.contains(digest));
    items.extend(dead.map(|(_, meta)| item(Kind::Blob, None, meta)));
    let dead = survey.packs.iter().filter(|(digest, _)| !live.packs.contains(digest));
    items.extend(dead.map(|(_, meta)| item(Kind::Pack, None, meta)));
    items.extend(survey.leftovers.iter().map(|meta| item(Kind::Leftover, None, meta)));
    let silent = now - milliseconds(JOB_AGE);
    let is_old = |meta: &ObjectMeta| meta.last_modified.timestamp_millis() < silent;
    let over = survey.jobs.values().filter(|job| job.iter().all(is_old)).flatten();
    items.extend(over.map(|meta| item(Kind::Leftover, None, meta)));
    items.retain(|item| item.meta.last_modified.timestamp_millis() < before);
    // What somebody left who is dead needs no grace.
    let owners = survey.intents.values().chain(survey.collectors.values()).chain(survey.leases.values());
    let left = owners.filter(|owner| owner.is_dead).flat_map(|owner| &owner.objects);
    items.extend(left.map(|meta| Item { of_dead: true, ..item(Kind::Leftover, None, meta) }));
    items
}

fn plan(survey: &Survey, items: &[Item], now: i64) -> GcPlan {
    let garbage = items.iter().map(|item| Garbage {
        kind: item.kind,
        path: item.meta.location.as_ref().into(),
        bytes: item.meta.size,
        age: u64::try_from((now - item.meta.last_modified.timestamp_millis()) / 1000).unwrap_or(0),
        key: item.key,
    });
    let garbage: Vec<_> = garbage.collect();
    let removed = |kind: Kind| garbage.iter().filter(move |garbage| garbage.kind == kind);
    let all = survey.blobs.values().chain(survey.recipes.values()).chain(survey.packs.values());
    let gone: u64 = [Kind::Blob, Kind::Recipe, Kind::Pack]
        .into_iter()
        .flat_map(removed)
        .map(|garbage| garbage.bytes)
        .sum();
    let live_actions = survey.actions.len() - removed(Kind::Action).count();
    let live_bytes = all.map(|meta| meta.size).sum::<u64>().saturating_sub(gone);
    GcPlan { garbage, live_actions, live_bytes, ..GcPlan::default() }
}

/// Removes what one look finds: what [`Remote::collect_garbage`] would be without the second one.
#[cfg(test)]
pub(super) async fn collect_once(remote: &Remote, rules: GcRules) -> Result<(), RemoteError> {
    let (mut owners, mut marker) = (Owners::default(), Marker::default());
    let flag = Heartbeat::begin(remote, COLLECTORS, Bytes::from_static(b"collecting")).await?;
    let now = remote.clock(flag.path()).await?;
    let (survey, live) =
        remote.look(&mut owners, &mut marker, now - milliseconds(rules.keep), Look::Last).await?;
    flag.end().await;
    // It has much to remove.
    sleep(10 * STANDSTILL).await;
    let first = BTreeSet::new();
    let round = Round { remote, rules, first: &first };
    for item in garbage(&survey, &live, rules, now) {
        round.remove_one(&item).await?;
    }
    Ok(())
}
