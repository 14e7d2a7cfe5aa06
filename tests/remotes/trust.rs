//! Signatures and provenance.

use super::*;

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
