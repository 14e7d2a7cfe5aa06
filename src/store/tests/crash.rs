//! A machine that dies between any two steps.
//!
//! The disk here forgets what no sync has made durable: bytes of files that were not synced are cut in
//! half, and names given in folders that were not synced are taken back, some or all of them. It only
//! pretends to sync, which makes it a quick disk too.

use std::collections::HashSet;
use std::io;
use std::sync::{Arc, Mutex};

use super::super::Put;
use super::super::disk::{Disk, Os};
use super::*;

#[derive(Default)]
struct Memory {
    steps_left: usize,
    synced: HashSet<PathBuf>,
    /// From, to, and what bore the name before.
    names: Vec<(PathBuf, PathBuf, Option<Vec<u8>>)>,
}

#[derive(Clone)]
pub(super) struct Mortal(Arc<Mutex<Memory>>);

impl Mortal {
    pub(super) fn with_steps(steps_left: usize) -> Self {
        Self(Arc::new(Mutex::new(Memory { steps_left, ..Memory::default() })))
    }

    fn step(&self, work: impl FnOnce(&mut Memory) -> io::Result<()>) -> io::Result<()> {
        let mut memory = self.0.lock().unwrap();
        memory.steps_left = memory.steps_left.checked_sub(1).ok_or_else(|| io::Error::other("dead"))?;
        work(&mut memory)
    }

    fn died(&self) -> bool {
        self.0.lock().unwrap().steps_left == 0
    }

    /// Takes back what is not durable; bit `i` of `keep` lets name `i` survive by luck.
    fn lose_power(&self, store: &Path, keep: u64) {
        let mut memory = self.0.lock().unwrap();
        let names = std::mem::take(&mut memory.names);
        for (i, (from, to, before)) in names.into_iter().enumerate().rev() {
            // A file that has a newer name, and one that lasts, does not go back to an older one.
            if keep >> (i % 64) & 1 == 0 && to.exists() {
                if !from.parent().unwrap().exists() {
                    // The folder it came from is gone, and it with that.
                    fs::remove_file(&to).unwrap();
                    continue;
                }
                fs::rename(&to, &from).unwrap();
                if memory.synced.remove(&to) {
                    memory.synced.insert(from);
                }
                if let Some(bytes) = before {
                    fs::write(&to, bytes).unwrap();
                    memory.synced.insert(to);
                }
            }
        }
        for kind in ["blobs", "actions", "work", "cache"] {
            for file in files_below(&store.join(kind)) {
                if !memory.synced.contains(&file) {
                    let bytes = fs::read(&file).unwrap();
                    fs::remove_file(&file).unwrap();
                    fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
                }
            }
        }
    }
}

impl Disk for Mortal {
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.step(|_| Os.write(path, bytes))
    }
    fn copy(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step(|_| Os.copy(from, to))
    }
    fn set_mode(&self, path: &Path, mode: u32) -> io::Result<()> {
        self.step(|_| Os.set_mode(path, mode))
    }
    fn sync(&self, path: &Path) -> io::Result<()> {
        self.step(|memory| {
            memory.synced.insert(path.to_owned());
            fs::metadata(path).map(drop)
        })
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step(|memory| {
            let before = fs::read(to).ok();
            Os.rename(from, to)?;
            if memory.synced.remove(from) {
                memory.synced.insert(to.to_owned());
            } else {
                memory.synced.remove(to);
            }
            memory.names.push((from.to_owned(), to.to_owned(), before));
            Ok(())
        })
    }
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        if to.exists() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.rename(from, to)
    }
    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.step(|memory| {
            memory.names.retain(|(_, to, _)| to.parent() != Some(path));
            fs::metadata(path).map(drop)
        })
    }
    fn sync_everything(&self, path: &Path) -> io::Result<()> {
        self.step(|memory| {
            memory.synced.extend(files_below(path));
            memory.names.clear();
            Ok(())
        })
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.step(|_| Os.remove(path))
    }
}

/// What a stage made: a folder with two equal files, and a file.
fn outputs(dir: &Path) -> (PathBuf, PathBuf) {
    let (model, table) = (dir.join("work/model"), dir.join("work/table"));
    let _ = fs::remove_dir_all(dir.join("work"));
    fs::create_dir_all(model.join("deep")).unwrap();
    for (name, text) in [("a", "weights"), ("deep/b", "weights"), ("deep/c", "config")] {
        fs::write(model.join(name), text).unwrap();
    }
    fs::write(&table, "1,2,3\n").unwrap();
    (model, table)
}

fn publish(store: &Store, dir: &Path) -> Result<(Put, Action), crate::store::StoreError> {
    let (model, table) = outputs(dir);
    let outputs = [("model", store.ingest(&model)?), ("table", store.ingest(&table)?)];
    let action = action(ingredients(1), &outputs);
    Ok((store.put_action(&action)?, action))
}

