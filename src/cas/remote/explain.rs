//! What an error of a request means, and the next step.
//!
//! Purpose: tell a server that cannot be reached, missing credentials and a missing bucket from other errors.
//! Invariant: the library below says these things in its texts alone, so they are looked for there; an error that is
//! not known is shown as it is.
//! Must not know: what was asked for.

use object_store::Error;
use url::Url;

use super::address::Address;
use super::error::{RemoteError, chain};

/// What the services of the clouds say of a bucket that is not there.
const NO_BUCKET: [&str; 3] = ["NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist"];
/// Where the libraries ask for the role of a machine when they find no credentials.
const MACHINE_ROLE: [&str; 2] = ["169.254.169.254", "metadata.google.internal"];

/// An error of a request to the remote `remote` at `address`; `what` was tried.
pub(super) fn explain(remote: &str, address: &Address, what: &str, error: &Error) -> RemoteError {
    let (remote, text) = (remote.to_owned(), chain(error));
    if is_without_bucket(error) {
        let why = format!("the bucket `{}` does not exist; create it, or correct the URL", address.bucket());
        return RemoteError::Unusable { remote, why };
    }
    if MACHINE_ROLE.iter().any(|host| text.contains(host)) {
        let why = format!("no credentials were found; {}", credentials(address));
        return RemoteError::Unusable { remote, why };
    }
    if let Some(why) = without_connection(address, error, &text) {
        return RemoteError::Unreachable { remote, why };
    }
    RemoteError::Request { remote, what: what.to_owned(), why: text }
}

/// Whether the bucket itself is missing, and not an object in it.
pub(super) fn is_without_bucket(error: &Error) -> bool {
    let may_be = matches!(error, Error::NotFound { .. } | Error::Generic { .. });
    may_be && NO_BUCKET.iter().any(|said| chain(error).contains(said))
}

/// Why there was no connection, with the server that was asked; none for other errors.
fn without_connection(address: &Address, error: &Error, text: &str) -> Option<String> {
    if !text.contains("client error (Connect)") {
        return None;
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    let url = text.split_whitespace().find_map(|word| Url::parse(word).ok().filter(Url::has_host));
    let server = match url {
        Some(url) => url.origin().ascii_serialization(),
        None => address.to_string(),
    };
    let next = match address.scheme() {
        "s3" => "; check that the server runs, and AWS_ENDPOINT_URL",
        "az" => "; check that the server runs, and AZURE_ENDPOINT",
        _ => "; check that the server runs",
    };
    Some(format!("cannot connect to {server}: {cause}{next}"))
}

/// The variables that give credentials.
fn credentials(address: &Address) -> &'static str {
    match address.scheme() {
        "gs" => "set GOOGLE_APPLICATION_CREDENTIALS to the file of a key",
        "az" => "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
        _ => "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    }
}
