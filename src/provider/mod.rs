//! The programs that provide stage kinds, and what they and their stages get of the environment.
//!
//! The way through: `discovery` (name -> program) -> `ask` (run `describe` or `check`, bounded) -> `validate` (is the
//! answer sound) -> `cache` (when it need not be asked again) -> [`Providers`], which does all of it once a
//! program. [`environment`] says which variables `describe` and stages get.

pub mod call;
pub mod conversation;
pub mod environment;

mod ask;
mod cache;
mod discovery;
mod error;
mod registry;
#[cfg(test)]
mod tests;
mod validate;

pub use discovery::{DEFAULT, VARIABLE, program};
pub use environment::{ENVIRONMENT_POLICY, EnvironmentError, StageEnvironment, stage_environment};
pub use error::{LIBRARY_MISSING, ProviderError};
pub(crate) use validate::parse as parse_description;

pub use registry::{Known, Provider, ProviderFacts, Providers};
