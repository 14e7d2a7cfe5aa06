//! How commands end.
//!
//! Purpose: exit codes, and one error type with its exit code and its form for people and scripts.
//! Invariant: after an error of the pipeline file or of the call nothing has run, and the exit code is 3.
//! Must not know: commands.

use std::io;

use serde_json::json;

use crate::cas::StoreError;
use crate::cli::pipeline::lock;
use crate::cli::printer::{BAD, Printer, paint};
use crate::executor::RunError;
use crate::plan::PlanError;
use crate::report::lockfile::{Difference, LockFileError};
use crate::spec::diagnostic::{self, Diagnostic, ERRORS_FORMAT};

/// The exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Success.
    Ok = 0,
    /// A stage failed, or an operation of the system did.
    Failed = 1,
    /// Changes are pending, and the caller asked to know.
    Changes = 2,
    /// The pipeline file or the call is wrong.
    Wrong = 3,
    /// A stage waits for people.
    People = 4,
    /// Interrupted; the same command resumes.
    Interrupted = 130,
}

impl Exit {
    /// The exit code as a number.
    pub fn code(self) -> u8 {
        self as u8
    }
}

/// Why a command ended early.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The pipeline file is wrong.
    #[error("{} errors in the pipeline file", .0.len())]
    Pipeline(Vec<Diagnostic>),
    /// The call is wrong.
    #[error("{0}")]
    Call(String),
    /// Something is missing.
    #[error("{0}")]
    Failed(String),
    /// The lock file does not match (`--locked`).
    #[error("{message}")]
    Locked {
        /// What is wrong.
        message: String,
        /// What differs.
        differences: Vec<Difference>,
    },
    /// There is no lock file to use.
    #[error(transparent)]
    LockFile(#[from] LockFileError),
    /// Planning failed for a reason outside of the pipeline file.
    #[error(transparent)]
    Plan(PlanError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The system refused an operation.
    #[error("cannot {what}: {source}")]
    Io {
        /// The operation.
        what: String,
        /// The error of the system.
        source: io::Error,
    },
}

impl From<RunError> for CliError {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Preflight(_) => Self::Call(error.to_string()),
            _ => Self::Failed(error.to_string()),
        }
    }
}

impl From<io::Error> for CliError {
    fn from(source: io::Error) -> Self {
        Self::Io { what: "write the answer".into(), source }
    }
}

impl CliError {
    /// The system refused `what`, a verb and its object.
    pub fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        |source| Self::Io { what, source }
    }

    /// Its exit code.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Pipeline(_) | Self::Call(_) => Exit::Wrong,
            // A source that cannot be one.
            Self::Plan(PlanError::Store(StoreError::NotPlain { .. })) => Exit::Wrong,
            Self::Store(StoreError::BadIgnore { .. })
            | Self::Plan(PlanError::Store(StoreError::BadIgnore { .. })) => Exit::Wrong,
            Self::Locked { .. } => Exit::Changes,
            _ => Exit::Failed,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Pipeline(_) => "pipeline",
            Self::Call(_) => "call",
            Self::Failed(_) => "failed",
            Self::Locked { .. } => "locked",
            Self::LockFile(_) => "lock-file",
            Self::Plan(_) => "plan",
            Self::Store(_) => "store",
            Self::Io { .. } => "io",
        }
    }

    /// Prints the error: on stderr for people, or on stdout as JSON.
    ///
    /// # Errors
    /// An error of stdout.
    pub fn report(&self, printer: &mut Printer, json: bool) -> io::Result<()> {
        if json {
            let answer = match self {
                Self::Pipeline(diagnostics) => diagnostic::to_json(diagnostics),
                Self::Locked { message, differences } => lock::errors_json(message, differences),
                other => json!({ "schema": ERRORS_FORMAT, "errors": [{
                    "code": other.code(),
                    "message": other.to_string(),
                    "file": null, "line": null, "column": null, "hint": null,
                }] }),
            };
            printer.json(&answer)?;
            return printer.flush();
        }
        match self {
            Self::Pipeline(diagnostics) => printer.complain(coloured(&diagnostic::render(diagnostics))),
            Self::Locked { message, differences } if !differences.is_empty() => printer.complain(format!(
                "{} {message}\n{}",
                paint(BAD, "error:"),
                lock::listing(differences)
            )),
            other => printer.complain(format!("{} {other}\n", paint(BAD, "error:"))),
        }
        Ok(())
    }
}

/// Rendered diagnostics with their first words coloured.
fn coloured(text: &str) -> String {
    let line = |line: &str| match line.split_once(':') {
        Some((head, rest)) if head.starts_with("error[") => {
            format!("{}{rest}\n", paint(BAD, format!("{head}:")))
        }
        _ => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}
