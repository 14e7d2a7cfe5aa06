//! Control groups: one for the processes of a stage, and the limits of the one that this process is in.
//!
//! `group` makes, kills and removes a group; `limits` reads memory and CPU limits; `hierarchy` finds the folders
//! of both from the texts in `/proc`.

mod group;
mod hierarchy;
mod limits;
#[cfg(test)]
mod tests;

pub use group::Group;
pub use limits::{cpu_quota, memory_limit, oom_kills};
