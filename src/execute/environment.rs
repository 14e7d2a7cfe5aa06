//! The environment of a stage's process.
//!
//! Purpose: a stage sees what its pipeline declares (`env`, which is hashed) and the few variables
//! below, which say where things are on this machine and must not change what is made.
//! Invariant: nothing else of the caller's environment reaches a stage.
//! Must not know: stages, kinds.

use std::ffi::{OsStr, OsString};

/// Variables that are handed on: who and where the user is, the language, where programs, libraries,
/// certificates, caches, proxies, package indexes and accelerators are, and how much to log.
pub const HANDED_ON: [&str; 38] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "LIBTORCH",
    "CUDA_VISIBLE_DEVICES",
    "CUDA_HOME",
    "PYTHONPATH",
    "VIRTUAL_ENV",
    "CONDA_PREFIX",
    "PYENV_ROOT",
    "PYENV_VERSION",
    "CARGO_HOME",
    "RUSTUP_HOME",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "PIP_INDEX_URL",
    "PIP_CONFIG_FILE",
    "PIP_CERT",
    "HF_HOME",
    "HF_TOKEN",
    "RUST_LOG",
    "RUST_BACKTRACE",
];

/// Whether a variable is handed on: one of [`HANDED_ON`], or of the XDG folders.
pub fn is_handed_on(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| HANDED_ON.contains(&name) || name.starts_with("XDG_"))
}

/// The variables of this process that a stage gets.
pub fn handed_on() -> Vec<(OsString, OsString)> {
    std::env::vars_os().filter(|(name, _)| is_handed_on(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_variables_are_handed_on() {
        assert!(is_handed_on(OsStr::new("PATH")) && is_handed_on(OsStr::new("XDG_CACHE_HOME")));
        assert!(!is_handed_on(OsStr::new("AWS_SECRET_ACCESS_KEY")));
        assert!(!is_handed_on(OsStr::new("path")));
    }
}
