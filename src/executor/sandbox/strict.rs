//! The strict sandbox of one command.
//!
//! Purpose: `prepare` finds out which method works on this machine, `enter` applies it to this process.
//! Invariant: after `enter` the process and all of its descendants can reach, of the project and of the store,
//! only what `Strict` names, at the same paths as before; either the whole sandbox is there or an error is.
//! It holds against undeclared reads and writes, not against an attacker: a command that runs as root can still
//! find another way (`nsenter`, `/proc/1/root`), and so can a second mount of the same folder elsewhere.
//! Must not know: stages, how the command is started.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::error::SandboxError;
use super::landlock;
use super::layers::Layers;
use super::mounts::Mounts;

/// What a command may reach of the project and of the store. All paths are absolute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Strict {
    /// The execution folder: read and written, and the current folder after `enter`.
    pub execution: PathBuf,
    /// The checkpoint folder: read and written.
    pub checkpoint: PathBuf,
    /// The folder of TMPDIR: read and written.
    pub tmp: PathBuf,
    /// The project root: hidden.
    pub project: PathBuf,
    /// The store: hidden.
    pub store: PathBuf,
    /// The script of the command, and folders of programs and libraries (of PATH, VIRTUAL_ENV, CONDA_PREFIX), that
    /// stay readable where they lie inside of the project or the store. Missing and relative ones are skipped, and so are the project and the
    /// store themselves.
    pub readable: Vec<PathBuf>,
}

/// How a sandbox is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// A mount namespace (of root).
    MountNamespace,
    /// A mount namespace inside of a user namespace (of an ordinary user).
    UserNamespace,
    /// Landlock rules: the folders above the project and the store cannot be listed, and nothing can be made
    /// directly in them.
    Landlock,
}

impl Strict {
    /// Finds the method that works on this machine, by trying it in a child process. May be called from a
    /// process with threads. The folders must exist, except for `readable`.
    pub fn prepare(&self) -> Result<Method, SandboxError> {
        let layers = Layers::of(self)?;
        let method =
            if rustix::process::geteuid().is_root() { Method::MountNamespace } else { Method::UserNamespace };
        let Err(mounts) = Mounts::of(&layers, &self.execution).and_then(|mounts| mounts.try_out(method))
        else {
            return Ok(method);
        };
        match landlock::is_available() {
            Ok(()) => Ok(Method::Landlock),
            Err(landlock) => {
                Err(SandboxError::Unavailable { mounts: Box::new(mounts), landlock: Box::new(landlock) })
            }
        }
    }

    /// Puts this process into the sandbox, for good, and changes to the execution folder. The process must have
    /// one thread only: a user namespace is refused otherwise, and Landlock would leave out the other threads.
    /// Files that are open stay open.
    pub fn enter(&self, method: Method) -> Result<(), SandboxError> {
        let layers = Layers::of(self)?;
        match method {
            Method::MountNamespace | Method::UserNamespace => {
                Mounts::of(&layers, &self.execution)?.apply(method)
            }
            Method::Landlock => {
                landlock::restrict(&layers)?;
                std::env::set_current_dir(&self.execution)
                    .map_err(|source| SandboxError::ChangeFolder { path: self.execution.clone(), source })
            }
        }
    }
}
