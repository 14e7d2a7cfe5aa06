//! `sandbox: strict`: a command sees its execution folder, and neither the rest of the project nor the store.
//!
//! `strict` has the types and the two calls (`prepare`, `enter`), `layers` the pure list of what is hidden and
//! shown, `mounts` the mount namespace, `landlock` the other method.

mod error;
mod landlock;
mod layers;
mod mounts;
mod resolve;
mod strict;
#[cfg(test)]
mod tests;

pub use error::{MountStep, SandboxError};
pub use strict::{Method, Strict};
