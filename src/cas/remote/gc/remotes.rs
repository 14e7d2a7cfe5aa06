//! Garbage and pins of one remote of several.
//!
//! Purpose: what commands call; the requests are made on the runtime of the remotes.
//! Must not know: how it is done.

use std::collections::BTreeMap;

use super::collect::GcRules;
use crate::cas::care::{GcPlan, Pin};
use crate::cas::remote::error::RemoteError;
use crate::cas::remote::list::Remotes;
use crate::cas::remote::object::Remote;
use crate::cas::types::Action;
use crate::digest::Digest;

impl Remotes {
    /// Plans what can be removed from a remote; nothing is written there.
    ///
    /// # Errors
    /// A request failed; something that keeps things cannot be read.
    pub fn plan_gc(&self, remote: &Remote, rules: GcRules) -> Result<GcPlan, RemoteError> {
        self.runtime.block_on(remote.plan_gc(rules))
    }

    /// Removes what can be removed from a remote; gives what was planned and the bytes that are free now.
    ///
    /// # Errors
    /// As [`Self::plan_gc`].
    pub fn collect_garbage(&self, remote: &Remote, rules: GcRules) -> Result<(GcPlan, u64), RemoteError> {
        self.runtime.block_on(remote.collect_garbage(rules))
    }

    /// An action of a remote, if it can be read. That is no use of it: its time stays as it is.
    pub fn peek(&self, remote: &Remote, key: &Digest) -> Option<Action> {
        self.runtime.block_on(remote.action(key)).ok().flatten()
    }

    /// The pins of a remote by name.
    ///
    /// # Errors
    /// A request failed; a pin cannot be read.
    pub fn pins(&self, remote: &Remote) -> Result<BTreeMap<String, Pin>, RemoteError> {
        self.runtime.block_on(remote.read_pins())
    }

    /// Pins records in a remote.
    ///
    /// # Errors
    /// A request failed.
    pub fn pin(&self, remote: &Remote, name: &str, pin: &Pin) -> Result<(), RemoteError> {
        self.runtime.block_on(remote.write_pin(name, pin))
    }

    /// Removes a pin; false when there is none of this name.
    ///
    /// # Errors
    /// A request failed.
    pub fn unpin(&self, remote: &Remote, name: &str) -> Result<bool, RemoteError> {
        self.runtime.block_on(remote.remove_pin(name))
    }
}
