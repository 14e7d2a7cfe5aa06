//! Results that are shared by a remote, through the binary.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Answer, Pipeline};
use serde_json::Value;
use tempfile::TempDir;

const LADDER: &str = "
pipeline: p
sources: { seed: { path: seed.txt, type: any } }
stages:
  first: { inputs: { i: seed }, run: 'echo first; cat {inputs.i} > {outputs.o}', outputs: { o: any } }
  folder: { inputs: { i: first }, run: 'mkdir -p {outputs.d}/sub; cp {inputs.i} {outputs.d}/sub/a; echo b > {outputs.d}/b; chmod +x {outputs.d}/b', outputs: { d: any } }
  last: { inputs: { d: folder }, run: 'cat {inputs.d}/sub/a {inputs.d}/b > {outputs.o}', outputs: { o: any } }
";

/// A remote in a folder, and projects that share it.
struct Shared {
    folder: TempDir,
}

impl Shared {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn project(&self, yaml: &str) -> Pipeline {
        Pipeline::new().yaml(yaml).file("seed.txt", "seed\n")
    }

    fn ask(&self, project: &Pipeline, words: &[&str]) -> Answer {
        Answer::of(project.kiln(words).env("KILN_REMOTES", self.folder.path()).output().unwrap())
    }

    fn json(&self, project: &Pipeline, words: &[&str]) -> Value {
        let answer = self.ask(project, &[words, &["--json"]].concat());
        serde_json::from_str(&answer.out).unwrap_or_else(|e| panic!("{e}\n{}{}", answer.out, answer.err))
    }

    /// The files of a kind: `actions` or `blobs`.
    fn files(&self, kind: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.folder.path().join(kind)).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    }
}

/// `name=outcome` of each stage of a run.
fn outcomes(run: &Value) -> Vec<String> {
    let stages = run["stages"].as_array().unwrap().iter();
    stages.map(|s| format!("{}={}", s["name"].as_str().unwrap(), s["outcome"].as_str().unwrap())).collect()
}

fn states(plan: &Value) -> Vec<String> {
    let stages = plan["stages"].as_array().unwrap().iter();
    stages.map(|s| format!("{}={}", s["name"].as_str().unwrap(), s["state"].as_str().unwrap())).collect()
}

fn out(project: &Pipeline, path: &str) -> String {
    fs::read_to_string(project.path("artifacts/out/p").join(path)).unwrap()
}

fn is_there(project: &Pipeline, path: &str) -> bool {
    project.path("artifacts/out/p").join(path).exists()
}

#[test]
fn what_one_project_made_another_one_does_not_run() {
    let shared = Shared::new();
    let (ours, theirs) = (shared.project(LADDER), shared.project(LADDER));
    let run = shared.ask(&ours, &["run"]);
    assert!(run.err.contains("has 3 results"), "{}", run.err);
    assert_eq!(shared.files("actions").len(), 3);
    let plan = shared.json(&theirs, &["plan"]);
    assert_eq!(states(&plan), ["first=fetch", "folder=fetch", "last=fetch"]);
    assert_eq!(plan["stages"][2]["remote"], serde_json::json!({ "name": "env", "bytes": 7 }));
    assert_eq!(shared.ask(&theirs, &["status", "-q"]).code, 0);
    let run = shared.json(&theirs, &["run"]);
    assert_eq!(outcomes(&run), ["first=fetched", "folder=fetched", "last=fetched"]);
    assert_eq!(out(&theirs, "last/o"), "seed\nb\n");
    // Nobody here reads what lies between.
    assert!(!is_there(&theirs, "first/o") && !is_there(&theirs, "folder/d"));
    assert_eq!(theirs.states(&[]), ["first=run", "folder=maybe", "last=maybe"], "without the remote");
    let shown = shared.ask(&theirs, &["show", "folder"]);
    assert!(shown.code == 0 && shown.out.contains("sub/a"), "{}{}", shown.out, shown.err);
}

#[test]
fn push_and_pull_move_what_is_missing_and_nothing_twice() {
    let shared = Shared::new();
    let (ours, theirs) = (shared.project(LADDER), shared.project(LADDER));
    ours.ask(&["run"]);
    let pushed = shared.json(&ours, &["push"]);
    assert_eq!((&pushed["remotes"][0]["new"], &pushed["remotes"][0]["same"]), (&3.into(), &0.into()));
    let again = shared.json(&ours, &["push"]);
    assert_eq!((&again["remotes"][0]["same"], &again["remotes"][0]["bytes"]), (&3.into(), &0.into()));
    let pulled = shared.json(&theirs, &["pull"]);
    assert_eq!(pulled["fetched"], serde_json::json!(["first", "folder", "last"]));
    assert_eq!(out(&theirs, "last/o"), "seed\nb\n");
    assert_eq!(fs::read_to_string(theirs.path("artifacts/out/p/folder/d/sub/a")).unwrap(), "seed\n");
    // From now on the remote is not needed.
    assert_eq!(theirs.states(&[]), ["first=cached", "folder=cached", "last=cached"]);
    assert_eq!(shared.json(&theirs, &["pull"])["fetched"], serde_json::json!([]));
}

