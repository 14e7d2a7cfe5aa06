//! The sandbox by a mount namespace.
//!
//! Purpose: an empty read-only folder is mounted over what is hidden, and what is shown is mounted into it again.
//! Invariant: all memory is acquired before the first call, so that the steps can also be tried in a child that
//! was forked from a process with threads; what is shown is opened before anything is hidden, with the mounts
//! below it.
//! Must not know: why a folder is hidden.

use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags};
use rustix::thread::UnshareFlags;

use super::error::{MountStep, SandboxError};
use super::layers::{Access, Layers};
use super::resolve::Link;
use super::strict::Method;

/// The steps into the sandbox.
pub(super) struct Mounts {
    uid_map: String,
    gid_map: String,
    /// What is shown again.
    shown: Vec<CString>,
    operations: Vec<Operation>,
    execution: CString,
}

enum Operation {
    Hide(CString),
    Folder(CString),
    File(CString),
    Link {
        path: CString,
        target: CString,
    },
    /// An index of `shown`.
    Show {
        index: usize,
        writable: bool,
    },
    Freeze(CString),
}

/// A step that failed. `index` is that of the operation, or of what was to be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Failure {
    step: MountStep,
    index: usize,
    errno: Errno,
}

/// What the trial says when every step worked.
const WORKED: i32 = i32::MAX;

impl Mounts {
    /// Plans the steps.
    pub fn of(layers: &Layers, execution: &Path) -> Result<Self, SandboxError> {
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let mut mounts = Self {
            uid_map: format!("{uid} {uid} 1"),
            gid_map: format!("{gid} {gid} 1"),
            shown: Vec::new(),
            operations: Vec::new(),
            execution: c_path(execution)?,
        };
        for layer in &layers.list {
            if layer.access == Access::Hidden {
                mounts.operations.push(Operation::Hide(c_path(&layer.path)?));
            } else {
                mounts.show(layers, &layer.path, layer.access)?;
            }
        }
        for link in &layers.links {
            mounts.link(layers, link)?;
        }
        for layer in layers.list.iter().filter(|layer| layer.access == Access::Hidden) {
            mounts.operations.push(Operation::Freeze(c_path(&layer.path)?));
        }
        Ok(mounts)
    }

    fn show(&mut self, layers: &Layers, path: &Path, access: Access) -> Result<(), SandboxError> {
        let parent = path.parent().unwrap_or(path);
        if layers.access(parent) == Access::Hidden {
            self.folders(layers, parent)?;
            let is_folder = fs::metadata(path).is_ok_and(|metadata| metadata.is_dir());
            let place = c_path(path)?;
            self.operations.push(if is_folder { Operation::Folder(place) } else { Operation::File(place) });
        }
        self.operations
            .push(Operation::Show { index: self.shown.len(), writable: access == Access::ReadWrite });
        self.shown.push(c_path(path)?);
        Ok(())
    }

    fn link(&mut self, layers: &Layers, link: &Link) -> Result<(), SandboxError> {
        self.folders(layers, link.path.parent().unwrap_or(&link.path))?;
        self.operations.push(Operation::Link { path: c_path(&link.path)?, target: c_path(&link.target)? });
        Ok(())
    }

    /// Folders inside of a hidden one, down to `path`.
    fn folders(&mut self, layers: &Layers, path: &Path) -> Result<(), SandboxError> {
        let Some(hidden) = layers.around(path) else { return Ok(()) };
        let inside = path.ancestors().take_while(|folder| **folder != *hidden.path);
        for folder in inside.collect::<Vec<_>>().into_iter().rev() {
            self.operations.push(Operation::Folder(c_path(folder)?));
        }
        Ok(())
    }

    /// Does it all in this process.
    pub fn apply(&self, method: Method) -> Result<(), SandboxError> {
        let mut trees = Vec::with_capacity(self.shown.len());
        self.run(method, &mut trees).map_err(|failure| self.explain(failure))
    }

