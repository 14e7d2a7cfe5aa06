//! A workshop for whole stages: made-up data, requests, and the worker's binary.

// Each program of tests uses a part.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use kiln::protocol::{Event, StageRequest};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// The bytes of every output file, by output and path.
pub type Outputs = BTreeMap<String, Vec<u8>>;

/// How a run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// By itself.
    Done,
    /// By SIGKILL in its middle.
    Killed,
    /// By SIGTERM in its middle.
    Stopped,
}

/// A stage to run, in as many places as one likes.
#[derive(Clone)]
pub struct Stage {
    pub kind: String,
    pub params: Value,
    pub inputs: BTreeMap<String, PathBuf>,
    pub output: &'static str,
    pub threads: u32,
    pub memory: u64,
}

impl Stage {
    fn new(kind: &str, output: &'static str, params: Value) -> Self {
        Self { kind: kind.to_owned(), params, inputs: BTreeMap::new(), output, threads: 1, memory: 0 }
    }

    pub fn input(mut self, name: &str, path: &Path) -> Self {
        self.inputs.insert(name.to_owned(), path.to_owned());
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.inputs.remove(name);
        self
    }

    pub fn with(mut self, param: &str, value: Value) -> Self {
        self.params[param] = value;
        self
    }

    /// A fresh place to run in.
    pub fn place(&self) -> Place {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        for name in ["outputs", "checkpoint"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        Place { stage: self.clone(), folder }
    }
}

/// A folder with the outputs and the checkpoint of one stage.
pub struct Place {
    stage: Stage,
    folder: tempfile::TempDir,
}

/// What a run did.
pub struct Run {
    /// None when a signal ended it.
    pub code: Option<i32>,
    pub events: Vec<Event>,
    /// Lines of stdout that are no events.
    pub strange: Vec<String>,
}

impl Place {
    fn request(&self) -> StageRequest {
        let output = self.folder.path().join("outputs").join(self.stage.output);
        StageRequest {
            kind: self.stage.kind.clone(),
            params: self.stage.params.clone(),
            inputs: self.stage.inputs.clone(),
            outputs: BTreeMap::from([(self.stage.output.to_owned(), output)]),
            checkpoint: self.folder.path().join("checkpoint"),
            threads: self.stage.threads,
            device: "cpu".to_owned(),
            memory: self.stage.memory,
        }
    }

    /// Runs the worker; `interval` sets the seconds between checkpoints.
    pub fn run(&self, ending: Ending, interval: Option<&str>) -> Run {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kiln-stages"));
        command.arg("run").stdin(Stdio::piped()).stdout(Stdio::piped()).env_remove("KILN_CHECKPOINT_SECONDS");
        if let Some(interval) = interval {
            command.env("KILN_CHECKPOINT_SECONDS", interval);
        }
        let mut worker = command.spawn().unwrap();
        let request = serde_json::to_vec(&self.request()).unwrap();
        worker.stdin.take().unwrap().write_all(&request).unwrap();
        let mut run = Run { code: None, events: Vec::new(), strange: Vec::new() };
        let mut signalled = ending == Ending::Done;
        for line in BufReader::new(worker.stdout.take().unwrap()).lines().map_while(Result::ok) {
            match serde_json::from_str(&line) {
                Ok(event) => run.events.push(event),
                Err(_) => run.strange.push(line),
            }
            if !signalled && run.steps().next().is_some() {
                self.await_checkpoint(&mut worker);
                let signal = if ending == Ending::Killed { Signal::KILL } else { Signal::TERM };
                kill_process(Pid::from_child(&worker), signal).unwrap();
                signalled = true;
            }
        }
        let status = worker.wait().unwrap();
        assert!(status.code().is_some() || status.signal() == Some(9), "{status}");
        run.code = status.code();
        run
    }

    /// The same place for a stage with another number of threads.
    pub fn with_threads(mut self, threads: u32) -> Self {
        self.stage.threads = threads;
        self
    }

    /// Starts the worker and asks it to stop after `delay`, wherever it is then; gives its exit code.
    pub fn stop_after(&self, delay: Duration) -> Option<i32> {
        self.signal_after(delay, Signal::TERM, None)
    }

    /// Starts the worker, which saves its state at every step, and kills it after `delay`; gives its exit code if it has
    /// ended before.
    pub fn kill_after(&self, delay: Duration) -> Option<i32> {
        self.signal_after(delay, Signal::KILL, Some("0"))
    }

