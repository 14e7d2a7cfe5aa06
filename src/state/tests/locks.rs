//! Locks between processes.

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::super::{Holder, KeyLock, Lock};
use crate::cas::Store;
use crate::cas::tests::{contents, files_below, place};
use crate::digest::Digest;

fn key() -> Digest {
    Digest::of_bytes(b"key")
}

fn holder_of(store: &Store) -> Option<Holder> {
    match store.try_lock(&key(), "other").unwrap() {
        Lock::HeldBy(holder) => Some(holder),
        Lock::Acquired(_) => None,
    }
}

fn taken(store: &Store) -> KeyLock {
    match store.try_lock(&key(), "sft").unwrap() {
        Lock::Acquired(lock) => lock,
        Lock::HeldBy(holder) => panic!("held by {holder}"),
    }
}

/// Another process that takes the lock; with `orphan`, it starts a child that inherits it.
fn process(store: &Store, orphan: bool) -> (Child, u32) {
    let ready = store.root().with_extension("ready");
    let _ = fs::remove_file(&ready);
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "state::tests::locks::the_other_process", "--ignored"])
        .env("KILN_TEST_LOCK", store.root())
        .env("KILN_TEST_ORPHAN", if orphan { "1" } else { "" })
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let pid = wait_for(|| fs::read_to_string(&ready).ok()?.strip_suffix('\n')?.parse().ok());
    (child, pid)
}

fn wait_for<T>(mut what: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(done) = what() {
            return done;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "it takes too long");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
#[ignore = "the other process of the tests below, which start it"]
#[allow(clippy::zombie_processes)] // It is killed before it could wait.
fn the_other_process() {
    let Some(root) = std::env::var_os("KILN_TEST_LOCK") else { return };
    let store = Store::open(Path::new(&root)).unwrap();
    let lock = taken(&store);
    let mut pid = std::process::id();
    if !std::env::var("KILN_TEST_ORPHAN").unwrap().is_empty() {
        // As a supervisor does: its child gets a descriptor of the lock, here as its stdin.
        let file = lock.as_fd().try_clone_to_owned().unwrap();
        pid = Command::new("sleep").arg("60").stdin(file).spawn().unwrap().id();
    } else {
        // Started outside, it does not inherit the lock.
        Command::new("sleep").arg("5").spawn().unwrap();
    }
    fs::write(store.root().with_extension("ready"), format!("{pid}\n")).unwrap();
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn two_processes_exclude_each_other_and_a_killed_one_holds_nothing() {
    let p = place();
    let (mut child, _) = process(&p.store, false);
    let holder = holder_of(&p.store).unwrap();
    assert_eq!((holder.pid, holder.stage.as_str()), (child.id(), "sft"));
    assert!(holder.to_string().contains(&format!("process {}", child.id())), "{holder}");
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(holder_of(&p.store), None);
}

#[test]
fn an_orphan_keeps_the_lock_of_its_killed_runner() {
    let p = place();
    let (mut child, orphan) = process(&p.store, true);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(holder_of(&p.store).is_some());
    let pid = rustix::process::Pid::from_raw(i32::try_from(orphan).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    wait_for(|| holder_of(&p.store).is_none().then_some(()));
}

#[test]
fn a_lock_that_is_given_back_leaves_no_file_and_the_next_one_gets_it() {
    let p = place();
    let first = taken(&p.store);
    assert_eq!(p.store.locks(), [(key(), first.path().to_owned())]);
    assert_eq!(holder_of(&p.store).unwrap().pid, std::process::id());
    drop(first);
    assert!(files_below(&p.store.root().join("work/locks")).is_empty(), "a lock file is left");
    assert_eq!(holder_of(&p.store), None);
}

#[test]
fn many_threads_never_hold_one_lock_together() {
    let p = place();
    let inside = std::sync::atomic::AtomicU32::new(0);
    std::thread::scope(|s| {
        for _ in 0..8 {
            s.spawn(|| {
                for _ in 0..200 {
                    if let Lock::Acquired(_lock) = p.store.try_lock(&key(), "x").unwrap() {
                        use std::sync::atomic::Ordering::SeqCst;
                        assert_eq!(inside.fetch_add(1, SeqCst), 0);
                        std::thread::yield_now();
                        inside.fetch_sub(1, SeqCst);
                    }
                }
            });
        }
    });
}

#[test]
fn to_look_at_the_lock_of_a_dead_holder_changes_nothing() {
    let p = place();
    let (mut child, _) = process(&p.store, false);
    child.kill().unwrap();
    child.wait().unwrap();
    let before = contents(&p.store.root().join("work/locks"));
    assert_eq!(p.store.holder(&key()).unwrap(), None);
    assert_eq!(contents(&p.store.root().join("work/locks")), before);
    drop(taken(&p.store));
    assert!(files_below(&p.store.root().join("work/locks")).is_empty());
}

#[test]
fn a_lock_that_is_no_plain_file_is_an_error_at_once() {
    let p = place();
    let path = p.store.root().join("work/locks").join(key().to_string());
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let victim = p.file("victim", "precious");
    std::os::unix::fs::symlink(&victim, &path).unwrap();
    assert!(p.store.try_lock(&key(), "x").is_err() && p.store.holder(&key()).is_err());
    assert_eq!(fs::read(&victim).unwrap(), b"precious");
    fs::remove_file(&path).unwrap();
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    assert!(p.store.holder(&key()).is_err());
}
