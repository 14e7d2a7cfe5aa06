//! Pipelines for unit tests.
//!
//! Purpose: loads a text as a pipeline file, with a description such as a provider gives (its
//! schemas come from schemars, as those of real providers do).
//! Invariant: no process is started; the environment is what the test says.
//! Must not know: anything but `spec` and `graph`.

use std::collections::BTreeMap;
use std::path::Path;

use schemars::{JsonSchema, schema_for};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::graph::{self, Graph};
use crate::protocol::{Description, Kind, PROTOCOL, Port};
use crate::spec::diagnostic::{self, Diagnostic};
use crate::spec::{LoadOptions, Providers};

/// A model's size.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Model {
    preset: Preset,
    /// Layers, if not the preset's.
    layers: Option<u32>,
    #[schemars(range(min = 0.0, max = 0.9))]
    dropout: f32,
}

impl Default for Model {
    fn default() -> Self {
        Self { preset: Preset::Tiny, layers: None, dropout: 0.1 }
    }
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Preset {
    /// For tests.
    Tiny,
    /// For laptops.
    Small,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Schedule {
    Constant,
    Cosine,
    /// Down in steps.
    Steps {
        every: u32,
    },
}

/// What `pretrain` takes.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Pretrain {
    model: Model,
    /// The learning rate.
    #[schemars(extend("exclusiveMinimum" = 0))]
    learning_rate: f64,
    #[schemars(range(min = 1))]
    steps: u32,
    schedule: Schedule,
    warmup: Option<u32>,
    betas: [f64; 2],
    seed: u64,
    tags: Vec<String>,
    init: Option<Model>,
}

impl Default for Pretrain {
    fn default() -> Self {
        Self {
            model: Model::default(),
            learning_rate: 1e-3,
            steps: 100,
            schedule: Schedule::Cosine,
            warmup: None,
            betas: [0.9, 0.95],
            seed: 0,
            tags: Vec::new(),
            init: None,
        }
    }
}

/// What `sft` takes; `epochs` has no default.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Sft {
    epochs: u32,
    #[serde(default)]
    learning_rate: f64,
    #[serde(default)]
    seed: u64,
}

fn port(name: &str, types: &[&str], optional: bool) -> Port {
    let types = types.iter().map(|t| (*t).to_owned()).collect();
    Port { name: name.to_owned(), types, optional, summary: format!("the {name}") }
}

fn kind(name: &str, inputs: Vec<Port>, outputs: Vec<Port>, params: Value) -> Kind {
    Kind {
        name: name.to_owned(),
        revision: 3,
        summary: format!("makes {name}"),
        inputs,
        outputs,
        params,
        cpus: 0,
    }
}

/// What the provider of the tests offers.
pub fn description() -> Description {
    let params = |schema: schemars::Schema| schema.to_value();
    let corpus = || port("corpus", &["corpus"], false);
    let tokenizer = || port("tokenizer", &["tokenizer"], false);
    Description {
        protocol: PROTOCOL,
        provider: "fake".to_owned(),
        version: "1".to_owned(),
        numerics: BTreeMap::new(),
        types: Vec::new(),
        files: Vec::new(),
        environment: Vec::new(),
        devices: Vec::new(),
        checks: false,
        inspects: false,
        kinds: vec![
            kind(
                "pretrain",
                vec![corpus(), tokenizer()],
                vec![port("checkpoint", &["checkpoint"], false), port("report", &["report"], false)],
                params(schema_for!(Pretrain)),
            ),
            kind(
                "sft",
                vec![port("base", &["checkpoint"], false), port("data", &["demonstrations", "table"], true)],
                vec![port("checkpoint", &["checkpoint"], false)],
                params(schema_for!(Sft)),
            ),
            kind(
                "tokenizer",
                vec![corpus()],
                vec![port("tokenizer", &["tokenizer"], false)],
                json!({"properties": {"vocab_size": {"type": "integer", "default": 512, "minimum": 256}}}),
            ),
        ],
    }
}

/// A provider that counts how often it is asked.
#[derive(Default)]
pub struct Fake {
    /// The questions, in order.
    pub asked: Vec<Option<std::path::PathBuf>>,
    /// Answers with an error instead.
    pub fails: bool,
}

impl Providers for Fake {
    fn describe(&mut self, program: Option<&Path>) -> Result<Description, String> {
        self.asked.push(program.map(Path::to_owned));
        if self.fails { Err("no provider: build it with `make`".to_owned()) } else { Ok(description()) }
    }
}

/// Options with a small environment and root `/project`.
pub fn options() -> LoadOptions {
    let environment = [("SEED", "7"), ("NAME", "plays")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    LoadOptions { root: "/project".into(), environment: environment.into(), ..LoadOptions::default() }
}

/// A pipeline with a bit of everything and no error.
pub const GOOD: &str = "\
pipeline: assistant
params: { seed: 1337 }
sources:
  plays: { path: data/plays/*.txt, type: corpus }
  notes: notes.txt
stages:
  tok: { kind: tokenizer, inputs: { corpus: plays }, params: { vocab_size: 2048 } }
  base:
    kind: pretrain
    inputs: { tokenizer: tok, corpus: plays }
    params: { model: { preset: small }, steps: 2000, learning_rate: 1e-3 }
    resources: { cpus: 2, memory: 4GiB }
    timeout: 2h
    retries: 2
    cache: exact
  lengths:
    inputs: { corpus: plays }
    run: python3 count.py {inputs.corpus} {outputs.table} --seed {params.seed} # ${{x}} {{}}
    uses: [count.py]
    env: { LC_ALL: C, N: 3 }
    outputs: { table: table, log: any }
";

/// Loads a text as the file `p.yaml` of a project.
pub fn load_with(
    text: &str,
    options: &LoadOptions,
    providers: &mut dyn Providers,
) -> Result<Graph, Vec<Diagnostic>> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.yaml");
    std::fs::write(&path, text).unwrap();
    graph::load(&path, options, providers).map_err(|mut all| {
        all.iter_mut().for_each(|d| d.file = "p.yaml".into());
        all
    })
}

/// Loads a text.
pub fn load(text: &str) -> Result<Graph, Vec<Diagnostic>> {
    load_with(text, &options(), &mut Fake::default())
}

/// The errors of a text, as people see them.
pub fn errors(text: &str) -> String {
    load(text).map_or_else(|all| diagnostic::render(&all), |_| "no errors".to_owned())
}

/// The errors of a text as `code line:column message` lines.
pub fn short_errors(text: &str) -> String {
    match load(text) {
        Ok(_) => "no errors".to_owned(),
        Err(all) => short(&all),
    }
}

/// Errors as `code line:column message (hint)` lines.
pub fn short(all: &[Diagnostic]) -> String {
    let line = |d: &Diagnostic| {
        let hint = d.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
        format!("{} {}:{} {}{hint}", d.code, d.span.start.line, d.span.start.column, d.message)
    };
    all.iter().map(line).collect::<Vec<_>>().join("\n")
}
