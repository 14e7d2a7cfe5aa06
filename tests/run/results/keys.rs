//! What the key of a stage says: everything that may change its output, and nothing else.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::common::Pipeline;
use crate::helpers::{copy_fixture, stage};
use crate::providers::provider;

fn chmod(p: &Pipeline, name: &str, mode: u32) {
    std::fs::set_permissions(p.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn two_providers_of_one_kind_and_revision_share_nothing() {
    let yaml =
        |name: &str| format!("pipeline: p\nproviders: [./{name}.py]\nstages:\n  s: {{ kind: parts }}\n");
    let p = Pipeline::new();
    for name in ["mine", "theirs"] {
        copy_fixture(&p, "parts.py", &format!("{name}.py"));
        p.write("kiln.yaml", &yaml(name));
        p.run().expect_ran(&["s"]);
        assert_eq!(p.out("p/s/one"), format!("one {name}\n"));
    }
    // The name that a provider declares counts, not where it lies.
    copy_fixture(&p, "parts.py", "moved.py");
    p.write("moved.name", "mine");
    p.write("kiln.yaml", &yaml("moved"));
    p.run().expect_ran(&[]);
}

#[test]
fn each_declared_thing_of_a_command_is_in_its_key_and_nothing_else_is() {
    let p = stage(
        "inputs: { i: i }\nparams: { n: 1 }\nenv: { A: x }\nuses: [lib]\nretries: 0",
        "cat {inputs.i} lib/a.txt > {outputs.o}",
    );
    p.edit("stages:\n", "sources:\n  i: { path: i.txt, type: any }\nstages:\n");
    p.write("i.txt", "i");
    p.write("lib/a.txt", "a");
    let base = std::fs::read_to_string(p.path("kiln.yaml")).unwrap();
    let key = p.key("s");
    let mut seen = vec![key.clone()];
    let changed = [
        ("n: 1", "n: 1.0"),
        ("n: 1", "n: 01"),
        ("n: 1", "m: 1"),
        ("A: x", "A: y"),
        ("A: x", "B: x"),
        ("A: x", "A: { pass: x }"),
        ("{ i: i }", "{ i: { from: i, at: data/i } }"),
        ("{ o: any }", "{ o: { type: any, path: o } }"),
        ("{ o: any }", "{ o: table }"),
        ("{ o: any }", "{ o: any, second: any }"),
        ("retries: 0", "cwd: sub"),
        ("retries: 0", "sandbox: off"),
        ("retries: 0", "platform: any"),
        ("retries: 0", "shell: sh"),
        ("cat {inputs.i}", "cat  {inputs.i}"),
    ];
    for (old, new) in changed {
        if new == "sandbox: off" || new == "cwd: sub" {
            p.write("kiln.yaml", &base.replace(old, new));
        } else {
            p.write("kiln.yaml", &base.replacen(old, new, 1));
        }
        let now = p.key("s");
        assert!(!seen.contains(&now), "{new} changes nothing");
        seen.push(now);
    }
    p.write("kiln.yaml", &base);
    for (file, text) in [("i.txt", "j"), ("lib/a.txt", "b"), ("lib/b.txt", ""), ("lib/deep/a.txt", "a")] {
        p.write(file, text);
        seen.push(p.key("s"));
    }
    for name in ["i.txt", "lib/a.txt"] {
        chmod(&p, name, 0o755);
        seen.push(p.key("s"));
    }
    let all = seen.len();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), all, "each change gives a key of its own");
    let p2 = Pipeline::new().yaml(&base).file("i.txt", "i").file("lib/a.txt", "a");
    let same = [
        ("retries: 0", "retries: 7"),
        ("retries: 0", "timeout: 9m"),
        ("retries: 0", "linger: 3s"),
        ("retries: 0", "resources: { cpus: 2, memory: 1GiB, gpus: 0 }"),
        ("retries: 0", "# comment"),
        ("pipeline: p", "pipeline: q"),
        ("n: 1", "n: \"1\""),
        ("uses: [lib]", "uses: [lib/a.txt]"),
        ("uses: [lib]", "uses: ['lib/*.txt']"),
        ("uses: [lib]", "uses: ['**/a.txt', lib]"),
        ("sandbox: strict", "sandbox: folder"),
    ];
    for (old, new) in same {
        p2.write("kiln.yaml", &base.replace(old, new));
        assert_eq!(p2.key("s"), key, "{new}");
    }
    p2.write("kiln.yaml", &base.replace("  s:\n", "  renamed:\n"));
    assert_eq!(p2.key("renamed"), key);
}

