//! Removes what nobody needs from a remote.
//!
//! The way through: `survey` lists what the remote has; `mark` reads what the records that stay need; `collect` takes
//! both twice, with time between them, and removes what was garbage each time. `pins` keep records; `folder` knows what is
//! left in a folder; `remotes` is what commands call.

mod collect;
mod folder;
mod mark;
mod pins;
mod remotes;
#[cfg(test)]
mod simulation;
mod survey;

pub use collect::GcRules;
pub(super) use folder::halves;
