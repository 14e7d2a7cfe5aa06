//! The kinds that this provider offers.
//!
//! Purpose: name, revision, ports, params schema and run function of each kind, in one table.
//! Invariant: params are described by the very types that the stages read; a kind's revision is
//! bumped by hand whenever its output changes for the same inputs and params.
//! Must not know: how any stage works.

use std::collections::BTreeSet;

use kiln::protocol::{
    CheckAnswer, CheckRequest, Description, Kind, PROTOCOL, Port, StageParams, StageRequest,
};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{dpo, eval, merge, model, names, ppo, pretrain, rank, reward, sample, sft, tokenize, tokenizer};
use crate::context::{Context, StageError, Summary};

type Run = Box<dyn Fn(&StageRequest, &Context) -> Result<Summary, StageError>>;
type Check = Box<dyn Fn(&Value) -> Result<(), String>>;

/// A kind and how it runs.
pub struct Entry {
    /// What the runner is told.
    pub kind: Kind,
    check: Check,
    run: Run,
}

impl Entry {
    /// An entry whose params are of type `P`.
    pub fn new<P: JsonSchema + DeserializeOwned + 'static>(
        name: &str,
        revision: u32,
        summary: &str,
        ports: (Vec<Port>, Vec<Port>),
        run: fn(&P, &Context) -> Result<Summary, StageError>,
    ) -> Self {
        let mut schema = schemars::schema_for!(P);
        names::add(schema.ensure_object());
        Self {
            kind: Kind {
                name: name.to_owned(),
                revision,
                summary: summary.to_owned(),
                inputs: ports.0,
                outputs: ports.1,
                params: schema.into(),
                cpus: 0,
            },
            check: Box::new(|params| read::<P>(params).map(|_| ())),
            run: Box::new(move |request, ctx| run(&read(&request.params).map_err(StageError::failed)?, ctx)),
        }
    }

    /// A stage of this kind that does with fewer cores.
    pub fn cpus(mut self, cpus: u32) -> Self {
        self.kind.cpus = cpus;
        self
    }

    /// A kind whose params `check` looks at, too: for what their schema cannot say, without any input.
    pub fn checked<P: DeserializeOwned + 'static>(mut self, check: fn(&P) -> Result<(), String>) -> Self {
        self.check = Box::new(move |params| check(&read(params)?));
        self
    }

    /// Looks at the params of a stage that is to run later.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn check(&self, params: &Value) -> Result<(), String> {
        (self.check)(params)
    }

    /// Runs a stage.
    ///
    /// # Errors
    /// Those of the stage.
    pub fn run(&self, request: &StageRequest, ctx: &Context) -> Result<Summary, StageError> {
        self.check(&request.params).map_err(StageError::failed)?;
        (self.run)(request, ctx)
    }
}

fn read<P: DeserializeOwned>(params: &Value) -> Result<P, String> {
    serde_json::from_value(params.clone()).map_err(|e| e.to_string())
}

/// An input that must be there.
pub fn input(name: &str, types: &[&str], summary: &str) -> Port {
    Port {
        name: name.to_owned(),
        types: types.iter().map(|t| (*t).to_owned()).collect(),
        optional: false,
        summary: summary.to_owned(),
    }
}

/// An input that may be left out.
pub fn optional(name: &str, types: &[&str], summary: &str) -> Port {
    Port { optional: true, ..input(name, types, summary) }
}

/// An output.
pub fn output(name: &str, artifact_type: &str, summary: &str) -> Port {
    input(name, &[artifact_type], summary)
}

/// All kinds, sorted by name.
pub fn entries() -> Vec<Entry> {
    vec![
        dpo::entry(),
        eval::entry(),
        merge::entry(),
        model::entry(),
        ppo::entry(),
        pretrain::entry(),
        rank::entry(),
        reward::entry(),
        sample::entry(),
        sft::entry(),
        tokenize::entry(),
        tokenizer::entry(),
    ]
}

/// The answer to `check`.
pub fn check(request: &CheckRequest) -> CheckAnswer {
    let entries = entries();
    let problem = |stage: &StageParams| match entries.iter().find(|e| e.kind.name == stage.kind) {
        Some(entry) => entry.check(&stage.params).err(),
        None => Some(no_kind(&stage.kind)),
    };
    CheckAnswer { problems: request.stages.iter().map(problem).collect() }
}

/// Says that there is no such kind.
pub fn no_kind(name: &str) -> String {
    format!("there is no kind `{name}` here")
}

/// The answer to `describe`.
pub fn description() -> Description {
    let kinds: Vec<Kind> = entries().into_iter().map(|e| e.kind).collect();
    Description {
        protocol: PROTOCOL,
        provider: "kiln-stages".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        numerics: crate::device::numerics(),
        types: types(&kinds),
        files: crate::device::files(),
        environment: crate::device::environment(),
        devices: crate::device::device_files(),
        checks: true,
        inspects: true,
        kinds,
    }
}

/// The artifact types of the ports, sorted; `any` is no type of its own.
fn types(kinds: &[Kind]) -> Vec<String> {
    let ports = kinds.iter().flat_map(|kind| kind.inputs.iter().chain(&kind.outputs));
    let types: BTreeSet<&String> = ports.flat_map(|port| &port.types).filter(|t| *t != "any").collect();
    types.into_iter().cloned().collect()
}
