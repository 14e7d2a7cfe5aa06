//! From a URL to an object store.
//!
//! Purpose: `s3://`, `gs://`, `az://`, `https://` and `file://`, with credentials from the usual variables.
//! Invariant: a URL never says where credentials are sent: endpoints come from the environment, and plain HTTP is
//! for this machine alone. Retries and timeouts are bounded.
//! Must not know: what is kept in a store.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::http::HttpBuilder;
use object_store::path::Path as ObjectPath;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};
use url::Url;

use super::error::{RemoteError, chain};
use super::folder::Folder;
use super::profile;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a request may take, with its bytes. (The body of a large object comes in requests of its own.)
const REQUEST: Duration = Duration::from_secs(300);
/// How often a request is tried again, and for how long.
const RETRIES: usize = 4;
const RETRY_FOR: Duration = Duration::from_secs(20);

/// What a remote looks like.
const LOOKS: &str = "a remote looks like s3://bucket/prefix, https://host/path or /folder";

/// Where a remote is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    url: Url,
    /// The folder, for `file://`.
    folder: Option<PathBuf>,
}

impl Address {
    /// Reads a URL. A path without a scheme is a folder.
    ///
    /// # Errors
    /// The URL names no store.
    pub fn parse(text: &str) -> Result<Self, RemoteError> {
        let wrong = |why: String| RemoteError::Url { url: without_secrets(text), why };
        if text.starts_with('/') {
            let folder = PathBuf::from(text);
            let url = Url::from_directory_path(&folder).map_err(|()| wrong("it is not a path".into()))?;
            return Ok(Self::of(url, Some(folder)));
        }
        let url = Url::parse(text).map_err(|e| wrong(format!("{}; {LOOKS}", reason(e))))?;
        if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
            return Err(wrong(
                "it holds credentials or a query; credentials belong in the environment".into(),
            ));
        }
        if url.fragment().is_some() {
            return Err(wrong("what stands behind a `#` names no place; write it as %23 if it does".into()));
        }
        match url.scheme() {
            "file" => {
                let folder =
                    url.to_file_path().map_err(|()| wrong("file:// needs an absolute path".into()))?;
                return Ok(Self::of(url, Some(folder)));
            }
            "s3" | "gs" | "az" | "https" => {}
            "http" if is_loopback(&url) => {}
            "http" => return Err(wrong("plain http is for this machine alone; use https".into())),
            other => {
                let known = "s3://, gs://, az://, https:// and file://";
                return Err(wrong(format!("`{other}` is not a kind of remote; there are {known}")));
            }
        }
        match url.host_str() {
            Some(host) if !host.is_empty() => Ok(Self::of(url, None)),
            _ => Err(wrong(format!("it names no bucket; it looks like {}://bucket/prefix", url.scheme()))),
        }
    }

    /// One place has one address: a slash at the end says nothing.
    fn of(mut url: Url, folder: Option<PathBuf>) -> Self {
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
        Self { url, folder }
    }

    /// Whether only reading is possible.
    pub fn is_read_only(&self) -> bool {
        matches!(self.url.scheme(), "http" | "https")
    }

    /// The scheme of its URL.
    pub(super) fn scheme(&self) -> &str {
        self.url.scheme()
    }

    /// The bucket, the container or the host.
    pub(super) fn bucket(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }

    /// The file of an object, where the remote is a folder.
    pub(super) fn file(&self, object: &ObjectPath) -> Option<PathBuf> {
        Some(self.folder.as_ref()?.join(object.as_ref()))
    }

    /// Opens the store of an object to read, and says where in it the object is.
    ///
    /// # Errors
    /// Something in the environment is missing or wrong.
    pub fn object(&self) -> Result<(Arc<dyn ObjectStore>, ObjectPath), String> {
        self.open(false)
    }

    /// Opens the store, and says below which path in it everything lies. The folder of one that is written is made.
    ///
    /// # Errors
    /// Something in the environment is missing or wrong.
    pub(super) fn open(&self, writes: bool) -> Result<(Arc<dyn ObjectStore>, ObjectPath), String> {
        let prefix = ObjectPath::from_url_path(self.url.path()).map_err(|e| chain(&e))?;
        if let Some(folder) = &self.folder {
            // Its parent must be there: it may be the place where a disk is not mounted.
            if writes && !folder.exists() {
                std::fs::create_dir(folder).map_err(|e| format!("cannot make {}: {e}", folder.display()))?;
            }
            if !folder.is_dir() {
                return Err(format!("there is no folder {}", folder.display()));
            }
            let store = Folder::open(folder).map_err(|e| chain(&e))?;
            return Ok((Arc::new(store), ObjectPath::default()));
        }
        // The client finds its cryptography there. A second call changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (bucket, retry) = (self.bucket(), retry());
        let store: Result<Arc<dyn ObjectStore>, object_store::Error> = match self.url.scheme() {
            "s3" => {
                let builder = profile::complete(AmazonS3Builder::from_env());
                let options = client("AWS_ALLOW_HTTP", profile::endpoint(&builder));
                let builder = builder.with_bucket_name(bucket).with_retry(retry).with_client_options(options);
                builder.build().map(|store| Arc::new(store) as Arc<dyn ObjectStore>)
            }
            "gs" => {
                let builder =
                    GoogleCloudStorageBuilder::from_env().with_bucket_name(bucket).with_retry(retry);
                let builder = builder.with_client_options(client("GOOGLE_ALLOW_HTTP", None));
                builder.build().map(|store| Arc::new(store) as Arc<dyn ObjectStore>)
            }
            "az" => {
                let builder = MicrosoftAzureBuilder::from_env().with_container_name(bucket).with_retry(retry);
                let builder = builder
                    .with_client_options(client("AZURE_ALLOW_HTTP", std::env::var("AZURE_ENDPOINT").ok()));
                builder.build().map(|store| Arc::new(store) as Arc<dyn ObjectStore>)
            }
            _ => {
                let mut root = self.url.clone();
                root.set_path("");
                let options = client("", None).with_allow_http(is_loopback(&self.url));
                let builder = HttpBuilder::new().with_url(root).with_retry(retry);
                builder.with_client_options(options).build().map(|s| Arc::new(s) as Arc<dyn ObjectStore>)
            }
        };
        let why = |text: String| match text.contains("Account must be specified") {
            true => "no account was found; set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY"
                .to_owned(),
            false => text,
        };
        Ok((store.map_err(|e| why(chain(&e)))?, prefix))
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.url.as_str().trim_end_matches('/'))
    }
}

