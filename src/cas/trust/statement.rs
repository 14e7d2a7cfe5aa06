//! What is signed of an action: its in-toto statement with a SLSA provenance.
//!
//! Purpose: one canonical text of an action that usual tools understand.
//! Invariant: everything of an action but its signatures is in it, so that nothing can be changed and keep its
//! signature. The text follows from the action alone: it need not be stored, and must not change under one format of
//! actions.
//! Must not know: keys, where an action is stored.
//!
//! Sources: in-toto Attestation Framework, Statement v1; SLSA v1.0, Provenance.

use serde_json::{Value, json};

use crate::cas::types::{Action, ArtifactRef};

/// The type of a statement.
const STATEMENT: &str = "https://in-toto.io/Statement/v1";
/// The type of the predicate.
const PREDICATE: &str = "https://slsa.dev/provenance/v1";
/// What the parameters mean: those of `kiln.key/2`.
const BUILD_TYPE: &str = "urn:kiln:key:2";
/// Who built.
const BUILDER: &str = "urn:kiln:builder";

/// The statement of an action.
pub fn statement(action: &Action) -> Value {
    let key_inputs = action.key_inputs.value();
    let provenance = &action.provenance;
    json!({
        "_type": STATEMENT,
        "subject": action.outputs.iter().map(|(name, artifact)| subject(name, artifact)).collect::<Vec<_>>(),
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": key_inputs,
                "internalParameters": { "action": action.format, "key": action.key },
                "resolvedDependencies": dependencies(&key_inputs),
            },
            "runDetails": {
                "builder": { "id": BUILDER, "version": { "kiln": provenance.kiln } },
                "metadata": { "invocationId": provenance.run, "startedOn": provenance.started },
                "byproducts": [{ "name": "measured", "annotations": {
                    "seconds": provenance.seconds,
                    "provider": provenance.provider,
                    "summary": provenance.summary,
                } }],
            },
        },
    })
}

/// An output. The digest of a folder is that of its listing, not of bytes that a tool could hash.
fn subject(name: &str, artifact: &ArtifactRef) -> Value {
    let kind = if artifact.tree { "kilnTree" } else { "sha256" };
    let annotations = json!({ "size": artifact.size, "executable": artifact.executable });
    json!({ "name": name, "digest": { kind: artifact.digest }, "annotations": annotations })
}

/// Inputs and used files by name.
fn dependencies(key_inputs: &Value) -> Vec<Value> {
    let section = |section: &str| {
        let entries = key_inputs.get(section).and_then(Value::as_object).into_iter().flatten();
        let prefix = section.to_owned();
        entries
            .filter_map(move |(name, value)| dependency(&format!("{prefix}/{name}"), value.as_str()?))
            .collect::<Vec<_>>()
    };
    [section("inputs"), section("uses")].concat()
}

/// A digest as key inputs have it, with a `/` behind it for a folder and a `*` for an executable file.
fn dependency(name: &str, digest: &str) -> Option<Value> {
    let hex = digest.get(..64)?;
    let kind = if digest.ends_with('/') { "kilnTree" } else { "sha256" };
    Some(json!({ "name": name, "digest": { kind: hex } }))
}
