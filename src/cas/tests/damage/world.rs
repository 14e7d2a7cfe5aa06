//! A store and a remote that hold the same results.
//!
//! The results are small files, a folder, and files above 1 MiB: text, and two safetensors of which the second one is
//! sent as the difference from the first one.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use super::super::crash::Mortal;
use super::super::*;
use crate::cas::PendingCommit;
use crate::cas::remote::{Access, Address, Remote, Remotes, Sending, Sent};

/// What a file of the store or of the remote is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Blob(Digest),
    Action(Digest),
    /// The record that a forced run replaced.
    Previous(Digest),
    Index,
    Format,
    /// The `.gitignore` of a store: a text for git.
    Mark,
    /// A recipe or a pack.
    Piece(Digest),
}

/// A file that can be damaged.
#[derive(Debug)]
pub struct Victim {
    pub path: PathBuf,
    pub kind: Kind,
    pub is_remote: bool,
    pub bytes: Vec<u8>,
    /// The results that are made from it.
    pub results: BTreeSet<usize>,
}

/// A result: its action, and the bytes of the files of each output by their paths.
pub struct Made {
    pub action: Action,
    pub outputs: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
}

pub struct World {
    pub dir: tempfile::TempDir,
    pub made: Vec<Made>,
    pub victims: Vec<Victim>,
}