    fn signal_after(&self, delay: Duration, signal: Signal, interval: Option<&str>) -> Option<i32> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kiln-stages"));
        command.arg("run").stdin(Stdio::piped()).stdout(Stdio::null());
        if let Some(interval) = interval {
            command.env("KILN_CHECKPOINT_SECONDS", interval);
        }
        let mut worker = command.spawn().unwrap();
        let request = serde_json::to_vec(&self.request()).unwrap();
        worker.stdin.take().unwrap().write_all(&request).unwrap();
        std::thread::sleep(delay);
        kill_process(Pid::from_child(&worker), signal).unwrap();
        let status = worker.wait().unwrap();
        assert!(status.code().is_some() || status.signal() == Some(signal.as_raw()), "{status}");
        status.code()
    }

    /// Runs the worker to its end while nobody can read its events; gives its exit code.
    pub fn run_unheard(&self) -> Option<i32> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kiln-stages"));
        let mut worker = command.arg("run").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        drop(worker.stdout.take());
        let request = serde_json::to_vec(&self.request()).unwrap();
        worker.stdin.take().unwrap().write_all(&request).unwrap();
        worker.wait().unwrap().code()
    }

    /// The state's file in the checkpoint folder.
    pub fn state(&self) -> PathBuf {
        self.folder.path().join("checkpoint/state.checkpoint")
    }

    /// Waits until a checkpoint is written that is younger than the first step.
    fn await_checkpoint(&self, worker: &mut Child) {
        let written = || std::fs::metadata(self.state()).ok().map(|m| (m.ino(), m.mtime(), m.mtime_nsec()));
        let before = written();
        while written() == before && worker.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// The output's files; none when it was not made.
    pub fn outputs(&self) -> Outputs {
        let mut found = Outputs::new();
        collect(&self.folder.path().join("outputs"), "", &mut found);
        found
    }

    /// Moves the output to `path`.
    fn deliver(self, path: &Path) {
        std::fs::rename(self.folder.path().join("outputs").join(self.stage.output), path).unwrap();
    }
}

fn collect(folder: &Path, prefix: &str, found: &mut Outputs) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = format!("{prefix}{}", path.file_name().unwrap().to_string_lossy());
        if path.is_dir() {
            collect(&path, &format!("{name}/"), found);
        } else {
            found.insert(name, std::fs::read(&path).unwrap());
        }
    }
}

impl Run {
    fn steps(&self) -> impl DoubleEndedIterator<Item = u64> {
        self.events.iter().filter_map(|e| match e {
            Event::Progress { step, .. } => Some(*step),
            _ => None,
        })
    }

    pub fn first_step(&self) -> u64 {
        self.steps().next().unwrap()
    }

    pub fn last_step(&self) -> u64 {
        self.steps().next_back().unwrap()
    }

    pub fn logged(&self, word: &str) -> bool {
        self.events.iter().any(|e| matches!(e, Event::Log { message, .. } if message.contains(word)))
    }

    pub fn error(&self) -> Option<String> {
        self.events.iter().find_map(|e| match e {
            Event::Error { message } => Some(message.clone()),
            _ => None,
        })
    }

    pub fn summary(&self) -> Vec<(String, f64)> {
        match self.events.last() {
            Some(Event::Done { summary }) => summary.clone(),
            other => panic!("the last event is {other:?}"),
        }
    }
}

/// Made-up data, and the artifacts of each stage on it.
pub struct Workshop {
    folder: PathBuf,
    made: BTreeMap<&'static str, PathBuf>,
}

