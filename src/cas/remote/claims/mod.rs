//! What somebody does to a remote at the moment, for others to see.
//!
//! `heartbeat` tells the living from the dead; an `intent` names the blobs that somebody is about to name in an action,
//! and keeps collectors of garbage from them; a `lease` says who runs a stage, so that others wait for the result.

mod heartbeat;
mod intent;
mod lease;

pub(super) use heartbeat::{COLLECTORS, Heartbeat, INTENTS, Owner, STANDSTILL, Watched, is_id};
pub(super) use intent::{Intent, milliseconds, read as read_intent, wait_for_collectors};
pub use lease::{Claim, Lease};
pub(super) use lease::{LEASES, Seen, open_plain};
