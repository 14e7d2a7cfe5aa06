//! Sources behind a URL, through the binary, from a server whose connections break.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::Pipeline;
use serde_json::json;
use sha2::{Digest as _, Sha256};

/// A file of the server.
#[derive(Clone, Default)]
struct Served {
    bytes: Vec<u8>,
    /// The answers that break off after so many bytes, in order; those after them are whole.
    breaks: Vec<usize>,
    /// The statuses with which it answers first.
    statuses: Vec<u16>,
    /// Whether it answers with parts.
    ranges: bool,
    /// The status with which it answers a request for a part, and the place that it then claims.
    odd: Option<(u16, usize)>,
    /// Whether it says how much comes.
    has_length: bool,
    kind: &'static str,
    /// What it is after the first answer.
    replaced: Option<Vec<u8>>,
    /// The bytes after which an answer stands still.
    stalls: Option<usize>,
}

impl Served {
    fn of(bytes: &[u8]) -> Self {
        let kind = "application/octet-stream";
        Self { bytes: bytes.to_vec(), ranges: true, has_length: true, kind, ..Self::default() }
    }
}

#[derive(Clone, Default)]
struct Server {
    url: String,
    files: Arc<Mutex<BTreeMap<String, Served>>>,
    /// The bodies that were sent: the path, the first byte and the number of bytes.
    sent: Arc<Mutex<Vec<(String, usize, usize)>>>,
}

impl Server {
    fn start(files: &[(&str, Served)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let files = files.iter().map(|(path, file)| ((*path).to_owned(), file.clone())).collect();
        let server = Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            files: Arc::new(Mutex::new(files)),
            sent: Arc::default(),
        };
        let answers = server.clone();
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let server = answers.clone();
                std::thread::spawn(move || server.answer(&connection));
            }
        });
        server
    }

    fn answer(&self, mut connection: &TcpStream) -> Option<()> {
        let mut lines = BufReader::new(connection).lines().map_while(Result::ok);
        let request = lines.next()?;
        let headers: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
        let path = request.split(' ').nth(1)?.trim_start_matches('/').split('?').next()?.to_owned();
        let status =
            |code: u16| format!("HTTP/1.1 {code} x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        let (file, cut) = {
            let mut files = self.files.lock().unwrap();
            let Some(file) = files.get_mut(&path) else {
                return connection.write_all(status(404).as_bytes()).ok();
            };
            if !file.statuses.is_empty() {
                return connection.write_all(status(file.statuses.remove(0)).as_bytes()).ok();
            }
            let now = file.clone();
            if let Some(replaced) = file.replaced.take() {
                file.bytes = replaced;
            }
            let cut = (!file.breaks.is_empty()).then(|| file.breaks.remove(0));
            (now, cut)
        };
        let range = headers.iter().find_map(|line| {
            line.to_lowercase().strip_prefix("range: bytes=")?.trim_end_matches('-').parse::<usize>().ok()
        });
        if let Some((code, place)) = file.odd.filter(|_| range.is_some()) {
            let head = format!(
                "HTTP/1.1 {code} x\r\nConnection: close\r\nContent-Length: 3\r\nContent-Range: bytes {place}-9/10\r\n\r\nabc"
            );
            return connection.write_all(head.as_bytes()).ok();
        }
        let from = range.filter(|_| file.ranges).unwrap_or(0);
        if from >= file.bytes.len() && from > 0 {
            return connection.write_all(status(416).as_bytes()).ok();
        }
        let (size, body) = (file.bytes.len(), &file.bytes[from..]);
        let code = if from > 0 { 206 } else { 200 };
        let mut head = format!("HTTP/1.1 {code} x\r\nConnection: close\r\nContent-Type: {}\r\n", file.kind);
        if file.has_length {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        if from > 0 {
            head += &format!("Content-Range: bytes {from}-{}/{size}\r\n", size - 1);
        }
        let end = cut.unwrap_or(body.len()).min(body.len());
        let first = file.stalls.unwrap_or(end).min(end);
        self.sent.lock().unwrap().push((path, from, end));
        connection.write_all(&[head.as_bytes(), b"\r\n", &body[..first]].concat()).ok()?;
        if first < end {
            std::thread::sleep(Duration::from_secs(100));
        }
        Some(())
    }

    fn sent(&self) -> Vec<(String, usize, usize)> {
        std::mem::take(&mut self.sent.lock().unwrap())
    }

    fn change(&self, path: &str, change: impl Fn(&mut Served)) {
        change(self.files.lock().unwrap().get_mut(path).unwrap());
    }
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(size: usize) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(7);
    (0..size).map(|_| rng.u8(..)).collect()
}