#[test]
fn what_a_glob_a_folder_and_a_list_of_files_mean_is_one_key_and_other_sources_are_told_apart() {
    let p = stage("uses: [lib]", "cat lib/a lib/b > {outputs.o}");
    p.write("lib/a", "a");
    p.write("lib/b", "b");
    let key = p.key("s");
    for uses in ["[lib/a, lib/b]", "['lib/*']", "['lib/?', lib/a]", "['lib/**']", "[lib/b, lib/a]"] {
        p.edit("uses: [lib]", &format!("uses: {uses}"));
        assert_eq!(p.key("s"), key, "{uses}");
        p.edit(&format!("uses: {uses}"), "uses: [lib]");
    }
    // The same bytes at other places are something else.
    std::fs::rename(p.path("lib/b"), p.path("lib/c")).unwrap();
    assert_ne!(p.key("s"), key);
}

#[test]
fn neighbours_beyond_the_integers_of_a_float_have_keys_of_their_own() {
    let big = [
        "9007199254740992",
        "9007199254740993",
        "99999999999999999998",
        "99999999999999999999",
        "18446744073709551615",
        "18446744073709551616",
    ];
    let p = stage("params: { id: 0 }", "echo {params.id} $KILN_PARAM_id > {outputs.o}");
    let mut last = "0";
    for id in big {
        p.edit(&format!("id: {last} }}"), &format!("id: {id} }}"));
        p.run().expect_ran(&["s"]);
        assert_eq!(p.out("p/s/o"), format!("{id} {id}\n"));
        last = id;
    }
    // For a kind two spellings of one number are one key, and neighbours are two.
    let p = Pipeline::new();
    copy_fixture(&p, "parts.py", "parts.py");
    let key = |n: &str| {
        p.write("kiln.yaml", &format!("pipeline: p\nproviders: [./parts.py]\nstages:\n  s: {{ kind: parts, params: {{ n: {n} }} }}\n"));
        p.key("s")
    };
    assert_eq!(key("16"), key("0x10"));
    assert_eq!(key("10"), key("1e1"));
    assert_ne!(key("9007199254740992"), key("9007199254740993"));
}

#[test]
fn a_scalar_reaches_a_command_exactly_as_it_is_written() {
    let written = [
        "3.10",
        "02134",
        "1e-5",
        "0x1F",
        "+7",
        "1_000",
        "yes",
        "off",
        "~",
        "null",
        "True",
        ".5",
        "12:30:45",
        "2026-01-31",
        "1e400",
        "-0",
        "0o17",
        "99999999999999999998",
        "a b",
        "é",
    ];
    for (i, chunk) in written.chunks(7).enumerate() {
        let list = |quote: &str| -> String {
            chunk.iter().enumerate().map(|(n, text)| format!("v{n}: {quote}{text}{quote}, ")).collect()
        };
        let script: String = (0..chunk.len())
            .map(|n| {
                format!(
                    "printf '%s|%s|%s\\n' {{params.v{n}}} \"$KILN_PARAM_v{n}\" \"$v{n}\" >> {{outputs.o}}\n"
                )
            })
            .collect();
        let p = stage(&format!("params: {{ {} }}\nenv: {{ {} }}", list(""), list("")), &script);
        p.run();
        let expected: String = chunk.iter().map(|text| format!("{text}|{text}|{text}\n")).collect();
        assert_eq!(p.out("p/s/o"), expected, "{i}");
        // Quotes are not part of a value.
        p.edit(&format!("params: {{ {} }}", list("")), &format!("params: {{ {} }}", list("'")));
        assert_eq!(p.states(&[]), ["s=cached"]);
    }
}

