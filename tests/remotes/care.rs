//! Leases, pins and garbage.

use std::io::{BufRead as _, BufReader};
use std::path::Path;

use super::*;

const TWO: &str = "
pipeline: p
sources: { seed: { path: seed.txt, type: any } }
stages:
  small: { inputs: { i: seed }, run: 'cat {inputs.i} > {outputs.o}', outputs: { o: any } }
  large: { inputs: { i: small }, run: 'mkdir {outputs.d}; head -c 3000000 /dev/zero > {outputs.d}/zeros; cat {inputs.i} >> {outputs.d}/zeros', outputs: { d: any } }
";

/// A pipeline whose stage adds a line to a file outside of it each time that it runs, and then takes its time.
fn counting(file: &Path) -> String {
    format!(
        "pipeline: p\nstages:\n  slow: {{ sandbox: off, run: 'echo ran >> {}; sleep 2; echo done > {{outputs.o}}', \
         outputs: {{ o: any }} }}\n",
        file.display()
    )
}

fn lines(file: &Path) -> usize {
    fs::read_to_string(file).unwrap_or_default().lines().count()
}

#[test]
fn two_runners_with_stores_of_their_own_run_an_action_once_where_they_share_a_remote() {
    let (shared, outside) = (Shared::new(), tempfile::tempdir().unwrap());
    let (file, go) = (outside.path().join("count"), outside.path().join("go"));
    let run = format!(
        "echo ran >> {}; for n in $(seq 300); do [ -e {} ] || sleep .1; done; echo done > {{outputs.o}}",
        file.display(),
        go.display()
    );
    let yaml =
        format!("pipeline: p\nstages:\n  slow: {{ sandbox: off, run: '{run}', outputs: {{ o: any }} }}\n");
    let projects = [shared.seeded(&yaml, ""), shared.seeded(&yaml, "")];
    let first = shared.start(&projects[0]);
    while lines(&file) == 0 {
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut second = shared.start(&projects[1]);
    let said = BufReader::new(second.stderr.take().unwrap()).lines().map_while(Result::ok);
    let waits = said.inspect(|line| eprintln!("{line}")).any(|line| line.contains("slow  waits for process"));
    fs::write(&go, "").unwrap();
    assert!(waits, "the second runner does not say for whom it waits");
    assert!(second.wait().unwrap().success());
    let first = Answer::of(first.wait_with_output().unwrap());
    assert_eq!(first.code, 0, "{}{}", first.out, first.err);
    assert_eq!(lines(&file), 1);
    for project in &projects {
        assert_eq!(fs::read_to_string(project.path("artifacts/out/p/slow/o")).unwrap(), "done\n");
    }
    assert!(shared.objects().iter().all(|object| !object.starts_with("leases/")), "{:?}", shared.objects());
}

#[test]
fn a_runner_that_was_killed_gives_its_lease_back() {
    let (shared, count) = (Shared::new(), tempfile::tempdir().unwrap());
    let file = count.path().join("count");
    let (ours, theirs) = (shared.seeded(&counting(&file), ""), shared.seeded(&counting(&file), ""));
    let mut killed = shared.start(&ours);
    while lines(&file) == 0 {
        std::thread::sleep(Duration::from_millis(10));
    }
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert_eq!(shared.ask(&theirs, &["run"]).code, 0);
    assert_eq!(lines(&file), 2);
}

#[test]
fn without_leases_both_run_and_a_result_that_may_not_be_read_is_made_again() {
    let (shared, count) = (Shared::new(), tempfile::tempdir().unwrap());
    let file = count.path().join("count");
    let (ours, theirs) = (shared.seeded(&counting(&file), ""), shared.seeded(&counting(&file), ""));
    assert_eq!(shared.ask(&ours, &["run"]).code, 0);
    let run = shared.json(&theirs, &["run", "--no-cache-read"]);
    assert_eq!(outcomes(&run), ["slow=ran"]);
    assert_eq!(lines(&file), 2);
}

#[test]
fn a_remote_keeps_what_was_used_and_loses_what_was_not() {
    let shared = Shared::new();
    let old = shared.seeded(TWO, "old\n");
    assert_eq!(shared.ask(&old, &["run"]).code, 0);
    shared.age(100);
    let new = shared.seeded(TWO, "new\n");
    assert_eq!(shared.ask(&new, &["run"]).code, 0);

    let before = shared.objects();
    let plan = shared.json(&new, &["gc", "--remote", "env"]);
    let kinds: Vec<_> =
        plan["garbage"].as_array().unwrap().iter().map(|g| g["kind"].as_str().unwrap()).collect();
    assert!(kinds.contains(&"action") && kinds.contains(&"recipe"), "{plan:#}");
    assert_eq!(shared.objects(), before, "nothing goes without --apply");

    let text = shared.ask(&new, &["gc", "--remote", "env", "--apply"]);
    assert!(text.code == 0 && text.out.contains("2 records"), "{}{}", text.out, text.err);
    let left = shared.objects();
    assert_eq!(left.iter().filter(|object| object.starts_with("actions/")).count(), 2, "{left:?}");
    // What is left is whole, and nothing else can go.
    let fresh = shared.seeded(TWO, "new\n");
    assert_eq!(outcomes(&shared.json(&fresh, &["run"])), ["small=fetched", "large=fetched"]);
    let again = shared.json(&new, &["gc", "--remote", "env", "--apply"]);
    assert_eq!(again["garbage"].as_array().unwrap().len(), 0, "{again:#}");
}

#[test]
fn a_pinned_result_stays_however_old_it_is() {
    let shared = Shared::new();
    let project = shared.seeded(TWO, "old\n");
    assert_eq!(shared.ask(&project, &["run"]).code, 0);
    let pinned = shared.ask(&project, &["pin", "add", "release-1", "--remote", "env"]);
    assert!(pinned.code == 0 && pinned.out.contains("Pinned 2 results"), "{}{}", pinned.out, pinned.err);
    shared.age(1_000);
    let gc = shared.json(&project, &["gc", "--remote", "env", "--apply"]);
    assert_eq!(gc["garbage"].as_array().unwrap().len(), 0, "{gc:#}");

    let list = shared.json(&project, &["pin", "list", "--remote", "env"]);
    assert_eq!(list["pins"][0]["name"], "release-1");
    assert_eq!(shared.ask(&project, &["pin", "remove", "release-1", "--remote", "env"]).code, 0);
    assert_eq!(shared.ask(&project, &["pin", "remove", "release-1", "--remote", "env"]).code, 1);
    shared.json(&project, &["gc", "--remote", "env", "--apply"]);
    assert_eq!(shared.objects(), Vec::<String>::new());
}

#[test]
fn nothing_is_pinned_in_a_remote_that_is_only_read() {
    let shared = Shared::new();
    assert_eq!(shared.ask(&shared.seeded(TWO, "seed\n"), &["run"]).code, 0);
    let yaml = format!("remotes: {{ team: 'file://{}' }}\n{TWO}", shared.folder.path().display());
    let reader = Pipeline::new().yaml(&yaml).file("seed.txt", "seed\n");
    let before = shared.objects();
    for words in [["pin", "add", "a", "--remote", "team"], ["pin", "remove", "a", "--remote", "team"]] {
        let refused = reader.ask(&words);
        assert!(refused.code == 3 && refused.err.contains("read-only"), "{}{}", refused.out, refused.err);
    }
    assert_eq!(shared.objects(), before);
    assert_eq!(reader.ask(&["pin", "list", "--remote", "team"]).code, 0);
}

#[test]
fn what_killed_runners_leave_in_a_folder_goes_and_a_lease_that_is_held_stays() {
    let shared = Shared::new();
    let project = shared.seeded(TWO, "new\n");
    assert_eq!(shared.ask(&project, &["run"]).code, 0);
    let before = shared.objects();
    let (held, free) = ("leases/".to_owned() + &sha256("held"), "leases/".to_owned() + &sha256("free"));
    let half = before.iter().find(|object| object.starts_with("actions/")).unwrap().clone() + "#1";
    fs::create_dir_all(shared.folder.path().join("leases")).unwrap();
    for name in [&held, &free, &half] {
        fs::write(shared.folder.path().join(name), "half").unwrap();
    }
    let lock = fs::File::open(shared.folder.path().join(&held)).unwrap();
    lock.lock().unwrap();
    shared.age(40);
    // This one may still be written.
    let young = half.replace("#1", "#2");
    fs::write(shared.folder.path().join(&young), "half").unwrap();
    let gc = shared.ask(&project, &["gc", "--remote", "env", "--apply"]);
    assert_eq!(gc.code, 0, "{}{}", gc.out, gc.err);
    let mut stays = [before, vec![held, young]].concat();
    stays.sort();
    assert_eq!(shared.objects(), stays, "{}", gc.out);
}

#[test]
fn what_jobs_have_left_goes_a_month_after_their_last_word() {
    let shared = Shared::new();
    let project = shared.seeded(TWO, "new\n");
    assert_eq!(shared.ask(&project, &["run"]).code, 0);
    let kept = shared.objects();
    let said = |job: &str, name: &str| format!("jobs/{}/0123abcd/{name}", sha256(job));
    let write = |object: &String| {
        let path = shared.folder.path().join(object);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "said").unwrap();
    };
    let old = [said("silent", "request.json"), said("silent", "said-000001.jsonl")];
    let waiting = said("waits", "request.json");
    old.iter().chain([&waiting]).for_each(write);
    shared.age(40);
    // The other job was asked for long ago, and still says something.
    let word = said("waits", "said-000001.jsonl");
    write(&word);
    write(&"jobs/notes.txt".to_owned());
    let gc = shared.ask(&project, &["gc", "--remote", "env", "--apply"]);
    assert_eq!(gc.code, 0, "{}{}", gc.out, gc.err);
    let mut stays = [kept, vec![waiting, word, "jobs/notes.txt".to_owned()]].concat();
    stays.sort();
    assert_eq!(shared.objects(), stays, "{}", gc.out);
}

