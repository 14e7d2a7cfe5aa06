//! Care for a store: check every byte, and remove what nobody needs.
//!
//! `fsck` reads everything, whatever the records of stats say, and repairs from the remotes, and `copies` does so for
//! the copies below `view`; `gc` marks what is live, plans what can go, and removes it; a `pin` keeps records; `usage`
//! counts what a store takes.

mod copies;
mod fsck;
mod gc;
mod pin;
mod usage;

pub use fsck::{Checked, Incomplete};
pub use gc::{Garbage, GcPlan, Kind};
pub use pin::{MOST_PIN_BYTES, Pin};
pub use usage::{Part, Size, StoreUsage};
