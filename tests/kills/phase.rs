//! The phases of a command.
//!
//! Purpose: say from a system call and its path what Kiln is about: the layout of a store and of a remote, as
//! docs/store-format.md has it, is all that this needs.
//! Invariant: a call has one phase or none.
//! Must not know: who is killed, and when.

use std::path::{Path, PathBuf};

use crate::calls::{Act, Call};

/// What a command is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// The run gets its folder; nothing of a stage was begun.
    Starting,
    /// A lock, an execution folder and inputs.
    Preparing,
    /// A process of a stage is under way.
    Executing,
    /// Outputs are protected, hashed and listed.
    Collecting,
    /// The bytes of outputs are synced and get their names.
    CommittingBlobs,
    CommittingAction,
    /// Scratch folders and locks go.
    Clearing,
    /// Events, links, the lock file, what is remembered.
    WritingRecord,
    /// Packs and recipes.
    PushingPieces,
    PushingBlobs,
    PushingAction,
    /// Objects of a remote are read, and what comes is written to temporary files.
    Fetching,
    /// Garbage goes.
    Removing,
    /// What is damaged is put aside.
    Repairing,
}

impl Phase {
    pub const ALL: [Self; 14] = [
        Self::Starting,
        Self::Preparing,
        Self::Executing,
        Self::Collecting,
        Self::CommittingBlobs,
        Self::CommittingAction,
        Self::Clearing,
        Self::WritingRecord,
        Self::PushingPieces,
        Self::PushingBlobs,
        Self::PushingAction,
        Self::Fetching,
        Self::Removing,
        Self::Repairing,
    ];
}

/// Follows a command through its phases.
pub struct Phases {
    root: PathBuf,
    store: PathBuf,
    remote: PathBuf,
    /// Whether results come from the remote; else they go there.
    fetches: bool,
    /// Whether the command removes garbage.
    removes: bool,
    /// Whether anything of a stage was begun.
    begun: bool,
}

impl Phases {
    /// Of a command in the project at `root`.
    pub fn of(root: &Path, remote: &Path, fetches: bool, removes: bool) -> Self {
        // The paths of open files have no links in them.
        let real = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let (root, remote) = (real(root), real(remote));
        Self { store: root.join("artifacts"), root, remote, fetches, removes, begun: false }
    }

    /// The phase of the command at this call.
    pub fn at(&mut self, call: &Call) -> Option<Phase> {
        let phase = if call.act == Act::Send {
            Some(Phase::Executing)
        } else if let Ok(below) = call.path.strip_prefix(&self.remote) {
            self.in_remote(call.act, below)
        } else if let Ok(below) = call.path.strip_prefix(&self.store) {
            self.in_store(call.act, below)
        } else {
            self.in_project(call)
        };
        self.begun |= phase.is_some_and(|phase| phase != Phase::Starting);
        phase
    }

    fn in_remote(&self, act: Act, below: &Path) -> Option<Phase> {
        let kind = first(below);
        match (kind, act) {
            // Results are looked up before anything is fetched.
            ("actions", Act::Read) if !self.begun => Some(Phase::Starting),
            ("actions" | "blobs" | "packs" | "recipes", Act::Read) => self.fetches.then_some(Phase::Fetching),
            (_, Act::Read) => None,
            ("packs" | "recipes", _) => Some(Phase::PushingPieces),
            ("blobs", _) => Some(Phase::PushingBlobs),
            ("actions", _) => Some(Phase::PushingAction),
            _ => None,
        }
    }

    fn in_store(&self, act: Act, below: &Path) -> Option<Phase> {
        let kind = first(below);
        match (kind, act) {
            ("work", _) => self.in_work(act, below),
            (_, Act::Read) => None,
            ("blobs" | "actions" | "view", Act::Remove | Act::Sync) if self.removes => Some(Phase::Removing),
            ("blobs", _) => Some(Phase::CommittingBlobs),
            ("actions", _) => Some(Phase::CommittingAction),
            ("runs" | "cache" | "out" | "view", _) => Some(self.record()),
            _ => Some(Phase::Starting),
        }
    }

    fn in_work(&self, act: Act, below: &Path) -> Option<Phase> {
        let text = below.to_string_lossy();
        let kind = text.split('/').nth(1).unwrap_or_default();
        match (kind, act) {
            ("tmp", Act::Read) => None,
            ("tmp", _) if self.fetches => Some(Phase::Fetching),
            ("tmp", Act::Sync) => Some(Phase::CommittingBlobs),
            ("tmp", _) => Some(Phase::Collecting),
            ("quarantine", Act::Read) => None,
            ("quarantine", _) => Some(Phase::Repairing),
            ("spare", Act::Read) => None,
            ("spare", _) => Some(Phase::Clearing),
            // Where files cannot share blocks, the try leaves one to be removed before the copy is made.
            (_, Act::Remove) if text.contains("/run/inputs/") => None,
            (_, Act::Remove) => Some(Phase::Clearing),
            (_, Act::Read | Act::Mode) if text.contains("/run/outputs/") => Some(Phase::Collecting),
            (_, Act::Sync) if text.contains("/run/outputs/") => Some(Phase::CommittingBlobs),
            (_, Act::Read) | ("", _) => None,
            _ => Some(Phase::Preparing),
        }
    }

    fn in_project(&self, call: &Call) -> Option<Phase> {
        let is_lock_file = call.path.starts_with(&self.root) && call.path.to_string_lossy().contains(".lock");
        (is_lock_file && call.act != Act::Read).then(|| self.record())
    }

    fn record(&self) -> Phase {
        if self.begun { Phase::WritingRecord } else { Phase::Starting }
    }
}

fn first(path: &Path) -> &str {
    path.iter().next().and_then(|name| name.to_str()).unwrap_or_default()
}