#[test]
fn a_stage_that_runs_fetches_what_it_reads() {
    let shared = Shared::new();
    let (ours, theirs) = (shared.project(LADDER), shared.project(LADDER));
    shared.ask(&ours, &["run"]);
    theirs.edit("cat {inputs.d}/sub/a", "cat {inputs.d}/sub/a {inputs.d}/sub/a");
    let run = shared.json(&theirs, &["run"]);
    assert_eq!(outcomes(&run), ["first=fetched", "folder=fetched", "last=ran"]);
    assert_eq!(out(&theirs, "last/o"), "seed\nseed\nb\n");
    assert_eq!(shared.files("actions").len(), 4, "the new result is shared at once");
}

#[test]
fn damaged_cut_and_missing_objects_are_never_served_and_are_healed() {
    type Damage = (&'static str, fn(&Path));
    let damages: [Damage; 3] = [
        ("flipped", |file| {
            let mut bytes = fs::read(file).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(file, bytes).unwrap();
        }),
        ("cut", |file| fs::write(file, &fs::read(file).unwrap()[1..]).unwrap()),
        ("missing", |file| fs::remove_file(file).unwrap()),
    ];
    for kind in ["blobs", "actions"] {
        for (name, damage) in damages {
            let shared = Shared::new();
            let (ours, theirs) = (shared.project(LADDER), shared.project(LADDER));
            shared.ask(&ours, &["run"]);
            shared.files(kind).iter().for_each(|file| damage(file));
            let run = shared.json(&theirs, &["run"]);
            assert_eq!(run["outcome"], "ok", "{kind} {name}: {run:#}");
            assert_eq!(out(&theirs, "last/o"), "seed\nb\n", "{kind} {name}");
            // What ran here replaced what was wrong there.
            let third = shared.project(LADDER);
            assert_eq!(outcomes(&shared.json(&third, &["run"]))[2], "last=fetched", "{kind} {name}");
            assert_eq!(out(&third, "last/o"), "seed\nb\n", "{kind} {name}");
        }
    }
}

#[test]
fn a_remote_that_is_down_or_newer_stops_no_run_and_is_told_once() {
    let shared = Shared::new();
    let project = shared.project(LADDER);
    fs::write(shared.folder.path().join("format"), "kiln.remote/9\n").unwrap();
    let run = shared.ask(&project, &["run"]);
    assert_eq!(run.code, 0, "{}", run.err);
    assert_eq!(run.err.matches("kiln.remote/9").count(), 2, "once when asked, once when sent: {}", run.err);
    assert_eq!(shared.files("blobs").len(), 0);
    let url = "http://127.0.0.1:9/x";
    let run = Answer::of(shared.project(LADDER).kiln(&["run"]).env("KILN_REMOTES", url).output().unwrap());
    assert_eq!(run.code, 0, "{}", run.err);
    assert_eq!(run.err.matches("127.0.0.1:9").count(), 1, "{}", run.err);
}

#[test]
fn what_a_pipeline_names_is_read_and_only_the_user_allows_writing() {
    let shared = Shared::new();
    let yaml = format!("remotes: {{ team: 'file://{}' }}\n{LADDER}", shared.folder.path().display());
    let (ours, theirs) = (shared.project(&yaml), shared.project(&yaml));
    ours.ask(&["run"]);
    assert_eq!(shared.files("actions").len(), 0);
    let refused = ours.ask(&["push"]);
    assert!(refused.code == 3 && refused.err.contains("kiln remote add"), "{}", refused.err);
    let url = format!("file://{}", shared.folder.path().display());
    let added = ours.ask(&["remote", "add", "team", &url]);
    assert_eq!(added.code, 0, "{}", added.err);
    let list = ours.ask(&["remote", "list"]).out;
    assert!(list.contains("team") && list.contains("read-write") && list.contains("user"), "{list}");
    assert_eq!(ours.ask(&["push"]).code, 0);
    assert_eq!(theirs.states(&[]), ["first=fetch", "folder=fetch", "last=fetch"]);
    assert_eq!(theirs.states(&["--offline"])[0], "first=run");
    assert_eq!(theirs.ask(&["remote", "check"]).code, 0);
}

#[test]
fn what_changed_since_others_ran_a_stage_is_why_it_runs_here() {
    let shared = Shared::new();
    let yaml = "pipeline: p\nparams: { n: 3 }\nstages:\n  a: { run: 'seq {params.n} > {outputs.o}', outputs: { o: any } }\n  \
                b: { inputs: { i: a }, run: 'cat {inputs.i} > {outputs.o}', outputs: { o: any } }\n";
    let ours = shared.project(yaml);
    shared.ask(&ours, &["run"]);
    let causes = |project: &Pipeline| {
        let why = shared.json(project, &["why", "b"]);
        let reasons =
            why["roots"].as_array().unwrap().iter().flat_map(|root| root["reasons"].as_array().unwrap());
        reasons.map(|reason| format!("{} {}", reason["what"], reason["old"])).collect::<Vec<_>>()
    };
    // A checkout in which nothing ran, with the lock file, and one whose run left everything but the last in the remote.
    let (fresh, ran) = (shared.project(yaml), shared.project(yaml));
    fresh.write("kiln.lock", &fs::read_to_string(ours.path("kiln.lock")).unwrap());
    assert_eq!(outcomes(&shared.json(&ran, &["run"])), ["a=fetched", "b=fetched"]);
    for project in [&fresh, &ran] {
        project.edit("n: 3", "n: 4");
        assert_eq!(causes(project), [r#""params.n" "3""#]);
    }
    assert!(shared.ask(&ours, &["why", "b"]).out.contains("fresh"));
}

#[test]
fn what_is_in_a_remote_is_fresh_and_what_was_pulled_is_remembered() {
    let shared = Shared::new();
    let (ours, theirs) = (shared.project(LADDER), shared.project(LADDER));
    shared.ask(&ours, &["run"]);
    let why = shared.ask(&theirs, &["why", "last"]);
    assert!(why.out.contains("last is fresh; its result is in the remote `env`"), "{}{}", why.out, why.err);
    let show = shared.ask(&theirs, &["show", "first"]);
    assert!(show.code == 0 && !show.out.contains("stale"), "{}{}", show.out, show.err);
    shared.ask(&theirs, &["pull"]);
    let du = theirs.json(&["du"]);
    assert!(du["stages"].as_array().unwrap().iter().all(|stage| stage["key"].is_string()), "{du:#}");
    for flag in ["--offline", "--no-cache-read"] {
        let refused = shared.ask(&theirs, &[flag, "pull"]);
        assert!(refused.code == 3 && refused.err.contains(flag), "{}{}", refused.out, refused.err);
    }
}

#[test]
fn a_folder_that_another_user_owns_is_read_and_written_as_its_modes_allow() {
    // Who owns everything may change every time; two users are needed.
    let Some(other) = a_user_who_is_not_root() else { return };
    let shared = Shared::new();
    let ours = shared.project(LARGE);
    assert_eq!(shared.ask(&ours, &["run"]).code, 0);
    let old = std::time::SystemTime::now() - Duration::from_secs(10 * 86_400);
    let all: Vec<_> =
        ["actions", "blobs", "recipes", "packs"].into_iter().flat_map(|kind| shared.files(kind)).collect();
    for file in &all {
        fs::set_permissions(file, fs::Permissions::from_mode(0o664)).unwrap();
        std::os::unix::fs::chown(file, None, Some(other)).unwrap();
        fs::File::open(file).unwrap().set_modified(old).unwrap();
    }
    for folder in fs::read_dir(shared.folder.path())
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .chain([shared.folder.path().to_owned()])
    {
        if folder.is_dir() {
            std::os::unix::fs::chown(&folder, None, Some(other)).unwrap();
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o2775)).unwrap();
        }
    }
    let theirs = shared.project(LARGE);
    std::os::unix::fs::chown(theirs.root(), Some(other), Some(other)).unwrap();
    for file in fs::read_dir(theirs.root()).unwrap().flatten() {
        std::os::unix::fs::chown(file.path(), Some(other), Some(other)).unwrap();
    }
    let as_other = |words: &[&str]| {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin("kiln"));
        command.args(words).current_dir(theirs.root()).uid(other).gid(other);
        command.env("KILN_REMOTES", shared.folder.path()).env("KILN_CONFIG", theirs.path("none.yaml"));
        Answer::of(command.output().unwrap())
    };
    let run = as_other(&["run", "--json"]);
    let run: Value = serde_json::from_str(&run.out).unwrap_or_else(|e| panic!("{e} {}", run.err));
    assert_eq!(outcomes(&run), ["first=fetched", "last=fetched"]);
    // What is used stays: its time is that of today.
    let is_young =
        |file: &PathBuf| fs::metadata(file).unwrap().modified().unwrap() > old + Duration::from_secs(86_400);
    assert!(shared.files("actions").iter().all(is_young));
    let push = as_other(&["push"]);
    assert_eq!(push.code, 0, "{}{}", push.out, push.err);
}

