//! What reads the formats that come from a disk or from elsewhere, as functions of any bytes.
//!
//! Purpose: the targets of `fuzz/`, and of the test that runs their corpora. Each of them panics when a rule is broken:
//! what was read and is written again is the same, bounds hold, and nothing climbs out.
//! Invariant: no target writes anything, starts anything or waits for anything.
//! Must not know: who makes the bytes.

// A panic is how a target fails.
#![allow(clippy::unwrap_used)]

mod pieces;
mod state;
mod store;
mod targets;
mod text;
mod trust;
mod wire;

pub use targets::{TARGETS, Target, run};