#[test]
fn nothing_outside_of_a_folder_and_nothing_of_others_is_written_or_removed() {
    let (shared, elsewhere) = (Shared::new(), tempfile::tempdir().unwrap());
    let project = shared.seeded(TWO, "new\n");
    assert_eq!(shared.ask(&project, &["run"]).code, 0);
    let (precious, notes) =
        (elsewhere.path().join("precious"), shared.folder.path().join("renewed/notes.txt"));
    fs::write(&precious, "precious\n").unwrap();
    fs::create_dir_all(notes.parent().unwrap()).unwrap();
    fs::write(&notes, "notes\n").unwrap();
    // Whoever can write the folder can put links and more into it.
    let link =
        |place: &str| std::os::unix::fs::symlink(elsewhere.path(), shared.folder.path().join(place)).unwrap();
    for place in ["probes", "collectors"] {
        let _ = fs::remove_dir_all(shared.folder.path().join(place));
        link(place);
    }
    let action = shared.objects().into_iter().find(|object| object.starts_with("actions/")).unwrap();
    let older = shared.folder.path().join("actions/older");
    fs::create_dir(&older).unwrap();
    fs::copy(shared.folder.path().join(&action), older.join(&action["actions/".len()..])).unwrap();
    shared.age(1_000);
    for file in [&precious, &notes, &older.join(&action["actions/".len()..])] {
        let long_ago = SystemTime::now() - Duration::from_secs(1_000 * 86_400);
        fs::File::open(file).unwrap().set_modified(long_ago).unwrap();
    }
    // What is used is young again, and a copy of its record beside it changes nothing.
    assert_eq!(shared.ask(&project, &["push"]).code, 0);
    let gc = shared.ask(&project, &["gc", "--remote", "env", "--apply"]);
    assert_eq!(gc.code, 0, "{}{}", gc.out, gc.err);
    assert!(precious.exists() && notes.exists(), "{}{}", gc.out, gc.err);
    let fresh = shared.seeded(TWO, "new\n");
    assert_eq!(outcomes(&shared.json(&fresh, &["run"])), ["small=fetched", "large=fetched"], "{}", gc.out);

    let leases = shared.folder.path().join("leases");
    fs::remove_dir_all(&leases).unwrap();
    fs::create_dir(&leases).unwrap();
    let other = shared.seeded(TWO, "other\n");
    let key = shared.json(&other, &["plan"])["stages"][0]["key"].as_str().unwrap().to_owned();
    std::os::unix::fs::symlink(&precious, leases.join(key)).unwrap();
    assert_eq!(shared.ask(&other, &["run"]).code, 0);
    assert_eq!(fs::read_to_string(&precious).unwrap(), "precious\n");
}

