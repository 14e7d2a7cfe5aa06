//! What Kiln does to a disk.
//!
//! Purpose: the one fallible trait through which the store and its state change a disk, and the few
//! operations made of several of its steps.
//! Invariant: outside of `os`, nothing in `cas` and `state` writes, syncs, renames, links or removes anything.
//! Must not know: blobs, actions, or why something is written.

mod operations;
mod os;
mod remove;
mod replace;
mod tail;

pub use operations::{Disk, make_durable_folders, make_folders};
pub use os::Os;
pub use remove::{remove_tree, remove_tree_on};
pub(super) use replace::beside;
pub use replace::{replace, replace_on};
pub use tail::tail;