fn assert_all_named_is_whole(store: &Store, key: &Digest) -> bool {
    for blob in files_below(&store.root().join("blobs")) {
        let name: String = blob
            .components()
            .rev()
            .take(2)
            .fold(String::new(), |name, part| part.as_os_str().to_str().unwrap().to_owned() + &name);
        assert_eq!(Digest::of_file(&blob).unwrap().0.to_string(), name);
    }
    let action = store.action(key).unwrap();
    let named = !files_below(&store.root().join("actions")).is_empty();
    assert_eq!(named, action.is_some(), "an action that is named can be read");
    for output in action.iter().flat_map(|action| action.outputs.values()) {
        assert!(store.is_whole(output).unwrap());
    }
    named
}

#[test]
fn a_crash_at_any_step_leaves_nothing_named_that_is_not_whole() {
    let key = Digest::of_json(&ingredients(1));
    let mut deaths = 0;
    for steps in 0.. {
        let mut died = false;
        for keep in [0, u64::MAX, 0x5555_5555_5555_5555, 0xaaaa_aaaa_aaaa_aaaa, 0x9c3b_6a51_77d2_e40f] {
            let dir = tempfile::tempdir().unwrap();
            let root = dir.path().join("artifacts");
            let disk = Mortal::with_steps(steps);
            let store = Store::on_disk(&root, Box::new(disk.clone())).unwrap();
            let kept = publish(&store, dir.path());
            died = disk.died() && kept.is_err();
            // The stat cache is saved too, where the machine still lives, and must not hide damage.
            drop(store);
            disk.lose_power(&root, keep);
            let store = Store::on_disk(&root, Box::new(Mortal::with_steps(usize::MAX))).unwrap();
            let named = assert_all_named_is_whole(&store, &key);
            assert!(named || kept.is_err(), "what was reported as kept is still there");
            // A plain second attempt converges, whatever the first one left.
            let (_, action) = publish(&store, dir.path()).unwrap();
            assert_eq!(store.action(&key).unwrap().map(|a| a.outputs), Some(action.outputs));
            assert!(assert_all_named_is_whole(&store, &key));
        }
        if !died {
            break;
        }
        deaths += 1;
    }
    assert!(deaths > 20, "only {deaths} steps: does the store still go through its disk?");
}

#[test]
fn a_blob_whose_name_another_thread_has_not_synced_is_synced_before_an_action_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("artifacts");
    let disk = Mortal::with_steps(1000);
    let store = Store::on_disk(&root, Box::new(disk.clone())).unwrap();
    // The other thread is between naming its blob and syncing the folder.
    let digest = Digest::of_bytes(b"same");
    let (blob, temporary) = (store.blob(&digest), dir.path().join("temporary"));
    fs::create_dir_all(blob.parent().unwrap()).unwrap();
    disk.write(&temporary, b"same").unwrap();
    disk.sync(&temporary).unwrap();
    disk.rename(&temporary, &blob).unwrap();

    let output = dir.path().join("output");
    fs::write(&output, "same").unwrap();
    let action = action(ingredients(1), &[("x", store.ingest(&output).unwrap())]);
    assert_eq!(store.put_action(&action).unwrap(), Put::New);
    drop(store);
    disk.lose_power(&root, 0);
    assert!(assert_all_named_is_whole(&Store::open(&root).unwrap(), &action.key));
}

#[test]
fn a_crash_while_a_folder_of_many_files_comes_in_leaves_nothing_half_done() {
    let many = |dir: &Path| {
        fs::create_dir(dir.join("many")).unwrap();
        (0..100).for_each(|n| fs::write(dir.join("many").join(n.to_string()), format!("file {n}")).unwrap());
        dir.join("many")
    };
    let full = tempfile::tempdir().unwrap();
    let store = Store::open(&full.path().join("artifacts")).unwrap();
    let whole = store.ingest(&many(full.path())).unwrap();
    assert!(store.is_whole(&whole).unwrap());
    for (steps, keep) in (150..800).step_by(31).flat_map(|steps| [(steps, 0), (steps, 0x9c3b_6a51_77d2_e40f)])
    {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("artifacts");
        let disk = Mortal::with_steps(steps);
        let store = Store::on_disk(&root, Box::new(disk.clone())).unwrap();
        let kept = store.ingest(&many(dir.path()));
        drop(store);
        disk.lose_power(&root, keep);
        let store = Store::open(&root).unwrap();
        assert_all_named_is_whole(&store, &Digest::of_bytes(b"none"));
        // A tree that is named is there with all its files.
        let named = store.blob(&whole.digest).exists();
        assert_eq!(named, store.is_whole(&whole).unwrap());
        assert!(named || kept.is_err());
    }
}

#[test]
fn a_full_disk_is_an_error_that_names_the_path() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::on_disk(&dir.path().join("artifacts"), Box::new(Mortal::with_steps(3))).unwrap();
    let error = publish(&store, dir.path()).unwrap_err().to_string();
    assert!(error.contains(dir.path().to_str().unwrap()) && error.ends_with("dead"), "{error}");
}