#[test]
fn what_is_no_plain_file_in_a_folder_is_no_object_and_holds_up_nobody() {
    let shared = Shared::new();
    let project = shared.seeded(TWO, "new\n");
    assert_eq!(shared.ask(&project, &["run"]).code, 0);
    for object in shared.objects() {
        let file = shared.folder.path().join(&object);
        fs::remove_file(&file).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, &file, rustix::fs::Mode::from_raw_mode(0o644)).unwrap();
    }
    let fresh = shared.seeded(TWO, "new\n");
    for words in [["plan"].as_slice(), &["remote", "du"], &["gc", "--remote", "env"], &["run"], &["push"]] {
        let answer = shared.ask(&fresh, words);
        assert_eq!(answer.code, 0, "{words:?}: {}{}", answer.out, answer.err);
    }
    let third = shared.seeded(TWO, "new\n");
    assert_eq!(outcomes(&shared.json(&third, &["run"])), ["small=fetched", "large=fetched"]);
}

#[test]
fn to_look_at_garbage_changes_nothing_and_without_a_remote_nothing_is_removed() {
    let shared = Shared::new();
    let project = shared.seeded(TWO, "old\n");
    assert_eq!(shared.ask(&project, &["run"]).code, 0);
    shared.age(1_000);
    let times = || {
        let time =
            |object: &String| fs::metadata(shared.folder.path().join(object)).unwrap().modified().unwrap();
        shared.objects().iter().map(time).collect::<Vec<_>>()
    };
    let before = times();
    let listed = shared.ask(&project, &["gc", "--remote", "env"]);
    assert!(listed.code == 0 && listed.out.contains("2 records"), "{}{}", listed.out, listed.err);
    for words in [
        ["--offline", "gc", "--remote", "env", "--apply"].as_slice(),
        &["--offline", "pin", "add", "a", "--remote", "env"],
    ] {
        let refused = shared.ask(&project, words);
        assert!(refused.code == 3 && refused.err.contains("--offline"), "{}{}", refused.out, refused.err);
    }
    assert_eq!(times(), before);
    // What is sent again, although it is there, is used.
    assert_eq!(shared.ask(&project, &["push"]).code, 0);
    let gc = shared.json(&project, &["gc", "--remote", "env", "--apply"]);
    assert_eq!(gc["garbage"].as_array().unwrap().len(), 0, "{gc:#}");
}

