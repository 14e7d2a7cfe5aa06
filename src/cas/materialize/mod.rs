//! How artifacts go out: as the inputs of a stage, and as copies for people.

mod export;
mod inputs;
mod place;

pub use inputs::{How, LastWritten};