/// The id of a user and a group that are not those of root; none where we are not root.
fn a_user_who_is_not_root() -> Option<u32> {
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    is_root.then_some(65_534)
}

#[test]
fn a_damaged_remote_is_repaired_by_sending_again() {
    let shared = Shared::new();
    let (ours, theirs) = (shared.project(LARGE), shared.project(LARGE));
    shared.ask(&ours, &["run"]);
    for file in [shared.files("packs"), shared.files("blobs")].concat() {
        let mut bytes = fs::read(&file).unwrap();
        bytes[0] ^= 1;
        fs::write(&file, bytes).unwrap();
    }
    let pull = shared.ask(&theirs, &["pull"]);
    assert!(pull.code == 1 && (pull.out + &pull.err).contains("kiln push --resend first"));
    assert_eq!(shared.ask(&ours, &["push", "--resend"]).code, 0);
    assert_eq!(shared.json(&theirs, &["pull"])["fetched"], serde_json::json!(["first", "last"]));
}

#[test]
fn wrong_urls_and_files_are_errors_with_their_place() {
    let p = Pipeline::new().yaml("remotes: { team: 'ftp://host' }\nstages: { a: { run: 'true' } }\n");
    let answer = p.ask(&["plan"]);
    assert!(answer.code == 3 && answer.err.contains("kiln.yaml:1:18"), "{}", answer.err);
    assert!(answer.err.contains("`ftp` is not a kind of remote"), "{}", answer.err);
    let secret = "https://user:hunter2@host/x";
    let p = Pipeline::new()
        .yaml(&format!("remotes: {{ team: '{secret}' }}\nstages: {{ a: {{ run: 'true' }} }}\n"));
    for answer in [p.ask(&["plan"]), p.ask(&["plan", "--json"]), p.ask(&["remote", "add", "x", secret])] {
        assert!(answer.code == 3 && !(answer.out.clone() + &answer.err).contains("hunter2"), "{answer:?}");
    }
    let p = Pipeline::new().yaml("stages: { a: { run: 'true' } }\n");
    p.write("config-of-the-user.yaml", "remotes:\n  x: { url: s3://b, acess: read }\n");
    let answer = p.ask(&["plan"]);
    assert!(answer.code == 3 && answer.err.contains("did you mean `access`"), "{}", answer.err);
}