#[test]
fn a_pin_that_cannot_be_read_ends_a_collection() {
    let shared = Shared::new();
    let project = shared.seeded(TWO, "old\n");
    assert_eq!(shared.ask(&project, &["run"]).code, 0);
    assert_eq!(shared.ask(&project, &["pin", "add", "a", "--remote", "env"]).code, 0);
    fs::write(shared.folder.path().join("pins/a"), "{}").unwrap();
    shared.age(1_000);
    let before = shared.objects();
    let gc = shared.ask(&project, &["gc", "--remote", "env", "--apply"]);
    assert!(gc.code == 1 && gc.err.contains("the pin pins/a"), "{}{}", gc.out, gc.err);
    assert_eq!(shared.objects(), before);
}

#[test]
#[ignore = "an owner is dead after a minute, which is waited for twice"]
fn what_a_dead_sender_left_goes_and_what_a_living_one_names_stays() {
    let shared = Shared::new();
    let project = shared.seeded(TWO, "old\n");
    assert_eq!(shared.ask(&project, &["run"]).code, 0);
    // A sender that is about to name a blob which no record names any more.
    let blob = shared.objects().into_iter().find(|object| object.starts_with("blobs/")).unwrap();
    for object in shared.objects().iter().filter(|object| object.starts_with("actions/")) {
        fs::remove_file(shared.folder.path().join(object)).unwrap();
    }
    shared.age(1_000);
    let record = format!("{{\"format\":\"kiln.intent/1\",\"blobs\":[\"{}\"]}}", &blob["blobs/".len()..]);
    let intents = shared.folder.path().join("intents");
    fs::create_dir_all(&intents).unwrap();
    let sum = sha256(&record);
    fs::write(intents.join("a"), format!("{{\"record\":{record},\"sha256\":\"{sum}\"}}")).unwrap();
    let beat: PathBuf = intents.join("a.beat");
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let beating = std::thread::spawn(move || {
        let mut count = 0;
        while stopped.recv_timeout(Duration::from_secs(5)).is_err() {
            count += 1;
            fs::write(&beat, count.to_string()).unwrap();
        }
    });
    let gc = shared.ask(&project, &["gc", "--remote", "env", "--apply"]);
    assert_eq!(gc.code, 0, "{}{}", gc.out, gc.err);
    stop.send(()).unwrap();
    beating.join().unwrap();
    assert_eq!(
        shared.objects().into_iter().filter(|object| !object.starts_with("intents/")).collect::<Vec<_>>(),
        [blob]
    );
    // Nobody refreshes it any more: it goes, and the blob with it the next time.
    for left in [1, 0] {
        assert_eq!(shared.ask(&project, &["gc", "--remote", "env", "--apply"]).code, 0);
        assert_eq!(shared.objects().len(), left);
    }
}

