//! How a job says that it has ended.
//!
//! Purpose: the last file of a submission, and what is in it.
//! Invariant: it is written when nothing of the job will happen any more, and by the job alone. It is the truth on how a job
//! ended, whatever the cluster says; that a result is there only its action says.
//! Must not know: what becomes of the stage.

use serde::{Deserialize, Serialize};

use super::mail::{Mail, MailError};

/// The name of the file.
const FILE: &str = "end.json";
/// The most bytes of it.
const MOST_BYTES: u64 = 1 << 20;

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "end", rename_all = "snake_case")]
pub enum JobEnd {
    /// The result is in the store or the remote.
    Done {
        /// How long its stage ran; none where the result was there already.
        seconds: Option<f64>,
    },
    /// The stage failed.
    Failed {
        /// Why.
        error: String,
    },
    /// Somebody else runs the same action.
    Held {
        /// Who, in words.
        holder: String,
    },
    /// An input is not where it should be.
    InputMissing {
        /// Its name.
        input: String,
    },
    /// It was told that its time is over, and has written what it needs to go on.
    OutOfTime,
}

/// Says how a submission ended.
///
/// # Errors
/// The disk or the remote refuses.
pub fn write(mail: &Mail, submission: &str, end: &JobEnd) -> Result<(), MailError> {
    let json = serde_json::to_vec(end).unwrap_or_default();
    mail.put(&[submission, FILE], json)
}

/// How a submission ended; none while nobody has said so.
///
/// # Errors
/// The disk or the remote refuses.
pub fn read(mail: &Mail, submission: &str) -> Result<Option<JobEnd>, MailError> {
    let bytes = mail.get(&[submission, FILE], MOST_BYTES)?;
    let unreadable = |error: serde_json::Error| JobEnd::Failed {
        error: format!(
            "the job ended, and what it says is not understood ({error}); is another version of kiln there?"
        ),
    };
    Ok(bytes.map(|bytes| serde_json::from_slice(&bytes).unwrap_or_else(unreadable)))
}
