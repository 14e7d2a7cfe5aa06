//! The environment of `describe` and of stages.
//!
//! Purpose: a stage gets what its pipeline declares under `env`, a few of the caller's variables that say
//! where things are on this machine, and a fixed locale and time zone.
//! Invariant: nothing else of the caller's environment reaches a stage. A variable that is passed on is
//! never hashed, so none that is meant to change results may be in [`PASSED`]; a change to what stages get
//! bumps [`ENVIRONMENT_POLICY`].
//! Must not know: how a stage is started, what the executor adds (threads, folders).

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use crate::protocol::Description;
use crate::spec::types::{EnvValue, Stage};

/// The version of the rules of this file; part of the key of every command.
pub const ENVIRONMENT_POLICY: u32 = 1;

/// The variables that are passed on: who the user is, and where programs, libraries, toolchains,
/// certificates, proxies, temporary files and accelerators are.
pub const PASSED: [&str; 27] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "CUDA_VISIBLE_DEVICES",
    "CUDA_HOME",
    "VIRTUAL_ENV",
    "CONDA_PREFIX",
    "PYENV_ROOT",
    "CARGO_HOME",
    "RUSTUP_HOME",
    "JAVA_HOME",
    "XDG_CACHE_HOME",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
];

/// The locale and the time zone that every stage gets unless its `env` says otherwise.
const FIXED: [(&str, &str); 3] = [("LANG", "C.UTF-8"), (LC_ALL, "C.UTF-8"), ("TZ", "UTC")];
const LC_ALL: &str = "LC_ALL";

/// Environment variables by name.
pub type Variables = BTreeMap<OsString, OsString>;

/// Why a stage's environment cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvironmentError {
    /// A secret is not set.
    #[error(
        "stage `{stage}` needs the secret {name} (`env.{variable}`), which is unset or empty in this \
         environment; export it and run again"
    )]
    UnsetSecret {
        /// The stage.
        stage: String,
        /// The variable of the stage.
        variable: String,
        /// The caller's variable.
        name: String,
    },
}

/// What a stage's process gets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StageEnvironment {
    /// All its variables.
    pub variables: Vec<(OsString, OsString)>,
    /// The values that no log may show.
    pub secrets: Vec<OsString>,
}

/// The variables of this process.
pub fn caller() -> Variables {
    std::env::vars_os().collect()
}

/// What a provider gets beside what a pipeline declares: when it describes itself (then with no
/// description, or an earlier one), when it runs a stage and when it converses.
pub fn provider_environment(description: Option<&Description>, caller: &Variables) -> Variables {
    let declared = description.map_or(&[][..], |d| &d.environment);
    let names = PASSED.into_iter().chain(declared.iter().map(String::as_str)).map(OsStr::new);
    let mut all: Variables = FIXED.iter().map(|(name, value)| (name.into(), value.into())).collect();
    all.extend(names.filter_map(|name| Some((name.to_owned(), caller.get(name)?.clone()))));
    all
}

/// What a stage's process gets, by the caller's environment.
///
/// # Errors
/// The caller has no value for a secret.
pub fn stage_environment(
    stage: &Stage,
    provider: Option<&Description>,
    caller: &Variables,
) -> Result<StageEnvironment, EnvironmentError> {
    let mut all = provider_environment(provider, caller);
    if stage.env.keys().any(|name| name == "LANG" || name.starts_with("LC_")) {
        // It would outrank what the stage says.
        all.remove(OsStr::new(LC_ALL));
    }
    let mut secrets = Vec::new();
    for (variable, value) in &stage.env {
        let found = match value {
            EnvValue::Literal(text) => Some(text.into()),
            EnvValue::Pass(name) => caller.get(OsStr::new(name)).cloned(),
            EnvValue::Secret(name) => Some(secret(stage, variable, name, caller)?),
        };
        if matches!(value, EnvValue::Secret(_)) {
            secrets.extend(found.clone());
        }
        match found {
            Some(found) => all.insert(variable.into(), found),
            None => all.remove(OsStr::new(variable)),
        };
    }
    Ok(StageEnvironment { variables: all.into_iter().collect(), secrets })
}

fn secret(
    stage: &Stage,
    variable: &str,
    name: &str,
    caller: &Variables,
) -> Result<OsString, EnvironmentError> {
    let value = caller.get(OsStr::new(name)).filter(|value| !value.is_empty()).cloned();
    value.ok_or_else(|| EnvironmentError::UnsetSecret {
        stage: stage.name.value.clone(),
        variable: variable.to_owned(),
        name: name.to_owned(),
    })
}