fn sha256(text: &str) -> String {
    kiln::digest::Digest::of_bytes(text.as_bytes()).to_string()
}

#[test]
fn a_pin_of_the_store_keeps_results_and_old_runs_go() {
    let project = Pipeline::new().yaml(TWO).file("seed.txt", "one\n");
    project.ask(&["run"]).good();
    assert_eq!(project.ask(&["pin", "add", "one"]).code, 0);
    project.write("seed.txt", "two\n");
    project.ask(&["run"]).good();
    project.write("seed.txt", "three\n");
    project.ask(&["run"]).good();
    // The lock file and the last runs name the newest one alone.
    let gc = project.ask(&["gc", "--older", "0s", "--keep-runs", "1", "--apply"]);
    assert_eq!(gc.code, 0, "{}{}", gc.out, gc.err);
    assert!(gc.out.contains("4 records"), "{}", gc.out);
    let runs: Vec<_> =
        fs::read_dir(project.path("artifacts/runs")).unwrap().flatten().map(|e| e.file_name()).collect();
    assert!(runs.iter().any(|run| run == "r-0001") && !runs.iter().any(|run| run == "r-0002"), "{runs:?}");
    project.write("seed.txt", "one\n");
    assert_eq!(project.states(&[]), ["small=cached", "large=cached"]);
    project.write("seed.txt", "two\n");
    assert_eq!(project.states(&[])[0], "small=run");
}
