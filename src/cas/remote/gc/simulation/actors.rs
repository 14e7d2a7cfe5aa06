//! Those who send and collect in the simulation.
//!
//! Purpose: a sender and a collector that do what the real ones do, through the same code, each of which can be
//! suspended or killed at any moment.
//! Invariant: nothing is protected but by what the real ones do; a protection can be left out to see that it is needed.
//! Must not know: what must never happen.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use object_store::path::Path as ObjectPath;
use serde_json::json;
use tokio::time::{Sleep, sleep};

use super::world::{Client, World};
use crate::cas::remote::claims::Intent;
use crate::cas::remote::error::RemoteError;
use crate::cas::remote::gc::collect::{GcRules, collect_once};
use crate::cas::remote::object::{Access, Remote};
use crate::cas::remote::pieces::{Recipe, Stored};
use crate::cas::trust::TrustPolicy;
use crate::cas::types::ACTION_FORMAT;
use crate::cas::{Action, ArtifactRef, Provenance, unpoisoned};
use crate::digest::{CanonicalJson, Digest};

/// How many actions there are to send.
pub(super) const ACTIONS: u64 = 24;
const SMALL: u64 = 12;
const LARGE: u64 = 6;

/// Which protections are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Without {
    Nothing,
    Grace,
    Intents,
    SecondLook,
}

/// A process of the simulation.
#[derive(Clone)]
pub(super) struct Actor {
    pub world: Arc<Mutex<World>>,
    pub steps: Arc<AtomicU64>,
    pub suspend: Arc<AtomicU64>,
    pub without: Without,
    pub rng: fastrand::Rng,
}

impl Actor {
    fn remote(&self) -> Remote {
        let client = Client {
            world: Arc::clone(&self.world),
            steps: Arc::clone(&self.steps),
            suspend: Arc::clone(&self.suspend),
        };
        let address = crate::cas::remote::Address::parse("s3://simulated").unwrap();
        Remote::with("simulated", address, Access::ReadWrite, Arc::new(client), ObjectPath::default())
    }

    /// Sends one action after the other, and is killed now and then.
    pub async fn send_for_ever(mut self) {
        loop {
            sleep(Duration::from_secs(self.rng.u64(1..100_000))).await;
            let remote = self.remote();
            let number = self.rng.u64(..ACTIONS);
            let one = Process::new(self.clone(), send(self.clone(), remote, number));
            one.await;
        }
    }

    /// Collects garbage now and then, and is killed now and then.
    pub async fn collect_for_ever(mut self) {
        loop {
            sleep(Duration::from_secs(self.rng.u64(1..40_000))).await;
            let remote = self.remote();
            let grace = Duration::from_secs(if self.without == Without::Grace { 0 } else { 24 * 3600 });
            let rules = GcRules { keep: Duration::from_secs(36 * 3600), grace };
            let second_look = self.without != Without::SecondLook;
            Process::new(self.clone(), async move {
                let collected = match second_look {
                    true => remote.collect_garbage(rules).await.map(drop),
                    false => collect_once(&remote, rules).await,
                };
                // A request that came too late ends it, as it should.
                collected.or_else(unimportant).unwrap();
            })
            .await;
        }
    }
}

/// The action of a number: one or two small blobs, and sometimes a large one.
pub(super) fn action(number: u64) -> (Action, BTreeSet<Digest>, Option<u64>) {
    let large = number.is_multiple_of(3).then_some(number % LARGE);
    let mut blobs = BTreeSet::from([small(number % SMALL).0, small(number * 7 % SMALL).0]);
    blobs.extend(large.map(|large| recipe(large).digest));
    let key_inputs = CanonicalJson::of(&json!({ "number": number }));
    let output = |digest: &Digest| ArtifactRef { digest: *digest, tree: false, executable: false, size: 8 };
    let outputs = blobs.iter().enumerate().map(|(n, digest)| (format!("o{n}"), output(digest))).collect();
    let provenance = Provenance {
        run: "r-0001".into(),
        started: "2026-01-01T00:00:00Z".into(),
        seconds: 1.0,
        kiln: "0.1.0".into(),
        provider: None,
        summary: Vec::new(),
    };
    let (format, key, signatures) = (ACTION_FORMAT.into(), key_inputs.digest(), Vec::new());
    (Action { format, key, key_inputs, outputs, provenance, signatures }, blobs, large)
}

fn small(number: u64) -> (Digest, Vec<u8>) {
    let bytes = number.to_le_bytes().to_vec();
    (Digest::of_bytes(&bytes), bytes)
}

fn pack(number: u64) -> (Digest, Vec<u8>) {
    let bytes = format!("pack {number}").into_bytes();
    (Digest::of_bytes(&bytes), bytes)
}

/// Every other large blob is a difference from the one before it, and all share a pack.
fn recipe(number: u64) -> Recipe {
    let digest = Digest::of_bytes(format!("large {number}").as_bytes());
    let mut recipe = Recipe::of(digest, 8);
    recipe.packs = vec![pack(number).0, pack(99).0];
    if !number.is_multiple_of(2) {
        (recipe.base, recipe.depth) = (Some(self::recipe(number - 1).digest), 1);
    }
    let piece = |pack| Stored {
        digest,
        length: 4,
        pack,
        offset: 0,
        stored: 4,
        coding: 0,
        element: 1,
        base: None,
        depth: 0,
    };
    recipe.pieces = vec![piece(0), piece(1)];
    recipe
}