    /// Does it all in a child process, which ends then.
    pub fn try_out(self, method: Method) -> Result<(), SandboxError> {
        let mounts = std::sync::Arc::new(self);
        let inner = std::sync::Arc::clone(&mounts);
        let mut trees = Vec::with_capacity(inner.shown.len());
        let mut command = Command::new("/proc/self/exe");
        let trial = move || {
            let code = inner.run(method, &mut trees).map_or_else(Failure::encode, |()| WORKED);
            // An error, so that nothing is executed; its number is handed to the parent.
            Err(io::Error::from_raw_os_error(code))
        };
        // SAFETY: `run` makes system calls only; it neither allocates nor takes locks.
        #[allow(unsafe_code)]
        let command = unsafe { command.pre_exec(trial) };
        let error = match command.spawn() {
            Ok(mut child) => {
                let _ = child.wait();
                return Err(SandboxError::Trial(io::Error::other("the trial executed a program")));
            }
            Err(error) => error,
        };
        match error.raw_os_error() {
            Some(WORKED) => Ok(()),
            Some(code) => match Failure::decode(code) {
                Some(failure) => Err(mounts.explain(failure)),
                None => Err(SandboxError::Trial(error)),
            },
            None => Err(SandboxError::Trial(error)),
        }
    }

    /// The steps themselves. `trees` has room for all that is shown.
    fn run(&self, method: Method, trees: &mut Vec<OwnedFd>) -> Result<(), Failure> {
        use MountStep as S;
        self.unshare(method)?;
        // Not private: a folder that the system mounts on demand later must also appear in here.
        let flags = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
        rustix::mount::mount_change(c"/", flags).map_err(at(S::Propagation, 0))?;
        for (i, path) in self.shown.iter().enumerate() {
            let flags = OpenTreeFlags::OPEN_TREE_CLONE
                | OpenTreeFlags::OPEN_TREE_CLOEXEC
                | OpenTreeFlags::AT_RECURSIVE;
            trees.push(rustix::mount::open_tree(CWD, path.as_c_str(), flags).map_err(at(S::Open, i))?);
        }
        for (i, operation) in self.operations.iter().enumerate() {
            self.perform(operation, trees).map_err(|(step, errno)| Failure { step, index: i, errno })?;
        }
        rustix::process::chdir(self.execution.as_c_str()).map_err(at(S::ChangeFolder, 0))
    }

    fn unshare(&self, method: Method) -> Result<(), Failure> {
        let user = method == Method::UserNamespace;
        let flags = if user { UnshareFlags::NEWNS | UnshareFlags::NEWUSER } else { UnshareFlags::NEWNS };
        // SAFETY: the table of open files stays shared; nobody else's is changed.
        #[allow(unsafe_code)]
        unsafe { rustix::thread::unshare_unsafe(flags) }.map_err(at(MountStep::Unshare, 0))?;
        if user {
            let ids = [
                (c"/proc/self/setgroups", "deny"),
                (c"/proc/self/gid_map", self.gid_map.as_str()),
                (c"/proc/self/uid_map", self.uid_map.as_str()),
            ];
            for (file, text) in ids {
                write(file, text).map_err(at(MountStep::MapIds, 0))?;
            }
        }
        Ok(())
    }

