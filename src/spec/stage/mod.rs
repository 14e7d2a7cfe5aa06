//! One stage of a pipeline file.
//!
//! `read` is the way in; `common` has the keys that every stage has, `inputs` what the inputs name, `kind`
//! and `command` the rest of the two sorts of stages, `execution` where and with what a command runs, and
//! `claims` the places in its execution folder.

mod claims;
mod command;
mod common;
mod execution;
mod inputs;
mod kind;
mod read;

pub use command::names;
pub use read::{Context, KEYS, SharedParam, kind_of, read};
