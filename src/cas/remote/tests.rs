//! Remotes that refuse some requests, know less than S3, or give wrong bytes once.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use object_store::memory::InMemory;
use object_store::path::Path as ObjectPath;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use serde_json::json;

use super::gc::GcRules;
use super::{Access, Address, Claim, Remote, RemoteError, Remotes, Sending, Sent};
use crate::cas::PendingCommit;
use crate::cas::store::Store;
use crate::cas::tests::action;
use crate::cas::trust::TrustPolicy;
use crate::cas::types::Action;
use crate::digest::Digest;

/// What a server does otherwise than it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// The credentials allow no writing.
    ReadOnly,
    /// A condition is answered with 501.
    NoConditions,
    /// The credentials allow no listing; the answer comes as object_store gives it.
    NoListing,
    /// Leases cannot be written.
    NoLeases,
    /// The first answer to a request for a lease is lost, and the request is made again.
    LostAnswer,
    /// The first read of such an object gives a page of text.
    PageOnce(&'static str),
    /// Bodies of more than 8 MiB are refused.
    SmallBodies,
}

struct Server {
    objects: Arc<InMemory>,
    fault: Fault,
    done: AtomicBool,
    /// How many objects were sent in parts.
    in_parts: Arc<AtomicUsize>,
}

impl Server {
    fn with(objects: &Arc<InMemory>, fault: Fault, in_parts: &Arc<AtomicUsize>) -> Remote {
        let (objects, in_parts) = (Arc::clone(objects), Arc::clone(in_parts));
        let server = Self { objects, fault, done: AtomicBool::new(false), in_parts };
        let address = Address::parse("s3://bucket").unwrap();
        Remote::with("x", address, Access::ReadWrite, Arc::new(server), ObjectPath::default())
    }

    fn refuse(&self, path: &ObjectPath) -> Result<()> {
        let path = path.to_string();
        match self.fault {
            Fault::ReadOnly => Err(Error::PermissionDenied { path, source: "403".into() }),
            Fault::NoLeases if path.starts_with("leases/") => generic("no locks available"),
            _ => Ok(()),
        }
    }
}

fn generic<T>(text: &str) -> Result<T> {
    Err(Error::Generic { store: "S3", source: text.into() })
}

#[async_trait::async_trait]
impl ObjectStore for Server {
    async fn put_opts(&self, path: &ObjectPath, bytes: PutPayload, how: PutOptions) -> Result<PutResult> {
        self.refuse(path)?;
        if self.fault == Fault::NoConditions && how.mode != PutMode::Overwrite {
            return generic("Server returned non-2xx status code: 501 Not Implemented");
        }
        if self.fault == Fault::SmallBodies && bytes.content_length() > 8 << 20 {
            return generic("Server returned non-2xx status code: 413 Payload Too Large");
        }
        let is_lost = self.fault == Fault::LostAnswer && path.as_ref().starts_with("leases/");
        if is_lost && !self.done.swap(true, Ordering::Relaxed) {
            self.objects.put_opts(path, bytes.clone(), how.clone()).await?;
        }
        self.objects.put_opts(path, bytes, how).await
    }

    async fn put_multipart_opts(
        &self,
        path: &ObjectPath,
        how: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.refuse(path)?;
        self.in_parts.fetch_add(1, Ordering::Relaxed);
        self.objects.put_multipart_opts(path, how).await
    }

    async fn get_opts(&self, path: &ObjectPath, how: GetOptions) -> Result<GetResult> {
        if let Fault::PageOnce(kind) = self.fault
            && path.as_ref().starts_with(kind)
            && !how.head
            && !self.done.swap(true, Ordering::Relaxed)
        {
            let page = InMemory::new();
            page.put(path, PutPayload::from_static(b"<html>Sign in</html>")).await?;
            return page.get_opts(path, GetOptions::default()).await;
        }
        self.objects.get_opts(path, how).await
    }

    async fn get_ranges(&self, path: &ObjectPath, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.objects.get_ranges(path, ranges).await
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, Result<ObjectPath>>,
    ) -> BoxStream<'static, Result<ObjectPath>> {
        self.objects.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&ObjectPath>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.fault {
            Fault::NoListing => {
                let denied = generic("Server returned non-2xx status code: 403 Forbidden: AccessDenied");
                stream::iter([denied]).boxed()
            }
            _ => self.objects.list(prefix),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&ObjectPath>) -> Result<ListResult> {
        self.objects.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &ObjectPath, to: &ObjectPath, how: CopyOptions) -> Result<()> {
        self.refuse(to)?;
        self.objects.copy_opts(from, to, how).await
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a server with {:?}", self.fault)
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A store with a folder and a large file that one action has made, and a server.
struct World {
    _dir: tempfile::TempDir,
    store: Arc<Store>,
    action: Arc<Action>,
    objects: Arc<InMemory>,
    in_parts: Arc<AtomicUsize>,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(&dir.path().join("store")).unwrap());
        std::fs::create_dir(dir.path().join("folder")).unwrap();
        std::fs::write(dir.path().join("folder/small"), "small").unwrap();
        std::fs::write(dir.path().join("folder/large"), vec![7; 3 << 20]).unwrap();
        let staged = store.collect(&dir.path().join("folder"), &[]).unwrap();
        let action = action(json!({ "kind": "test" }), &[("o", staged.artifact)]);
        let pending =
            PendingCommit { outputs: vec![staged], action: Some(action.clone()), ..PendingCommit::default() };
        store.commit(vec![pending]).remove(0).unwrap();
        Self { _dir: dir, store, action: Arc::new(action), objects: Arc::default(), in_parts: Arc::default() }
    }

