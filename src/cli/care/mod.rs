//! The commands that check, measure and clean a store.

pub mod du;
pub mod fsck;
pub mod gc;
mod lock_files;
pub mod pin;
pub mod verify;
