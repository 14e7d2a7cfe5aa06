//! What a store and its remotes take, and other answers that need no pipeline, through the binary.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use common::Pipeline;
use serde_json::{Value, json};

/// The files below a folder and their bytes, but for links.
fn walked(folder: &Path) -> (u64, u64) {
    let mut sum = (0, 0);
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let meta = fs::symlink_metadata(entry.path()).unwrap();
        let more = if meta.is_dir() { walked(&entry.path()) } else { (1, meta.len()) };
        sum = (sum.0 + more.0, sum.1 + more.1);
    }
    sum
}

const TWO: &str = "
pipeline: p
sources: { seed: { path: seed.txt, type: any } }
stages:
  first: { inputs: { i: seed }, run: 'mkdir {outputs.o}; cp {inputs.i} {outputs.o}/a; echo more > {outputs.o}/b', outputs: { o: any } }
  second: { inputs: { i: first }, run: 'mkdir {outputs.o}; cp {inputs.i}/a {outputs.o}/a; echo larger than that > {outputs.o}/b', outputs: { o: any } }
";

fn two() -> Pipeline {
    let p = Pipeline::new().yaml(TWO).file("seed.txt", &"seed\n".repeat(100));
    p.ask(&["run"]).good();
    p
}

#[test]
fn du_counts_every_file_of_a_store_once_and_by_what_it_is() {
    let p = two();
    let store = p.path("artifacts");
    let stray = "ab".to_owned() + &"cd".repeat(31);
    fs::create_dir_all(store.join("blobs/ab")).unwrap();
    fs::write(store.join("blobs/ab").join(&stray[2..]), "nobody").unwrap();
    fs::create_dir_all(store.join("work/quarantine")).unwrap();
    fs::write(store.join("work/quarantine/x"), "bad").unwrap();
    let du = p.json(&["du"]);
    let (files, bytes) = walked(&store);
    assert_eq!((du["total"]["files"].as_u64(), du["total"]["bytes"].as_u64()), (Some(files), Some(bytes)));
    let sum = |field: &str| {
        du["parts"].as_object().unwrap().values().map(|part| part[field].as_u64().unwrap()).sum::<u64>()
    };
    assert_eq!((sum("files"), sum("bytes")), (files, bytes), "{du:#}");
    assert_eq!(du["schema"], "kiln.du/1");
    assert_eq!(du["parts"]["other_blobs"]["bytes"], 6);
    assert_eq!(du["parts"]["quarantine"]["bytes"], 3);
    assert_eq!(du["parts"]["records"]["files"], 2);
    let (blob_files, blob_bytes) = walked(&store.join("blobs"));
    assert_eq!(du["parts"]["blobs"]["bytes"], blob_bytes - 6);
    assert_eq!(du["parts"]["blobs"]["files"], blob_files - 1);
    // Another name of a blob, in a scratch folder, takes nothing.
    let blob = fs::canonicalize(store.join("out/p/first/o/a")).unwrap();
    fs::hard_link(&blob, store.join("work/again")).unwrap();
    assert_eq!(p.json(&["du"])["total"]["bytes"], bytes);
    let text = p.ask(&["du"]).good();
    assert!(text.contains("other blobs") && text.contains("second") && text.contains("on disk"), "{text}");
}

#[test]
fn du_says_of_each_stage_what_it_has_and_what_it_alone_has() {
    let p = two();
    let du = p.json(&["du"]);
    let stage = |n: usize| &du["stages"][n];
    assert_eq!((stage(0)["name"].as_str(), stage(1)["name"].as_str()), (Some("first"), Some("second")));
    assert_eq!((&stage(0)["bytes"], &stage(1)["bytes"]), (&json!(505), &json!(517)));
    // Both have the seed; each has a file and a listing of its own.
    let listing = |stage: &Value| stage["only"].as_u64().unwrap();
    let digest = |stage: &str| p.json(&["show", stage])["digest"].as_str().unwrap().to_owned();
    let size = |digest: String| {
        fs::metadata(p.path("artifacts/blobs").join(&digest[..2]).join(&digest[2..])).unwrap().len()
    };
    assert_eq!(listing(stage(0)), 5 + size(digest("first")));
    assert_eq!(listing(stage(1)), 17 + size(digest("second")));
    let one = p.json(&["du", "second"]);
    assert_eq!(one["stages"].as_array().unwrap().len(), 1);
    assert_eq!(p.ask(&["du", "third"]).code, 3);
}

#[test]
fn du_follows_no_link_and_needs_no_pipeline() {
    let p = two();
    let elsewhere = tempfile::tempdir().unwrap();
    fs::write(elsewhere.path().join("large"), vec![0; 1 << 20]).unwrap();
    symlink(elsewhere.path(), p.path("artifacts/work/link")).unwrap();
    fs::remove_file(p.path("kiln.yaml")).unwrap();
    let du = p.json(&["du"]);
    assert!(du["total"]["bytes"].as_u64().unwrap() < 1 << 20, "{du:#}");
    assert_eq!((&du["pipeline"], &du["stages"]), (&Value::Null, &json!([])));
    fs::rename(p.path("artifacts/cache"), elsewhere.path().join("cache")).unwrap();
    symlink(elsewhere.path().join("cache"), p.path("artifacts/cache")).unwrap();
    let text = p.ask(&["du"]).good();
    assert!(text.contains("cache is a link; what is behind it is not counted"), "{text}");
    let empty = Pipeline::new();
    assert!(empty.ask(&["du"]).good().starts_with("There is no store at "));
    assert_eq!(fs::read_dir(empty.root()).unwrap().count(), 0);
}

