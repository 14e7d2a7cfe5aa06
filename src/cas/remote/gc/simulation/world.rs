//! The object store of the simulation.
//!
//! Purpose: keep objects with the times of a server's clock that jumps, deliver requests late, even those of senders
//! that have died, and check what must never happen.
//! Invariant: an effect happens at one moment; a request is under way for no longer than real ones are let.
//! Must not know: who sends and collects.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use object_store::path::Path as ObjectPath;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use tokio::time::{Instant, sleep};

use crate::cas::local::parse_action;
use crate::cas::remote::pieces::Recipe;
use crate::digest::Digest;

/// When the server's clock starts, in milliseconds.
const EPOCH: i64 = 1_700_000_000_000;
/// Who refreshed its object so recently may act on it.
const FRESH: Duration = Duration::from_secs(30);

#[derive(Clone)]
struct Object {
    bytes: Bytes,
    modified: i64,
    /// When it was written, by the clock that does not jump.
    written: Instant,
    tag: u64,
}

/// Everything that the server knows.
pub(super) struct World {
    objects: BTreeMap<String, Object>,
    /// The blobs that each sender relies on, by the object of its intent.
    pub relied_on: BTreeMap<String, BTreeSet<Digest>>,
    /// Records that must stay.
    pub pinned: BTreeSet<Digest>,
    rng: fastrand::Rng,
    start: Instant,
    offset: i64,
    /// How many senders are suspended before their last request.
    waiting: usize,
    /// When the clock leapt by days.
    leapt: Option<Instant>,
    writes: u64,
    /// What went wrong.
    pub violations: Vec<String>,
    /// How many objects were removed.
    pub removed: usize,
    /// How many actions were written.
    pub actions: usize,
}

impl World {
    pub fn new(seed: u64) -> Self {
        Self {
            objects: BTreeMap::new(),
            relied_on: BTreeMap::new(),
            pinned: BTreeSet::new(),
            rng: fastrand::Rng::with_seed(seed),
            start: Instant::now(),
            offset: EPOCH,
            waiting: 0,
            leapt: None,
            writes: 0,
            violations: Vec::new(),
            removed: 0,
            actions: 0,
        }
    }

    /// Has the server's clock jump by so many milliseconds.
    pub fn jump(&mut self, by: i64) {
        self.offset += by;
    }

    /// Has the server's clock leap by so many milliseconds, more than a grace window: only an intent helps then, and
    /// no intent helps a sender that is suspended before its last request.
    pub fn leap(&mut self, by: i64) {
        if self.waiting == 0 {
            self.offset += by;
            self.leapt = Some(Instant::now());
        }
    }