/// The public key that a project's `kiln key new` made.
fn public_key(project: &Pipeline) -> String {
    assert_eq!(project.ask(&["key", "new"]).code, 0);
    let keys = project.json(&["key", "list"]);
    keys["keys"][0]["key"].as_str().unwrap().to_owned()
}

#[test]
fn where_signatures_are_demanded_a_record_counts_only_with_one_by_a_trusted_key() {
    let shared = Shared::new();
    let (signed, unsigned, reader) = (shared.project(LADDER), shared.project(LADDER), shared.project(LADDER));
    shared.ask(&unsigned, &["run"]);
    let key = public_key(&signed);
    let refused = reader.ask(&["key", "trust", "ours", "ed25519:AAAA"]);
    assert!(refused.code == 3 && refused.err.contains("does not have 32 bytes"), "{}", refused.err);
    assert_eq!(reader.ask(&["key", "trust", "ours", &key, "--require"]).code, 0);
    let plan = shared.ask(&reader, &["plan"]);
    assert_eq!(plan.err.matches("no trusted key has signed").count(), 1, "{}", plan.err);
    assert_eq!(states(&shared.json(&reader, &["plan"])), ["first=run", "folder=maybe", "last=maybe"]);
    // A record that does not count where it is demanded gives way to one that does.
    assert_eq!(signed.ask(&["key", "trust", "me", &key, "--require"]).code, 0);
    shared.ask(&signed, &["run"]);
    assert_eq!(states(&shared.json(&reader, &["plan"])), ["first=fetch", "folder=fetch", "last=fetch"]);
    assert_eq!(outcomes(&shared.json(&reader, &["run"]))[2], "last=fetched");
    assert_eq!(out(&reader, "last/o"), "seed\nb\n");
}

#[test]
fn remotes_that_are_added_at_the_same_time_are_all_there() {
    let project = Pipeline::new().yaml(LADDER);
    std::thread::scope(|scope| {
        for n in 0..8 {
            let (project, name) = (&project, format!("r{n}"));
            scope.spawn(move || {
                let url = format!("s3://bucket/{name}");
                assert_eq!(project.ask(&["remote", "add", &name, &url]).code, 0);
            });
        }
    });
    let list = project.json(&["remote", "list", "kiln.yaml"]);
    assert_eq!(list["remotes"].as_array().unwrap().len(), 8, "{list:#}");
}

#[test]
fn a_remote_and_a_key_that_were_added_can_be_removed() {
    let (p, other) = (Pipeline::new().yaml(LADDER), Pipeline::new().yaml(LADDER));
    let key = public_key(&other);
    p.ask(&["remote", "add", "team", "s3://bucket/a"]).good();
    p.ask(&["remote", "add", "web", "https://host/b", "--read-only"]).good();
    p.ask(&["key", "trust", "ci", &key, "--require"]).good();
    let removed = p.ask(&["remote", "remove", "team"]).good();
    assert!(removed.contains("s3://bucket/a  removed"), "{removed}");
    let list = p.json(&["remote", "list", "kiln.yaml"]);
    assert_eq!(list["remotes"].as_array().unwrap().len(), 1, "{list:#}");
    assert_eq!(list["remotes"][0]["name"], "web");
    let again = p.ask(&["remote", "remove", "team"]);
    assert!(again.code == 3 && again.err.contains("names no remote `team`"), "{}", again.err);
    let distrusted = p.ask(&["key", "distrust", "ci"]).good();
    assert!(distrusted.contains(&key) && distrusted.contains("only what you sign counts"), "{distrusted}");
    let keys = p.json(&["key", "list"]);
    assert_eq!((keys["keys"].as_array().unwrap().len(), &keys["required"]), (0, &true.into()));
    let again = p.ask(&["key", "distrust", "ci"]);
    assert!(again.code == 3 && again.err.contains("no key is trusted as `ci`"), "{}", again.err);
}

#[test]
fn a_wrong_name_url_or_key_of_the_environment_says_where_it_comes_from() {
    let p = Pipeline::new().yaml(LADDER).file("seed.txt", "seed\n");
    let name = p.ask(&["remote", "add", "a b", "s3://bucket"]);
    assert!(name.code == 3 && name.err.contains("`a b` cannot be the name of a remote"), "{}", name.err);
    let url = Answer::of(p.kiln(&["plan"]).env("KILN_REMOTES", "kiln/assistant").output().unwrap());
    assert!(url.code == 3 && url.err.contains("KILN_REMOTES: `kiln/assistant`"), "{}", url.err);
    assert!(url.err.contains("looks like s3://bucket/prefix"), "{}", url.err);
    let key = Answer::of(p.kiln(&["plan"]).env("KILN_SIGNING_KEY", "/nope.pem").output().unwrap());
    assert!(key.code == 3 && key.err.contains("KILN_SIGNING_KEY: cannot read /nope.pem"), "{}", key.err);
}

