//! Which remotes there are, and what is wrong with them.

use std::io::{BufRead as _, BufReader, Write as _};

use super::*;

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
