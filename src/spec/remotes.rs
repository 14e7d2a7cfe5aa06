//! The `remotes` section of a pipeline file, and the file of a user.
//!
//! Purpose: names, URLs and what each remote is used for, in the order of the file; whose records count.
//! Invariant: what a pipeline names is only read: nobody's results go somewhere because a file says so. The user's
//! own file decides what is written.
//! Must not know: how a remote is opened, where the user's file is.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde_json::json;

use crate::cas::remote::{Access, Address};
use crate::cas::trust::PublicKey;
use crate::spec::code::Code;
use crate::spec::diagnostic::{Diagnostic, Diagnostics};
use crate::spec::document::node::{Data, Entry, Node};
use crate::spec::document::yaml;
use crate::spec::types::{ExecutorSpec, RemoteSpec};
use crate::spec::{executors, fields};

/// The key that demands signatures, in both files.
pub const SIGNATURES: &str = "signatures";
/// The words for what a remote is used for.
const ACCESS: [(&str, Access); 3] =
    [("read", Access::Read), ("write", Access::Write), ("read-write", Access::ReadWrite)];

/// Reads the section of a pipeline file.
pub fn read(node: &Node, out: &mut Diagnostics) -> Vec<RemoteSpec> {
    section(node, None, out)
}

/// The file of a user.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct UserFile {
    /// Remotes, in the order of the file.
    pub remotes: Vec<RemoteSpec>,
    /// The keys of builders whose records count, by the names that the user gave them.
    pub trust: BTreeMap<String, PublicKey>,
    /// Whether a record counts only with a signature by a trusted key.
    pub demands_signatures: bool,
    /// The clusters that the user has described.
    pub executors: Vec<ExecutorSpec>,
}

impl UserFile {
    /// Its text, without a head.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for (n, RemoteSpec { name, address, access, leases }) in self.remotes.iter().enumerate() {
            let (name, url) = (json!(name), json!(address.to_string()));
            let section = if n == 0 { "remotes:\n" } else { "" };
            let access = access_word(*access);
            let leases = if *leases { "" } else { ", leases: false" };
            let _ = writeln!(text, "{section}  {name}: {{ url: {url}, access: {access}{leases} }}");
        }
        for (n, (name, key)) in self.trust.iter().enumerate() {
            let section = if n == 0 { "trust:\n" } else { "" };
            let _ = writeln!(text, "{section}  {}: {}", json!(name), json!(key.to_string()));
        }
        if self.demands_signatures {
            text += "signatures: required\n";
        }
        text += &executors::to_text(&self.executors);
        text
    }
}

/// Reads the file of a user.
///
/// # Errors
/// What is wrong with it.
pub fn read_user_file(file: &Path, text: &str) -> Result<UserFile, Vec<Diagnostic>> {
    let mut out = Diagnostics::new(file, text.to_owned());
    let mut user = UserFile::default();
    match yaml::parse(text) {
        Err(error) => out.push(Code::Syntax, error.span, error.message),
        Ok(mut root) => {
            fields::drop_duplicates(&mut root, &mut out);
            if let Some(entries) = fields::mapping(&root, "the file of a user", &mut out) {
                let known = ["remotes", "trust", SIGNATURES, executors::SECTION];
                fields::only(entries, &known, "the file of a user", &mut out);
            }
            if let Some(node) = root.get(executors::SECTION) {
                user.executors = executors::read(node, &mut out);
            }
            if let Some(node) = root.get("remotes") {
                user.remotes = section(node, Some(Access::ReadWrite), &mut out);
            }
            if let Some(node) = root.get("trust") {
                user.trust = keys(node, &mut out);
            }
            if let Some(node) = root.get(SIGNATURES) {
                user.demands_signatures = demands(node, &mut out);
            }
        }
    }
    match out.into_vec() {
        errors if errors.is_empty() => Ok(user),
        errors => Err(errors),
    }
}

/// Whether `signatures` demands them.
pub fn demands(node: &Node, out: &mut Diagnostics) -> bool {
    fields::choice(node, &[("required", true), ("optional", false)], "`signatures`", out).unwrap_or(true)
}

/// The keys of builders by name.
fn keys(node: &Node, out: &mut Diagnostics) -> BTreeMap<String, PublicKey> {
    let mut keys = BTreeMap::new();
    for Entry { key, value } in fields::mapping(node, "`trust`", out).unwrap_or_default() {
        let Some(text) = fields::string(value, format_args!("the key of `{}`", key.text), out) else {
            continue;
        };
        match text.parse::<PublicKey>() {
            Ok(public) => _ = keys.insert(key.text.clone(), public),
            Err(error) => out.push(Code::Type, value.span, error.to_string()),
        }
    }
    keys
}

/// Remotes by name. `access` is the one of an entry that names none; where it is none, entries name none.
fn section(node: &Node, access: Option<Access>, out: &mut Diagnostics) -> Vec<RemoteSpec> {
    let Some(entries) = fields::mapping(node, "`remotes`", out) else { return Vec::new() };
    entries.iter().filter_map(|entry| remote(entry, access, out)).collect()
}

fn remote(entry: &Entry, access: Option<Access>, out: &mut Diagnostics) -> Option<RemoteSpec> {
    fields::check_name(&entry.key, "a remote", out);
    let what = format!("remote `{}`", entry.key.text);
    let (url, given) = match &entry.value.data {
        Data::Map(entries) if access.is_some() => {
            fields::only(entries, &["url", "access", "leases"], &what, out);
            (entry.value.get("url"), entry.value.get("access"))
        }
        _ => (Some(&entry.value), None),
    };
    let Some(url) = url else {
        out.push(Code::MissingKey, entry.key.span, format!("{what} has no `url`"));
        return None;
    };
    let text = fields::string(url, &what, out)?;
    let access = match given {
        None => access.unwrap_or(Access::Read),
        Some(node) => fields::choice(node, &ACCESS, format_args!("`access` of {what}"), out)?,
    };
    let leases = match entry.value.get("leases").filter(|_| matches!(entry.value.data, Data::Map(_))) {
        None => true,
        Some(node) => fields::boolean(node, format_args!("`leases` of {what}"), out)?,
    };
    match Address::parse(text) {
        Ok(address) => Some(RemoteSpec { name: entry.key.text.clone(), address, access, leases }),
        Err(error) => {
            out.push(Code::Type, url.span, error.to_string());
            None
        }
    }
}

/// The word for what a remote is used for.
pub fn access_word(access: Access) -> &'static str {
    ACCESS.iter().find(|(_, known)| *known == access).map_or("", |(word, _)| word)
}
