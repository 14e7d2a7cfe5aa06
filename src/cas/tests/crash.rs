//! A machine that dies between any two steps.
//!
//! The disk here forgets what no sync has made durable: bytes of files that were not synced are cut in
//! half, and names given in folders that were not synced are taken back, some or all of them. It only
//! pretends to sync, which makes it a quick disk too.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use super::super::disk::{Disk, Os};
use super::super::{Committed, PendingCommit};
use super::*;

#[derive(Default)]
struct Memory {
    steps_left: usize,
    synced: HashSet<PathBuf>,
    /// From, to, and what bore the name before.
    names: Vec<(PathBuf, PathBuf, Option<Vec<u8>>)>,
}

#[derive(Clone)]
pub(crate) struct Mortal(Arc<Mutex<Memory>>);

impl Mortal {
    pub(crate) fn with_steps(steps_left: usize) -> Self {
        Self(Arc::new(Mutex::new(Memory { steps_left, ..Memory::default() })))
    }

    fn step<T>(&self, work: impl FnOnce(&mut Memory) -> io::Result<T>) -> io::Result<T> {
        let mut memory = self.0.lock().unwrap();
        memory.steps_left =
            memory.steps_left.checked_sub(1).ok_or_else(|| io::Error::from_raw_os_error(28))?;
        work(&mut memory)
    }

    pub(crate) fn died(&self) -> bool {
        self.0.lock().unwrap().steps_left == 0
    }