    fn remotes(&self, fault: Fault) -> Remotes {
        Remotes::new(vec![Server::with(&self.objects, fault, &self.in_parts)]).unwrap().unwrap()
    }

    fn send(&self, remotes: &Remotes) -> std::result::Result<Sent, String> {
        let how = Sending::default();
        let sent = remotes.send(Arc::clone(&self.store), Arc::clone(&self.action), how, None);
        remotes.wait(sent).unwrap().remove(0).sent.map_err(|error| error.to_string())
    }

    fn is_there(&self, remotes: &Remotes) -> bool {
        let found = remotes.lookup(&[self.action.key], &TrustPolicy::default());
        found[0].as_ref().is_some_and(|found| *found.action == *self.action)
    }

    fn count(&self) -> usize {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(self.objects.list(None).count())
    }
}

const SOUND: Fault = Fault::PageOnce("nothing");

#[test]
fn who_may_not_write_can_still_read() {
    let world = World::new();
    assert_eq!(world.send(&world.remotes(SOUND)), Ok(Sent::New));
    let remotes = world.remotes(Fault::ReadOnly);
    for _ in 0..5 {
        assert!(world.send(&remotes).is_err());
        assert!(remotes.claim(&Digest::of_bytes(b"k"), "s").is_none());
        assert!(world.is_there(&remotes));
    }
}

#[test]
fn a_server_without_conditions_takes_results_and_gives_no_leases() {
    let world = World::new();
    let remotes = world.remotes(Fault::NoConditions);
    assert!(remotes.claim(&world.action.key, "s").is_none());
    assert_eq!(world.send(&remotes), Ok(Sent::New));
    assert!(world.is_there(&remotes));
    assert_eq!(world.send(&remotes), Ok(Sent::Same));
}

#[test]
fn who_may_not_list_can_send() {
    let world = World::new();
    assert_eq!(world.send(&world.remotes(Fault::NoListing)), Ok(Sent::New));
    let remotes = world.remotes(Fault::NoListing);
    let planned = remotes.plan_gc(remotes.iter().next().unwrap(), rules());
    assert!(matches!(planned, Err(RemoteError::Denied { .. })), "{planned:?}");
}

#[test]
fn a_remote_that_gives_no_leases_is_asked_once_and_used() {
    let world = World::new();
    let remotes = world.remotes(Fault::NoLeases);
    for n in 0..5_u8 {
        assert!(remotes.claim(&Digest::of_bytes(&[n]), "s").is_none());
    }
    assert!(!remotes.iter().next().unwrap().has_leases());
    assert_eq!(world.send(&remotes), Ok(Sent::New));
}

#[test]
fn a_lease_whose_answer_was_lost_is_ours() {
    let world = World::new();
    let remotes = world.remotes(Fault::LostAnswer);
    let key = Digest::of_bytes(b"k");
    let Some(Claim::Ours(lease)) = remotes.claim(&key, "s") else { panic!("we wait for ourselves") };
    assert!(matches!(remotes.claim(&key, "s"), Some(Claim::Theirs(_))));
    drop(lease);
    remotes.give_back_leases();
    assert!(matches!(remotes.claim(&key, "s"), Some(Claim::Ours(_))));
}

fn rules() -> GcRules {
    GcRules { keep: Duration::from_secs(3600), grace: Duration::ZERO }
}

#[test]
fn what_stays_and_cannot_be_read_ends_a_collection() {
    let world = World::new();
    assert_eq!(world.send(&world.remotes(SOUND)), Ok(Sent::New));
    let before = world.count();
    for kind in ["actions/", "blobs/", "recipes/"] {
        for apply in [false, true] {
            let remotes = world.remotes(Fault::PageOnce(kind));
            let remote = remotes.iter().next().unwrap();
            let ended = match apply {
                true => remotes.collect_garbage(remote, rules()).map(drop),
                false => remotes.plan_gc(remote, rules()).map(drop),
            };
            let Err(RemoteError::Unreadable { what, .. }) = ended else {
                panic!("{kind} {apply}: {ended:?}")
            };
            assert!(what.starts_with(kind), "{what}");
            assert_eq!(world.count(), before);
        }
    }
}

#[test]
fn a_check_says_what_a_remote_lacks_and_leaves_nothing_there() {
    for (fault, lacks) in [
        (SOUND, &[][..]),
        (Fault::NoConditions, &["on condition", "no leases"]),
        (Fault::NoListing, &["cannot be listed"]),
        (Fault::NoLeases, &["no leases"]),
    ] {
        let world = World::new();
        let said = world.remotes(fault).check().unwrap();
        assert_eq!(said.len(), lacks.len(), "{said:?}");
        assert!(said.iter().zip(lacks).all(|(said, lack)| said.contains(lack)), "{said:?}");
        assert_eq!(world.count(), 1, "there is only the format");
    }
    assert!(World::new().remotes(Fault::ReadOnly).check().is_err());
}

#[test]
fn packs_are_sent_whole_where_that_is_fast_and_is_taken() {
    for (fault, in_parts) in [(SOUND, 1), (Fault::SmallBodies, 3)] {
        let world = World::new();
        let remotes = world.remotes(fault);
        let remote = remotes.iter().next().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for n in 0..3 {
            let bytes = vec![n; 9 << 20];
            let name = Digest::of_bytes(&bytes);
            runtime.block_on(remote.put_pack(&name, bytes.into())).unwrap();
            let there = runtime.block_on(remote.has("packs", &name)).unwrap();
            assert_eq!(there.map(|meta| meta.size), Some(9 << 20));
        }
        assert_eq!(world.in_parts.load(Ordering::Relaxed), in_parts, "{fault:?}");
    }
}