/// Sends an action as `push` does.
async fn send(mut actor: Actor, remote: Remote, number: u64) {
    let (action, blobs, large) = action(number);
    for _ in 0..3 {
        let declared = if actor.without == Without::Intents { BTreeSet::new() } else { blobs.clone() };
        let Ok(intent) = Intent::declare(&remote, declared).await else { return };
        // Some have much to send, and the server's clock leaps meanwhile.
        let upload = if actor.rng.u8(..16) == 0 { actor.rng.u64(60..7200) } else { 0 };
        let relying = Relying::on(&actor, &intent, &blobs);
        let sent = tokio::select! {
            biased;
            sent = send_all(&remote, &intent, &action, large, slowly(&actor.world, upload)) => sent,
            never = intent.keep() => match never {},
        };
        drop(relying);
        intent.withdraw().await;
        match sent {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => return unimportant(error).unwrap(),
        }
    }
}

/// A transfer of so many seconds, in which the server's clock leaps by days.
async fn slowly(world: &Mutex<World>, seconds: u64) {
    if seconds > 0 {
        unpoisoned(world).leap(i64::try_from(seconds).unwrap_or(0) * 60_000);
        sleep(Duration::from_secs(seconds)).await;
    }
}

async fn send_all(
    remote: &Remote,
    intent: &Intent<'_>,
    action: &Action,
    large: Option<u64>,
    upload: impl Future<Output = ()>,
) -> Result<bool, RemoteError> {
    if let Some(number) = large {
        send_large(remote, intent, number).await?;
    }
    for number in 0..SMALL {
        let (digest, bytes) = small(number);
        let wanted = action.outputs.values().any(|output| output.digest == digest);
        if wanted && intent.has_blob(&digest).await?.is_none() {
            remote.put_blob(&digest, bytes.into()).await?;
        }
    }
    upload.await;
    let sent = remote.put_action(action, false, &TrustPolicy::default(), || intent.is_fresh()).await?;
    Ok(sent.is_some())
}

async fn send_large(remote: &Remote, intent: &Intent<'_>, number: u64) -> Result<(), RemoteError> {
    let recipe = recipe(number);
    if intent.has_recipe(&recipe.digest).await? {
        return Ok(());
    }
    // A base is sent with what is the difference from it; with what it has itself where something is missing.
    if let Some(base) = recipe.base
        && remote.recipe(&base).await?.is_none()
    {
        Box::pin(send_large(remote, intent, number - 1)).await?;
    }
    let mut sent = Vec::new();
    loop {
        for (digest, bytes) in [pack(number), pack(99)] {
            // The second one is taken for one that is there already.
            if digest == recipe.packs[0] || !sent.is_empty() {
                remote.put_pack(&digest, bytes.into()).await?;
                sent.push(digest);
            }
        }
        if intent.renew_parts(&recipe, &sent).await? {
            return remote.put_recipe(&recipe).await;
        }
        if sent.len() > 2 {
            Box::pin(send_large(remote, intent, number - 1)).await?;
        }
    }
}

/// What may happen when requests are slow or objects go between two requests: it is said, and nothing is harmed.
fn unimportant(error: RemoteError) -> Result<(), RemoteError> {
    match error {
        RemoteError::Request { .. } | RemoteError::WrongBytes { .. } | RemoteError::LeftAlone(_) => Ok(()),
        error => Err(error),
    }
}

/// Tells the world what a sender relies on, until it is dropped, even by a crash.
struct Relying {
    world: Arc<Mutex<World>>,
    intent: String,
}

impl Relying {
    fn on(actor: &Actor, intent: &Intent<'_>, blobs: &BTreeSet<Digest>) -> Self {
        let path = intent.path().to_string();
        unpoisoned(&actor.world).relied_on.insert(path.clone(), blobs.clone());
        Self { world: Arc::clone(&actor.world), intent: path }
    }
}

impl Drop for Relying {
    fn drop(&mut self) {
        unpoisoned(&self.world).relied_on.remove(&self.intent);
    }
}

/// Work that is suspended now and then, and killed now and then.
struct Process {
    work: Pin<Box<dyn Future<Output = ()> + Send>>,
    suspended: Option<Pin<Box<Sleep>>>,
    suspend: Arc<AtomicU64>,
    rng: fastrand::Rng,
}

impl Process {
    fn new(mut actor: Actor, work: impl Future<Output = ()> + Send + 'static) -> Self {
        let rng = actor.rng.fork();
        Self { work: Box::pin(work), suspended: None, suspend: actor.suspend, rng }
    }
}

impl Future for Process {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        loop {
            if let Some(suspended) = &mut self.suspended {
                std::task::ready!(suspended.as_mut().poll(context));
                self.suspended = None;
            }
            if let Poll::Ready(()) = self.work.as_mut().poll(context) {
                return Poll::Ready(());
            }
            // It is killed in one of 256 steps, and suspended in another one.
            match self.rng.u8(..) {
                0 => return Poll::Ready(()),
                1 => {
                    let time = self.rng.u64(1..10 * 3_600_000);
                    self.suspend.store(time, Ordering::Relaxed);
                }
                _ => {}
            }
            match self.suspend.swap(0, Ordering::Relaxed) {
                0 => return Poll::Pending,
                time => self.suspended = Some(Box::pin(sleep(Duration::from_millis(time)))),
            }
        }
    }
}
