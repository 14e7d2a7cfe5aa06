//! The lock file, `NAME.lock` beside `NAME.yaml`.
//!
//! Purpose: what each stage was made of and what came out, for people to commit and to compare.
//! Invariant: one stanza a stage, sorted by name, a function of stages and actions alone (no time, no
//! path, no machine); written only when it changes. It is for reading: Kiln plans from the store.
//! Must not know: how stages ran.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::types::StageReport;
use crate::digest::canonical_json;
use crate::spec::types::{Pipeline, Stage};
use crate::store::StageOutcome;

const HEAD: &str = "# What each stage was made of, and what came out. Written by `kiln run`; commit it.\nversion: 1\nstages:\n";

/// Writes the lock file anew if it changed. Stages that did not end well keep the stanza they had;
/// those that the pipeline has no more lose theirs.
///
/// # Errors
/// The disk refuses.
pub fn update(pipeline: &Pipeline, reports: &[StageReport]) -> io::Result<PathBuf> {
    let path = pipeline.file().with_extension("lock");
    let old = match fs::read_to_string(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
        text => text?,
    };
    let mut known = stanzas(&old);
    let mut stanzas = BTreeMap::new();
    let reports: HashMap<_, _> = reports.iter().map(|report| (report.name.as_str(), report)).collect();
    for stage in &pipeline.stages {
        let name = spelled(&stage.name.value);
        let fresh = reports.get(stage.name.value.as_str()).and_then(|report| stanza(stage, report));
        if let Some(text) = fresh.or_else(|| known.remove(&name)) {
            stanzas.insert(name, text);
        }
    }
    let new =
        stanzas.iter().fold(HEAD.to_owned(), |text, (name, stanza)| text + "  " + name + ":\n" + stanza);
    if new != old {
        replace(&path, &new)?;
    }
    Ok(path)
}

fn stanza(stage: &Stage, report: &StageReport) -> Option<String> {
    let ended_well =
        matches!(report.outcome, StageOutcome::Cached | StageOutcome::Ran | StageOutcome::Fetched);
    let key = report.key.filter(|_| ended_well && report.kept)?;
    let mut text = format!("    kind: {}\n    key: {key}\n", report.kind);
    let params: Map<_, _> = stage.params.iter().map(|(name, at)| (name.clone(), at.value.clone())).collect();
    if !params.is_empty() {
        let _ = writeln!(text, "    params: {}", canonical_json(&Value::Object(params)));
    }
    text.push_str("    outputs:\n");
    for (name, artifact) in &report.outputs {
        let _ = writeln!(text, "      {}: {}", spelled(name), artifact.digest);
    }
    Some(text)
}

/// The stanzas of a lock file by name; what is none is dropped.
fn stanzas(text: &str) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut current: Option<String> = None;
    for line in text.lines() {
        let indent = line.len() - line.trim_start_matches(' ').len();
        if indent == 2 && line.ends_with(':') {
            let name = line[2..line.len() - 1].to_owned();
            all.insert(name.clone(), String::new());
            current = Some(name);
        } else if indent < 4 {
            current = None;
        } else if let Some(stanza) = current.as_ref().and_then(|name| all.get_mut(name)) {
            *stanza = format!("{stanza}{line}\n");
        }
    }
    all
}

/// A name as a YAML key.
fn spelled(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let letter = name.starts_with(|c: char| c.is_ascii_alphabetic());
    // Words that YAML reads as something else.
    let word = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    if letter && name.chars().all(plain) && !word.contains(&name.to_ascii_lowercase().as_str()) {
        return name.to_owned();
    }
    Value::from(name).to_string()
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.{}.tmp", std::process::id()));
    fs::write(&temporary, text)?;
    fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stanzas_are_read_back_and_what_is_none_is_dropped() {
        let text = format!(
            "{HEAD}  a:\n    kind: x\n    outputs:\n      o: 12\n<<<<<<< ours\n  \"b c\":\n    kind: y\n"
        );
        let found = stanzas(&text);
        assert_eq!(found.keys().collect::<Vec<_>>(), ["\"b c\"", "a"]);
        assert_eq!(found["a"], "    kind: x\n    outputs:\n      o: 12\n");
    }

    #[test]
    fn names_that_yaml_would_misread_are_quoted() {
        assert_eq!(spelled("sft-2"), "sft-2");
        assert_eq!(
            (spelled("no").as_str(), spelled("1").as_str(), spelled("a[b=1]").as_str()),
            ("\"no\"", "\"1\"", "\"a[b=1]\"")
        );
    }
}
