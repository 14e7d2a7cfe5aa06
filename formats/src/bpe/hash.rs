//! Hash maps for byte strings and token pairs.
//!
//! Purpose: one fast hasher in one place.
//! Invariant: seeded per process, so no text or file can be made to collide; nothing may depend on
//! the order in which such a map is walked.
//! Must not know: what is kept in the maps.

/// A hash map with a fast, seeded hasher.
pub(super) type Map<K, V> = std::collections::HashMap<K, V, foldhash::fast::RandomState>;

/// The key of an ordered pair of tokens.
pub(super) fn pair_key(left: u32, right: u32) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}