    fn now(&self) -> i64 {
        self.offset + i64::try_from(self.start.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    fn meta(&self, path: &str) -> Option<ObjectMeta> {
        let object = self.objects.get(path)?;
        Some(ObjectMeta {
            location: ObjectPath::from(path),
            last_modified: DateTime::<Utc>::from_timestamp_millis(object.modified)?,
            size: object.bytes.len() as u64,
            e_tag: Some(object.tag.to_string()),
            version: None,
        })
    }

    fn write(&mut self, path: &str, bytes: Bytes) {
        self.writes += 1;
        if let Some(key) = path.strip_prefix("actions/") {
            self.actions += 1;
            self.check_action(key, &bytes);
        }
        let (modified, written, tag) = (self.now(), Instant::now(), self.writes);
        self.objects.insert(path.to_owned(), Object { bytes, modified, written, tag });
    }

    fn remove(&mut self, path: &str) -> bool {
        if let Some((kind, name)) = path.split_once('/')
            && let Ok(digest) = name.parse::<Digest>()
        {
            self.removed += 1;
            self.check_removal(kind, digest);
        }
        self.objects.remove(path).is_some()
    }

    /// All that an action names must be there when it is written.
    fn check_action(&mut self, key: &str, bytes: &[u8]) {
        let key: Digest = key.parse().unwrap();
        let blobs = outputs(&parse_action(bytes, &key).unwrap());
        if let Err(missing) = self.needs(&blobs) {
            self.violations.push(format!("an action was written whose {missing} is missing"));
        }
    }

    /// Nothing goes that an action names which is there, or that somebody relies on.
    fn check_removal(&mut self, kind: &str, digest: Digest) {
        if kind == "actions" && self.pinned.contains(&digest) {
            self.violations.push("a pinned action was removed".into());
        }
        let mut needed = BTreeSet::new();
        for (path, object) in self.objects.range("actions/".to_owned().."actions0".to_owned()) {
            let key = path["actions/".len()..].parse().unwrap();
            needed.extend(outputs(&parse_action(&object.bytes, &key).unwrap()));
        }
        let needed = self.all_needed(&needed);
        if needed.contains(&(kind.to_owned(), digest)) {
            self.violations.push(format!("{kind} were removed that an action needs"));
        }
        for (intent, blobs) in &self.relied_on {
            let beat = format!("{intent}.beat");
            let written =
                [intent, &beat].into_iter().filter_map(|path| Some(self.objects.get(path)?.written));
            let alive = written.max().is_some_and(|written| written.elapsed() < FRESH);
            // What a sender relies on is there; what it has not sent yet is not.
            if alive && self.all_needed(blobs).contains(&(kind.to_owned(), digest)) {
                self.violations.push(format!("{kind} were removed that a living sender relies on"));
                break;
            }
        }
    }

    /// The objects that blobs need.
    fn all_needed(&self, blobs: &BTreeSet<Digest>) -> BTreeSet<(String, Digest)> {
        let mut needed = BTreeSet::new();
        let mut next: Vec<Digest> = blobs.iter().copied().collect();
        while let Some(digest) = next.pop() {
            needed.insert(("blobs".to_owned(), digest));
            if let Some(recipe) = self.recipe(&digest)
                && needed.insert(("recipes".to_owned(), digest))
            {
                needed.extend(recipe.packs.iter().map(|pack| ("packs".to_owned(), *pack)));
                next.extend(recipe.base);
            }
        }
        needed
    }

    /// The first thing that is missing of what blobs need.
    fn needs(&self, blobs: &BTreeSet<Digest>) -> std::result::Result<(), String> {
        let mut next: Vec<Digest> = blobs.iter().copied().collect();
        while let Some(digest) = next.pop() {
            if self.objects.contains_key(&format!("blobs/{digest}")) {
                continue;
            }
            let recipe = self.recipe(&digest).ok_or("blob")?;
            if recipe.packs.iter().any(|pack| !self.objects.contains_key(&format!("packs/{pack}"))) {
                return Err("pack".into());
            }
            next.extend(recipe.base);
        }
        Ok(())
    }

    fn recipe(&self, digest: &Digest) -> Option<Recipe> {
        let object = self.objects.get(&format!("recipes/{digest}"))?;
        Some(Recipe::parse(&object.bytes, digest).unwrap())
    }
}

fn outputs(action: &crate::cas::Action) -> BTreeSet<Digest> {
    action.outputs.values().map(|output| output.digest).collect()
}

/// The server as one process sees it.
#[derive(Clone)]
pub(super) struct Client {
    pub world: Arc<Mutex<World>>,
    /// The requests of all clients.
    pub steps: Arc<AtomicU64>,
    /// For how many milliseconds this process is to be suspended at once.
    pub suspend: Arc<AtomicU64>,
}

impl Client {
    /// A request that has its effect in a while, whatever becomes of whoever sent it.
    async fn request<T: Send + 'static>(&self, effect: impl FnOnce(&mut World) -> T + Send + 'static) -> T {
        self.steps.fetch_add(1, Ordering::Relaxed);
        let world = Arc::clone(&self.world);
        let (there, back) = {
            let rng = &mut world.lock().unwrap().rng;
            let slow = rng.u8(..) < 4;
            let mut delay = || Duration::from_millis(rng.u64(1..if slow { 10_000 } else { 100 }));
            (delay(), delay())
        };
        let landed = tokio::spawn(async move {
            sleep(there).await;
            let answer = effect(&mut world.lock().unwrap());
            sleep(back).await;
            answer
        });
        landed.await.unwrap()
    }

    /// The moment between the last look at the clock and the request that depends on it.
    async fn may_be_suspended(&self) {
        let time = {
            let mut world = self.world.lock().unwrap();
            let calm = world.leapt.is_none_or(|leapt| leapt.elapsed() > Duration::from_secs(30 * 3600));
            if calm && world.rng.u8(..) < 8 { world.rng.u64(1..5 * 3_600_000) } else { 0 }
        };
        if time > 0 {
            let _waiting = Waiting::new(&self.world);
            self.suspend.store(time, Ordering::Relaxed);
            tokio::task::yield_now().await;
        }
    }
}

/// A sender that is suspended before its last request; also one that is killed then.
struct Waiting(Arc<Mutex<World>>);

impl Waiting {
    fn new(world: &Arc<Mutex<World>>) -> Self {
        world.lock().unwrap().waiting += 1;
        Self(Arc::clone(world))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.lock().unwrap().waiting -= 1;
    }
}

fn missing(path: &str) -> Error {
    Error::NotFound { path: path.to_owned(), source: "it is not there".into() }
}

#[async_trait::async_trait]
impl ObjectStore for Client {
    async fn put_opts(
        &self,
        path: &ObjectPath,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let (path, bytes) = (path.to_string(), Bytes::from(payload));
        if path.starts_with("actions/") {
            self.may_be_suspended().await;
        }
        let put = move |world: &mut World| {
            let known = world.objects.get(&path).map(|object| object.tag.to_string());
            match options.mode {
                PutMode::Create if known.is_some() => {
                    return Err(Error::AlreadyExists { path, source: "it is there".into() });
                }
                PutMode::Update(version) if version.e_tag != known => {
                    return Err(Error::Precondition { path, source: "it is another one".into() });
                }
                _ => world.write(&path, bytes),
            }
            Ok(PutResult {
                e_tag: Some(world.writes.to_string()),
                version: None,
                extensions: Default::default(),
            })
        };
        self.request(put).await
    }

