//! Remotes: which there are, and what goes to them and comes from them when it is asked for.
//!
//! `config` merges the pipeline's, the user's and those of the environment; `push` and `pull` move results; `remote`
//! lists, adds, removes and checks, and `usage` counts what they hold; `key` makes, lists, trusts and distrusts keys;
//! `provenance` collects what is signed.

pub mod config;
pub mod key;
pub mod progress;
pub mod provenance;
pub mod pull;
pub mod push;
pub mod remote;
pub mod usage;
