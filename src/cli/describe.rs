//! Asks providers what they offer.
//!
//! Purpose: finds a provider's program and runs `PROVIDER describe`.
//! Invariant: each program is asked at most once a command; its answer is bounded.
//! Must not know: pipelines, plans.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::protocol::{Description, PROTOCOL};
use crate::spec::Providers;

/// The default provider's program.
pub const DEFAULT_PROVIDER: &str = "kiln-stages";
/// The most bytes of a description.
const MOST_BYTES: u64 = 16 << 20;

/// A provider that was asked.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its program.
    pub program: PathBuf,
    /// Its answer.
    pub description: Description,
}

/// The providers asked so far, by the name a pipeline gives them (empty for the default one).
#[derive(Debug, Default)]
pub struct Describer {
    known: BTreeMap<PathBuf, Found>,
}

impl Describer {
    /// A provider that was asked before.
    pub fn found(&self, name: &Path) -> Option<&Found> {
        self.known.get(name)
    }

    /// Finds and asks a provider; the default one when `name` is none.
    ///
    /// # Errors
    /// What went wrong and what to do about it.
    pub fn ask(&mut self, name: Option<&Path>) -> Result<&Found, String> {
        let key = name.unwrap_or(Path::new("")).to_owned();
        if !self.known.contains_key(&key) {
            let program = find(name.unwrap_or(Path::new(DEFAULT_PROVIDER)))?;
            let description = describe(&program)?;
            self.known.insert(key.clone(), Found { program, description });
        }
        self.known.get(&key).ok_or_else(|| "the provider is not known".into())
    }
}

impl Providers for Describer {
    fn describe(&mut self, program: Option<&Path>) -> Result<Description, String> {
        self.ask(program).map(|found| found.description.clone())
    }
}

/// A program as a path, or by its name beside this binary or on PATH.
fn find(name: &Path) -> Result<PathBuf, String> {
    if name.components().count() > 1 {
        let there = name.is_file().then(|| name.to_owned());
        return there.ok_or_else(|| format!("there is no provider `{}`", name.display()));
    }
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join(name)));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join(name));
    beside.into_iter().chain(on_path).find(|program| program.is_file()).ok_or_else(|| {
        format!(
            "the provider `{}` is neither beside kiln nor on PATH; build it with `make build`",
            name.display()
        )
    })
}

fn describe(program: &Path) -> Result<Description, String> {
    let failed = |what: String| format!("`{} describe` {what}; rebuild or reinstall it", program.display());
    let mut child = Command::new(program)
        .arg("describe")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(|e| failed(format!("cannot start: {e}")))?;
    let mut answer = Vec::new();
    if let Some(out) = child.stdout.take() {
        out.take(MOST_BYTES).read_to_end(&mut answer).map_err(|e| failed(format!("cannot be read: {e}")))?;
    }
    let status = child.wait().map_err(|e| failed(format!("cannot be waited for: {e}")))?;
    if !status.success() {
        return Err(failed(format!("failed with {status}")));
    }
    let description: Description =
        serde_json::from_slice(&answer).map_err(|e| failed(format!("gave no description: {e}")))?;
    if description.protocol != PROTOCOL {
        return Err(failed(format!("speaks protocol {}, kiln speaks {PROTOCOL}", description.protocol)));
    }
    Ok(description)
}
