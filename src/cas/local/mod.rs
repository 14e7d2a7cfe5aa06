//! The local store: blobs and actions as files of one folder.

mod actions;
mod blobs;
mod hash;
mod root;
mod temporary;

pub(super) use actions::{Draft, LocalActions, MOST_BYTES as MOST_ACTION_BYTES};
pub(crate) use actions::{parse as parse_action, spell as spell_action};
pub(super) use blobs::{LocalBlobs, READ_ONLY};
pub(super) use hash::{Hashed, LARGE, hash, hash_to};
pub(crate) use root::unpoisoned;
pub(super) use root::{MustLast, Root};
pub(super) use temporary::Temporary;
