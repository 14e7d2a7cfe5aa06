//! What can go wrong with a strict sandbox.
//!
//! Purpose: messages that name the path and the next step.
//! Invariant: a command never runs with less than the whole sandbox; each of these stops the stage.
//! Must not know: stages or the scheduler.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why a strict sandbox cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// A folder that the sandbox needs is missing or cannot be resolved.
    #[error("cannot resolve the {what} `{}` for `sandbox: strict`: {source}", path.display())]
    Unresolved {
        /// Which folder it is.
        what: &'static str,
        /// Where it should be.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The project or the store is the root folder.
    #[error(
        "the {what} is the root folder, so that `sandbox: strict` would hide the whole system; \
         move the pipeline to a folder of its own, or remove `sandbox: strict` from the stage"
    )]
    WholeSystem {
        /// Which folder it is.
        what: &'static str,
    },
    /// Neither method works on this machine.
    #[error(
        "`sandbox: strict` needs a mount namespace or Landlock, and this machine has neither \
         (mount namespace: {mounts}; Landlock: {landlock}); allow user namespaces \
         (`sysctl user.max_user_namespaces`, in Ubuntu `kernel.apparmor_restrict_unprivileged_userns=0`; in a \
         container `--cap-add SYS_ADMIN`), or boot a kernel of version 6.2 or later with `landlock` in its `lsm=` \
         list, or remove `sandbox: strict` from the stage"
    )]
    Unavailable {
        /// Why there is no mount namespace.
        mounts: Box<SandboxError>,
        /// Why there is no Landlock.
        landlock: Box<SandboxError>,
    },
    /// A step of the mount namespace failed.
    #[error("cannot {step}{}: {source}", at(path))]
    Mounts {
        /// What was tried.
        step: MountStep,
        /// The path concerned, if there is one.
        path: Option<PathBuf>,
        /// What the system said.
        source: io::Error,
    },
    /// Landlock refused.
    #[error("cannot restrict the command with Landlock: {0}")]
    Landlock(String),
    /// The current folder could not be changed to the execution folder.
    #[error("cannot change to the execution folder `{}` inside of the sandbox: {source}", path.display())]
    ChangeFolder {
        /// The execution folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The process that tries the mount namespace could not be started.
    #[error("cannot start a process that tries the sandbox: {0}")]
    Trial(io::Error),
}

fn at(path: &Option<PathBuf>) -> String {
    path.as_ref().map(|path| format!(" `{}`", path.display())).unwrap_or_default()
}

/// A step on the way into the mount namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MountStep {
    /// The namespace itself.
    Unshare,
    /// User and group ids of the user namespace.
    MapIds,
    /// Later mounts must not leave the namespace.
    Propagation,
    /// Opening what will be shown again.
    Open,
    /// Mounting an empty folder over the project or the store.
    Hide,
    /// Making a place for what is shown again.
    MountPoint,
    /// Mounting what is shown again.
    Show,
    /// Making a mount read-only.
    ReadOnly,
    /// Changing to the execution folder.
    ChangeFolder,
}

impl MountStep {
    /// Every step, in the order of `as u8`.
    pub(super) const ALL: [Self; 9] = [
        Self::Unshare,
        Self::MapIds,
        Self::Propagation,
        Self::Open,
        Self::Hide,
        Self::MountPoint,
        Self::Show,
        Self::ReadOnly,
        Self::ChangeFolder,
    ];
}

impl fmt::Display for MountStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unshare => "make a mount namespace",
            Self::MapIds => "map user and group ids in the user namespace",
            Self::Propagation => "keep mounts inside of the namespace",
            Self::Open => "open for the sandbox",
            Self::Hide => "hide",
            Self::MountPoint => "make a mount point in the sandbox at",
            Self::Show => "show in the sandbox",
            Self::ReadOnly => "make read-only in the sandbox",
            Self::ChangeFolder => "change inside of the sandbox to",
        })
    }
}