/// A pipeline with a source behind this URL and a stage that copies it.
fn project(url: &str, sha256: &serde_json::Value) -> Pipeline {
    let source = json!({ "url": url, "sha256": sha256 });
    Pipeline::new().yaml(&format!(
        "pipeline: p\nsources:\n  far: {source}\nstages:\n  copy:\n    inputs: {{ x: far }}\n    \
         run: cp -r {{inputs.x}} {{outputs.o}}\n    outputs: {{ o: any }}\n"
    ))
}

#[test]
fn a_source_behind_a_url_is_brought_once_and_a_mirror_changes_nothing() {
    let data = bytes(3_000_000);
    let server = Server::start(&[("a/x.bin", Served::of(&data)), ("mirror", Served::of(&data))]);
    let p = project(&format!("{}/a/x.bin?version=2", server.url), &json!(sha256(&data)));
    assert_eq!(p.states(&[]), ["far=run", "copy=maybe"]);
    assert!(server.sent().is_empty(), "a plan asks nobody");
    p.ask(&["run"]).good();
    assert_eq!(server.sent(), [("a/x.bin".to_owned(), 0, data.len())]);
    assert_eq!(fs::read(p.ask(&["show", "copy", "--path"]).good().trim()).unwrap(), data);
    p.edit("a/x.bin?version=2", "mirror");
    assert_eq!(p.states(&[]), ["far=cached", "copy=cached"]);
    p.ask(&["run"]).good();
    assert!(server.sent().is_empty());
    // The bytes are gone: they are brought from where they are now.
    fs::remove_dir_all(p.path("artifacts")).unwrap();
    p.ask(&["run"]).good();
    assert_eq!(server.sent(), [("mirror".to_owned(), 0, data.len())]);
}

#[test]
fn a_download_goes_on_where_its_connection_broke() {
    let data = bytes(4_000_000);
    let broken = Served { breaks: vec![1_000_000, 1_500_000, 0], statuses: vec![503], ..Served::of(&data) };
    let server = Server::start(&[("x", broken)]);
    let p = project(&format!("{}/x", server.url), &json!(sha256(&data)));
    p.ask(&["run"]).good();
    let sent = server.sent();
    let starts: Vec<_> = sent.iter().map(|(_, from, _)| *from).collect();
    assert!(starts.windows(2).all(|pair| pair[0] <= pair[1]) && sent.len() == 4, "{sent:?}");
    assert!(*starts.last().unwrap() > 1_500_000, "{sent:?}");
}

#[test]
fn a_server_without_ranges_or_lengths_gives_the_whole_file_again() {
    let data = bytes(2_000_000);
    let plain = Served { breaks: vec![700_000], ranges: false, ..Served::of(&data) };
    // Without a length, a connection that breaks looks like the end of the file.
    let endless = Served { has_length: false, ..Served::of(&data) };
    let server = Server::start(&[("plain", plain), ("endless", endless)]);
    for path in ["plain", "endless"] {
        let p = project(&format!("{}/{path}", server.url), &json!(sha256(&data)));
        p.ask(&["run"]).good();
        assert_eq!(fs::read(p.ask(&["show", "far", "--path"]).good().trim()).unwrap(), data, "{path}");
    }
}

#[test]
fn a_server_that_answers_for_parts_as_it_likes_gives_the_whole_file_in_the_end() {
    let data = bytes(1_000_000);
    for odd in [(206, 5), (403, 0), (404, 0), (501, 0), (400, 0), (416, 0)] {
        let file = Served { breaks: vec![300_000], odd: Some(odd), ..Served::of(&data) };
        let server = Server::start(&[("x", file)]);
        let p = project(&format!("{}/x", server.url), &json!(sha256(&data)));
        p.ask(&["run"]).good();
        assert_eq!(fs::read(p.ask(&["show", "far", "--path"]).good().trim()).unwrap(), data, "{odd:?}");
    }
}

#[test]
fn a_file_that_was_replaced_while_it_was_brought_is_brought_anew() {
    let (old, new) = (bytes(2_000_000), vec![7; 2_000_000]);
    let file = Served { breaks: vec![1_000_000], replaced: Some(new.clone()), ..Served::of(&old) };
    let server = Server::start(&[("x", file)]);
    let p = project(&format!("{}/x", server.url), &json!(sha256(&new)));
    p.ask(&["run"]).good();
    assert_eq!(fs::read(p.ask(&["show", "far", "--path"]).good().trim()).unwrap(), new);
}

