//! The `remotes` section of a pipeline file, and the file of a user.
//!
//! Purpose: names, URLs and what each remote is used for, in the order of the file.
//! Invariant: what a pipeline names is only read: nobody's results go somewhere because a file says so. The user's
//! own file decides what is written.
//! Must not know: how a remote is opened, where the user's file is.

use std::path::Path;

use crate::cas::remote::{Access, Address};
use crate::spec::code::Code;
use crate::spec::diagnostic::{Diagnostic, Diagnostics};
use crate::spec::document::node::{Data, Entry, Node};
use crate::spec::document::yaml;
use crate::spec::fields;
use crate::spec::types::RemoteSpec;

/// The words for what a remote is used for.
const ACCESS: [(&str, Access); 3] =
    [("read", Access::Read), ("write", Access::Write), ("read-write", Access::ReadWrite)];

/// Reads the section of a pipeline file.
pub fn read(node: &Node, out: &mut Diagnostics) -> Vec<RemoteSpec> {
    section(node, None, out)
}

/// Reads the file of a user.
///
/// # Errors
/// What is wrong with it.
pub fn read_user_file(file: &Path, text: &str) -> Result<Vec<RemoteSpec>, Vec<Diagnostic>> {
    let mut out = Diagnostics::new(file, text.to_owned());
    let mut remotes = Vec::new();
    match yaml::parse(text) {
        Err(error) => out.push(Code::Syntax, error.span, error.message),
        Ok(mut root) => {
            fields::drop_duplicates(&mut root, &mut out);
            if let Some(entries) = fields::mapping(&root, "the file of a user", &mut out) {
                fields::only(entries, &["remotes"], "the file of a user", &mut out);
            }
            if let Some(node) = root.get("remotes") {
                remotes = section(node, Some(Access::ReadWrite), &mut out);
            }
        }
    }
    match out.into_vec() {
        errors if errors.is_empty() => Ok(remotes),
        errors => Err(errors),
    }
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
            fields::only(entries, &["url", "access"], &what, out);
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
    match Address::parse(text) {
        Ok(address) => Some(RemoteSpec { name: entry.key.text.clone(), address, access }),
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
