//! Where the program of a provider lies.
//!
//! Purpose: the name in the pipeline -> the path of an executable file.
//! Invariant: what comes out exists and may be executed.
//! Must not know: what the program offers.
//!
//! The default program is, in this order: what KILN_PROVIDER names, `kiln-stages` beside the `kiln`
//! binary, `kiln-stages` on PATH. A pipeline names more under `providers:`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::error::ProviderError;

/// The default provider's name.
pub const DEFAULT: &str = "kiln-stages";
/// The variable that names another default provider.
pub const VARIABLE: &str = "KILN_PROVIDER";

/// Finds a provider's program; the default one when none is named.
///
/// # Errors
/// It is nowhere, or may not be executed.
pub fn program(named: Option<&Path>) -> Result<PathBuf, ProviderError> {
    match named {
        Some(path) if path.components().count() > 1 => executable(path),
        Some(name) => on_path(name).ok_or_else(|| ProviderError::Missing(name.to_owned())),
        None => default_program(),
    }
}

fn default_program() -> Result<PathBuf, ProviderError> {
    if let Some(named) = std::env::var_os(VARIABLE).filter(|name| !name.is_empty()) {
        let path = std::path::absolute(&named).unwrap_or_default();
        return if path.is_file() { executable(&path) } else { program(Some(Path::new(&named))) };
    }
    let beside = std::env::current_exe().ok().and_then(|kiln| Some(kiln.parent()?.join(DEFAULT)));
    match beside.filter(|path| path.is_file()) {
        Some(path) => executable(&path),
        None => on_path(Path::new(DEFAULT)).ok_or(ProviderError::NoDefault),
    }
}

fn on_path(name: &Path) -> Option<PathBuf> {
    which::which_global(name).ok()
}

fn executable(program: &Path) -> Result<PathBuf, ProviderError> {
    let program = program.to_owned();
    match fs::metadata(&program) {
        Ok(meta) if !meta.is_file() => Err(ProviderError::Missing(program)),
        Ok(meta) if meta.permissions().mode() & 0o111 == 0 => Err(ProviderError::NotExecutable(program)),
        Ok(_) => Ok(program),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(ProviderError::Missing(program)),
        Err(source) => Err(ProviderError::Io { what: "look at", program, source }),
    }
}
