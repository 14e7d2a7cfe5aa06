//! Stores elsewhere: S3, Azure, Google Cloud Storage, HTTP and plain folders.
//!
//! The way through: a URL becomes an object store (`address`) -> a [`Remote`] is one of them with its layout ->
//! [`Remotes`] are all of a project, in order: `lookup` asks them for actions, `fetch` brings artifacts into the
//! local store, `push` takes actions and their artifacts out, large blobs in
//! `pieces`; `jobs` are the objects by which a runner and its jobs talk; `usage` counts what is there; `explain` says what an error of a request means.

mod address;
mod claims;
mod error;
mod explain;
mod fetch;
mod folder;
mod format;
mod gc;
mod health;
mod jobs;
mod list;
mod object;
mod packs;
pub(crate) mod pieces;
mod profile;
mod push;
#[cfg(test)]
mod tests;
mod usage;

pub use address::{Address, without_secrets};
pub use claims::{Claim, Lease};
pub use error::{FetchError, RemoteError, chain};
pub use gc::GcRules;
pub use list::{Found, Moved, Remotes};
pub use object::{Access, Remote, Sent};
pub use push::{Pushed, Sending};
pub use usage::{Count, RemoteUsage};
