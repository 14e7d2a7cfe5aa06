//! What can go wrong with a remote.
//!
//! Purpose: messages that name the remote, what was tried and the next step.
//! Invariant: no message holds a credential: a URL is shown without its user and its query.
//! Must not know: what becomes of the error.

use std::fmt::Write as _;

use object_store::Error;

use crate::cas::error::StoreError;
use crate::digest::Digest;

/// What can go wrong with a remote.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RemoteError {
    /// A URL that names no store.
    #[error("`{url}` is not the URL of a remote: {why}")]
    Url {
        /// The URL, without secrets.
        url: String,
        /// What is wrong with it, and what is possible.
        why: String,
    },
    /// The remote cannot be used with what is configured.
    #[error("the remote `{remote}` cannot be opened: {why}")]
    Open {
        /// Its name.
        remote: String,
        /// Why.
        why: String,
    },
    /// A request failed.
    #[error("the remote `{remote}` failed to {what}: {why}")]
    Request {
        /// Its name.
        remote: String,
        /// What was tried.
        what: String,
        /// What the server or the network said.
        why: String,
    },
    /// There was no connection.
    #[error("the remote `{remote}` did not answer: {why}")]
    Unreachable {
        /// Its name.
        remote: String,
        /// Why, and the next step.
        why: String,
    },
    /// The bucket is missing, or there are no credentials: no request can succeed.
    #[error("the remote `{remote}` cannot be used: {why}")]
    Unusable {
        /// Its name.
        remote: String,
        /// Why, and the next step.
        why: String,
    },
    /// The credentials do not allow a request.
    #[error("the remote `{remote}` does not let us {what}; its credentials do not allow it")]
    Denied {
        /// Its name.
        remote: String,
        /// What was tried.
        what: &'static str,
    },
    /// A server of files, which has no listing.
    #[error(
        "the remote `{0}` is reached by HTTP, so it cannot be listed; ask its administrator what it holds"
    )]
    Unlistable(String),
    /// The remote holds something else than what its name says.
    #[error("the remote `{remote}` gave wrong bytes for {what}: {why}; they were not used")]
    WrongBytes {
        /// Its name.
        remote: String,
        /// Which object.
        what: String,
        /// What is wrong.
        why: String,
    },
    /// What a collection has to read, so that it removes nothing that is needed.
    #[error(
        "garbage of the remote `{remote}` is left where it is: {what} cannot be read, and what it needs is not known \
         ({why}); `kiln push --resend`, where its results are, replaces it"
    )]
    Unreadable {
        /// Its name.
        remote: String,
        /// Which object.
        what: String,
        /// What is wrong.
        why: String,
    },
    /// A record that no trusted key has signed, where that is required.
    #[error(
        "the record {} in the remote `{remote}` counts as absent, because no trusted key has signed it: {}",
        key.short(),
        signer.as_ref().map_or_else(
            || "it has no signature".to_owned(),
            |id| format!("it names the key id {id}; `kiln key trust NAME KEY` trusts a key")
        )
    )]
    Untrusted {
        /// The name of the remote.
        remote: String,
        /// The key of the action.
        key: Digest,
        /// The id of the key that the record says has signed it.
        signer: Option<String>,
    },
    /// The remote was made by a newer Kiln.
    #[error(
        "the remote `{remote}` has the format `{found}`, which this kiln does not know; use a newer kiln"
    )]
    NewerFormat {
        /// Its name.
        remote: String,
        /// Its format.
        found: String,
    },
    /// The remote failed often and is left alone for the rest of the run.
    #[error("the remote `{0}` is left alone after earlier failures")]
    LeftAlone(String),
}

/// Why an artifact could not be brought here.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No remote has it, or gives its bytes.
    #[error("no remote has the bytes of {0}")]
    Missing(Digest),
    /// A stop was asked for.
    #[error("the transfer was stopped")]
    Stopped,
    /// The local store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Whether the credentials do not allow a request. Listings wrap the answer of the server in an error that has no name,
/// whose text alone says it.
pub(super) fn is_denied(error: &Error) -> bool {
    match error {
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => true,
        Error::Generic { .. } => {
            let text = chain(error);
            ["401", "403"].iter().any(|status| text.contains(&format!("status code: {status}")))
        }
        _ => false,
    }
}

/// An error with what caused it, on one line. The libraries below say the same thing more than once.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            let _ = write!(text, ": {cause_text}");
        }
        next = cause.source();
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
