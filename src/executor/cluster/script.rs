//! The script of a job.
//!
//! Purpose: the few lines that a node runs: what the executor's description says, then Kiln itself.
//! Invariant: no word of a pipeline or of a path is ever read as code of the shell, but for the prologue and the path of the
//! store, which the description of the executor gives.
//! Must not know: how a script is submitted.

use std::path::Path;

use super::intent::Intent;
use crate::digest::Digest;
use crate::spec::executors::ExecutorSpec;

/// The exit code of a job whose prologue failed.
pub const PROLOGUE_FAILED: i32 = 125;

/// The script for a submission.
pub fn script(spec: &ExecutorSpec, intent: &Intent, request: &Digest, place: &Place<'_>) -> String {
    // The warning that the time is nearly over is for Kiln, which may not have started yet.
    let mut text = "#!/bin/bash\ntrap '' USR1\n".to_owned();
    if let Some(prologue) = &spec.prologue {
        // A stage whose modules are not loaded may go well with other programs than it should have. Functions of others,
        // which `set -e` would reach, are left alone.
        text += &format!("trap 'exit {PROLOGUE_FAILED}' ERR\n{prologue}\ntrap - ERR\n");
    }
    let program = spec.kiln.clone().unwrap_or_else(|| place.program.to_string_lossy().into_owned());
    let store = match &spec.store {
        // It may name variables of the node.
        Some(store) => {
            format!("\"{}\"", store.replace('\\', "\\\\").replace('"', "\\\"").replace('`', "\\`"))
        }
        None => quoted(&place.store.to_string_lossy()),
    };
    text += &format!(
        "exec {} exec {} --submission {} --request {request} --store {store}",
        quoted(&program),
        intent.key,
        intent.submission
    );
    match &place.remote {
        Some((name, url)) => text += &format!(" --remote {}", quoted(&format!("{name}={url}"))),
        None => text += " --offline",
    }
    if place.demands_signatures {
        text += " --signed";
    }
    text + "\n"
}

/// Where things are for the runner.
pub struct Place<'a> {
    /// Its own program.
    pub program: &'a Path,
    /// Its store.
    pub store: &'a Path,
    /// The name and the URL of the remote by which they talk.
    pub remote: Option<(&'a str, String)>,
    /// Whether a record counts only with a signature by a trusted key.
    pub demands_signatures: bool,
}

/// A word for the shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::types::Span;

    #[test]
    fn paths_are_words_whatever_is_in_them() {
        let intent = Intent {
            format: super::super::intent::FORMAT.into(),
            key: Digest::of_bytes(b"k"),
            stage: "s".into(),
            pipeline: "p".into(),
            executor: "slurm".into(),
            address: None,
            forced: false,
            memory: 0,
            submission: "0123abcd".into(),
            job: None,
            since: String::new(),
            run: "r-0001".into(),
            remote: None,
        };
        let mut spec = ExecutorSpec::new("slurm", Span::default());
        let place = Place {
            program: Path::new("/o'k/$x"),
            store: Path::new("/s `t`"),
            remote: None,
            demands_signatures: false,
        };
        let text = script(&spec, &intent, &intent.key, &place);
        assert!(text.contains(r"exec '/o'\''k/$x' exec ") && text.contains("--store '/s `t`'"), "{text}");
        spec.store = Some("/scratch/$USER/`x`".into());
        let text = script(&spec, &intent, &intent.key, &place);
        assert!(text.contains(r#"--store "/scratch/$USER/\`x\`""#), "{text}");
    }
}