#[test]
fn an_exact_stage_runs_with_the_threads_that_its_key_says_or_not_at_all() {
    let p = provider("{ steps: 2 }");
    let plain = p.key("model");
    p.edit("params: { steps: 2 }", "params: { steps: 2 }, resources: { cpus: 1 }");
    assert_eq!(p.key("model"), plain, "resources are not in the key of an ordinary stage");
    p.edit("resources:", "cache: exact, resources:");
    let one = p.key("model");
    assert_ne!(one, plain);
    p.run();
    p.edit("cpus: 1", "cpus: 4000");
    let answer = p.ask(&["run"]);
    assert!(answer.code == 3 && answer.err.contains("4000 cores"), "{}", answer.err);
    // What was made where there are so many cores can be used here.
    p.edit("cpus: 4000", "cpus: 1");
    p.run().expect_ran(&[]);
}

#[test]
fn what_cannot_be_represented_is_an_error_at_load() {
    for (text, code) in
        [("params: { x: \"a\\0b\" }", "NUL"), ("env: { \"A=B\": x }", "A=B"), ("env: { A: [1] }", "env.A")]
    {
        let answer = stage(text, "echo > {outputs.o}").ask(&["run"]);
        assert_eq!(answer.code, 3, "{text}: {}", answer.err);
        assert!(answer.err.contains(code) && answer.err.contains("kiln.yaml:"), "{text}: {}", answer.err);
    }
}

#[test]
fn the_locale_the_zone_and_the_python_path_of_the_caller_reach_no_stage() {
    let print = "env | sort > {outputs.o}";
    let p = stage("", print);
    let hostile = [
        ("LANG", "de_DE.UTF-8"),
        ("LC_ALL", "tr_TR"),
        ("LC_NUMERIC", "de_DE"),
        ("LANGUAGE", "de"),
        ("TZ", "Asia/Tokyo"),
        ("PYTHONPATH", "/evil"),
        ("PYTHONHASHSEED", "7"),
        ("BASH_ENV", "/evil.sh"),
        ("ENV", "/evil.sh"),
        ("LD_PRELOAD", ""),
        ("PERL5LIB", "/evil"),
        ("GIT_DIR", "/evil"),
        ("MAKEFLAGS", "-j9"),
        ("IFS", "x"),
        ("SOURCE_DATE_EPOCH", "1"),
        ("KILN_PARAM_x", "evil"),
        ("CDPATH", "/evil"),
        ("GREP_OPTIONS", "-v"),
        ("API_KEY", "hidden"),
    ];
    let run = |p: &Pipeline, words: &[&str]| {
        let mut kiln = p.kiln(words);
        kiln.envs(hostile).assert().success();
    };
    run(&p, &["run"]);
    let seen = p.out("p/s/o");
    for (name, value) in hostile {
        assert!(!seen.contains(&format!("{name}={value}\n")), "{name} in {seen}");
    }
    for line in ["LANG=C.UTF-8\n", "LC_ALL=C.UTF-8\n", "TZ=UTC\n", "PATH="] {
        assert!(seen.contains(line), "no {line} in {seen}");
    }
    assert_eq!(p.states(&[]), ["s=cached"]);
    // What `env` says counts, also for a provider.
    let p = stage(
        "env: { LANG: de_DE.UTF-8, TZ: Asia/Tokyo, HERE: { pass: API_KEY }, GONE: { pass: NOT_SET } }",
        print,
    );
    run(&p, &["run"]);
    let seen = p.out("p/s/o");
    assert!(
        seen.contains("LANG=de_DE.UTF-8\n") && seen.contains("TZ=Asia/Tokyo\n") && !seen.contains("LC_ALL="),
        "{seen}"
    );
    assert!(seen.contains("HERE=hidden\n") && !seen.contains("GONE"), "{seen}");
    // A passed value is not in the key.
    assert_eq!(p.states(&[]), ["s=cached"]);
}