#[test]
fn a_check_without_remotes_or_with_offline_says_so() {
    let p = Pipeline::new().yaml(LADDER);
    assert!(p.ask(&["remote", "check"]).good().contains("There are no remotes"));
    assert_eq!(p.ask(&["help", "remote", "add"]).good(), p.ask(&["remote", "add", "--help"]).good());
    p.ask(&["remote", "add", "team", "s3://bucket/a"]).good();
    let offline = p.ask(&["remote", "check", "--offline"]);
    assert!(offline.code == 3 && offline.err.contains("`--offline` uses no remote"), "{}", offline.err);
}

#[test]
fn what_keeps_every_request_from_a_remote_is_said_with_the_next_step() {
    let p = Pipeline::new().yaml(LADDER);
    let check = |url: &str, variables: &[(&str, &str)]| {
        let mut kiln = p.kiln(&["remote", "check"]);
        ["AWS_ACCESS_KEY_ID", "AWS_PROFILE"].iter().for_each(|name| _ = kiln.env_remove(name));
        kiln.env("KILN_REMOTES", url).env("HOME", p.root()).envs(variables.iter().copied());
        Answer::of(kiln.output().unwrap()).out
    };
    let key = [("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b"), ("AWS_REGION", "us-east-1")];
    let endpoint = |url| [&key[..], &[("AWS_ENDPOINT_URL", url)]].concat();
    let refused = check("s3://bucket/a", &endpoint("http://127.0.0.1:9"));
    assert!(refused.contains("cannot connect to http://127.0.0.1:9: Connection refused"), "{refused}");
    assert!(refused.contains("AWS_ENDPOINT_URL"), "{refused}");
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", server.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut connection in server.incoming().flatten() {
            let head = BufReader::new(&connection).lines().map_while(Result::ok);
            head.take_while(|line| !line.is_empty()).for_each(drop);
            let body = "<Error><Code>NoSuchBucket</Code></Error>";
            let length = body.len();
            let answer =
                format!("HTTP/1.1 404 x\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
            let _ = connection.write_all(answer.as_bytes());
        }
    });
    let missing = check("s3://bucket/a", &endpoint(&url));
    assert!(missing.contains("the bucket `bucket` does not exist; create it"), "{missing}");
}

#[test]
fn a_record_of_ones_own_that_nobody_signed_is_told_as_the_reason() {
    let shared = Shared::new();
    let (project, other) = (shared.project(LADDER), shared.project(LADDER));
    project.ask(&["run"]);
    let key = public_key(&other);
    project.ask(&["key", "trust", "other", &key, "--require"]);
    let why = project.ask(&["why", "first"]);
    assert!(why.out.contains("no trusted key has signed its record"), "{}{}", why.out, why.err);
}

#[test]
fn a_remote_that_cannot_be_opened_or_is_not_mounted_stops_nothing_and_leaves_no_folder() {
    let shared = Shared::new();
    let absent = shared.folder.path().join("not-mounted/kiln");
    let pipeline =
        format!("{LADDER}remotes: {{ team: 'az://container', disk: 'file://{}' }}\n", absent.display());
    let project = shared.project(&pipeline);
    let run = project.kiln(&["run"]).env("KILN_REMOTES", &absent).output().unwrap();
    let run = Answer::of(run);
    assert_eq!(run.code, 0, "{}{}", run.out, run.err);
    assert!(run.err.contains("the remote `team` cannot be opened"), "{}", run.err);
    assert!(run.err.contains("kiln goes on without it") && run.err.contains("not-mounted"), "{}", run.err);
    assert!(!absent.exists());
    assert_eq!(out(&project, "last/o"), "seed\nb\n");
}