/// The options of a client. Plain HTTP is allowed by the variable `allow`, and to an endpoint on this machine.
fn client(allow: &str, endpoint: Option<String>) -> ClientOptions {
    let local = endpoint.and_then(|text| Url::parse(&text).ok()).is_some_and(|url| is_loopback(&url));
    let allowed = std::env::var(allow).is_ok_and(|value| value.eq_ignore_ascii_case("true") || value == "1");
    ClientOptions::new().with_connect_timeout(CONNECT).with_timeout(REQUEST).with_allow_http(local || allowed)
}

fn retry() -> RetryConfig {
    let backoff = BackoffConfig {
        init_backoff: Duration::from_millis(100),
        max_backoff: Duration::from_secs(5),
        base: 2.0,
    };
    RetryConfig { backoff, max_retries: RETRIES, retry_timeout: RETRY_FOR }
}

/// Why a text is no URL.
fn reason(error: url::ParseError) -> String {
    match error {
        url::ParseError::RelativeUrlWithoutBase => "it does not begin with a scheme".to_owned(),
        other => other.to_string(),
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

/// A URL for a message: what stands before an `@`, and a query, may be secret.
pub fn without_secrets(text: &str) -> String {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), text),
    };
    // A password may hold any character: the last `@` ends it.
    let rest = rest.rsplit_once('@').map_or_else(|| rest.to_owned(), |(_, rest)| format!("***@{rest}"));
    let place = rest.split(['?', '#']).next().unwrap_or_default();
    // A name and a password without a host.
    let authority = place.split('/').next().unwrap_or_default();
    match authority.split_once(':') {
        Some((_, port)) if port.is_empty() || port.parse::<u16>().is_err() && !place.starts_with("***@") => {
            format!("{scheme}***{}", &place[authority.len()..])
        }
        _ => scheme + place,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_and_folders_are_addresses_and_other_texts_say_what_is_possible() {
        for text in
            ["s3://bucket/a/b", "gs://bucket", "az://container/p", "https://host/p", "file:///srv/kiln"]
        {
            assert_eq!(Address::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Address::parse("/srv/kiln").unwrap().to_string(), "file:///srv/kiln");
        for (one, other) in [("/srv/kiln", "file:///srv/kiln/"), ("s3://bucket/a/", "s3://bucket/a")] {
            assert_eq!(Address::parse(one).unwrap(), Address::parse(other).unwrap());
        }
        assert!(Address::parse("http://127.0.0.1:8000/x").unwrap().is_read_only());
        for (text, why) in [
            ("ftp://host/x", "`ftp` is not a kind of remote"),
            ("http://example.com/x", "plain http is for this machine alone"),
            ("bucket/prefix", "it does not begin with a scheme; a remote looks like s3://bucket/prefix"),
            ("s3:///prefix", "it names no bucket"),
            ("s3://key:secret@bucket/prefix", "credentials belong in the environment"),
            ("https://host:8443/x?sig=abc", "`https://host:8443/x`"),
            ("https://user:secret#x@host/y", "is not the URL of a remote"),
            ("https://user:secret?x@host/y", "is not the URL of a remote"),
            ("s3://AKIA:secret/x", "is not the URL of a remote"),
            ("s3://bucket/a#b", "behind a `#`"),
        ] {
            let error = Address::parse(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
            assert!(!error.contains("secret") && !error.contains("abc"), "{text}: {error}");
        }
    }
}