#[test]
fn other_bytes_than_the_pipeline_says_are_never_used() {
    let (data, other) = (bytes(100_000), vec![1; 100_000]);
    let page = Served { kind: "text/html; charset=utf-8", ..Served::of(b"<p>Sign in") };
    let server = Server::start(&[("x", Served::of(&other)), ("page", page)]);
    let p = project(&format!("{}/x?token=hidden", server.url), &json!(sha256(&data)));
    let answer = p.ask(&["run"]);
    let (wanted, found) = (sha256(&data), sha256(&other));
    assert_eq!(answer.code, 1, "{answer:?}");
    assert!(
        answer.err.contains(&wanted) && answer.err.contains(&format!("write `sha256: {found}`")),
        "{answer:?}"
    );
    assert!(!answer.err.contains("hidden"), "{answer:?}");
    assert_eq!(p.states(&[]), ["far=run", "copy=maybe"]);
    p.edit(&wanted, &found);
    p.ask(&["run"]).good();
    p.edit("/x?token=hidden", "/page");
    p.edit(&found, &wanted);
    let answer = p.ask(&["run"]);
    assert!(answer.code == 1 && answer.err.contains("the server sent a web page"), "{answer:?}");
    p.edit("/page", "/nowhere");
    let answer = p.ask(&["run"]);
    assert!(
        answer.err.contains("/nowhere: the server answered 404 Not Found; is the URL right?"),
        "{answer:?}"
    );
}

#[test]
fn a_folder_of_files_is_brought_whole() {
    let (config, weights) = (b"{}".to_vec(), bytes(1_500_000));
    let files = [
        ("model/config.json", Served::of(&config)),
        ("model/same.json", Served::of(&config)),
        ("model/a%20b/w.bin", Served { breaks: vec![10], ..Served::of(&weights) }),
        ("model/empty", Served::of(b"")),
    ];
    let server = Server::start(&files);
    let digests = json!({
        "config.json": sha256(&config), "same.json": sha256(&config), "a b/w.bin": sha256(&weights),
        "empty": sha256(b""),
    });
    let p = project(&format!("{}/model/", server.url), &digests);
    p.ask(&["run"]).good();
    let folder = std::path::PathBuf::from(p.ask(&["show", "copy", "--path"]).good().trim());
    for (path, bytes) in
        [("config.json", &config), ("same.json", &config), ("a b/w.bin", &weights), ("empty", &Vec::new())]
    {
        assert_eq!(&fs::read(folder.join(path)).unwrap(), bytes, "{path}");
    }
    // One file has other bytes now: the others are not brought again.
    server.sent();
    server.change("model/config.json", |file| file.bytes = b"{ }".to_vec());
    p.edit(
        &format!("\"config.json\":\"{}\"", sha256(b"{}")),
        &format!("\"config.json\":\"{}\"", sha256(b"{ }")),
    );
    p.ask(&["run"]).good();
    assert!(server.sent().iter().any(|(path, ..)| path == "model/config.json"));
}

#[test]
fn a_runner_that_was_killed_goes_on_with_the_bytes_that_had_arrived() {
    let data = bytes(6_000_000);
    let server = Server::start(&[("x", Served { stalls: Some(2_000_000), ..Served::of(&data) })]);
    let p = project(&format!("{}/x", server.url), &json!(sha256(&data)));
    let mut runner = std::process::Command::new(assert_cmd::cargo::cargo_bin("kiln"))
        .args(["run"])
        .current_dir(p.root())
        .env("KILN_CONFIG", p.path("no-config.yaml"))
        .stderr(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let here = || {
        let found = walk(&p.path("artifacts/work"));
        found
            .iter()
            .any(|path| path.ends_with(sha256(&data)) && fs::metadata(path).unwrap().len() >= 1_900_000)
    };
    for _ in 0..1_000 {
        if here() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(here(), "nothing arrived");
    runner.kill().unwrap();
    runner.wait().unwrap();
    server.change("x", |file| file.stalls = None);
    server.sent();
    p.ask(&["run"]).good();
    let sent = server.sent();
    assert!(sent.len() == 1 && sent[0].1 >= 1_900_000, "{sent:?}");
    assert_eq!(fs::read(p.ask(&["show", "far", "--path"]).good().trim()).unwrap(), data);
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.flat_map(|e| if e.path().is_dir() { walk(&e.path()) } else { vec![e.path()] }).collect()
}

#[test]
fn a_server_that_is_not_there_is_an_error_after_a_few_attempts() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let p = project(&format!("http://{nobody}/x"), &json!("0".repeat(64)));
    let answer = p.ask(&["run"]);
    assert!(answer.code == 1 && answer.err.contains("gave up after 5 attempts"), "{answer:?}");
}
