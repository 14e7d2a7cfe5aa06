//! Sources that lie elsewhere.
//!
//! Purpose: `url` and `sha256` of a source -> the stage that brings those bytes here.
//! Invariant: every file has a digest, so that a plan needs no network and no server can change a result; a URL
//! holds no credentials.
//! Must not know: how bytes are brought.

use std::collections::BTreeMap;

use url::Url;

use crate::cas::remote::{Address, without_secrets};
use crate::protocol::Port;
use crate::spec::code::Code;
use crate::spec::diagnostic::Diagnostics;
use crate::spec::document::node::{Data, Key, Node};
use crate::spec::executors::LOCAL;
use crate::spec::fields;
use crate::spec::types::{Download, Link, Span, Spanned, Stage, Work};

/// The name of the output of such a stage.
const OUTPUT: &str = "data";
/// The schemes of URLs that can be read.
const SCHEMES: [&str; 5] = ["https", "http", "s3", "gs", "az"];

/// The stage of a source. It runs where the runner is: other machines may have no network.
pub fn stage(name: &Key, download: Download, artifact_type: String) -> Stage {
    let mut stage = Stage::named(Spanned { value: name.text.clone(), span: name.span });
    stage.work = Work::Download(download);
    stage.executor = Some(Spanned { value: LOCAL.to_owned(), span: name.span });
    let types = vec![artifact_type];
    stage.outputs = vec![Port { name: OUTPUT.to_owned(), types, optional: false, summary: String::new() }];
    stage
}

/// Reads `url` and `sha256`; an empty download, and errors, when they say nothing that can be brought.
pub fn read(node: &Node, span: Span, what: &str, out: &mut Diagnostics) -> Download {
    let url = node.get("url").and_then(|node| url(node, what, out));
    let Some(digests) = node.get("sha256") else {
        let message = format!("{what} has a `url` but no `sha256`");
        out.push_hint(Code::MissingKey, span, message, Some(missing(node)));
        return Download::Folder(BTreeMap::new());
    };
    let Data::Map(entries) = &digests.data else {
        let sha256 = sha256(digests, what, out);
        let link = url.zip(sha256).map(|(url, sha256)| Link { url: url.into(), sha256 });
        return link.map_or(Download::Folder(BTreeMap::new()), Download::File);
    };
    if entries.is_empty() {
        out.push(Code::Type, digests.span, format!("`sha256` of {what} names no files"));
    }
    let mut links = BTreeMap::new();
    for entry in entries {
        let Some(path) = path(&entry.key, what, out) else { continue };
        let sha256 = sha256(&entry.value, &format!("`{path}` of {what}"), out);
        if let Some((url, sha256)) = url.as_ref().zip(sha256) {
            links.insert(path.clone(), Link { url: below(url, &path).into(), sha256 });
        }
    }
    if let Some(file) = links.keys().find(|file| links.keys().any(|other| is_above(file, other))) {
        let message = format!("`sha256` of {what} names `{file}` as a file and as a folder");
        out.push(Code::BadPath, digests.span, message);
    }
    Download::Folder(links)
}

fn is_above(folder: &str, path: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

fn missing(node: &Node) -> String {
    let url = node.get("url").and_then(Node::as_str).filter(|url| url.starts_with("http")).unwrap_or("URL");
    format!(
        "add `sha256: ..` with what `curl -L {} | sha256sum` prints; for a folder of files, `sha256: {{ FILE: .. }}`",
        without_secrets(url)
    )
}

fn url(node: &Node, what: &str, out: &mut Diagnostics) -> Option<Url> {
    let text = fields::string(node, format_args!("`url` of {what}"), out)?;
    let mut wrong = |why: &str, hint: Option<&str>| {
        let message = format!("`url` of {what}, `{}`, {why}", without_secrets(text));
        out.push_hint(Code::UnsupportedSource, node.span, message, hint.map(str::to_owned));
        None
    };
    let Ok(url) = Url::parse(text) else {
        return wrong("is no URL", Some("it looks like https://host/path; a local file goes under `path`"));
    };
    if !SCHEMES.contains(&url.scheme()) {
        let hint = format!("there is: {}", SCHEMES.map(|scheme| format!("{scheme}://")).join(", "));
        return wrong("has a scheme that cannot be read", Some(&hint));
    }
    if !url.username().is_empty() || url.password().is_some() {
        let hint = "credentials for s3://, gs:// and az:// belong in the environment; a file that needs a password: download \
                    it, and name its `path`";
        return wrong("holds credentials", Some(hint));
    }
    if url.fragment().is_some() {
        return wrong("holds a `#`, which names no place", Some("write it as %23 if it is part of the path"));
    }
    if !url.scheme().starts_with("http")
        && let Err(error) = Address::parse(text)
    {
        return wrong("cannot be read", Some(&error.to_string()));
    }
    Some(url)
}

fn sha256(node: &Node, what: &str, out: &mut Diagnostics) -> Option<String> {
    // Digits alone are a number to YAML.
    let text = node.scalar().unwrap_or_default();
    let digits = text.strip_prefix("sha256:").unwrap_or(&text);
    if digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Some(digits.to_ascii_lowercase());
    }
    let message = format!("`sha256` of {what} must be 64 hexadecimal digits, not {}", fields::shown(node));
    out.push_hint(Code::Type, node.span, message, Some("`sha256sum FILE` prints them".to_owned()));
    None
}

/// A path in the folder that the source becomes.
fn path(key: &Key, what: &str, out: &mut Diagnostics) -> Option<String> {
    let node = Node { span: key.span, data: Data::String(key.text.clone()), ..Node::default() };
    fields::path_below(&node, format_args!("a file under `sha256` of {what}"), out).map(|path| path.value)
}

/// The URL of a file below another one. The query, such as that of a signed URL, stays.
fn below(url: &Url, path: &str) -> Url {
    let mut url = url.clone();
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(path.split('/'));
    }
    url
}