#[test]
fn a_signed_record_that_is_altered_or_replayed_is_refused() {
    type Change = (&'static str, fn(&mut Value, &Value));
    let changes: [Change; 4] = [
        ("other outputs", |record, other| record["outputs"] = other["outputs"].clone()),
        ("other provenance", |record, _| record["provenance"]["seconds"] = 99.into()),
        ("the signature of another record", |record, other| {
            record["signatures"] = other["signatures"].clone()
        }),
        ("no signature", |record, _| _ = record.as_object_mut().unwrap().remove("signatures")),
    ];
    for (name, change) in changes {
        let shared = Shared::new();
        let (signed, reader) = (shared.project(LADDER), shared.project(LADDER));
        let key = public_key(&signed);
        shared.ask(&signed, &["run"]);
        reader.ask(&["key", "trust", "ours", &key, "--require"]);
        let read = |file: &PathBuf| {
            serde_json::from_str::<Value>(&fs::read_to_string(file).unwrap()).unwrap()["record"].take()
        };
        let files = shared.files("actions");
        let records: Vec<Value> = files.iter().map(read).collect();
        for (n, file) in files.iter().enumerate() {
            let mut record = records[n].clone();
            change(&mut record, &records[(n + 1) % records.len()]);
            // Whoever alters a record can write its checksum.
            fs::write(file, kiln::digest::sealed::seal(&record.to_string())).unwrap();
        }
        assert_eq!(
            states(&shared.json(&reader, &["plan"])),
            ["first=run", "folder=maybe", "last=maybe"],
            "{name}"
        );
        let run = shared.json(&reader, &["run"]);
        assert_eq!(outcomes(&run), ["first=ran", "folder=ran", "last=ran"], "{name}");
        assert_eq!(out(&reader, "last/o"), "seed\nb\n", "{name}");
    }
}

#[test]
fn a_record_that_names_more_than_the_outputs_of_its_stage_is_not_used() {
    let shared = Shared::new();
    let (ours, theirs) = (shared.project(LADDER), shared.project(LADDER));
    shared.ask(&ours, &["run"]);
    for file in shared.files("actions") {
        let mut record =
            serde_json::from_str::<Value>(&fs::read_to_string(&file).unwrap()).unwrap()["record"].take();
        let some = record["outputs"].as_object().unwrap().values().next().unwrap().clone();
        record["outputs"]["../../escaped"] = some;
        fs::write(&file, kiln::digest::sealed::seal(&record.to_string())).unwrap();
    }
    assert_eq!(states(&shared.json(&theirs, &["plan"]))[0], "first=run");
    assert_eq!(outcomes(&shared.json(&theirs, &["run"])), ["first=ran", "folder=ran", "last=ran"]);
    assert!(!theirs.path("artifacts/out/escaped").exists());
}

#[test]
fn a_pipeline_may_demand_signatures_and_never_trust_a_key() {
    let shared = Shared::new();
    let yaml = format!("signatures: required\n{LADDER}");
    let (ours, theirs) = (shared.project(&yaml), shared.project(&yaml));
    let key = public_key(&ours);
    shared.ask(&ours, &["run"]);
    assert_eq!(
        ours.states(&[]),
        ["first=cached", "folder=cached", "last=cached"],
        "our own signature counts"
    );
    assert_eq!(states(&shared.json(&theirs, &["plan"]))[0], "first=run");
    theirs.ask(&["key", "trust", "ours", &key]);
    assert_eq!(states(&shared.json(&theirs, &["plan"]))[0], "first=fetch");
    let p = shared.project(&format!("trust: {{ me: '{key}' }}\n{LADDER}"));
    let answer = p.ask(&["plan"]);
    assert!(answer.code == 3 && answer.err.contains("no key `trust`"), "{}", answer.err);
}

#[test]
fn no_private_key_is_in_a_store_a_log_or_an_answer() {
    let shared = Shared::new();
    let p = shared.project(LADDER);
    public_key(&p);
    let secret = fs::read_to_string(p.path("keys/default.pem")).unwrap();
    let secret = secret.lines().nth(1).unwrap();
    shared.ask(&p, &["run"]);
    for words in [vec!["key", "list"], vec!["remote", "list"], vec!["plan", "--log-level", "trace"]] {
        let answer = shared.ask(&p, &words);
        assert!(!answer.out.contains(secret) && !answer.err.contains(secret));
    }
    let mut grep = std::process::Command::new("grep");
    let found = grep
        .args(["-r", "-l", "-e", secret])
        .arg(p.path("artifacts"))
        .arg(shared.folder.path())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
}

#[test]
fn provenance_gives_an_envelope_a_stage_and_lists_what_is_missing() {
    let shared = Shared::new();
    let (signed, unsigned) = (shared.project(LADDER), shared.project(LADDER));
    public_key(&signed);
    signed.ask(&["run"]);
    let answer = signed.ask(&["provenance", "last"]);
    assert_eq!(answer.code, 0, "{}", answer.err);
    let envelopes: Vec<Value> = answer.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(envelopes.len(), 3);
    assert!(envelopes.iter().all(|envelope| envelope["payloadType"] == "application/vnd.in-toto+json"));
    unsigned.ask(&["run", "folder"]);
    let answer = unsigned.ask(&["provenance", "last"]);
    assert_eq!(answer.code, 1);
    assert!(answer.err.contains("`first` is not signed"), "{}", answer.err);
    assert!(answer.err.contains("`last` is stale or was never made"), "{}", answer.err);
}

/// Two large files, the second one like the first.
const LARGE: &str = "
pipeline: p
sources: { seed: { path: seed.txt, type: any } }
stages:
  first: { inputs: { i: seed }, run: 'cat {inputs.i}; seq 1000000 1400000 | sha512sum > /dev/null; for n in 1 2 3; do seq ${n}00000 ${n}90000; done > {outputs.o}', outputs: { o: any } }
  last: { inputs: { f: first }, run: '(echo in front; cat {inputs.f}) > {outputs.o}', outputs: { o: any } }
";

#[test]
fn a_near_copy_moves_little_more_than_its_difference_both_ways() {
    let shared = Shared::new();
    let (ours, theirs) = (shared.project(LARGE), shared.project(LARGE));
    ours.ask(&["run"]);
    let size = fs::metadata(ours.path("artifacts/out/p/last/o")).unwrap().len();
    let sent = |target: &str| shared.json(&ours, &["push", target])["remotes"][0]["bytes"].as_u64().unwrap();
    let (first, last) = (sent("first"), sent("last"));
    assert!(size > 1 << 20 && first < size && last < size / 10, "{size} {first} {last}");
    assert_eq!((shared.files("recipes").len(), shared.files("packs").len()), (2, 2));
    assert_eq!(outcomes(&shared.json(&theirs, &["run"])), ["first=fetched", "last=fetched"]);
    let bytes = |p: &Pipeline| fs::read(p.path("artifacts/out/p/last/o")).unwrap();
    assert!(bytes(&ours) == bytes(&theirs));
}

#[test]
fn near_copies_that_are_sent_at_once_are_differences_from_each_other() {
    let more = |name: &str, of: &str| {
        format!(
            "  {name}: {{ inputs: {{ f: {of} }}, run: '(echo {name}; cat {{inputs.f}}) > {{outputs.o}}', outputs: {{ o: any }} }}\n"
        )
    };
    // The first letters of the names are no order.
    let yaml = [LARGE, &more("even", "last"), &more("deep", "even"), &more("and", "last")].concat();
    let shared = Shared::new();
    let (ours, theirs) = (shared.project(&yaml), shared.project(&yaml));
    ours.ask(&["run"]);
    let sent = |to: &Shared, words: &[&str]| to.json(&ours, words)["remotes"][0]["bytes"].as_u64().unwrap();
    let (one, five) = (sent(&Shared::new(), &["push", "first"]), sent(&shared, &["push"]));
    assert!(five < 2 * one, "{five} bytes for five files that differ in a line each, {one} for one of them");
    assert_eq!(shared.json(&theirs, &["run"])["outcome"], "ok");
    let bytes = |p: &Pipeline| fs::read(p.path("artifacts/out/p/deep/o")).unwrap();
    assert!(bytes(&ours) == bytes(&theirs));
}

#[test]
fn damaged_packs_and_recipes_are_never_served_and_are_healed() {
    for kind in ["packs", "recipes"] {
        for cut in [false, true] {
            let shared = Shared::new();
            let (ours, theirs) = (shared.project(LARGE), shared.project(LARGE));
            shared.ask(&ours, &["run"]);
            for file in shared.files(kind) {
                let mut bytes = fs::read(&file).unwrap();
                let middle = bytes.len() / 2;
                if cut {
                    bytes.truncate(middle);
                } else {
                    bytes[middle] ^= 1;
                }
                fs::write(&file, bytes).unwrap();
            }
            let run = shared.json(&theirs, &["run"]);
            assert_eq!(run["outcome"], "ok", "{kind} {cut}: {run:#}");
            let bytes = |p: &Pipeline| fs::read(p.path("artifacts/out/p/last/o")).unwrap();
            assert!(bytes(&ours) == bytes(&theirs), "{kind} {cut}");
            let third = shared.project(LARGE);
            assert_eq!(outcomes(&shared.json(&third, &["run"]))[1], "last=fetched", "{kind} {cut}");
            assert!(bytes(&ours) == bytes(&third), "{kind} {cut}");
        }
    }
}

/// A safetensors file with one tensor of these numbers.
fn safetensors(numbers: impl Iterator<Item = f32>) -> Vec<u8> {
    let data: Vec<u8> = numbers.flat_map(f32::to_le_bytes).collect();
    let header = serde_json::json!({ "w": { "dtype": "F32", "shape": [data.len() / 4], "data_offsets": [0, data.len()] } });
    let header = header.to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()
}

#[test]
fn a_fine_tuned_model_is_sent_as_its_difference_and_a_missing_parent_is_a_miss() {
    let noise = |n: u32| f32::from_bits(0x3d00_0000 | (n.wrapping_mul(2_654_435_761) & 0x00ff_ffff));
    let (base, tuned) =
        (safetensors((0..500_000).map(noise)), safetensors((0..500_000).map(|n| noise(n) * 1.0001)));
    let yaml = "
pipeline: p
sources: { a: { path: a.safetensors, type: any }, b: { path: b.safetensors, type: any } }
stages:
  base: { inputs: { s: a }, run: 'cp {inputs.s} {outputs.o}', outputs: { o: any } }
  tuned: { inputs: { s: b, p: base }, run: 'cp {inputs.s} {outputs.o}', outputs: { o: any } }
";
    let shared = Shared::new();
    let project = || {
        let p = Pipeline::new().yaml(yaml);
        fs::write(p.path("a.safetensors"), &base).unwrap();
        fs::write(p.path("b.safetensors"), &tuned).unwrap();
        p
    };
    let (ours, theirs) = (project(), project());
    ours.ask(&["run"]);
    let sent = |target: &str| shared.json(&ours, &["push", target])["remotes"][0]["bytes"].as_u64().unwrap();
    let (first, second) = (sent("base"), sent("tuned"));
    assert!(second < first * 7 / 10, "{second} of {first}");
    // The parent is not here, so it is fetched on the way.
    assert_eq!(outcomes(&shared.json(&theirs, &["run"])), ["base=fetched", "tuned=fetched"]);
    assert!(fs::read(theirs.path("artifacts/out/p/tuned/o")).unwrap() == tuned);
    for recipe in shared
        .files("recipes")
        .iter()
        .filter(|path| path.ends_with(kiln::digest::Digest::of_bytes(&base).to_string()))
    {
        fs::remove_file(recipe).unwrap();
    }
    let third = project();
    assert_eq!(outcomes(&shared.json(&third, &["run"])), ["base=ran", "tuned=ran"]);
    assert!(fs::read(third.path("artifacts/out/p/tuned/o")).unwrap() == tuned);
}

#[test]
fn a_server_that_never_answers_holds_up_a_run_once_and_stops_none() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/x", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let held: Vec<_> = listener.incoming().collect();
        drop(held);
    });
    let (p, began) = (Shared::new().project(LADDER), std::time::Instant::now());
    let run = Answer::of(p.kiln(&["run"]).env("KILN_REMOTES", url).output().unwrap());
    assert_eq!(run.code, 0, "{}", run.err);
    assert_eq!(run.err.matches("nothing came").count(), 1, "{}", run.err);
    assert!(began.elapsed().as_secs() < 30, "{:?}", began.elapsed());
}