#[test]
fn a_secret_reaches_its_stage_and_stands_nowhere() {
    let secret = "hunter2-swordfish";
    let p = stage(
        "env: { KEY: { secret: API_KEY } }\noutputs: { o: any }",
        "echo the key is $KEY\necho $KEY >&2\nprintf 'no end of line: %s' \"$KEY\"\necho ${#KEY} > {outputs.o}\ntest -e @ROOT@/calm",
    );
    let run = |words: &[&str]| {
        let output = p.kiln(words).env("API_KEY", secret).output().unwrap();
        let said =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(!said.contains(secret), "{words:?}: {said}");
        (output.status.code(), said)
    };
    let (code, said) = run(&["run"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("the key is ***"), "{said}");
    p.write("calm", "");
    assert_eq!(run(&["run", "--json"]).0, Some(0));
    assert_eq!(p.out("p/s/o"), format!("{}\n", secret.len()));
    for words in [&["plan", "--json"][..], &["why", "s"], &["show", "s"], &["log", "s"], &["lock", "check"]] {
        run(words);
    }
    let found = Command::new("grep").args(["-r", "-l", secret, "."]).current_dir(p.root()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
    // Another value is the same key; the name of the variable is not.
    assert_eq!(p.states(&[]), ["s=cached"]);
    let p = stage("env: { KEY: { secret: NOT_SET_ANYWHERE } }", "echo > {outputs.o}");
    let answer = p.ask(&["run"]);
    assert!(answer.code == 3 && answer.err.contains("NOT_SET_ANYWHERE"), "{}", answer.err);
    assert!(!p.path("artifacts/actions").exists() && !p.path("artifacts/runs/r-0001").exists());
}

#[test]
fn no_message_about_a_stage_holds_a_secret() {
    let secret = "hunter2-swordfish";
    for script in [
        // The name of what could not be collected.
        "mkdir {outputs.o}; mkfifo {outputs.o}/$KEY",
        "mkdir {outputs.o}; ln -s /nowhere/$KEY {outputs.o}/link",
        // The name of a process that was left behind.
        "echo > {outputs.o}; cp $(command -v sleep) $KEY; (./$KEY 600 &)",
        // The name of a program.
        "./$KEY",
    ] {
        let p =
            stage("env: { KEY: { secret: API_KEY } }\noutputs: { o: any }\nlinger: 50ms\nretries: 1", script);
        for words in [&["run"][..], &["run", "--json"], &["show", "s"], &["log", "s"]] {
            let output = p.kiln(words).env("API_KEY", secret).output().unwrap();
            let said = [output.stdout, output.stderr]
                .map(|said| String::from_utf8_lossy(&said).into_owned())
                .concat();
            assert!(!said.contains(&secret[..12]), "{script}: {words:?}: {said}");
        }
        let found = Command::new("grep")
            .args(["-r", "-l", &secret[..12], "artifacts/runs"])
            .current_dir(p.root())
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&found.stdout), "", "{script}");
    }
}

#[test]
fn a_source_that_holds_no_plain_file_is_an_error_of_the_pipeline() {
    let p = stage("inputs: { i: odd }\noutputs: { o: any }", "cat {inputs.i}/* > {outputs.o}");
    let file = std::fs::read_to_string(p.path("kiln.yaml")).unwrap();
    p.write("kiln.yaml", &format!("{file}\nsources:\n  odd: {{ path: odd, type: any }}\n"));
    std::fs::create_dir(p.path("odd")).unwrap();
    assert!(Command::new("mkfifo").arg(p.path("odd/pipe")).status().unwrap().success());
    let answer = p.ask(&["plan"]);
    assert!(answer.code == 3 && answer.err.contains("is a pipe"), "{}: {}", answer.code, answer.err);
}
