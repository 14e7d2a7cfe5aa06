//! Whether a description keeps the rules.
//!
//! Purpose: what a provider printed -> a [`Description`] that the rest of Kiln can rely on.
//! Invariant: names of kinds, ports, types and variables are safe as file names, keys and arguments, and
//! unique where they name something; every output has one type.
//! Must not know: what kinds mean, how params are checked.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::error::ProviderError;
use crate::digest::canonical_json;
use crate::protocol::{Description, Kind, PROTOCOL, Port, is_name};

/// The kind that needs no provider, so that none may offer it.
const COMMAND: &str = "command";

/// Reads a description.
///
/// # Errors
/// It is none, has another version, or breaks a rule.
pub fn parse(program: &Path, text: &[u8]) -> Result<Description, ProviderError> {
    let bad = |why: String| ProviderError::BadDescription { program: program.to_owned(), why };
    let value: Value = serde_json::from_slice(text).map_err(|e| bad(e.to_string()))?;
    // In canonical form a whole number has no fraction, whatever language wrote it.
    let text = canonical_json(&value);
    let value: Value = serde_json::from_str(&text).map_err(|e| bad(e.to_string()))?;
    // Before its shape is looked at: another version may have another shape.
    if let Some(theirs) = value.get("protocol").and_then(Value::as_u64)
        && theirs != u64::from(PROTOCOL)
    {
        return Err(ProviderError::Protocol { program: program.to_owned(), theirs });
    }
    let description: Description = serde_json::from_str(&text).map_err(|e| bad(e.to_string()))?;
    check(&description).map_err(bad)?;
    Ok(description)
}

/// The first rule that a description breaks.
fn check(description: &Description) -> Result<(), String> {
    name(&description.provider, "the provider")?;
    description.types.iter().try_for_each(|t| name(t, "an artifact type"))?;
    for variable in &description.environment {
        if variable.is_empty() || variable.contains(['=', '\0']) {
            return Err(format!("{variable:?} cannot be the name of an environment variable"));
        }
    }
    unique(description.kinds.iter().map(|kind| kind.name.as_str()), "kind", "it")?;
    description.kinds.iter().try_for_each(kind)
}

fn kind(kind: &Kind) -> Result<(), String> {
    name(&kind.name, "a kind")?;
    if kind.name == COMMAND {
        return Err(format!("the kind `{COMMAND}` is built into Kiln; give it another name"));
    }
    let owner = format!("the kind `{}`", kind.name);
    if !kind.params.is_object() {
        return Err(format!("`params` of {owner} must be a JSON Schema, an object"));
    }
    if kind.outputs.is_empty() {
        return Err(format!("{owner} has no output"));
    }
    for (ports, what) in [(&kind.inputs, "input"), (&kind.outputs, "output")] {
        unique(ports.iter().map(|port| port.name.as_str()), what, &owner)?;
        ports.iter().try_for_each(|p| port(p, what, &owner))?;
    }
    match kind.outputs.iter().find(|port| port.types.len() != 1) {
        Some(port) => Err(format!("the output `{}` of {owner} must have exactly one type", port.name)),
        None => Ok(()),
    }
}

fn port(port: &Port, what: &str, owner: &str) -> Result<(), String> {
    name(&port.name, format_args!("an {what} of {owner}"))?;
    if port.types.is_empty() {
        return Err(format!("the {what} `{}` of {owner} takes no type", port.name));
    }
    port.types
        .iter()
        .try_for_each(|t| name(t, format_args!("a type of the {what} `{}` of {owner}", port.name)))
}

fn name(text: &str, what: impl std::fmt::Display) -> Result<(), String> {
    if is_name(text) {
        return Ok(());
    }
    let shown: String = text.chars().take(100).collect();
    Err(format!(
        "{shown:?} cannot be the name of {what}: at most 100 letters, digits, `_` and `-`, of which the \
         first is no `-`"
    ))
}

fn unique<'a>(names: impl Iterator<Item = &'a str>, what: &str, owner: &str) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(format!("{owner} has two {what}s named `{name}`"));
        }
    }
    Ok(())
}
