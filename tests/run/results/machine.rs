//! What is written where nobody would look, and the machine that runners share.

use std::collections::BTreeSet;
use std::process::Output;

use crate::common::Pipeline;
use crate::helpers::{copy_fixture, odd, signal, stage, stages, wait_until};

/// The cores that a process may use, as `taskset` prints them.
fn cores(text: &str) -> BTreeSet<u32> {
    let parts = text.trim().split(',').filter(|part| !part.is_empty());
    parts
        .flat_map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            first.parse::<u32>().unwrap()..=last.parse().unwrap()
        })
        .collect()
}

#[test]
fn two_runners_never_pin_their_stages_to_the_same_cores() {
    let all = std::thread::available_parallelism().unwrap().get();
    let alone = |name: &str| {
        let script = format!(
            "touch @ROOT@/begun\nwhile ! test -e @ROOT@/go; do sleep 0.02; done\ntaskset -cp $$ | sed 's/.*: //' > {{outputs.o}}\n: {name}"
        );
        let p = stage("resources: { cpus: 1 }", &script);
        std::fs::create_dir(p.path("artifacts")).unwrap();
        p
    };
    let (a, b) = (alone("a"), alone("b"));
    let runners: Vec<_> = [&a, &b]
        .map(|p| {
            let runner = p.spawn(&["run"]);
            p.wait_for("begun");
            runner
        })
        .into();
    a.write("go", "");
    b.write("go", "");
    for runner in runners {
        let output = runner.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let (a, b) = (cores(&a.out("p/s/o")), cores(&b.out("p/s/o")));
    assert!(a.len() == all || b.len() == all || a.is_disjoint(&b), "{a:?} and {b:?}");
}

#[test]
fn gpus_are_a_budget_of_their_own_and_each_stage_gets_devices_of_its_own() {
    let script = "echo $CUDA_VISIBLE_DEVICES > @ROOT@/gpu.@N@.$CUDA_VISIBLE_DEVICES\nfor other in 1 2 3; do :; done\nsleep 0.3\nls @ROOT@ | grep -c ^gpu > /dev/null\nrm @ROOT@/gpu.@N@.$CUDA_VISIBLE_DEVICES\necho $CUDA_VISIBLE_DEVICES > {outputs.o}";
    let scripts: Vec<_> = (0..4)
        .map(|n| {
            script.replace("@N@", &n.to_string()).replace(
                "echo $CUDA_VISIBLE_DEVICES > @ROOT@",
                "test ! -e @ROOT@/gpu.*.$CUDA_VISIBLE_DEVICES\necho x > @ROOT@",
            )
        })
        .collect();
    let names = ["a", "b", "c", "d"];
    let all: Vec<_> = names
        .iter()
        .zip(&scripts)
        .map(|(name, script)| (*name, "resources: { gpus: 1, cpus: 0 }", script.as_str()))
        .collect();
    let p = stages(&all);
    let mut kiln = p.kiln(&["run", "--jobs", "4"]);
    kiln.env("CUDA_VISIBLE_DEVICES", "5,GPU-7").assert().success();
    for name in names {
        let device = p.out(&format!("p/{name}/o"));
        assert!(["5\n", "GPU-7\n"].contains(&device.as_str()), "{device}");
    }
    let p = stage("resources: { gpus: 2 }", "echo $CUDA_VISIBLE_DEVICES > {outputs.o}");
    p.kiln(&["run"]).env("CUDA_VISIBLE_DEVICES", "5,GPU-7").assert().success();
    assert_eq!(p.out("p/s/o"), "5,GPU-7\n");
}

#[test]
fn a_provider_that_floods_its_pipe_delays_neither_ctrl_c_nor_its_end() {
    let p = odd("flood", "");
    let (ran, code) = p.interrupt("INT");
    assert_eq!((ran.outcome(), code), ("interrupted", Some(130)), "{:#}", ran.0);
    let p = odd("burst", "");
    p.run().expect_ran(&["s"]);
    let log = std::fs::metadata(p.path("artifacts/runs/r-0001/logs/s.log")).unwrap();
    assert!(log.len() > 1_000_000);
}

#[test]
fn a_command_that_floods_with_secrets_in_its_environment_ends_as_well() {
    let p = stage(
        "env: { KEY: { secret: API_KEY } }",
        "yes \"$KEY $KEY\" | head -c 3000000 || true\nsetsid yes \"$KEY\" &\nsleep 0.2; kill $!\nwait $! || true\ntouch {outputs.o}",
    );
    p.kiln(&["run"]).env("API_KEY", "hunter2").assert().success();
    let log = std::fs::read_to_string(p.path("artifacts/runs/r-0001/logs/s.log")).unwrap();
    assert!(log.contains("*** ***") && !log.contains("hunter2"));
}

#[test]
fn a_runner_under_nohup_survives_the_end_of_its_terminal() {
    let p =
        stage("", "touch @ROOT@/begun\nwhile ! test -e @ROOT@/go; do sleep 0.02; done\ntouch {outputs.o}");
    std::fs::create_dir(p.path("artifacts")).unwrap();
    let kiln = assert_cmd::cargo::cargo_bin("kiln");
    let mut nohup = std::process::Command::new("nohup");
    let mut runner = nohup
        .arg(kiln)
        .arg("run")
        .current_dir(p.root())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    p.wait_for("begun");
    signal(&runner, "HUP");
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert!(runner.try_wait().unwrap().is_none(), "it runs on");
    p.write("go", "");
    assert!(runner.wait().unwrap().success());
    assert_eq!(p.states(&[]), ["s=cached"]);
}

#[test]
fn a_large_stage_is_not_starved_by_small_ones() {
    let all = std::thread::available_parallelism().unwrap().get();
    let mut text = format!(
        "pipeline: p\nstages:\n  large: {{ kind: command, sandbox: off, run: 'echo large >> order; touch {{outputs.o}}', outputs: {{ o: any }}, resources: {{ cpus: {all} }} }}\n"
    );
    for i in 0..(all * 8) {
        // Each has something below it, so that each is on a longer way than the large one.
        text += &format!(
            "  a{i}: {{ kind: command, sandbox: off, run: 'echo small >> order; sleep 0.05; echo {i} > {{outputs.o}}', outputs: {{ o: any }} }}\n  b{i}: {{ kind: command, sandbox: off, inputs: {{ i: a{i} }}, run: 'echo small >> order; sleep 0.05; cp {{inputs.i}} {{outputs.o}}', outputs: {{ o: any }} }}\n"
        );
    }
    let p = Pipeline::new().yaml(&text);
    p.run();
    let order = std::fs::read_to_string(p.path("order")).unwrap();
    let after = order.lines().skip_while(|line| *line != "large").count() - 1;
    assert!(after >= all, "only {after} ran after the large one of {}", order.lines().count());
}

#[test]
fn a_schema_that_refers_to_itself_and_names_that_are_paths_are_errors_of_the_provider() {
    let provider = |described: &str| {
        let p = Pipeline::new().yaml(
            "pipeline: p\nproviders: [./odd]\nstages:\n  s: { kind: k, params: { a: { a: { a: 1 } } } }\n",
        );
        p.write("odd", &format!("#!/bin/sh\nif test \"$1\" = describe; then echo '{described}'; else echo '{{\"event\": \"done\"}}'; fi\n"));
        std::process::Command::new("chmod").arg("+x").arg(p.path("odd")).status().unwrap();
        p
    };
    let kind = |params: &str, output: &str| {
        format!(
            "{{\"protocol\": 1, \"provider\": \"odd\", \"version\": \"1\", \"kinds\": [{{\"name\": \"k\", \"revision\": 1, \"summary\": \"\", \"inputs\": [], \"outputs\": [{{\"name\": \"{output}\", \"types\": [\"any\"]}}], \"params\": {params}}}]}}"
        )
    };
    let itself = "{\"type\": \"object\", \"properties\": {\"a\": {\"$ref\": \"#/$defs/a\"}}, \"$defs\": {\"a\": {\"$ref\": \"#/$defs/a\"}}}";
    let round = "{\"type\": \"object\", \"properties\": {\"a\": {\"$ref\": \"#/$defs/a\"}}, \"$defs\": {\"a\": {\"$ref\": \"#/$defs/b\"}, \"b\": {\"$ref\": \"#/$defs/a\"}}}";
    let defaults = "{\"type\": \"object\", \"properties\": {\"a\": {\"$ref\": \"#/$defs/a\"}}, \"$defs\": {\"a\": {\"type\": \"object\", \"default\": {}, \"properties\": {\"a\": {\"$ref\": \"#/$defs/a\"}}}}}";
    for (params, output) in [
        (itself, "o"),
        (round, "o"),
        (defaults, "o"),
        ("{}", "../../up"),
        ("{}", "a/b"),
        ("{}", ".."),
        ("{}", ""),
    ] {
        let answer = provider(&kind(params, output)).ask(&["run"]);
        assert_eq!(answer.code, 3, "{params} {output}: {}", answer.err);
        assert!(!answer.err.contains("overflow") && !answer.err.contains("panicked"), "{}", answer.err);
    }
}

#[test]
fn a_description_that_never_ends_is_an_error_and_takes_little_memory() {
    let p = Pipeline::new().yaml("pipeline: p\nproviders: [./odd]\nstages:\n  s: { kind: k }\n");
    for script in ["yes '{\"protocol\": 1, '", "cat /dev/zero"] {
        p.write("odd", &format!("#!/bin/sh\n{script}\n"));
        std::process::Command::new("chmod").arg("+x").arg(p.path("odd")).status().unwrap();
        let kiln = assert_cmd::cargo::cargo_bin("kiln");
        // With little memory it must still answer.
        let mut shell = std::process::Command::new("bash");
        shell
            .arg("-c")
            .arg(format!("ulimit -v 4000000; exec '{}' plan", kiln.display()))
            .current_dir(p.root());
        let mut child =
            shell.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped()).spawn().unwrap();
        wait_until("an endless description to be refused", || child.try_wait().unwrap().is_some());
        let Output { status, stderr, .. } = child.wait_with_output().unwrap();
        assert_eq!(status.code(), Some(3), "{script}: {}", String::from_utf8_lossy(&stderr));
    }
}

#[test]
fn metrics_of_many_stages_leave_no_file_open() {
    let p = Pipeline::new();
    let mut text = "pipeline: p\nproviders: [./provider.py]\nsources: { text: { path: text.txt, type: corpus } }\nstages:\n".to_owned();
    for i in 0..24 {
        text += &format!(
            "  m{i}: {{ kind: train, inputs: {{ corpus: text }}, params: {{ steps: 2, seed: {i} }} }}\n"
        );
    }
    let p = p.yaml(&text).file("text.txt", "some text");
    copy_fixture(&p, "provider.py", "provider.py");
    let kiln = assert_cmd::cargo::cargo_bin("kiln");
    let mut shell = std::process::Command::new("bash");
    shell
        .arg("-c")
        .arg(format!("ulimit -n 64; exec '{}' run --jobs 2", kiln.display()))
        .current_dir(p.root());
    let output = shell.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
