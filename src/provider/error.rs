//! Why a provider cannot be used.
//!
//! Purpose: one error type whose messages name the program and the next step.
//! Invariant: messages are lowercase fragments that read well after `error: `.
//! Must not know: how errors are shown.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use super::discovery::{DEFAULT, VARIABLE};
use crate::cas::StoreError;
use crate::protocol::PROTOCOL;

/// What exit code 127 of a provider means: the system's loader ends a program so.
pub const LIBRARY_MISSING: &str =
    "a library that it needs is missing; for Kiln's own worker `make build` restores it";

/// Why a provider cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// The default one was not found.
    #[error(
        "the worker `{DEFAULT}` is missing; build it with `cargo build --release -p {DEFAULT}`, put it \
         beside `kiln` or on PATH, or name another one with {VARIABLE}"
    )]
    NoDefault,
    /// A named one was not found.
    #[error("the provider {} is missing; correct its path, or put it on PATH", .0.display())]
    Missing(PathBuf),
    /// It is there and may not be executed.
    #[error("the provider {} may not be executed; `chmod +x` it", .0.display())]
    NotExecutable(PathBuf),
    /// The machine refused something.
    #[error("cannot {what} the provider {}: {source}", program.display())]
    Io {
        /// What was tried, as a verb.
        what: &'static str,
        /// The program.
        program: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// It took too long.
    #[error(
        "`{} {verb}` did not end within {} s and was killed; run it by hand to see why",
        program.display(), limit.as_secs_f64()
    )]
    TooSlow {
        /// The program.
        program: PathBuf,
        /// What it was asked for.
        verb: &'static str,
        /// How long it had.
        limit: Duration,
    },
    /// It printed too much.
    #[error(
        "`{} {verb}` printed more than {limit} bytes and was killed; it must print one JSON object",
        program.display()
    )]
    TooMuch {
        /// The program.
        program: PathBuf,
        /// What it was asked for.
        verb: &'static str,
        /// How many bytes it may print.
        limit: usize,
    },
    /// It failed.
    #[error("`{} {verb}` failed ({status}): {stderr}", program.display())]
    Failed {
        /// The program.
        program: PathBuf,
        /// What it was asked for.
        verb: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it wrote to stderr.
        stderr: String,
    },
    /// It printed something else, or a description that breaks a rule.
    #[error("`{} describe` did not answer with a description: {why}", program.display())]
    BadDescription {
        /// The program.
        program: PathBuf,
        /// What is wrong with the answer.
        why: String,
    },
    /// It answered `check` with something else.
    #[error("`{} check` gave an answer that cannot be used: {why}", program.display())]
    BadAnswer {
        /// The program.
        program: PathBuf,
        /// What is wrong with the answer.
        why: String,
    },
    /// It speaks another version of the protocol.
    #[error(
        "the provider {} speaks protocol {theirs}, this kiln {PROTOCOL}; bring both to one version",
        program.display()
    )]
    Protocol {
        /// The program.
        program: PathBuf,
        /// Its protocol.
        theirs: u64,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