    async fn put_multipart_opts(
        &self,
        _: &ObjectPath,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Err(Error::NotSupported { source: "the packs of the simulation are small".into() })
    }

    async fn get_opts(&self, path: &ObjectPath, options: GetOptions) -> Result<GetResult> {
        let name = path.to_string();
        let get = move |world: &mut World| {
            let meta = world.meta(&name).ok_or_else(|| missing(&name))?;
            let bytes = world.objects[&name].bytes.clone();
            let payload = match options.head {
                true => GetResultPayload::Stream(stream::empty().boxed()),
                false => GetResultPayload::Stream(stream::iter([Ok(bytes)]).boxed()),
            };
            let range = 0..meta.size;
            Ok(GetResult {
                payload,
                meta,
                range,
                attributes: Default::default(),
                extensions: Default::default(),
            })
        };
        self.request(get).await
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, Result<ObjectPath>>,
    ) -> BoxStream<'static, Result<ObjectPath>> {
        let client = self.clone();
        let removed = paths.then(move |path| {
            let client = client.clone();
            async move {
                let path = path?;
                let name = path.to_string();
                match client.request(move |world| world.remove(&name)).await {
                    true => Ok(path),
                    false => Err(missing(path.as_ref())),
                }
            }
        });
        removed.boxed()
    }

    fn list(&self, prefix: Option<&ObjectPath>) -> BoxStream<'static, Result<ObjectMeta>> {
        let prefix = format!("{}/", prefix.map_or("", |prefix| prefix.as_ref()));
        self.steps.fetch_add(1, Ordering::Relaxed);
        let world = Arc::clone(&self.world);
        let listed = stream::once(async move {
            let delay = Duration::from_millis(world.lock().unwrap().rng.u64(1..200));
            sleep(delay).await;
            let world = world.lock().unwrap();
            let names: Vec<_> =
                world.objects.keys().filter(|name| name.starts_with(&prefix)).cloned().collect();
            stream::iter(names.iter().filter_map(|name| world.meta(name)).map(Ok).collect::<Vec<_>>())
        });
        listed.flatten().boxed()
    }

    async fn list_with_delimiter(&self, _: Option<&ObjectPath>) -> Result<ListResult> {
        Err(Error::NotSupported { source: "nobody asks for folders".into() })
    }

    async fn copy_opts(&self, from: &ObjectPath, to: &ObjectPath, _: CopyOptions) -> Result<()> {
        let (from, to) = (from.to_string(), to.to_string());
        let copy = move |world: &mut World| {
            let bytes = world.objects.get(&from).ok_or_else(|| missing(&from))?.bytes.clone();
            world.write(&to, bytes);
            Ok(())
        };
        self.request(copy).await
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the simulated server")
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the simulated server")
    }
}
