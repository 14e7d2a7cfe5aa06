//! What a remote has.
//!
//! Purpose: list every object of a remote, by kind.
//! Invariant: intents are listed before anything else, so that whoever withdrew one before has its action listed here.
//! What is none of our objects is left out, and so never removed.
//! Must not know: what is needed.

use std::collections::BTreeMap;

use object_store::ObjectMeta;

use super::folder::unfinished;
use super::pins::PINS;
use crate::cas::remote::claims::{COLLECTORS, INTENTS, LEASES, Owner, Watched, is_id};
use crate::cas::remote::error::RemoteError;
use crate::cas::remote::jobs::JOBS;
use crate::cas::remote::object::Remote;
use crate::digest::Digest;

/// What a remote has.
pub(super) struct Survey {
    /// Those who are sending.
    pub intents: BTreeMap<String, Owner>,
    /// Those who are removing.
    pub collectors: BTreeMap<String, Owner>,
    /// Those who run stages; in a folder, leases are locks and end by themselves.
    pub leases: BTreeMap<String, Owner>,
    /// Lists of records that stay, by name.
    pub pins: Vec<ObjectMeta>,
    /// Records by key.
    pub actions: BTreeMap<Digest, ObjectMeta>,
    /// Small blobs and listings.
    pub blobs: BTreeMap<Digest, ObjectMeta>,
    /// Recipes of large blobs.
    pub recipes: BTreeMap<Digest, ObjectMeta>,
    /// Packs.
    pub packs: BTreeMap<Digest, ObjectMeta>,
    /// What runners and jobs of a cluster tell each other, by the key of their stage.
    pub jobs: BTreeMap<Digest, Vec<ObjectMeta>>,
    /// What was left by somebody who died: probes and copies; in a folder, halves of objects and leases.
    pub leftovers: Vec<ObjectMeta>,
}

impl Survey {
    /// Lists everything.
    pub async fn of(remote: &Remote, watched: &mut Owners) -> Result<Self, RemoteError> {
        let intents = watched.intents.look(remote, INTENTS).await?;
        let collectors = watched.collectors.look(remote, COLLECTORS).await?;
        let leases = match remote.is_folder() {
            true => BTreeMap::new(),
            false => watched.leases.look(remote, LEASES).await?,
        };
        let pins = remote.list(PINS).await?;
        let actions = named(remote.list("actions").await?);
        let blobs = named(remote.list("blobs").await?);
        let recipes = named(remote.list("recipes").await?);
        let packs = named(remote.list("packs").await?);
        let jobs = jobs(remote).await?;
        let (renewed, probes) = (remote.list("renewed").await?, remote.list("probes").await?);
        let ours = renewed.into_iter().chain(probes).filter(|meta| is_id(meta.location.filename()));
        let leftovers = ours.chain(unfinished(remote).await).collect();
        Ok(Self { intents, collectors, leases, pins, actions, blobs, recipes, packs, jobs, leftovers })
    }
}

/// The owners that were seen so far.
#[derive(Default)]
pub(super) struct Owners {
    intents: Watched,
    collectors: Watched,
    leases: Watched,
}

/// The objects of jobs, by the key below whose folder they lie.
async fn jobs(remote: &Remote) -> Result<BTreeMap<Digest, Vec<ObjectMeta>>, RemoteError> {
    let (folder, mut jobs) = (remote.at(&[JOBS]), BTreeMap::<_, Vec<_>>::new());
    remote
        .each_object(&folder, |meta| {
            let key = meta.location.prefix_match(&folder).and_then(|mut below| below.next());
            if let Some(key) = key.and_then(|key| key.as_ref().parse().ok()) {
                jobs.entry(key).or_default().push(meta);
            }
        })
        .await?;
    Ok(jobs)
}

fn named(objects: Vec<ObjectMeta>) -> BTreeMap<Digest, ObjectMeta> {
    let name = |meta: ObjectMeta| Some((meta.location.filename()?.parse().ok()?, meta));
    objects.into_iter().filter_map(name).collect()
}
