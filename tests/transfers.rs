//! Transfers that are broken off, through the binary.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::{Answer, Pipeline};
use serde_json::Value;

const SIZE: u64 = 40_000_000;

fn project(size: u64) -> Pipeline {
    let run = format!("head -c {size} /dev/urandom > {{outputs.o}}");
    Pipeline::new().yaml(&format!("pipeline: p\nstages:\n  a: {{ run: '{run}', outputs: {{ o: any }} }}\n"))
}

fn ask(project: &Pipeline, remote: &str, words: &[&str]) -> Answer {
    Answer::of(project.kiln(words).env("KILN_REMOTES", remote).output().unwrap())
}

fn start(project: &Pipeline, remote: &str, word: &str) -> Child {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin("kiln"));
    command.current_dir(project.root()).arg(word).env("KILN_REMOTES", remote);
    command.env("KILN_CONFIG", project.path("no-config.yaml"));
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// A server of a folder that gives ranges of packs, counts their bytes, and stalls at ranges from there on; with no
/// `most` it gives whole objects alone.
fn server(folder: &Path, most: Option<u64>) -> (String, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (url, sent) = (format!("http://{}", listener.local_addr().unwrap()), Arc::new(AtomicU64::new(0)));
    let (folder, count) = (folder.to_owned(), Arc::clone(&sent));
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let (folder, count) = (folder.clone(), Arc::clone(&count));
            std::thread::spawn(move || answer(&connection, &folder, &count, most));
        }
    });
    (url, sent)
}

fn answer(mut connection: &TcpStream, folder: &Path, count: &AtomicU64, most: Option<u64>) {
    let mut lines = BufReader::new(connection).lines().map_while(Result::ok);
    while let Some(request) = lines.next() {
        let headers: Vec<_> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
        let path = request.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
        let Ok(body) = fs::read(folder.join(&path)) else {
            connection.write_all(b"HTTP/1.1 404 x\r\nContent-Length: 0\r\n\r\n").unwrap();
            continue;
        };
        let range = headers
            .iter()
            .find_map(|line| line.to_lowercase().strip_prefix("range: bytes=").map(str::to_owned));
        let (code, from, to) = match range.filter(|_| most.is_some()) {
            None => (200, 0, body.len()),
            Some(range) => {
                let (from, to) = range.trim().split_once('-').unwrap();
                (206, from.parse().unwrap(), to.parse::<usize>().unwrap() + 1)
            }
        };
        let head = format!(
            "HTTP/1.1 {code} x\r\nContent-Length: {}\r\nContent-Range: bytes {from}-{}/{}\r\n\r\n",
            to - from,
            to - 1,
            body.len()
        );
        if path.starts_with("packs/") {
            count.fetch_add((to - from) as u64, Ordering::SeqCst);
            // By the place, because requests come in any order.
            if most.is_some_and(|most| from as u64 >= most) {
                std::thread::sleep(Duration::from_secs(100));
            }
        }
        if connection.write_all(&[head.as_bytes(), &body[from..to]].concat()).is_err() {
            return;
        }
    }
}

fn temporary_files(project: &Pipeline) -> Vec<PathBuf> {
    let entries = fs::read_dir(project.path("artifacts/work/tmp")).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

fn wait_for(what: impl Fn() -> bool) {
    for _ in 0..3_000 {
        if what() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("it did not happen within 30 s");
}

#[test]
fn a_fetch_that_was_killed_goes_on_where_it_was() {
    let (remote, ours, theirs) = (tempfile::tempdir().unwrap(), project(SIZE), project(SIZE));
    assert_eq!(ask(&ours, remote.path().to_str().unwrap(), &["run"]).code, 0);
    let (url, _) = server(remote.path(), Some(24_000_000));
    let mut killed = start(&theirs, &url, "run");
    let large = |path: &PathBuf| fs::metadata(path).is_ok_and(|meta| meta.len() >= 16_000_000);
    wait_for(|| temporary_files(&theirs).iter().any(large));
    killed.kill().unwrap();
    killed.wait().unwrap();
    // What the crash left at the end is no part of it.
    let partial = temporary_files(&theirs).into_iter().find(large).unwrap();
    fs::File::options().append(true).open(&partial).unwrap().write_all(&[0; 5_000_000]).unwrap();

    let (url, sent) = server(remote.path(), Some(u64::MAX));
    let run = ask(&theirs, &url, &["run", "--json"]);
    let answer: Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!(answer["stages"][0]["outcome"], "fetched", "{}{}", run.out, run.err);
    assert!(
        sent.load(Ordering::SeqCst) <= SIZE - 16_000_000 + (9 << 20),
        "{} bytes came again",
        sent.load(Ordering::SeqCst)
    );
    let out = "artifacts/out/p/a/o";
    assert!(fs::read(theirs.path(out)).unwrap() == fs::read(ours.path(out)).unwrap());
    assert_eq!(temporary_files(&theirs), Vec::<PathBuf>::new());
}

#[test]
fn a_push_that_was_killed_sends_no_pack_again() {
    let (folder, project) = (tempfile::tempdir().unwrap(), project(140_000_000));
    let remote = folder.path().to_str().unwrap();
    assert_eq!(project.ask(&["run"]).code, 0);
    let packs = || -> u64 {
        fs::read_dir(folder.path().join("packs")).map_or(0, |entries| {
            // What is being written has another name.
            let whole = entries.flatten().filter(|entry| entry.file_name().len() == 64);
            whole.filter_map(|entry| entry.metadata().ok()).map(|meta| meta.len()).sum()
        })
    };
    let mut killed = start(&project, remote, "push");
    wait_for(|| packs() > 0);
    killed.kill().unwrap();
    killed.wait().unwrap();
    let before = packs();
    let push = ask(&project, remote, &["push", "--json"]);
    let answer: Value = serde_json::from_str(&push.out).unwrap();
    let bytes = answer["remotes"][0]["bytes"].as_u64().unwrap();
    assert!(bytes + before <= 140_000_000 + (1 << 20), "{bytes} bytes, {before} were there");
    let theirs = self::project(140_000_000);
    assert_eq!(ask(&theirs, remote, &["pull"]).code, 0);
    let out = "artifacts/out/p/a/o";
    assert!(fs::read(theirs.path(out)).unwrap() == fs::read(project.path(out)).unwrap());
}

#[test]
fn a_server_without_ranges_gives_large_files_all_the_same() {
    let (remote, ours, theirs) = (tempfile::tempdir().unwrap(), project(SIZE), project(SIZE));
    assert_eq!(ask(&ours, remote.path().to_str().unwrap(), &["run"]).code, 0);
    let (url, _) = server(remote.path(), None);
    let run = ask(&theirs, &url, &["run"]);
    assert!(run.code == 0 && run.err.contains("from remotes") && !run.err.contains("WARN"), "{}", run.err);
    let out = "artifacts/out/p/a/o";
    assert!(fs::read(theirs.path(out)).unwrap() == fs::read(ours.path(out)).unwrap());
    for words in [["gc", "--remote", "env"], ["remote", "du", "env"]] {
        let answer = ask(&theirs, &url, &words);
        let said = answer.out + &answer.err;
        assert!(answer.code != 0 && said.contains("HTTP"), "{words:?}: {said}");
    }
    let pins = ask(&theirs, &url, &["pin", "list", "--remote", "env"]);
    assert!(pins.code == 1 && pins.err.contains("cannot be listed"), "{}{}", pins.out, pins.err);
}