/// Words of a small world, by a fixed rule.
fn words(seed: u64, count: usize) -> String {
    const WORDS: [&str; 12] =
        ["the", "sun", "rose", "over", "a", "quiet", "hill", "and", "birds", "sang", "in", "trees"];
    let word = |i: usize| {
        let mixed = (seed * 1000 + i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(23);
        WORDS[(mixed.wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 32) as usize % WORDS.len()]
    };
    (0..count).map(word).collect::<Vec<_>>().join(" ")
}

fn lines(rows: impl Iterator<Item = Value>) -> String {
    rows.map(|row| format!("{row}\n")).collect()
}

impl Workshop {
    /// One whose artifacts are in a folder of this name. Each program of tests has its own.
    pub fn in_folder(name: &str) -> Self {
        // Nothing drops what all tests share, so it lies where the next run finds and replaces it.
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let corpus: String = (0..120).map(|i| words(i, 20) + ".\n").collect();
        let prompt = |i: u64| words(500 + i, 3);
        let demonstrations = lines(
            (0..40).map(|i| json!({"prompt": prompt(i), "response": words(900 + i, 2 + i as usize % 4)})),
        );
        let prompts = lines((0..12).map(|i| json!({"prompt": prompt(i)})));
        // The longer the better: something that a reward model can learn.
        let completion = |i: u64, k: usize| words(2000 + 10 * i + k as u64, k + 1);
        let rankings = lines((0..40).map(|i| {
            let completions: Vec<String> = (0..4).map(|k| completion(i, k)).collect();
            json!({"prompt": prompt(i), "completions": completions, "ranks": [4, 3, 2, 1]})
        }));
        let mut made = BTreeMap::new();
        for (name, text) in [
            ("corpus", corpus),
            ("demonstrations", demonstrations),
            ("prompts", prompts),
            ("rankings", rankings),
        ] {
            let path = folder.join(name);
            std::fs::write(&path, text).unwrap();
            made.insert(name, path);
        }
        let mut shop = Self { folder, made };
        shop.make("tokenizer", &shop.tokenizer(1));
        shop.make("base", &shop.pretrain());
        shop.make("sft", &shop.sft());
        shop.make("reward", &shop.reward());
        shop
    }

    fn make(&mut self, name: &'static str, stage: &Stage) {
        self.made.insert(name, self.made(name, stage));
    }

    /// What a stage makes, under another name than the artifacts of the workshop.
    pub fn made(&self, name: &str, stage: &Stage) -> PathBuf {
        let place = stage.place();
        let run = place.run(Ending::Done, None);
        assert_eq!(run.code, Some(0), "{name}: {:?}", run.error());
        let path = self.folder.join(name);
        place.deliver(&path);
        path
    }

    pub fn artifact(&self, name: &str) -> PathBuf {
        self.made[name].clone()
    }

    pub fn vocab(&self) -> u32 {
        kiln_formats::bpe::Tokenizer::load(&self.artifact("tokenizer")).unwrap().vocab_size() as u32
    }

    pub fn tokenizer(&self, threads: u32) -> Stage {
        let stage = Stage::new("tokenizer", "tokenizer", json!({"vocab_size": 300}));
        Stage { threads, ..stage.input("corpus", &self.made["corpus"]) }
    }

    pub fn pretrain(&self) -> Stage {
        let model = json!({
            "preset": "nano", "layers": 1, "hidden_size": 32, "heads": 2, "max_position_embeddings": 32,
        });
        let params = json!({
            "model": model, "steps": 150, "batch_size": 4, "micro_batch": 3, "learning_rate": 5e-3,
            "schedule": {"warmup": 5}, "eval_every": 60,
        });
        Stage::new("pretrain", "model", params)
            .input("tokenizer", &self.made["tokenizer"])
            .input("corpus", &self.made["corpus"])
    }

    pub fn sft(&self) -> Stage {
        let params = json!({"steps": 150, "batch_size": 6, "micro_batch": 4, "eval_every": 60});
        Stage::new("sft", "model", params)
            .input("model", &self.made["base"])
            .input("demonstrations", &self.made["demonstrations"])
    }

    pub fn reward(&self) -> Stage {
        let params = json!({"epochs": 12, "prompts_per_batch": 3, "learning_rate": 2e-3});
        Stage::new("reward", "reward", params)
            .input("model", &self.made["sft"])
            .input("rankings", &self.made["rankings"])
            .input("demonstrations", &self.made["demonstrations"])
    }

    pub fn dpo(&self) -> Stage {
        let params =
            json!({ "epochs": 8, "prompts_per_batch": 4, "learning_rate": 1e-3, "validation_fraction": 0.2 });
        Stage::new("dpo", "policy", params)
            .input("model", &self.made["sft"])
            .input("rankings", &self.made["rankings"])
    }

    pub fn ppo(&self) -> Stage {
        let params = json!({
            "iterations": 24, "prompts_per_batch": 8, "max_new_tokens": 12, "epochs": 2, "minibatches": 2,
            "micro_batch": 3, "learning_rate": 3e-4, "kl_target": 3.0, "eval_every": 8, "temperature": 0.9,
        });
        Stage::new("ppo", "policy", params)
            .input("model", &self.made["sft"])
            .input("reward", &self.made["reward"])
            .input("prompts", &self.made["prompts"])
    }

    pub fn eval(&self) -> Stage {
        let params = json!({"prompts": 13, "max_new_tokens": 10, "best_of": 2, "batch_size": 16, "shown": 2});
        Stage::new("eval", "report", params)
            .input("sft", &self.made["sft"])
            .input("base", &self.made["base"])
            .input("reward", &self.made["reward"])
            .input("prompts", &self.made["prompts"])
            .input("lexicon", &self.made["corpus"])
    }

    pub fn sample(&self, batch_size: usize) -> Stage {
        let params = json!({"samples_per_prompt": 3, "max_new_tokens": 10, "batch_size": batch_size});
        Stage::new("sample", "completions", params)
            .input("model", &self.made["sft"])
            .input("prompts", &self.made["prompts"])
    }
}
