//! A disk of which one operation fails.
//!
//! The disk here fails once, at the step it was told to, with the error it was told to, and works before and after.
//! What is asked of everybody: an error and no panic, nothing wrong that is served, and a second try that works.

use std::fs::File;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use rustix::io::Errno;

use super::super::disk::{Disk, Os};
use super::super::{CollectError, PendingCommit, StagedOutput};
use super::*;

/// The step that fails, counted down, and its error.
pub(crate) struct Faulty {
    steps_left: AtomicUsize,
    error: Errno,
}

impl Faulty {
    pub(crate) fn at(step: usize, error: Errno) -> Arc<Self> {
        Arc::new(Self { steps_left: AtomicUsize::new(step + 1), error })
    }

    /// Whether the step that fails was reached.
    pub(crate) fn failed(&self) -> bool {
        self.steps_left.load(Ordering::SeqCst) == 0
    }

    fn step<T>(&self, work: impl FnOnce(&Os) -> io::Result<T>) -> io::Result<T> {
        let one_less = |left: usize| left.checked_sub(1);
        match self.steps_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less) {
            Ok(1) => Err(self.error.into()),
            _ => work(&Os::default()),
        }
    }
}

impl Disk for Faulty {
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.step(|os| os.write(path, bytes))
    }
    fn create(&self, path: &Path) -> io::Result<File> {
        self.step(|os| os.create(path))
    }
    fn open_append(&self, path: &Path) -> io::Result<File> {
        self.step(|os| os.open_append(path))
    }
    fn append(&self, file: &File, bytes: &[u8]) -> io::Result<()> {
        self.step(|os| os.append(file, bytes))
    }
    fn copy(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step(|os| os.copy(from, to))
    }
    fn reflink(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step(|os| os.reflink(from, to))
    }
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step(|os| os.hard_link(from, to))
    }
    fn symlink(&self, target: &Path, at: &Path) -> io::Result<()> {
        self.step(|os| os.symlink(target, at))
    }
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.step(|os| os.create_folder(path))
    }
    fn set_mode(&self, path: &Path, mode: u32) -> io::Result<()> {
        self.step(|os| os.set_mode(path, mode))
    }
    fn set_modified(&self, path: &Path, time: SystemTime) -> io::Result<()> {
        self.step(|os| os.set_modified(path, time))
    }
    fn sync(&self, _: &Path) -> io::Result<()> {
        self.step(|_| Ok(()))
    }
    fn sync_folder(&self, _: &Path) -> io::Result<()> {
        self.step(|_| Ok(()))
    }
    fn watch(&self, _: &Path) -> io::Result<()> {
        self.step(|_| Ok(()))
    }
    fn sync_everything(&self, _: &Path) -> io::Result<()> {
        self.step(|_| Ok(()))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step(|os| os.rename(from, to))
    }
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step(|os| os.rename_new(from, to))
    }
    fn exchange(&self, one: &Path, other: &Path) -> io::Result<()> {
        self.step(|os| os.exchange(one, other))
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.step(|os| os.remove_file(path))
    }
    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        self.step(|os| os.remove_folder(path))
    }
}

