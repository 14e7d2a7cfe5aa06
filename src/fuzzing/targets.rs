//! The targets by name.

use super::{pieces, state, store, text, trust, wire};

/// A target: its name, and what it does with bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 12] = [
    ("action", store::action),
    ("tree", store::tree),
    ("recipe", store::recipe),
    ("pieces", pieces::pieces),
    ("trust", trust::trust),
    ("stat_index", state::stat_index),
    ("history", state::history),
    ("lock_file", text::lock_file),
    ("pipeline", text::pipeline),
    ("user_file", text::user_file),
    ("events", wire::events),
    ("describe", wire::describe),
];

/// Hands bytes to the target of this name.
///
/// # Panics
/// A rule is broken, or there is no such target.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|(known, _)| *known == name);
    target.unwrap_or_else(|| panic!("there is no target `{name}`")).1(bytes);
}