#[test]
fn a_folder_of_many_files_is_shared_as_well() {
    let shared = Shared::new();
    let yaml = "
pipeline: p
stages:
  many: { run: 'mkdir {outputs.d}; cd {outputs.d}; for n in $(seq 12000); do echo $((n % 7)) > file-$n; done', outputs: { d: any } }
";
    let (ours, theirs) = (shared.project(yaml), shared.project(yaml));
    let run = shared.ask(&ours, &["run"]);
    assert!(run.err.contains("has 1 result"), "{}", run.err);
    assert_eq!(outcomes(&shared.json(&theirs, &["run"])), ["many=fetched"]);
    assert_eq!(fs::read_dir(theirs.path("artifacts/out/p/many/d")).unwrap().count(), 12_000);
}

#[test]
fn a_signed_record_takes_the_place_of_an_unsigned_one() {
    let shared = Shared::new();
    let (first, builder, reader) = (shared.project(LADDER), shared.project(LADDER), shared.project(LADDER));
    shared.ask(&first, &["run"]);
    // Made before the key was there, and made again without the remote.
    let key = public_key(&builder);
    builder.ask(&["run", "--offline"]);
    shared.ask(&builder, &["push"]);
    reader.ask(&["key", "trust", "builder", &key, "--require"]);
    assert_eq!(states(&shared.json(&reader, &["plan"])), ["first=fetch", "folder=fetch", "last=fetch"]);
}