/// What a stage made: a folder with a script, a link, an empty folder and a large file, and a file beside it.
pub(super) fn attempt(dir: &Path) -> PathBuf {
    let attempt = dir.join("artifacts/work/ab/cdef/attempt");
    fs::create_dir_all(attempt.join("model/empty")).unwrap();
    fs::write(attempt.join("model/weights"), vec![7; (1 << 20) + 1]).unwrap();
    fs::write(attempt.join("model/run.sh"), "#!/bin/sh\n").unwrap();
    fs::write(attempt.join("model/config"), "config").unwrap();
    fs::set_permissions(attempt.join("model/run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("weights", attempt.join("model/latest")).unwrap();
    fs::write(attempt.join("table"), "1,2,3\n").unwrap();
    attempt
}

pub(super) fn keep(store: &Store, attempt: &Path) -> Result<Action, CollectError> {
    let (model, table) = (attempt.join("model"), attempt.join("table"));
    commit(store, store.collect(&model, &[])?, store.collect(&table, &[])?)
}

fn keep_again(store: &Store, attempt: &Path) -> Result<Action, CollectError> {
    let (model, table) = (attempt.join("model"), attempt.join("table"));
    commit(store, store.collect_kept(&model, &[])?, store.collect_kept(&table, &[])?)
}

fn commit(store: &Store, model: StagedOutput, table: StagedOutput) -> Result<Action, CollectError> {
    let action = action(key_inputs(1), &[("model", model.artifact), ("table", table.artifact)]);
    let outputs = vec![model, table];
    let kept = store.commit(vec![PendingCommit { outputs, action: Some(action.clone()), replace: false }]);
    kept.into_iter().try_for_each(|kept| kept.map(drop))?;
    Ok(action)
}

#[test]
fn what_a_full_or_failing_disk_refused_is_collected_by_a_second_try() {
    let clean = tempfile::tempdir().unwrap();
    let store =
        Store::on_disk(&clean.path().join("artifacts"), Faulty::at(usize::MAX - 1, Errno::IO)).unwrap();
    let expected = keep(&store, &attempt(clean.path())).unwrap().outputs;
    let mut faults = 0;
    for step in 0.. {
        let error = [Errno::NOSPC, Errno::IO, Errno::DQUOT][step % 3];
        let dir = tempfile::tempdir().unwrap();
        let attempt = attempt(dir.path());
        let disk = Faulty::at(step, error);
        let store = Store::on_disk(&dir.path().join("artifacts"), disk.clone()).unwrap();
        let manifest = store.manifest(&attempt).unwrap();
        let first = keep(&store, &attempt);
        if !disk.failed() {
            assert_eq!(first.unwrap().outputs, expected);
            break;
        }
        faults += 1;
        if let Err(error) = first {
            assert!(matches!(error, CollectError::Recoverable(_)), "step {step}: {error}");
            assert!(store.matches(&manifest, &attempt), "step {step}: the attempt is what it was");
            // The last sync is that of the name of the action: it may be there, and then it is right.
            let named = store.action(&Digest::of_json(&key_inputs(1))).unwrap();
            assert!(named.is_none_or(|action| action.outputs == expected), "step {step}");
            // Another process, as the next run is.
            let store = Store::open(store.root()).unwrap();
            assert_eq!(keep_again(&store, &attempt).unwrap().outputs, expected, "step {step}");
        }
        let store = Store::open(store.root()).unwrap();
        let kept = store.action(&Digest::of_json(&key_inputs(1))).unwrap().unwrap();
        assert_eq!(store.outputs_intact(&kept, ["model", "table"]).unwrap(), None, "step {step}");
        assert!(files_below(&store.root().join("work/tmp")).len() <= 1, "step {step}");
    }
    assert!(faults > 20, "only {faults} steps: does the store still go through its disk?");
}

#[test]
fn a_manifest_sees_every_change_of_a_kept_attempt() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("artifacts")).unwrap();
    let attempt = attempt(dir.path());
    let manifest = store.manifest(&attempt).unwrap();
    let text = serde_json::to_string(&manifest).unwrap();
    let manifest = serde_json::from_str(&text).unwrap();
    assert!(store.matches(&manifest, &attempt));
    let changed = |change: &dyn Fn(), back: &dyn Fn()| {
        change();
        assert!(!store.matches(&manifest, &attempt));
        back();
        assert!(store.matches(&manifest, &attempt));
    };
    let (new, link) = (attempt.join("model/new"), attempt.join("model/latest"));
    changed(&|| fs::write(&new, "").unwrap(), &|| fs::remove_file(&new).unwrap());
    changed(&|| fs::create_dir(&new).unwrap(), &|| fs::remove_dir(&new).unwrap());
    let relink = |target: &str| {
        fs::remove_file(&link).unwrap();
        symlink(target, &link).unwrap();
    };
    changed(&|| relink("config"), &|| relink("weights"));
    std::thread::sleep(std::time::Duration::from_millis(30));
    fs::write(attempt.join("table"), "1,2,4\n").unwrap();
    assert!(!store.matches(&manifest, &attempt));
}

#[test]
fn a_fault_while_an_input_is_materialized_or_a_source_is_copied_is_an_error_and_harms_no_blob() {
    let p = place();
    p.file("made/a", "a");
    p.file("made/deep/b", "b");
    symlink("a", p.path("made/l")).unwrap();
    let kept = p.store.ingest(&p.path("made")).unwrap();
    for (how, step) in
        (0..30).flat_map(|step| [(Some(How::Links), step), (Some(How::Copies), step), (None, step)])
    {
        let disk = Faulty::at(step, Errno::NOSPC);
        let store = Store::on_disk(p.store.root(), disk.clone()).unwrap();
        let dest = p.path("dest");
        let done = match how {
            Some(how) => store.materialize(&kept, &dest, how),
            None => store.ingest_source(&p.path("made"), &dest, &Ignore::none()).map(drop),
        };
        if done.is_ok() {
            assert_eq!(p.store.named(&dest).unwrap(), kept, "step {step}");
        } else {
            assert!(disk.failed());
        }
        let _ = super::super::disk::remove_tree(&dest);
        assert!(p.store.is_intact(&kept).unwrap());
    }
}

#[test]
fn a_fault_while_an_artifact_is_exported_leaves_what_was_there() {
    let p = place();
    p.file("made/a", "new");
    let kept = p.store.ingest(&p.path("made")).unwrap();
    for step in 0..20 {
        p.file("dest/a", "old");
        let disk = Faulty::at(step, Errno::IO);
        let store = Store::on_disk(p.store.root(), disk.clone()).unwrap();
        let done = store.export(&kept, &p.path("dest"));
        let found = fs::read_to_string(p.path("dest/a")).unwrap();
        assert!(found == "new" || (found == "old" && done.is_err()), "step {step}: {found}");
    }
}

#[test]
fn a_file_is_replaced_as_a_whole_or_not_at_all() {
    use super::super::disk::replace_on;
    let p = place();
    for step in 0..6 {
        let file = p.file("folder/file", "old");
        let disk = Faulty::at(step, Errno::NOSPC);
        let done = replace_on(&*disk, &file, b"new");
        assert_eq!(done.is_err(), disk.failed());
        let found = fs::read_to_string(&file).unwrap();
        assert!(found == "new" || (found == "old" && done.is_err()), "step {step}: {found}");
        assert_eq!(files_below(&p.path("folder")), [file], "no temporary file is left");
    }
}
