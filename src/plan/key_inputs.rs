//! What goes into an action key.
//!
//! Purpose: everything that may change the outputs of a stage, as one JSON object (`kiln.key/2`) whose
//! canonical digest is the action key.
//! Invariant: equal key inputs, equal outputs. Names of stages and pipelines, the order of the file,
//! comments, retries, timeouts, resources, the executor, paths of this machine, git state and the values
//! of variables that are passed on are never in it. A file, an executable file and a folder of one digest
//! differ. The object holds no number that a double cannot hold, so that any RFC 8785 library can check
//! a key.
//! Must not know: the store, what is cached.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::cas::types::ArtifactRef;
use crate::digest::{Digest, tag_integers};
use crate::protocol::Port;
use crate::provider::{ENVIRONMENT_POLICY, ProviderFacts};
use crate::spec::types::{Download, EnvValue, Run, Sandbox, Spanned, Stage, Work};

/// The format of key inputs; bumped when the same stage must not find its older actions.
pub const KEY_FORMAT: &str = "kiln.key/2";

/// What a stage's outputs depend on beside its own text.
#[derive(Debug, Default)]
pub struct KeyInputs<'a> {
    /// The artifact of each input that is known, by port.
    pub inputs: BTreeMap<String, ArtifactRef>,
    /// Every single file under `uses`, by its path relative to the project root.
    pub uses: BTreeMap<String, ArtifactRef>,
    /// What is known of its provider; for a command nothing.
    pub provider: Option<&'a ProviderFacts>,
    /// The threads that it gets; counts with `cache: exact` only.
    pub threads: u32,
    /// The operating system and architecture that it runs on.
    pub platform: String,
}

impl KeyInputs<'_> {
    /// The key inputs of a stage, as they stand in its action.
    pub fn to_json(&self, stage: &Stage) -> Value {
        let params: Value = stage.params.iter().map(|(k, v)| (k.clone(), v.value.clone())).collect();
        let mut all = Map::new();
        all.insert("format".into(), KEY_FORMAT.into());
        all.insert("params".into(), tag_integers(&params));
        all.insert("inputs".into(), artifacts(&self.inputs));
        all.insert("outputs".into(), outputs(stage));
        all.insert("env".into(), env(&stage.env));
        match &stage.work {
            Work::Kind { kind, revision, .. } => {
                let provider = self.provider.map_or("", |provider| provider.name.as_str());
                all.insert("provider".into(), provider.into());
                all.insert("kind".into(), kind.as_str().into());
                all.insert("revision".into(), (*revision).into());
                let endings = self.endings(stage);
                if !endings.is_empty() {
                    all.insert("endings".into(), endings.into());
                }
            }
            Work::Command { .. } => self.command(stage, &mut all),
            Work::Download(download) => {
                all.insert("kind".into(), "download".into());
                all.insert("sha256".into(), digests(download));
                // Whoever reads the bytes names their type; they are the same bytes with any.
                all.insert("outputs".into(), stage.outputs.iter().map(|port| (&*port.name, "any")).collect());
            }
        }
        if stage.exact {
            all.insert("numerics".into(), self.numerics());
        }
        Value::Object(all)
    }

    /// What only commands have. Params are not filled into `run`: both together say the same, and a changed
    /// param then gives one reason, not two.
    fn command(&self, stage: &Stage, all: &mut Map<String, Value>) {
        let Work::Command { run, shell, cwd, sandbox, .. } = &stage.work else { return };
        all.insert("kind".into(), "command".into());
        all.insert("environment_policy".into(), ENVIRONMENT_POLICY.into());
        match run {
            Run::Script(script) => {
                all.insert("run".into(), script.as_str().into());
                all.insert("shell".into(), json!(shell));
            }
            // No shell has a hand in it.
            Run::Exec(words) => _ = all.insert("run".into(), json!(words)),
        }
        all.insert("uses".into(), artifacts(&self.uses));
        all.insert("at".into(), places(&stage.places));
        all.insert("path".into(), places(&stage.output_paths));
        if let Some(cwd) = cwd {
            all.insert("cwd".into(), cwd.value.as_str().into());
        }
        // A command that sees less than another gives the same result, or fails.
        if *sandbox == Sandbox::Off {
            all.insert("sandbox".into(), "off".into());
        }
        if !stage.any_platform {
            all.insert("platform".into(), self.platform.as_str().into());
        }
    }

    /// The endings of inputs that are files; a folder has the names of its files in its digest.
    fn endings(&self, stage: &Stage) -> Map<String, Value> {
        let is_folder = |port: &str| self.inputs.get(port).is_some_and(|artifact| artifact.tree);
        let endings = stage.endings.iter().filter(|(port, _)| !is_folder(port));
        endings.map(|(port, ending)| (port.clone(), ending.as_str().into())).collect()
    }

    fn numerics(&self) -> Value {
        let declared = self.provider.map(|provider| provider.numerics.clone()).unwrap_or_default();
        let mut numerics: Map<_, _> = declared.into_iter().map(|(name, v)| (name, v.into())).collect();
        numerics.insert("threads".into(), self.threads.into());
        numerics.into()
    }
}

/// The digests of what is brought, without the places that it is brought from.
fn digests(download: &Download) -> Value {
    match download {
        Download::File(link) => link.sha256.as_str().into(),
        Download::Folder(links) => links.iter().map(|(path, link)| (path, link.sha256.as_str())).collect(),
    }
}

/// The action key of key inputs.
pub fn key(key_inputs: &Value) -> Digest {
    Digest::of_json(key_inputs)
}

/// The operating system and architecture of this machine, such as `linux-x86_64`.
pub fn platform() -> String {
    format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH)
}

/// An artifact in key inputs: its digest, with a `/` behind it for a folder and a `*` for an executable
/// file, as `ls -F` has it.
pub fn artifact(artifact: &ArtifactRef) -> String {
    let mark = match artifact {
        ArtifactRef { tree: true, .. } => "/",
        ArtifactRef { executable: true, .. } => "*",
        _ => "",
    };
    format!("{}{mark}", artifact.digest)
}

/// Artifacts by name, as key inputs have them.
pub fn artifacts(by_name: &BTreeMap<String, ArtifactRef>) -> Value {
    by_name.iter().map(|(name, one)| (name.clone(), Value::from(artifact(one)))).collect()
}

/// Names and types; the order says only which one is the default, and readers name the bytes.
fn outputs(stage: &Stage) -> Value {
    let artifact_type = |port: &Port| Value::from(port.types.first().map_or("any", String::as_str));
    stage.outputs.iter().map(|port| (port.name.clone(), artifact_type(port))).collect()
}

/// Literal values; of a variable that is passed on only which one it is.
fn env(env: &BTreeMap<String, EnvValue>) -> Value {
    let value = |value: &EnvValue| match value {
        EnvValue::Literal(text) => text.as_str().into(),
        EnvValue::Pass(name) | EnvValue::Secret(name) => json!({ "from": name }),
    };
    env.iter().map(|(name, v)| (name.clone(), value(v))).collect()
}

/// Places that a stage names itself, as they stand in the file.
fn places(places: &BTreeMap<String, Spanned<String>>) -> Value {
    places.iter().map(|(name, place)| (name.clone(), Value::from(place.value.as_str()))).collect()
}