#[test]
fn du_of_a_store_that_changes_meanwhile_is_no_error() {
    let p = two();
    let (folder, done) = (p.path("artifacts/work/churn"), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            fs::create_dir(&folder).unwrap();
            // Half of the names are there at any time, and each is soon gone.
            for n in (0..).take_while(|_| !done.load(Ordering::Relaxed)) {
                fs::write(folder.join(format!("{}", n % 500)), "x").unwrap();
                let _ = fs::remove_file(folder.join(format!("{}", (n + 250) % 500)));
            }
        });
        for _ in 0..15 {
            let answer = p.ask(&["du", "--json"]);
            done.fetch_or(answer.code != 0, Ordering::Relaxed);
            assert_eq!(answer.code, 0, "{}{}", answer.out, answer.err);
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn remote_du_counts_the_objects_of_each_remote_by_kind() {
    let (p, one, other) = (two(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let url = |folder: &Path| format!("file://{}", folder.display());
    p.ask(&["remote", "add", "team", &url(one.path())]).good();
    p.ask(&["remote", "add", "more", &url(other.path())]).good();
    p.ask(&["push"]).good();
    fs::write(one.path().join("notes.txt"), "mine").unwrap();
    fs::remove_dir_all(other.path()).unwrap();
    fs::create_dir(other.path()).unwrap();
    let du = p.json(&["remote", "du"]);
    assert_eq!(du["schema"], "kiln.remote-du/1");
    let team = &du["remotes"][0];
    for kind in ["actions", "blobs"] {
        let (files, bytes) = walked(&one.path().join(kind));
        assert_eq!(team["parts"][kind], json!({ "objects": files, "bytes": bytes }), "{du:#}");
    }
    assert_eq!(team["parts"]["actions"]["objects"], 2);
    let (files, bytes) = walked(one.path());
    assert_eq!(team["total"], json!({ "objects": files, "bytes": bytes }));
    assert_eq!(du["total"], team["total"], "the other one is empty");
    assert_eq!(fs::read_dir(other.path()).unwrap().count(), 0, "nothing is written");
    let text = p.ask(&["remote", "du", "team"]).good();
    assert!(text.contains("actions") && text.contains("total") && !text.contains("more"), "{text}");
    let text = p.ask(&["remote", "du"]).good();
    assert!(text.contains("of 2 remotes."), "{text}");
    let unknown = p.ask(&["remote", "du", "nobody"]);
    assert!(unknown.code == 3 && unknown.err.contains("there is no remote `nobody`"), "{}", unknown.err);
    assert_eq!(p.ask(&["remote", "du", "--offline"]).code, 3);
}

#[test]
fn remote_du_leaves_out_what_cannot_be_listed_and_says_so() {
    let (p, folder) = (two(), tempfile::tempdir().unwrap());
    p.ask(&["remote", "add", "team", &format!("file://{}", folder.path().display())]).good();
    p.ask(&["remote", "add", "web", "http://127.0.0.1:9/x", "--read-only"]).good();
    p.ask(&["push"]);
    let answer = p.ask(&["remote", "du"]);
    assert!(
        answer.out.contains("not counted: HTTP has no listing")
            && answer.out.contains("; 1 remote could not be counted."),
        "{}",
        answer.out
    );
    assert_eq!(answer.code, 0, "{}", answer.err);
    assert_eq!(p.ask(&["remote", "du", "web"]).code, 1);
    fs::write(folder.path().join("format"), "kiln.remote/9\n").unwrap();
    let newer = p.ask(&["remote", "du"]);
    assert!(newer.code == 1 && newer.out.contains("use a newer kiln"), "{}", newer.out);
    let error = p.json(&["remote", "du"])["remotes"][0]["error"].clone();
    assert!(error.as_str().unwrap().contains("kiln.remote/9"), "{error}");
}

#[test]
fn the_doctor_answers_everywhere() {
    let answer = Pipeline::new().json(&["doctor"]);
    let names: Vec<_> =
        answer["checks"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert!(
        ["cores", "memory", "disk", "worker", "store"].iter().all(|name| names.contains(name)),
        "{names:?}"
    );
}

#[test]
fn a_completion_script_comes_for_every_shell() {
    for shell in ["bash", "zsh", "fish"] {
        assert!(Pipeline::new().ask(&["completions", shell]).good().contains("detailed-exitcode"), "{shell}");
    }
    assert_eq!(Pipeline::new().ask(&["completions", "cmd"]).code, 3);
}

#[test]
fn the_code_of_an_error_is_explained() {
    let project = Pipeline::new();
    assert!(project.ask(&["explain", "cycle"]).good().starts_with("cycle: Stages need"));
    assert!(project.ask(&["explain"]).good().contains("unknown-ref\n"));
    let wrong = project.ask(&["explain", "unknown-kye"]);
    assert!(wrong.code == 3 && wrong.err.contains("did you mean `unknown-key`?"), "{wrong:?}");
}