impl World {
    pub fn new() -> Self {
        let mut world = Self { dir: tempfile::tempdir().unwrap(), made: Vec::new(), victims: Vec::new() };
        let store = Arc::new(world.open());
        write(&world.path("made/folder/deep/b"), b"b\n");
        write(&world.path("made/folder/a"), b"a\n");
        write(&world.path("made/folder/tool"), b"#!/bin/sh\n");
        fs::set_permissions(world.path("made/folder/tool"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(world.path("made/folder/empty")).unwrap();
        std::os::unix::fs::symlink("a", world.path("made/folder/link")).unwrap();
        write(&world.path("made/table"), &noise(1).take(30_000).collect::<Vec<_>>());
        write(&world.path("made/same"), b"a\n");
        write(&world.path("made/text"), &noise(2).take(1_100_000).collect::<Vec<_>>());
        write(&world.path("made/base"), &safetensors(|x| x));
        write(&world.path("made/tuned"), &safetensors(|x| x * 1.0001));
        write(&world.path("made/before"), b"what a forced run replaced\n");
        let before = world.keep(&store, 0, json!({}), &["before"]);
        let table = world.keep(&store, 1, json!({}), &["table", "folder"]);
        world.keep(&store, 2, json!({ "t": table.outputs["table"].digest }), &["same"]);
        world.keep(&store, 3, json!({}), &["text"]);
        let base = world.keep(&store, 4, json!({}), &["base"]);
        world.keep(&store, 5, json!({ "p": base.outputs["base"].digest }), &["tuned", "table"]);
        let replaced = world.keep(&store, 0, json!({}), &["same"]);
        assert_ne!(before.outputs, replaced.outputs);
        world.made.remove(0);
        world.share(&store);
        // The files are old enough by then for their stats to count.
        std::thread::sleep(std::time::Duration::from_millis(30));
        drop(store);
        world.victims = world.find_victims();
        world
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The store as another process would open it now; its disk does not wait for syncs.
    pub fn open(&self) -> Store {
        self.open_at("store")
    }

    pub fn open_at(&self, name: &str) -> Store {
        Store::on_disk(&self.path(name), Arc::new(Mortal::with_steps(usize::MAX))).unwrap()
    }

    pub fn remotes(&self) -> Remotes {
        remotes_at(&self.path("remote"))
    }

    /// The store with the remote.
    pub fn open_shared(&self) -> Store {
        let store = self.open();
        store.share_with(self.remotes());
        store
    }

    /// Keeps a result, in the place of the one that the key has.
    fn keep(&mut self, store: &Store, n: u64, inputs: Value, names: &[&str]) -> Action {
        let staged: Vec<_> =
            names.iter().map(|name| store.collect(&self.path("made").join(name), &[]).unwrap()).collect();
        let outputs: Vec<_> = names.iter().zip(&staged).map(|(name, one)| (*name, one.artifact)).collect();
        let action = action(json!({ "kind": "test", "n": n, "inputs": inputs }), &outputs);
        let pending = PendingCommit { outputs: staged, action: Some(action.clone()), replace: true };
        store.commit(vec![pending]).remove(0).unwrap();
        let bytes = |name: &&str| ((*name).to_owned(), bytes_at(&self.path("made").join(name)));
        let outputs = names.iter().map(bytes).collect();
        self.made.push(Made { action: action.clone(), outputs });
        action
    }

    fn share(&self, store: &Arc<Store>) {
        let remotes = self.remotes();
        for made in &self.made {
            let sent = send(&remotes, store, &made.action, Sending::default());
            assert_eq!(sent.unwrap(), Sent::New);
        }
    }

    fn find_victims(&self) -> Vec<Victim> {
        let mut victims = Vec::new();
        for root in ["store", "remote"] {
            let root = self.path(root);
            for path in files_below(&root).into_iter().filter(|path| !path.starts_with(root.join("work"))) {
                let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
                let bytes = fs::read(&path).unwrap();
                let is_remote = root.ends_with("remote");
                victims.push(Victim { path, kind: kind(&name), is_remote, bytes, results: BTreeSet::new() });
            }
        }
        for n in 0..self.made.len() {
            let reached = reached(&victims, &self.made[n].action);
            for victim in &mut victims {
                let is_used = match victim.kind {
                    Kind::Blob(name) | Kind::Action(name) | Kind::Piece(name) => reached.contains(&name),
                    Kind::Format | Kind::Index => true,
                    Kind::Previous(_) | Kind::Mark => false,
                };
                victim.results.extend(is_used.then_some(n));
            }
        }
        let packs = victims.iter().filter(|victim| matches!(victim.kind, Kind::Piece(_))).count();
        assert!(packs >= 6 && victims.len() > 25, "{packs} of {}", victims.len());
        victims
    }
}

/// Sends an action.
pub fn send(remotes: &Remotes, store: &Arc<Store>, action: &Action, how: Sending) -> Result<Sent, String> {
    let sent = remotes.send(Arc::clone(store), Arc::new(action.clone()), how, None);
    remotes.wait(sent).expect("it does not panic").remove(0).sent.map_err(|error| error.to_string())
}

pub fn remotes_at(folder: &Path) -> Remotes {
    let address = Address::parse(folder.to_str().unwrap()).unwrap();
    Remotes::new(vec![Remote::open("r", address, Access::ReadWrite).unwrap()]).unwrap().unwrap()
}

/// The names of all objects that a result is made from: those that its record names, those that these name, ..
fn reached(victims: &[Victim], action: &Action) -> BTreeSet<Digest> {
    let mut reached = BTreeSet::from([action.key]);
    let mut next = vec![action.key];
    while let Some(name) = next.pop() {
        let named = |victim: &&Victim| match victim.kind {
            Kind::Blob(known) | Kind::Action(known) | Kind::Piece(known) => known == name,
            _ => false,
        };
        for victim in victims.iter().filter(named) {
            next.extend(digests_in(&victim.bytes).into_iter().filter(|name| reached.insert(*name)));
        }
    }
    reached
}

/// The digests that stand in a text.
fn digests_in(bytes: &[u8]) -> Vec<Digest> {
    let words = bytes.split(|byte| !byte.is_ascii_hexdigit()).filter(|word| word.len() == 64);
    words.filter_map(|word| std::str::from_utf8(word).ok()?.parse().ok()).collect()
}

fn kind(name: &str) -> Kind {
    let hex: String = name.split('/').skip(1).collect();
    let digest = hex.get(..64).and_then(|hex| hex.parse().ok());
    match (name.split('/').next().unwrap(), digest) {
        ("blobs", Some(digest)) => Kind::Blob(digest),
        ("actions", Some(digest)) if name.ends_with(".previous") => Kind::Previous(digest),
        ("actions", Some(digest)) => Kind::Action(digest),
        ("recipes" | "packs", Some(digest)) => Kind::Piece(digest),
        ("cache", None) => Kind::Index,
        ("format", None) => Kind::Format,
        (".gitignore", None) => Kind::Mark,
        _ => panic!("nobody knows what {name} is"),
    }
}

/// The bytes of a file, or those of the files of a folder by their paths.
pub fn bytes_at(path: &Path) -> BTreeMap<String, Vec<u8>> {
    if path.is_dir() {
        return contents(path);
    }
    BTreeMap::from([(String::new(), fs::read(path).unwrap())])
}

fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn noise(seed: u64) -> impl Iterator<Item = u8> {
    let mut rng = fastrand::Rng::with_seed(seed);
    std::iter::from_fn(move || Some(rng.u8(..)))
}

/// A safetensors file of some tensors; two of these with numbers that are near each other are a difference apart.
fn safetensors(change: impl Fn(f32) -> f32) -> Vec<u8> {
    let number = |n: u32| change(f32::from_bits(0x3d00_0000 | (n.wrapping_mul(2_654_435_761) & 0x00ff_ffff)));
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (n, count) in [100_000, 90_000, 80_000, 200].into_iter().enumerate() {
        let from = data.len();
        data.extend((0..count).flat_map(|i| number(i + 7 * n as u32).to_le_bytes()));
        let tensor = json!({ "dtype": "F32", "shape": [count], "data_offsets": [from, data.len()] });
        header.insert(format!("tensor-{n}"), tensor);
    }
    let header = Value::Object(header).to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()
}