    fn perform(&self, operation: &Operation, trees: &[OwnedFd]) -> Result<(), (MountStep, Errno)> {
        use MountStep as S;
        match operation {
            Operation::Hide(path) => {
                let flags = MountFlags::NOSUID | MountFlags::NODEV;
                rustix::mount::mount(c"kiln", path.as_c_str(), c"tmpfs", flags, Some(c"mode=0755"))
                    .map_err(|e| (S::Hide, e))
            }
            Operation::Folder(path) => match rustix::fs::mkdir(path.as_c_str(), Mode::from_raw_mode(0o755)) {
                Err(Errno::EXIST) => Ok(()),
                made => made.map_err(|e| (S::MountPoint, e)),
            },
            Operation::File(path) => {
                let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
                rustix::fs::open(path.as_c_str(), flags, Mode::from_raw_mode(0o644))
                    .map(drop)
                    .map_err(|e| (S::MountPoint, e))
            }
            Operation::Link { path, target } => {
                rustix::fs::symlink(target.as_c_str(), path.as_c_str()).map_err(|e| (S::MountPoint, e))
            }
            Operation::Show { index, writable } => {
                let (tree, path) = (trees[*index].as_fd(), self.shown[*index].as_c_str());
                if !writable {
                    make_read_only(tree, c"", AtFlags::EMPTY_PATH.bits() | AT_RECURSIVE)
                        .map_err(|e| (S::ReadOnly, e))?;
                }
                let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
                rustix::mount::move_mount(tree, c"", CWD, path, flags).map_err(|e| (S::Show, e))
            }
            Operation::Freeze(path) => make_read_only(CWD, path, 0).map_err(|e| (S::ReadOnly, e)),
        }
    }

    fn explain(&self, failure: Failure) -> SandboxError {
        let path = match failure.step {
            MountStep::Unshare | MountStep::MapIds | MountStep::Propagation => None,
            MountStep::Open => self.shown.get(failure.index),
            MountStep::ChangeFolder => Some(&self.execution),
            _ => self.operations.get(failure.index).and_then(|operation| match operation {
                Operation::Show { index, .. } => self.shown.get(*index),
                Operation::Hide(path)
                | Operation::Folder(path)
                | Operation::File(path)
                | Operation::Link { path, .. }
                | Operation::Freeze(path) => Some(path),
            }),
        };
        SandboxError::Mounts {
            step: failure.step,
            path: path.map(|path| PathBuf::from(std::ffi::OsStr::from_bytes(path.as_bytes()))),
            source: failure.errno.into(),
        }
    }
}

impl Failure {
    /// As one number: the step and one, the index and the error, which are each below 4096.
    fn encode(self) -> i32 {
        let index = i32::try_from(self.index).unwrap_or(0xfff).min(0xfff);
        ((self.step as i32 + 1) << 24) | (index << 12) | (self.errno.raw_os_error() & 0xfff)
    }

    fn decode(code: i32) -> Option<Self> {
        let step = usize::try_from(code >> 24).ok()?.checked_sub(1)?;
        Some(Self {
            step: *MountStep::ALL.get(step)?,
            index: usize::try_from((code >> 12) & 0xfff).ok()?,
            errno: Errno::from_raw_os_error(code & 0xfff),
        })
    }
}

fn at(step: MountStep, index: usize) -> impl Fn(Errno) -> Failure {
    move |errno| Failure { step, index, errno }
}

fn c_path(path: &Path) -> Result<CString, SandboxError> {
    CString::new(path.as_os_str().as_bytes()).map_err(|e| SandboxError::Unresolved {
        what: "path",
        path: path.into(),
        source: e.into(),
    })
}

fn write(file: &CStr, text: &str) -> Result<(), Errno> {
    let file = rustix::fs::open(file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&file, text.as_bytes()).map(drop)
}

/// All mounts below as well.
const AT_RECURSIVE: u32 = 0x8000;

/// `mount_setattr` (Linux 5.12), which rustix does not have yet.
fn make_read_only(folder: BorrowedFd<'_>, path: &CStr, flags: u32) -> Result<(), Errno> {
    let attributes =
        libc::mount_attr { attr_set: libc::MOUNT_ATTR_RDONLY, attr_clr: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: the path and the attributes outlive the call, and the size is that of the attributes.
    #[allow(unsafe_code)]
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            folder.as_raw_fd(),
            path.as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if done == 0 { Ok(()) } else { Err(last_errno()) }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}
