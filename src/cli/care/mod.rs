//! The commands that check and clean a store.

pub mod fsck;
pub mod gc;
pub mod pin;
pub mod verify;
