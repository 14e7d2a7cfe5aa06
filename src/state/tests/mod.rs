//! Tests of the state as its users see it.
//!
//! Purpose: hold runs and locks to their invariants, between threads and between processes.
//! Invariant: no test needs more than the temporary folder and this machine's own clock.
//! Must not know: how the state keeps its promises.

mod faults;
mod history;
mod locks;
