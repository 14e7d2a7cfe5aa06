//! Why a stage is stale.
//!
//! Purpose: compares key inputs with those of the last successful action, down to single values.
//! Invariant: two key inputs that differ give at least one reason; two spellings of one value give none.
//! Must not know: the store, how reasons are printed.

use serde_json::{Map, Value};

use crate::digest::{canonical_json, untag_integers};
use crate::plan::files::names_file;
use crate::plan::types::{Cause, Reason};
use crate::spec::types::{Reference, Span, Stage, Work};

/// The stage was asked for with `--force`.
pub fn forced(stage: &Stage) -> Reason {
    plain(Cause::Forced, "forced", stage)
}

/// No action of the stage is known.
pub fn never_ran(stage: &Stage) -> Reason {
    plain(Cause::NeverRan, "no result yet", stage)
}

/// The bytes of an output are gone.
pub fn output_missing(stage: &Stage, output: &str) -> Reason {
    plain(Cause::OutputsMissing, &format!("outputs.{output}"), stage)
}

/// The record of the stage does not name an output.
pub fn output_unrecorded(stage: &Stage, output: &str) -> Reason {
    plain(Cause::OutputUnrecorded, &format!("outputs.{output}"), stage)
}

/// The record of the stage does not count, for no trusted key has signed it.
pub fn untrusted(stage: &Stage) -> Reason {
    plain(Cause::Untrusted, "signature", stage)
}

/// The stage waits on one above it.
pub fn waits(stage: &Stage, above: &str) -> Reason {
    Reason { from: Some(above.to_owned()), ..plain(Cause::Waits, "waits on", stage) }
}

fn plain(cause: Cause, what: &str, stage: &Stage) -> Reason {
    Reason { cause, what: what.to_owned(), old: None, new: None, from: None, span: stage.name.span }
}

/// What changed between the key inputs of the last action and those of now, sorted by name.
pub fn compare(stage: &Stage, last: Option<&Value>, now: &Value) -> Vec<Reason> {
    let Some(last) = last else { return vec![never_ran(stage)] };
    let mut changes = Vec::new();
    differences("", &readable(last), &readable(now), &mut changes);
    changes.into_iter().map(|(what, old, new)| reason(stage, what, old, new)).collect()
}

/// What differs between two key inputs: what it is, and both values.
pub fn key_differences(one: &Value, other: &Value) -> Vec<(String, String, String)> {
    let mut changes = Vec::new();
    differences("", &readable(one), &readable(other), &mut changes);
    let shown = |value: Option<Value>| value.map_or("nothing".to_owned(), |value| value.to_string());
    changes.into_iter().map(|(what, one, other)| (what, shown(one), shown(other))).collect()
}

/// Key inputs with the user's own numbers and names in place of tagged ones.
fn readable(key_inputs: &Value) -> Value {
    let mut key_inputs = key_inputs.clone();
    if let Some(params) = key_inputs.get_mut("params") {
        *params = untag_integers(params);
    }
    key_inputs
}

type Change = (String, Option<Value>, Option<Value>);

/// Walks two objects side by side; anything but an object is one value.
fn differences(path: &str, old: &Value, new: &Value, out: &mut Vec<Change>) {
    let (Value::Object(a), Value::Object(b)) = (old, new) else {
        if canonical_json(old) != canonical_json(new) {
            out.push((path.to_owned(), Some(old.clone()), Some(new.clone())));
        }
        return;
    };
    for name in names(a, b) {
        // Names may hold dots: of files under `uses`.
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match (a.get(name), b.get(name)) {
            (Some(x), Some(y)) => differences(&path, x, y, out),
            (Some(x), None) => out.push((path, Some(x.clone()), None)),
            (None, y) => out.push((path, None, y.cloned())),
        }
    }
}

fn names<'a>(a: &'a Map<String, Value>, b: &'a Map<String, Value>) -> Vec<&'a String> {
    let mut names: Vec<_> = a.keys().chain(b.keys()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn reason(stage: &Stage, what: String, old: Option<Value>, new: Option<Value>) -> Reason {
    let (section, rest) = what.split_once('.').unwrap_or((&what, ""));
    let first = rest.split('.').next().unwrap_or(rest);
    let (cause, span) = match section {
        "params" => (Cause::Param, stage.params.get(first).map(|p| p.span)),
        "inputs" => (Cause::Input, stage.inputs.get(rest).map(|i| i.span)),
        "uses" => (Cause::Uses, used(stage, rest)),
        "endings" => (Cause::Path, stage.inputs.get(rest).map(|i| i.span)),
        "at" => (Cause::Path, stage.places.get(rest).map(|p| p.span)),
        "path" => (Cause::Path, stage.output_paths.get(rest).map(|p| p.span)),
        "cwd" => (Cause::Path, cwd(stage)),
        "run" => (Cause::Command, None),
        "shell" => (Cause::Shell, None),
        "sandbox" => (Cause::Sandbox, None),
        "platform" => (Cause::Platform, None),
        "environment_policy" => (Cause::EnvironmentPolicy, None),
        "env" => (Cause::Env, None),
        "outputs" => (Cause::Outputs, None),
        "numerics" => (Cause::Numerics, None),
        "provider" => (Cause::Provider, None),
        _ => (Cause::Kind, None),
    };
    let from = (cause == Cause::Input).then(|| producer(stage, rest)).flatten();
    // A default, and what came with `--set`, stands nowhere; its stage does.
    let span = span.filter(|span| span.start.line > 0).unwrap_or(stage.name.span);
    Reason { cause, what, old, new, from, span }
}

/// The entry of `uses` that a file comes from.
fn used(stage: &Stage, file: &str) -> Option<Span> {
    let Work::Command { uses, .. } = &stage.work else { return None };
    uses.iter().find(|entry| names_file(&entry.value, file)).map(|entry| entry.span)
}

fn cwd(stage: &Stage) -> Option<Span> {
    match &stage.work {
        Work::Command { cwd: Some(cwd), .. } => Some(cwd.span),
        _ => None,
    }
}

/// What an input names, as the file writes it.
pub fn producer(stage: &Stage, input: &str) -> Option<String> {
    Some(match &stage.inputs.get(input)?.value {
        Reference::Source(name) => name.clone(),
        Reference::Stage { stage, output: None } => stage.clone(),
        Reference::Stage { stage, output: Some(output) } => format!("{stage}.{output}"),
    })
}
