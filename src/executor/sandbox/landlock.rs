//! The sandbox by Landlock.
//!
//! Purpose: rules for everything outside of the project and the store, and for what is shown inside.
//! Invariant: every right of the version below is handled by the kernel and enforced, or it is an error. Landlock
//! only has rules that allow, so that each neighbour on the way down to a hidden folder gets a rule of its own;
//! a neighbour that is a link gets none, for it might lead into the hidden folder.
//! Must not know: why a folder is hidden.

use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus,
};

use super::error::SandboxError;
use super::layers::{Access, Layers};

/// Linux 6.2. The first version cannot move files between folders, the second cannot forbid `truncate`.
const NEEDED: ABI = ABI::V3;

/// Asks the kernel for every right that is needed; restricts nothing.
pub(super) fn is_available() -> Result<(), SandboxError> {
    create().map(drop)
}

/// Restricts this thread and its children.
pub(super) fn restrict(layers: &Layers) -> Result<(), SandboxError> {
    let mut ruleset = create()?;
    allow(&mut ruleset, layers, Path::new("/"))?;
    let status = ruleset.restrict_self().map_err(refused)?;
    if status.ruleset != RulesetStatus::FullyEnforced {
        return Err(SandboxError::Landlock("the kernel does not enforce all of the rules".into()));
    }
    Ok(())
}

fn create() -> Result<RulesetCreated, SandboxError> {
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(NEEDED))
        .and_then(Ruleset::create)
        .map_err(refused)
}

/// Gives rules to a path and what is below it.
fn allow(ruleset: &mut RulesetCreated, layers: &Layers, path: &Path) -> Result<(), SandboxError> {
    let access = layers.access(path);
    let hides_below = layers.below(path).any(|layer| layer.access == Access::Hidden);
    if access != Access::Hidden && hides_below {
        for child in children(path)? {
            allow(ruleset, layers, &child)?;
        }
        return Ok(());
    }
    if access != Access::Hidden {
        add_rule(ruleset, path, access)?;
    }
    let inner: Vec<_> = layers.below(path).map(|layer| layer.path.clone()).collect();
    inner.iter().try_for_each(|path| allow(ruleset, layers, path))
}

/// What a folder holds; nothing when it may be passed but not listed.
fn children(path: &Path) -> Result<Vec<PathBuf>, SandboxError> {
    let entries = match fs::read_dir(path) {
        Err(e) if e.kind() == ErrorKind::PermissionDenied => return Ok(Vec::new()),
        entries => entries.map_err(|e| unlisted(path, &e))?,
    };
    entries.map(|entry| entry.map(|entry| entry.path()).map_err(|e| unlisted(path, &e))).collect()
}

fn add_rule(ruleset: &mut RulesetCreated, path: &Path, access: Access) -> Result<(), SandboxError> {
    // What has gone in between, or cannot be reached anyway, needs no rule.
    let Ok(metadata) = path.symlink_metadata() else { return Ok(()) };
    if metadata.is_symlink() {
        return Ok(());
    }
    let Ok(folder) = PathFd::new(path) else { return Ok(()) };
    let mut rights = match access {
        Access::ReadWrite => AccessFs::from_all(NEEDED),
        _ => AccessFs::from_read(NEEDED),
    };
    if !metadata.is_dir() {
        rights &= AccessFs::from_file(NEEDED);
    }
    match ruleset.add_rule(PathBeneath::new(folder, rights)) {
        Err(_) if is_special(&metadata) => Ok(()),
        added => added.map(drop).map_err(refused),
    }
}

/// Some sockets and pipes cannot have a rule, and need none.
fn is_special(metadata: &Metadata) -> bool {
    metadata.file_type().is_socket() || metadata.file_type().is_fifo()
}

fn refused(error: RulesetError) -> SandboxError {
    SandboxError::Landlock(error.to_string())
}

fn unlisted(path: &Path, error: &std::io::Error) -> SandboxError {
    SandboxError::Landlock(format!("cannot list `{}`: {error}", path.display()))
}
