//! What goes into an action key.
//!
//! Purpose: everything that may change the outputs of a stage, as one JSON object whose canonical
//! digest is the action key.
//! Invariant: equal ingredients, equal outputs. Names of stages and pipelines, the order of the
//! file, comments, retries, timeouts, resources and paths of this machine are never in it; a folder
//! and a file with the bytes of its listing differ.
//! Must not know: the store, what is cached.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::digest::Digest;
use crate::plan::types::ProviderFacts;
use crate::spec::types::{Run, Stage, Work};
use crate::cas::types::ArtifactRef;

/// The format of ingredients; bumped when the same stage must not find its older actions.
pub const INGREDIENTS_FORMAT: &str = "kiln.ingredients/1";

/// What a stage's outputs depend on beside its own text.
#[derive(Debug, Default)]
pub struct Surroundings<'a> {
    /// The artifact of each input that is known, by port.
    pub inputs: BTreeMap<String, ArtifactRef>,
    /// The files that the command names under `uses`, by path.
    pub uses: BTreeMap<String, ArtifactRef>,
    /// What is known of its provider; for a command nothing.
    pub provider: Option<&'a ProviderFacts>,
    /// The cores it gets.
    pub threads: u32,
}

/// The ingredients of a stage.
pub fn ingredients(stage: &Stage, around: &Surroundings) -> Value {
    let params: Map<_, _> = stage.params.iter().map(|(k, v)| (k.clone(), v.value.clone())).collect();
    let mut all = Map::new();
    all.insert("format".into(), INGREDIENTS_FORMAT.into());
    all.insert("params".into(), params.into());
    all.insert("inputs".into(), artifacts(&around.inputs));
    all.insert("env".into(), json!(stage.env));
    match &stage.work {
        Work::Kind { kind, revision, .. } => {
            all.insert("kind".into(), kind.as_str().into());
            all.insert("revision".into(), (*revision).into());
        }
        // Params are not filled into the command: command and params together say the same, and a
        // changed param then gives one reason, not two.
        Work::Command { run, .. } => {
            let outputs: Map<_, _> =
                stage.outputs.iter().map(|p| (p.name.clone(), json!(p.types.first()))).collect();
            all.insert("kind".into(), "command".into());
            all.insert("run".into(), command(run));
            all.insert("uses".into(), artifacts(&around.uses));
            all.insert("outputs".into(), outputs.into());
        }
    }
    if stage.exact {
        let mut numerics = around.provider.map(|p| p.numerics.clone()).unwrap_or_default();
        numerics.insert("threads".into(), around.threads.to_string());
        all.insert("numerics".into(), json!(numerics));
    }
    Value::Object(all)
}

/// The action key of ingredients.
pub fn key(ingredients: &Value) -> Digest {
    Digest::of_json(ingredients)
}

/// An artifact in ingredients: its digest, with a slash behind it for a folder.
pub fn spell(artifact: &ArtifactRef) -> String {
    format!("{}{}", artifact.digest, if artifact.tree { "/" } else { "" })
}

fn artifacts(by_name: &BTreeMap<String, ArtifactRef>) -> Value {
    by_name
        .iter()
        .map(|(name, artifact)| (name.clone(), Value::from(spell(artifact))))
        .collect::<Map<_, _>>()
        .into()
}

fn command(run: &Run) -> Value {
    match run {
        Run::Shell(text) => text.as_str().into(),
        Run::Exec(words) => json!(words),
    }
}
