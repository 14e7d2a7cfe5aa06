//! The ladder itself, through the front door: the pipelines of this repository, run by the binary.
//!
//! The default test runs `pipelines/smoke.yaml`; the ignored ones (`make test-long`) kill it twenty
//! times, or fifty (`make soak-shared`), and climb the ladder on real text with three seeds.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::Pipeline;
use common::processes::{Process, descendants, kill, left_after};
use serde_json::Value;

/// A project with one of the repository's pipelines as `kiln.yaml`, and its programs.
fn project(name: &str) -> Pipeline {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines");
    let mut project =
        Pipeline::new().yaml(&std::fs::read_to_string(from.join(format!("{name}.yaml"))).unwrap());
    let packages = std::fs::read_to_string(from.join("packages.py")).unwrap();
    project = project.file("pipelines/packages.py", &packages);
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

/// `pipelines/smollm2.yaml` with a model of random weights and made-up words in the place of what it downloads.
fn small_smollm2() -> Pipeline {
    let rows = |row: &dyn Fn(usize) -> Value| (0..24).map(|i| format!("{}\n", row(i))).collect::<String>();
    let word = |i: usize| format!("{}{}", ["sun", "hill", "bird", "tree"][i % 4], i);
    let prompt =
        |i: usize| serde_json::json!([{ "role": "user", "content": format!("What is a {}?", word(i)) }]);
    let answer = |i: usize| format!("Word means a thing of the kind {}.", word(i));
    let text = (0..200).map(|i| answer(i) + "\n").collect::<String>();
    let project = Pipeline::new()
        .file("text.txt", &text)
        .file(
            "demonstrations.jsonl",
            &rows(&|i| {
                let completion = serde_json::json!([{ "role": "assistant", "content": answer(i) }]);
                serde_json::json!({ "prompt": prompt(i), "completion": completion })
            }),
        )
        .file("prompts.jsonl", &rows(&|i| serde_json::json!({ "prompt": prompt(100 + i) })))
        .file(
            "heldout.jsonl",
            &rows(&|i| serde_json::json!({ "prompt": prompt(200 + i), "response": answer(i) })),
        )
        .yaml(
            "pipeline: tiny\n\
             sources: { text: { path: text.txt, type: corpus } }\n\
             stages:\n  \
               tokenizer: { kind: tokenizer, inputs: { corpus: text }, params: { vocab_size: 300 } }\n  \
               base:\n    \
                 kind: pretrain\n    \
                 inputs: { tokenizer: tokenizer, corpus: text }\n    \
                 params: { model: { preset: nano, layers: 1, hidden_size: 32, heads: 2 }, steps: 20 }\n",
        );
    assert_eq!(ran(&run(&project, &[])).len(), 2);
    project.ask(&["export", "base", "--to", "gguf", "-o", "model.gguf", "--verify"]).good();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines/smollm2.yaml");
    let yaml = std::fs::read_to_string(from).unwrap();
    let download = "python3 pipelines/smollm2/model.py {outputs.gguf}";
    let define = "python3 pipelines/smollm2/definitions.py --demonstrations {outputs.demonstrations}\n      \
                  --prompts {outputs.prompts} --heldout {outputs.heldout}";
    let copy = "cp demonstrations.jsonl {outputs.demonstrations} && cp prompts.jsonl {outputs.prompts} &&\n      \
                cp heldout.jsonl {outputs.heldout}";
    let mut small = yaml.clone();
    for (wanted, instead) in [
        (download, "cp model.gguf {outputs.gguf}"),
        (define, copy),
        ("uses: [pipelines/smollm2/model.py, pipelines/packages.py]", "uses: [model.gguf]"),
        (
            "uses: [pipelines/smollm2/definitions.py, pipelines/packages.py]",
            "uses: [demonstrations.jsonl, prompts.jsonl, heldout.jsonl]",
        ),
    ] {
        assert!(small.contains(wanted), "the pipeline has no `{wanted}`");
        small = small.replace(wanted, instead);
    }
    project.yaml(&small)
}

#[test]
fn a_model_of_other_people_is_imported_as_a_pipeline_that_runs() {
    let project = small_smollm2();
    let said = project.ask(&["import", "gguf:model.gguf", "imported.yaml"]).good();
    assert!(said.contains("kiln run imported.yaml"), "{said}");
    project.ask(&["run", "imported.yaml"]).good();
    project.ask(&["export", "imported.yaml", "model", "--to", "hf", "-o", "folder", "--verify"]).good();
    let said = project.ask(&["import", "hf:folder"]).good();
    assert!(said.starts_with("Wrote folder.yaml, which reads folder as the stage `model`."), "{said}");
    project.ask(&["run", "folder.yaml"]).good();
    project.write("adapter/adapter_config.json", "{}");
    project.write("pickled/config.json", "{}");
    project.write("pickled/pytorch_model.bin", "");
    for (named, word) in [
        ("hf:folder", "folder.yaml already exists"),
        ("hf:nowhere", "there is no nowhere"),
        ("hf:adapter", "is an adapter without its model"),
        ("hf:pickled", "the weights in pickled are pickled"),
        ("gguf:text.txt", "text.txt is no GGUF file"),
        ("gguf:folder", "folder is a folder; write hf:FOLDER"),
        ("https://example.org/model", "is a URL; download it"),
    ] {
        let answer = project.ask(&["import", named]);
        assert!(answer.code == 3 && answer.err.contains(word), "{named}: {answer:?}");
    }
}

#[test]
fn files_of_equal_bytes_and_other_endings_are_other_inputs() {
    let text = "text\nhello world\nthe fox\n";
    let stage = |name: &str| {
        format!("  {name}: {{ kind: tokenize, inputs: {{ tokenizer: bytes, data: {name}-data }} }}\n")
    };
    let project = Pipeline::new()
        .yaml(&format!(
            "sources:\n  csv-data: {{ path: a.csv, type: corpus }}\n  txt-data: {{ path: a.txt, type: corpus }}\n  \
             again-data: {{ path: b.csv, type: corpus }}\nstages:\n  bytes: {{ kind: tokenizer, inputs: {{ corpus: \
             txt-data }}, params: {{ algorithm: bytes }} }}\n{}{}{}",
            stage("csv"),
            stage("txt"),
            stage("again")
        ))
        .file("a.csv", text)
        .file("a.txt", text)
        .file("b.csv", text);
    let first = run(&project, &["--jobs", "1"]);
    assert!(first["csv"] == "ran" && first["txt"] == "ran", "{first:?}");
    let made = digests(&project);
    assert_ne!(made["csv.tokens"], made["txt.tokens"]);
    assert_eq!(made["csv.tokens"], made["again.tokens"]);
}

#[test]
fn the_kinds_and_their_params_are_listed() {
    let project = Pipeline::new();
    assert!(project.ask(&["params"]).good().contains("sft "));
    let said = project.ask(&["params", "sft"]).good();
    for line in ["lora.rank", "optimizer.kind", "demonstrations or tokens", "(constant, linear, cosine, wsd)"]
    {
        assert!(said.contains(line), "{line}: {said}");
    }
    let wrong = project.ask(&["params", "stf"]);
    assert!(wrong.code == 3 && wrong.err.contains("did you mean `sft`?"), "{wrong:?}");
}

#[test]
fn the_ladder_on_somebody_elses_model_runs_in_small_and_its_second_run_runs_nothing() {
    let project = small_smollm2();
    let sizes = [
        "stages.sft.steps=4",
        "stages.sft.batch_size=4",
        "stages.completions.prompts=16",
        "stages.completions.max_new_tokens=8",
        "stages.reward.validation_fraction=0.25",
        "stages.policy.iterations=2",
        "stages.policy.prompts_per_batch=4",
        "stages.policy.max_new_tokens=8",
        "stages.report.prompts=6",
        "stages.report.max_new_tokens=8",
    ];
    let words: Vec<&str> = sizes.iter().flat_map(|size| ["--set", size]).collect();
    assert_eq!(ran(&run(&project, &words)).len(), 10);
    assert_eq!(ran(&run(&project, &words)), [""; 0]);
    for rung in ["base", "sft", "policy", "human"] {
        let (gold, low, high) = gold(&project, &words, rung);
        assert!(low <= gold && gold <= high && (-1.0..=1.0).contains(&gold), "{rung}: {low} {gold} {high}");
    }
    for (model, to, out) in [("merged", "gguf", "merged.gguf"), ("policy", "hf", "policy")] {
        project
            .ask(&[&["export", model, "--to", to, "-o", out, "--verify"], words.as_slice()].concat())
            .good();
    }
    let shown = project.ask(&[&["show", "wordnet.demonstrations"], words.as_slice()].concat()).good();
    assert!(shown.contains("format  prompt-completion (JSON lines), 24 rows in 1 file"), "{shown}");
    assert!(shown.contains("tokens, "), "by the tokens of the model that learns from it: {shown}");
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
fn a_param_out_of_its_range_is_refused_before_anything_runs() {
    let project = project("smoke");
    for (param, said) in [
        ("sft.optimizer.eps=0", "must be above 0, not `0`"),
        ("base.optimizer.eps=-1e-3", "must be above 0, not `-1e-3`"),
        ("reward.optimizer.beta1=1", "must be below 1, not `1`"),
        ("policy.kl_target=-1", "must be above 0, not `-1`"),
        ("policy.value_learning_rate=-1", "must be at least 0, not `-1`"),
        ("policy.gold.weights.known=2", "must be at most 1, not `2`"),
        ("rankings.agreement=0.5", "must be above 0.5, not `0.5`"),
        ("base.model.layers=0", "must be at least 1, not `0`"),
    ] {
        let answer = project.ask(&["plan", "--set", &format!("stages.{param}")]);
        assert_eq!(answer.code, 3, "{param}: {}{}", answer.out, answer.err);
        assert!(answer.err.contains(said), "{param}: {}", answer.err);
    }
}

#[test]
#[ignore = "minutes: make test-long"]
fn twenty_kills_at_random_moments_end_with_the_bytes_of_an_undisturbed_run() {
    println!("{}", kills(20));
}

#[test]
#[ignore = "a quarter of an hour: make soak-shared"]
fn fifty_kills_at_random_moments_end_with_the_bytes_of_an_undisturbed_run() {
    println!("{}", kills(50));
}

/// Kills so many runs, each at a moment of its own; says what was met.
fn kills(count: u32) -> String {
    let timed = [(); 2].map(|()| {
        let (undisturbed, start) = (project("smoke"), Instant::now());
        run(&undisturbed, &[]);
        (start.elapsed(), digests(&undisturbed))
    });
    // The first run also reads programs from the disk; a kill after the end of a run would say nothing.
    let [(first, wanted), (second, again)] = timed;
    assert_eq!(wanted, again);
    let whole = first.min(second);
    let mut met = BTreeMap::<String, u32>::new();
    for i in 0..count {
        let (project, mut rng) = (project("smoke"), fastrand::Rng::with_seed(i.into()));
        let mut runner = spawn(&project);
        // At random in the part of the run that is the turn of this kill.
        std::thread::sleep(whole.mul_f64((f64::from(i) + rng.f64()) / f64::from(count)));
        let (victim, stages) = strike(&mut runner, i % 2 == 0, &project);
        wait(&mut runner);
        run(&project, &[]);
        assert_eq!(digests(&project), wanted, "kill {i}: {victim} while {stages} ran");
        assert_eq!(left_after(project.root(), Duration::from_secs(5)), [""; 0], "kill {i}");
        *met.entry(format!("{victim} while {stages} ran")).or_default() += 1;
    }
    format!("{count} kills, a run takes {whole:?}: {met:#?}")
}

/// The stages whose keys are locked.
fn under_way(project: &Pipeline) -> String {
    let locks = std::fs::read_dir(project.path("artifacts/work/locks")).into_iter().flatten().flatten();
    let owner = |text: String| serde_json::from_str::<Value>(text.lines().last()?).ok();
    let owners = locks.filter_map(|lock| owner(std::fs::read_to_string(lock.path()).ok()?));
    let mut names: Vec<_> = owners.filter_map(|owner| Some(owner["stage"].as_str()?.to_owned())).collect();
    names.sort();
    if names.is_empty() { "no stage".to_owned() } else { names.join(" and ") }
}

/// SIGKILL to the runner, or to the next worker that is there, as the kernel does when memory runs out; says to which,
/// and while which stages ran. Without another worker it is the runner as well.
fn strike(runner: &mut Child, is_runner: bool, project: &Pipeline) -> (&'static str, String) {
    let pid = runner.id().cast_signed();
    let is_worker = |process: &Process| {
        process.name != "kiln-supervisor" && process.command_line().contains("kiln-stages")
    };
    while !is_runner && runner.try_wait().unwrap().is_none() {
        if let Some(worker) = descendants(pid).into_iter().find(is_worker) {
            let stages = under_way(project);
            kill(worker.pid);
            return ("the worker", stages);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let stages = under_way(project);
    kill(pid);
    ("the runner", stages)
}

fn spawn(project: &Pipeline) -> Child {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin("kiln"));
    command.args(["run", "--device", "cpu"]).current_dir(project.root());
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
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

#[test]
#[ignore = "takes a quarter of an hour and a download of 120 MB"]
fn on_smollm2_the_policy_is_above_sft_and_the_second_run_runs_nothing() {
    let project = project("smollm2");
    let begun = Instant::now();
    assert_eq!(ran(&run(&project, &[])).len(), 10);
    println!("SmolLM2's ladder: {} s", begun.elapsed().as_secs());
    assert_eq!(ran(&run(&project, &[])), [""; 0]);
    let [sft, policy] = ["sft", "policy"].map(|rung| gold(&project, &[], rung));
    println!("gold of SFT {sft:?}, of the policy {policy:?}");
    assert!(policy.1 > sft.2, "the intervals touch: {sft:?} {policy:?}");
    project.ask(&["export", "merged", "--to", "gguf", "-o", "merged.gguf", "--verify"]).good();
}
