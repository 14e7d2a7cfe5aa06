//! How sources are named and copied: files outside the store that nobody here makes.

mod identify;
mod ignore;
mod ingest;
mod walk;

pub(super) use identify::spell;
pub use ignore::Ignore;
