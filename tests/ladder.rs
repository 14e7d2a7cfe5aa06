//! The ladder itself, through the front door: the pipelines of this repository, run by the binary.
//!
//! The default test runs `pipelines/smoke.yaml`; the ignored ones (`make test-long`) kill it twenty
//! times and climb the ladder on real text with three seeds.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::Pipeline;
use serde_json::Value;

/// A project with one of the repository's pipelines as `kiln.yaml`, and its programs.
fn project(name: &str) -> Pipeline {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines");
    let mut project =
        Pipeline::new().yaml(&std::fs::read_to_string(from.join(format!("{name}.yaml"))).unwrap());
    for program in std::fs::read_dir(from.join(name)).unwrap() {
        let program = program.unwrap().path();
        if program.extension().is_some_and(|e| e == "py") {
            let file = program.file_name().unwrap().to_str().unwrap();
            let text = std::fs::read_to_string(&program).unwrap();
            project = project.file(&format!("pipelines/{name}/{file}"), &text);
        }
    }
    project
}

/// Runs to the end; `stage -> outcome`.
fn run(project: &Pipeline, words: &[&str]) -> BTreeMap<String, String> {
    let report = project.json(&[&["run", "--device", "cpu"], words].concat());
    assert_eq!(report["outcome"], "ok", "{report:#}");
    let stages = report["stages"].as_array().unwrap();
    let text = |v: &Value| v.as_str().unwrap().to_owned();
    stages.iter().map(|s| (text(&s["name"]), text(&s["outcome"]))).collect()
}

fn ran(outcomes: &BTreeMap<String, String>) -> Vec<&str> {
    outcomes.iter().filter(|(_, o)| *o == "ran").map(|(name, _)| name.as_str()).collect()
}

/// `stage.output -> digest`, of a pipeline in which nothing is stale.
fn digests(project: &Pipeline) -> BTreeMap<String, String> {
    let plan = project.json(&["plan"]);
    let mut found = BTreeMap::new();
    for stage in plan["stages"].as_array().unwrap() {
        for (name, output) in stage["outputs"].as_object().unwrap() {
            let digest = output["digest"].as_str().unwrap_or("none");
            found.insert(format!("{}.{name}", stage["name"].as_str().unwrap()), digest.to_owned());
        }
    }
    found
}

/// A metric of the `report` stage.
fn reported(project: &Pipeline, words: &[&str], metric: &str) -> f64 {
    let metrics = project.json(&[&["metrics"], words].concat());
    metrics["stages"]["report"][metric]["last"].as_f64().unwrap_or_else(|| panic!("no {metric}: {metrics:#}"))
}

/// Gold reward of a rung with its 95 % interval: mean, low, high.
fn gold(project: &Pipeline, words: &[&str], rung: &str) -> (f64, f64, f64) {
    let reported = |part: &str| reported(project, words, &format!("gold/{rung}{part}"));
    (reported(""), reported("/low"), reported("/high"))
}

#[test]
fn the_smoke_ladder_runs_once_and_a_policy_change_reruns_the_policy_and_its_report_only() {
    let project = project("smoke");
    assert_eq!(ran(&run(&project, &[])).len(), 9);
    let before = digests(&project);
    assert_eq!(ran(&run(&project, &[])), [""; 0]);
    for rung in ["base", "sft", "policy", "human"] {
        let (gold, low, high) = gold(&project, &[], rung);
        assert!(low <= gold && gold <= high && (-1.0..=1.0).contains(&gold), "{rung}: {low} {gold} {high}");
    }
    let answer = project.ask(&["generate", "sft", "Where is the black candle?", "--temperature", "0"]);
    assert!(answer.good().trim().len() > 4);
    let again = run(&project, &["--set", "stages.policy.learning_rate=1e-4"]);
    assert_eq!(ran(&again), ["policy", "report"]);
    assert_eq!(ran(&run(&project, &[])), [""; 0], "the earlier policy is still known");
    assert_eq!(digests(&project), before);
}

#[test]
fn what_the_tiny_template_writes_is_a_pipeline_that_the_worker_knows() {
    let project = Pipeline::new();
    project.ask(&["init", "--template", "tiny"]).good();
    project.write("data/text.txt", "Who is there?\n\nA friend of the house, my lord.\n");
    let states = project.states(&[]);
    assert!(states.iter().any(|s| s.starts_with("policy=")), "{states:?}");
}

#[test]
#[ignore = "minutes: make test-long"]
fn twenty_kills_at_spread_times_end_with_the_bytes_of_an_undisturbed_run() {
    let undisturbed = project("smoke");
    let start = Instant::now();
    run(&undisturbed, &[]);
    let (whole, wanted) = (start.elapsed(), digests(&undisturbed));
    for i in 0..20u32 {
        let project = project("smoke");
        let mut runner = spawn(&project);
        std::thread::sleep(whole * (2 * i + 1) / 40);
        if i % 2 == 0 {
            runner.kill().unwrap();
        } else {
            kill_workers_of(runner.id());
        }
        wait(&mut runner);
        run(&project, &[]);
        assert_eq!(digests(&project), wanted, "kill {i}");
    }
}

fn spawn(project: &Pipeline) -> Child {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin("kiln"));
    command.args(["run", "--device", "cpu"]).current_dir(project.root());
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// SIGKILL to every child of the runner, as the kernel does when memory runs out.
fn kill_workers_of(runner: u32) {
    let children =
        std::fs::read_to_string(format!("/proc/{runner}/task/{runner}/children")).unwrap_or_default();
    let tasks = std::fs::read_dir(format!("/proc/{runner}/task")).into_iter().flatten().flatten();
    let of_threads =
        tasks.filter_map(|t| std::fs::read_to_string(t.path().join("children")).ok()).collect::<String>();
    for pid in (children + &of_threads).split_whitespace() {
        let _ = Command::new("kill").args(["-9", pid]).status();
    }
}

fn wait(runner: &mut Child) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while runner.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "the runner hangs after its worker was killed");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
#[ignore = "half an hour and a network: make test-long"]
fn on_real_text_every_rung_is_above_the_one_below_and_shuffled_rankings_gain_nothing() {
    let project = project("assistant");
    for seed in ["1337", "1338", "1339"] {
        let seed = format!("params.seed={seed}");
        let words = ["--set", &seed, "--set", "stages.rankings.shuffle=true"];
        for (what, words) in [("", &words[..2]), (" shuffled", &words[..])] {
            run(&project, words);
            let rungs = ["base", "sft", "policy", "human"].map(|rung| gold(&project, words, rung));
            let told = rungs.map(|(gold, low, high)| format!("{gold:.3} [{low:.3}, {high:.3}]"));
            println!("{seed}{what}: base {} sft {} policy {} human {}", told[0], told[1], told[2], told[3]);
            let [(_, _, base_high), (_, sft_low, sft_high), (_, policy_low, _), _] = rungs;
            assert!(base_high < sft_low, "SFT is not above base");
            assert_eq!(sft_high < policy_low, what.is_empty(), "PPO rises if and only if rankings tell");
        }
    }
}