    /// Takes back what is not durable; bit `i` of `keep` lets name `i` survive by luck.
    pub(crate) fn lose_power(&self, store: &Path, keep: u64) {
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
        for kind in ["blobs", "actions", "work", "cache", "runs"] {
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
        self.step(|_| Os::default().write(path, bytes))
    }
    fn create(&self, path: &Path) -> io::Result<File> {
        self.step(|_| Os::default().create(path))
    }
    fn open_append(&self, path: &Path) -> io::Result<File> {
        self.step(|_| Os::default().open_append(path))
    }
    fn append(&self, file: &File, bytes: &[u8]) -> io::Result<()> {
        self.step(|_| Os::default().append(file, bytes))
    }
    fn copy(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step(|_| Os::default().copy(from, to))
    }
    fn reflink(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step(|_| Os::default().reflink(from, to))
    }
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step(|memory| {
            Os::default().hard_link(from, to)?;
            if memory.synced.contains(from) {
                memory.synced.insert(to.to_owned());
            }
            Ok(())
        })
    }
    fn symlink(&self, target: &Path, at: &Path) -> io::Result<()> {
        self.step(|_| Os::default().symlink(target, at))
    }
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.step(|_| Os::default().create_folder(path))
    }
    fn set_mode(&self, path: &Path, mode: u32) -> io::Result<()> {
        self.step(|_| Os::default().set_mode(path, mode))
    }
    fn set_modified(&self, path: &Path, time: SystemTime) -> io::Result<()> {
        self.step(|_| Os::default().set_modified(path, time))
    }
    fn sync(&self, path: &Path) -> io::Result<()> {
        self.step(|memory| {
            memory.synced.insert(path.to_owned());
            fs::metadata(path).map(drop)
        })
    }
    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.step(|memory| {
            memory.names.retain(|(_, to, _)| to.parent() != Some(path));
            fs::metadata(path).map(drop)
        })
    }
    fn watch(&self, _: &Path) -> io::Result<()> {
        self.step(|_| Ok(()))
    }
    fn sync_everything(&self, path: &Path) -> io::Result<()> {
        self.step(|memory| {
            memory.synced.extend(files_below(path));
            memory.names.clear();
            Ok(())
        })
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step(|memory| {
            let before = fs::read(to).ok();
            Os::default().rename(from, to)?;
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
    fn exchange(&self, one: &Path, other: &Path) -> io::Result<()> {
        self.step(|_| Os::default().exchange(one, other))
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.step(|_| Os::default().remove_file(path))
    }
    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        self.step(|_| Os::default().remove_folder(path))
    }
}

/// What a stage made among the store's scratch files: a folder with two equal files, and a file.
fn outputs(dir: &Path) -> (PathBuf, PathBuf) {
    let scratch = dir.join("artifacts/work/0/scratch");
    let (model, table) = (scratch.join("model"), scratch.join("table"));
    let _ = fs::remove_dir_all(&scratch);
    fs::create_dir_all(model.join("deep")).unwrap();
    for (name, text) in [("a", "weights"), ("deep/b", "weights"), ("deep/c", "config")] {
        fs::write(model.join(name), text).unwrap();
    }
    fs::write(&table, "1,2,3\n").unwrap();
    (model, table)
}

fn publish(store: &Store, dir: &Path) -> Result<(Committed, Action), StoreError> {
    let (model, table) = outputs(dir);
    let (model, table) = (store.collect(&model, &[])?, store.collect(&table, &[])?);
    let first = action(key_inputs(1), &[("model", model.artifact), ("table", table.artifact)]);
    // Another stage made the same table elsewhere, and is kept with this one.
    fs::write(dir.join("same"), "1,2,3\n").unwrap();
    let same = store.collect(&dir.join("same"), &[])?;
    let second = action(key_inputs(2), &[("table", same.artifact)]);
    let entry =
        |outputs, action: &Action| PendingCommit { outputs, action: Some(action.clone()), replace: false };
    let mut puts =
        store.commit(vec![entry(vec![model, table], &first), entry(vec![same], &second)]).into_iter();
    let put = puts.next().unwrap();
    puts.next().unwrap()?;
    Ok((put?.unwrap(), first))
}

/// The digest that a path below `blobs` or `actions` stands for.
fn digest_of(path: &Path) -> Digest {
    let parts: Vec<_> =
        path.components().rev().take(2).map(|part| part.as_os_str().to_str().unwrap()).collect();
    format!("{}{}", parts[1], parts[0]).parse().unwrap()
}

/// Whether this key is among those named.
fn assert_all_named_is_intact(store: &Store, key: &Digest) -> bool {
    for blob in files_below(&store.root().join("blobs")) {
        assert_eq!(Digest::of_file(&blob).unwrap().0, digest_of(&blob));
    }
    for file in files_below(&store.root().join("actions")) {
        let action = store.action(&digest_of(&file)).unwrap().expect("an action that is named can be read");
        assert!(action.outputs.values().all(|output| store.is_intact(output).unwrap()));
    }
    store.action(key).unwrap().is_some()
}

#[test]
fn a_crash_at_any_step_leaves_nothing_named_that_is_not_whole() {
    let key = Digest::of_json(&key_inputs(1));
    let mut deaths = 0;
    for steps in 0.. {
        let mut died = false;
        for keep in [0, u64::MAX, 0x5555_5555_5555_5555, 0xaaaa_aaaa_aaaa_aaaa, 0x9c3b_6a51_77d2_e40f] {
            let dir = tempfile::tempdir().unwrap();
            let root = dir.path().join("artifacts");
            let disk = Mortal::with_steps(steps);
            let store = Store::on_disk(&root, Arc::new(disk.clone())).unwrap();
            let kept = publish(&store, dir.path());
            died = disk.died() && kept.is_err();
            // The stat cache is saved too, where the machine still lives, and must not hide damage.
            drop(store);
            disk.lose_power(&root, keep);
            let store = Store::on_disk(&root, Arc::new(Mortal::with_steps(usize::MAX))).unwrap();
            let named = assert_all_named_is_intact(&store, &key);
            assert!(named || kept.is_err(), "what was reported as kept is still there");
            // A plain second attempt converges, whatever the first one left.
            let (_, action) = publish(&store, dir.path()).unwrap();
            assert_eq!(store.action(&key).unwrap().map(|a| a.outputs), Some(action.outputs));
            assert!(assert_all_named_is_intact(&store, &key));
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
    let store = Store::on_disk(&root, Arc::new(disk.clone())).unwrap();
    // The other thread is between naming its blob and syncing the folder.
    let digest = Digest::of_bytes(b"same");
    let (blob, temporary) = (store.blob(&digest), dir.path().join("temporary"));
    fs::create_dir_all(blob.parent().unwrap()).unwrap();
    disk.write(&temporary, b"same").unwrap();
    disk.sync(&temporary).unwrap();
    disk.rename(&temporary, &blob).unwrap();

    let output = dir.path().join("output");
    fs::write(&output, "same").unwrap();
    let action = action(key_inputs(1), &[("x", store.ingest(&output).unwrap())]);
    assert_eq!(store.put_action(&action).unwrap(), Committed::New);
    drop(store);
    disk.lose_power(&root, 0);
    assert!(assert_all_named_is_intact(&Store::open(&root).unwrap(), &action.key));
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
    assert!(store.is_intact(&whole).unwrap());
    for (steps, keep) in (150..800).step_by(31).flat_map(|steps| [(steps, 0), (steps, 0x9c3b_6a51_77d2_e40f)])
    {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("artifacts");
        let disk = Mortal::with_steps(steps);
        let store = Store::on_disk(&root, Arc::new(disk.clone())).unwrap();
        let kept = store.ingest(&many(dir.path()));
        drop(store);
        disk.lose_power(&root, keep);
        let store = Store::open(&root).unwrap();
        assert_all_named_is_intact(&store, &Digest::of_bytes(b"none"));
        // A tree that is named is there with all its files.
        let named = store.blob(&whole.digest).exists();
        assert_eq!(named, store.is_intact(&whole).unwrap());
        assert!(named || kept.is_err());
    }
}

#[test]
fn a_full_disk_is_an_error_that_names_the_path() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::on_disk(&dir.path().join("artifacts"), Arc::new(Mortal::with_steps(3))).unwrap();
    let error = publish(&store, dir.path()).unwrap_err().to_string();
    assert!(error.contains(dir.path().to_str().unwrap()) && error.contains("No space left"), "{error}");
}

#[test]
fn what_is_wrong_with_one_stage_is_nothing_to_those_kept_with_it() {
    let p = place();
    let staged = |n: u64| p.store.collect(&p.file(&format!("o/{n}"), &format!("output {n}")), &[]).unwrap();
    let entry = |n: u64| {
        let output = staged(n);
        let action = action(key_inputs(n), &[("x", output.artifact)]);
        PendingCommit { outputs: vec![output], action: Some(action), replace: false }
    };
    let (good, mut bad_key, mut missing, last) = (entry(1), entry(2), entry(3), entry(4));
    bad_key.action.as_mut().unwrap().key = Digest::of_bytes(b"another");
    missing.outputs.clear();
    let kept = p.store.commit(vec![good, bad_key, missing, last]);
    assert!(matches!(kept[0], Ok(Some(Committed::New))) && matches!(kept[3], Ok(Some(Committed::New))));
    assert!(kept[1].is_err() && kept[2].is_err());
    assert_eq!(files_below(&p.store.root().join("actions")).len(), 2);
    assert!(files_below(&p.store.root().join("work")).is_empty(), "no temporary file is left");
}

#[test]
fn a_sync_that_fails_is_an_error_of_every_stage_it_was_for_and_nothing_gets_a_name() {
    for steps in 0..40 {
        let dir = tempfile::tempdir().unwrap();
        let disk = Mortal::with_steps(usize::MAX);
        let store = Store::on_disk(&dir.path().join("artifacts"), Arc::new(disk.clone())).unwrap();
        let entry = |n: u64| {
            let file = dir.path().join(n.to_string());
            fs::write(&file, format!("output {n}")).unwrap();
            let output = store.collect(&file, &[]).unwrap();
            let action = action(key_inputs(n), &[("x", output.artifact)]);
            PendingCommit { outputs: vec![output], action: Some(action), replace: false }
        };
        let entries = (0..8).map(entry).collect();
        disk.0.lock().unwrap().steps_left = steps;
        let kept = store.commit(entries);
        let named = files_below(&store.root().join("actions")).len();
        assert!(kept.iter().filter(|put| put.is_ok()).count() <= named);
        // Eight drafts are written, and then everything is synced in one step.
        if steps <= 8 {
            assert!(kept.iter().all(Result::is_err), "{steps}");
            assert!(files_below(&store.root().join("blobs")).is_empty() && named == 0, "{steps}");
        }
    }
}

#[test]
fn an_output_that_is_written_to_after_it_was_hashed_gets_no_action() {
    let p = place();
    let output = p.file("artifacts/work/0/scratch/inside", "first");
    let mut writer = fs::OpenOptions::new().append(true).open(&output).unwrap();
    let staged = p.store.collect(&output, &[]).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(30));
    std::io::Write::write_all(&mut writer, b" and more").unwrap();
    let action = action(key_inputs(1), &[("x", staged.artifact)]);
    let outputs = vec![staged];
    let kept = p.store.commit(vec![PendingCommit { outputs, action: Some(action.clone()), replace: false }]);
    assert!(kept[0].is_err());
    assert_eq!(p.store.action(&action.key).unwrap(), None);
}

#[test]
fn a_shard_that_somebody_removes_is_made_anew() {
    let p = place();
    let first = p.ingested("same");
    fs::remove_dir_all(p.store.root().join("blobs")).unwrap();
    let again = p.ingested("same");
    assert_eq!(first, again);
    assert!(p.store.is_intact(&again).unwrap());
}
