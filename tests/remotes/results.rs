//! Fetching and sending: what others made is not made again, and what is damaged or down stops nobody.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::time::Instant;

use super::*;

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

#[test]
fn what_was_here_and_is_lost_comes_back_although_nobody_reads_it_now() {
    let shared = Shared::new();
    let ours = shared.project(LADDER);
    shared.ask(&ours, &["run"]);
    let digest = ours.json(&["show", "first"])["digest"].as_str().unwrap().to_owned();
    fs::remove_file(ours.path("artifacts/blobs").join(&digest[..2]).join(&digest[2..])).unwrap();
    assert_eq!(outcomes(&shared.json(&ours, &["run"]))[0], "first=fetched");
    assert_eq!(ours.ask(&["fsck"]).code, 0);
}