/// Serves a folder; whoever asks for bytes of a blob gets the first half and no more.
fn stalling_server(folder: PathBuf) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let folder = folder.clone();
            std::thread::spawn(move || answer(&connection, &folder));
        }
    });
    url
}

fn answer(mut connection: &std::net::TcpStream, folder: &Path) {
    let mut lines = BufReader::new(connection).lines().map_while(Result::ok);
    while let Some(request) = lines.next() {
        while lines.next().is_some_and(|line| !line.is_empty()) {}
        let path = request.split(' ').nth(1).unwrap_or_default().trim_start_matches('/');
        let (code, body) = fs::read(folder.join(path)).map_or((404, Vec::new()), |body| (200, body));
        let stalls = path.starts_with("blobs/") && code == 200;
        let sent = if stalls { body.len() / 2 } else { body.len() };
        let head = format!("HTTP/1.1 {code} x\r\nContent-Length: {}\r\n\r\n", body.len());
        let both = [head.as_bytes(), &body[..sent]].concat();
        if connection.write_all(&both).is_err() || stalls {
            std::thread::sleep(Duration::from_secs(100));
        }
    }
}

#[test]
fn an_interrupt_ends_what_is_being_fetched_and_the_next_run_goes_on() {
    let shared = Shared::new();
    let (ours, theirs, changed) = (shared.project(LADDER), shared.project(LADDER), shared.project(LADDER));
    shared.ask(&ours, &["run"]);
    let url = stalling_server(shared.folder.path().to_owned());
    // One fetches a last result, the other what a stage reads.
    changed.edit("cat {inputs.d}/sub/a", "cat {inputs.d}/b {inputs.d}/sub/a");
    for project in [&theirs, &changed] {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin("kiln"));
        command.current_dir(project.root()).arg("run").env("KILN_REMOTES", &url);
        command.env("KILN_CONFIG", project.path("no-config.yaml"));
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        std::thread::sleep(Duration::from_secs(3));
        let began = Instant::now();
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        let run = Answer::of(child.wait_with_output().unwrap());
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        assert_eq!(run.code, 130, "{}{}", run.out, run.err);
        assert!(
            !run.err.contains("could not be fetched") && !run.out.contains("runs, because"),
            "{}",
            run.err
        );
        assert_eq!(fs::read_dir(project.path("artifacts/cache/work/tmp")).into_iter().flatten().count(), 0);
    }
    assert_eq!(
        outcomes(&shared.json(&theirs, &["run"])),
        ["first=fetched", "folder=fetched", "last=fetched"]
    );
    assert_eq!(outcomes(&shared.json(&changed, &["run"])), ["first=fetched", "folder=fetched", "last=ran"]);
    assert_eq!(out(&changed, "last/o"), "b\nseed\nb\n");
}

#[test]
fn a_pull_from_a_remote_that_cannot_be_asked_is_no_success() {
    let p = Shared::new().project(LADDER);
    // Nobody listens there.
    let pull = Answer::of(p.kiln(&["pull"]).env("KILN_REMOTES", "http://127.0.0.1:9/x").output().unwrap());
    assert_eq!(pull.code, 1, "{}{}", pull.out, pull.err);
    assert!(pull.out.contains("the remote `env` could not be asked for everything"), "{}", pull.out);
}
