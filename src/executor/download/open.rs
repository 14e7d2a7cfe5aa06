//! A file elsewhere, opened for reading.
//!
//! Purpose: the bytes behind a URL from a place in the file on, over HTTP or from an object store.
//! Invariant: an answer says from which byte on it has the file; one that promises another place is an error.
//! Credentials go only where the environment sends them.
//! Must not know: where the bytes go, what they are.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::{GetOptions, GetRange, ObjectStore as _};
use reqwest::StatusCode;
use reqwest::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, RANGE};

use crate::cas::remote::{Address, chain, without_secrets};

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(20);
/// How long nothing may arrive.
const SILENCE: Duration = Duration::from_secs(60);

/// Why a file could not be opened or read.
#[derive(Debug)]
pub enum Failure {
    /// Trying again may help.
    Passing(String),
    /// The file cannot be gone on with from there; the whole of it may be had.
    Beyond,
    /// Trying again does not help.
    Final(String),
}

/// A file elsewhere.
pub struct Opened {
    /// The place of the first byte of the stream.
    pub start: u64,
    /// The size of the whole file, where it is known.
    pub size: Option<u64>,
    /// Whether the server calls it a web page.
    pub is_page: bool,
    /// Its bytes.
    pub bytes: BoxStream<'static, Result<Bytes, String>>,
}

/// Opens the file behind a URL, from a byte on if the server can.
///
/// # Errors
/// There is no such file, or nobody answers.
pub async fn open(url: &str, start: u64) -> Result<Opened, Failure> {
    match url.starts_with("http") {
        true => over_http(url, start).await,
        false => from_store(url, start).await,
    }
}

async fn over_http(url: &str, start: u64) -> Result<Opened, Failure> {
    // The client finds its cryptography there. A second call changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder()
        .connect_timeout(CONNECT)
        .read_timeout(SILENCE)
        .user_agent(concat!("kiln/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|e| Failure::Final(chain(&e)))?;
    let mut request = client.get(url).header(ACCEPT_ENCODING, "identity");
    if start > 0 {
        request = request.header(RANGE, format!("bytes={start}-"));
    }
    let response = request.send().await.map_err(|e| match e.is_redirect() {
        true => Failure::Final("the server redirects without end".into()),
        false => Failure::Passing(chain(&e.without_url())),
    })?;
    let status = response.status();
    let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
    if let Some(encoding) = header(CONTENT_ENCODING).filter(|encoding| *encoding != "identity") {
        let what = format!("the server sent the file in the encoding `{encoding}`, which was not asked for");
        return Err(Failure::Final(what));
    }
    let (from, size) = match status {
        StatusCode::PARTIAL_CONTENT if start > 0 => {
            let range = content_range(header(CONTENT_RANGE).unwrap_or_default());
            range.filter(|(from, _)| *from == start).ok_or(Failure::Beyond)?
        }
        status if status.is_success() && status != StatusCode::PARTIAL_CONTENT => {
            (0, response.content_length())
        }
        StatusCode::PARTIAL_CONTENT => {
            return Err(Failure::Final(
                "the server sent a part of the file, and was asked for all of it".into(),
            ));
        }
        status => return Err(refusal(status)),
    };
    let is_page = header(CONTENT_TYPE).is_some_and(|kind| kind.starts_with("text/html"));
    let bytes = futures_util::stream::try_unfold(response, |mut response| async move {
        let chunk = response.chunk().await.map_err(|e| chain(&e.without_url()))?;
        Ok(chunk.map(|chunk| (chunk, response)))
    });
    Ok(Opened { start: from, size, is_page, bytes: bytes.boxed() })
}

/// `bytes 100-199/200` as the first byte and the size of the whole.
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, size) = text.strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.parse().ok()?, size.parse().ok()))
}

fn refusal(status: StatusCode) -> Failure {
    let hint = match status {
        StatusCode::NOT_FOUND | StatusCode::GONE => "; is the URL right?",
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            "; the file is not for everybody: download it yourself and name its `path`"
        }
        _ => "",
    };
    let message = format!("the server answered {status}{hint}");
    let passing = status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED
        || [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS, StatusCode::TOO_EARLY]
            .contains(&status);
    if passing { Failure::Passing(message) } else { Failure::Final(message) }
}

async fn from_store(url: &str, start: u64) -> Result<Opened, Failure> {
    let address = Address::parse(url).map_err(|e| Failure::Final(e.to_string()))?;
    let (store, path) = address.object().map_err(Failure::Final)?;
    let range = (start > 0).then_some(GetRange::Offset(start));
    let options = GetOptions { range, ..GetOptions::default() };
    let found = store.get_opts(&path, options).await.map_err(|e| match e {
        object_store::Error::NotFound { .. } => {
            Failure::Final(format!("there is no object at {}", without_secrets(url)))
        }
        e if start > 0 && chain(&e).contains("416") => Failure::Beyond,
        // The client has tried again itself.
        e => Failure::Final(chain(&e)),
    })?;
    let (from, size) = (found.range.start, Some(found.meta.size));
    let bytes = found.into_stream().map_err(|e| chain(&e)).boxed();
    Ok(Opened { start: from, size, is_page: false, bytes })
}

#[cfg(test)]
mod tests {
    use super::content_range;

    #[test]
    fn the_place_of_a_part_is_read_with_and_without_the_size_of_the_whole() {
        assert_eq!(content_range("bytes 100-199/200"), Some((100, Some(200))));
        assert_eq!(content_range("bytes 100-199/*"), Some((100, None)));
        for text in ["", "bytes */200", "bytes -5/200", "items 1-2/3", "bytes 99999999999999999999-1/2"] {
            assert_eq!(content_range(text), None, "{text}");
        }
    }
}
