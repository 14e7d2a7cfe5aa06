//! Reading mappings with known keys.
//!
//! Purpose: what every section of a pipeline file shares: duplicate and unknown keys, names, words,
//! numbers, paths.
//! Invariant: each helper reports its own error and gives none, so callers only go on.
//! Must not know: which keys there are.

use std::collections::{HashMap, HashSet};
use std::fmt::Display;
use std::path::Path;
use std::time::Duration;

use crate::spec::code::Code;
use crate::spec::diagnostic::{Diagnostics, list_names, nearest};
use crate::spec::document::node::{Data, Entry, Key, Node};
use crate::spec::types::Spanned;
use crate::spec::units;

/// Reports keys that stand in a mapping twice, anywhere in a tree, and drops all but the first.
pub fn drop_duplicates(node: &mut Node, out: &mut Diagnostics) {
    match &mut node.data {
        Data::Seq(items) => items.iter_mut().for_each(|item| drop_duplicates(item, out)),
        Data::Map(entries) => {
            let twice = duplicates(entries);
            for &(index, first) in &twice {
                let key = &entries[index].key;
                let message = format!("the key `{}` stands here twice", key.text);
                let hint = format!("the first one is at line {}", entries[first].key.span.start.line);
                out.push_hint(Code::DuplicateKey, key.span, message, Some(hint));
            }
            if !twice.is_empty() {
                let twice: HashSet<usize> = twice.into_iter().map(|(index, _)| index).collect();
                let all = std::mem::take(entries).into_iter().enumerate();
                *entries = all.filter(|(index, _)| !twice.contains(index)).map(|(_, entry)| entry).collect();
            }
            entries.iter_mut().for_each(|entry| drop_duplicates(&mut entry.value, out));
        }
        _ => {}
    }
}

/// The indices of entries whose key stands before, with the index of the first one.
fn duplicates(entries: &[Entry]) -> Vec<(usize, usize)> {
    const FEW: usize = 16;
    if entries.len() <= FEW {
        let first = |i: usize| entries[..i].iter().position(|e| e.key.text == entries[i].key.text);
        return (0..entries.len()).filter_map(|i| Some((i, first(i)?))).collect();
    }
    let mut seen: HashMap<&str, usize> = HashMap::with_capacity(entries.len());
    let mut twice = Vec::new();
    for (i, entry) in entries.iter().enumerate() {
        let first = *seen.entry(&entry.key.text).or_insert(i);
        if first != i {
            twice.push((i, first));
        }
    }
    twice
}

/// The entries of a mapping; nothing at all is an empty one.
pub fn mapping<'n>(node: &'n Node, what: impl Display, out: &mut Diagnostics) -> Option<&'n [Entry]> {
    match &node.data {
        Data::Map(entries) => Some(entries),
        Data::Null => Some(&[]),
        _ => {
            out.push(Code::Type, node.span, format!("{what} must be a mapping, not {}", node.kind()));
            None
        }
    }
}

/// Reports the keys that are not among the known ones. Gives the keys that those seem to mean, so
/// that they are not called missing as well.
pub fn only<'k>(
    entries: &[Entry],
    known: &[&'k str],
    what: impl Display,
    out: &mut Diagnostics,
) -> Vec<&'k str> {
    let unknown = entries.iter().filter(|e| !known.contains(&e.key.text.as_str()));
    unknown.filter_map(|e| unknown_key(&e.key, known, format_args!("{what} has no key"), out)).collect()
}

/// Reports a key that is not among the known ones, and gives the one that it seems to mean;
/// `message` lacks only the key.
pub fn unknown_key<'k>(
    key: &Key,
    known: &[&'k str],
    message: impl Display,
    out: &mut Diagnostics,
) -> Option<&'k str> {
    let near = nearest(&key.text, known.iter().copied());
    let hint = match near {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.is_empty() => "there is none".to_owned(),
        None => format!("there is: {}", list_names(known.iter().copied())),
    };
    out.push_hint(Code::UnknownKey, key.span, format!("{message} `{}`", key.text), Some(hint));
    near
}

/// What a name is made of.
pub const NAME_RULE: &str = "a name has at most 100 letters, digits, `_` and `-`, and starts with no `-`";

/// Whether a text can be the name of a stage, source, input, output or parameter of a command.
pub fn is_name(text: &str) -> bool {
    text.len() <= 100
        && text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

/// Reports a key that can be no name.
pub fn check_name(key: &Key, what: impl Display, out: &mut Diagnostics) -> bool {
    if is_name(&key.text) {
        return true;
    }
    let message = format!("`{}` cannot be the name of {what}", key.text);
    out.push_hint(Code::BadName, key.span, message, Some(NAME_RULE.to_owned()));
    false
}

/// A string.
pub fn string<'n>(node: &'n Node, what: impl Display, out: &mut Diagnostics) -> Option<&'n str> {
    let text = node.as_str();
    if text.is_none() {
        out.push(Code::Type, node.span, format!("{what} must be a string, not {}", node.kind()));
    }
    text
}

/// A value for a message: a scalar as it is written, else what it is.
pub fn shown(node: &Node) -> String {
    match node.scalar().filter(|_| node.data != Data::Null) {
        Some(text) => format!("`{}`", text.chars().take(60).collect::<String>()),
        None => node.kind().to_owned(),
    }
}

/// A whole number from 0 to `most`.
pub fn count(node: &Node, most: u32, what: impl Display, out: &mut Diagnostics) -> Option<u32> {
    let retyped = if node.expanded { node.retyped() } else { None };
    let number = match &retyped.as_ref().unwrap_or(node).data {
        Data::Number(number) => number.as_u64().and_then(|n| u32::try_from(n).ok()).filter(|n| *n <= most),
        _ => None,
    };
    if number.is_none() {
        let message = format!("{what} must be a whole number up to {most}, not {}", shown(node));
        out.push(Code::Type, node.span, message);
    }
    number
}

/// A length of time.
pub fn duration(node: &Node, what: impl Display, out: &mut Diagnostics) -> Option<Duration> {
    let duration = node.scalar().and_then(|text| units::parse_duration(&text));
    if duration.is_none() {
        out.push(
            Code::Type,
            node.span,
            format!("{what} must be a duration such as `90s`, `10m`, `1h30m` or `2d`, not {}", shown(node)),
        );
    }
    duration
}

/// A time limit: a duration of a second or more.
pub fn time_limit(node: &Node, what: impl Display, out: &mut Diagnostics) -> Option<Duration> {
    let limit = duration(node, &what, out)?;
    if limit < Duration::from_secs(1) {
        out.push(Code::Range, node.span, format!("{what} must be a second or more"));
        return None;
    }
    Some(limit)
}

/// `true` or `false`.
pub fn boolean(node: &Node, what: impl Display, out: &mut Diagnostics) -> Option<bool> {
    if let Data::Bool(value) = node.data {
        return Some(value);
    }
    out.push(Code::Type, node.span, format!("{what} must be true or false, not {}", shown(node)));
    None
}

/// One of a few words.
pub fn choice<'w, T: Copy>(
    node: &Node,
    choices: &[(&'w str, T)],
    what: impl Display,
    out: &mut Diagnostics,
) -> Option<T> {
    let text = node.as_str();
    if let Some((_, value)) = choices.iter().find(|(word, _)| Some(*word) == text) {
        return Some(*value);
    }
    let words: Vec<&'w str> = choices.iter().map(|(word, _)| *word).collect();
    let quoted: Vec<_> = words.iter().map(|word| format!("`{word}`")).collect();
    let message = format!("{what} must be {}", quoted.join(" or "));
    let hint = text.and_then(|text| nearest(text, words)).map(|near| format!("did you mean `{near}`?"));
    out.push_hint(Code::Choice, node.span, message, hint);
    None
}

/// A list; nothing at all is an empty one, and a single value stands for a list of it.
pub fn list(node: &Node) -> &[Node] {
    match &node.data {
        Data::Null => &[],
        Data::Seq(items) => items.as_slice(),
        _ => std::slice::from_ref(node),
    }
}

/// A path that is absolute or stays inside the project root.
pub fn path<'n>(node: &'n Node, root: &Path, what: impl Display, out: &mut Diagnostics) -> Option<&'n str> {
    let text = string(node, &what, out)?;
    if text.is_empty() || text.contains('\0') {
        out.push(Code::BadPath, node.span, format!("{what} must be a path"));
        return None;
    }
    if !text.starts_with('/') && climbs(text) {
        let message = format!("{what} `{text}` climbs out of the project root {}", root.display());
        let hint = "name it by its absolute path, or move it inside".to_owned();
        out.push_hint(Code::OutsideRoot, node.span, message, Some(hint));
        return None;
    }
    Some(text)
}

/// A path below a folder: relative, and without `.` and `..` once it is read.
pub fn path_below(node: &Node, what: impl Display, out: &mut Diagnostics) -> Option<Spanned<String>> {
    let text = string(node, &what, out)?;
    if text.starts_with('/') || climbs(text) {
        let message = format!("{what} `{text}` leads out of the project root");
        let hint = "name a path below it, without a `/` at the start".to_owned();
        out.push_hint(Code::OutsideRoot, node.span, message, Some(hint));
        return None;
    }
    let parts: Vec<_> = text.split('/').filter(|part| !["", "."].contains(part)).collect();
    if parts.is_empty() || parts.contains(&"..") || text.contains(char::is_control) {
        out.push(
            Code::BadPath,
            node.span,
            format!("{what} must be a path below a folder, without `..`, not `{text}`"),
        );
        return None;
    }
    Some(Spanned { value: parts.join("/"), span: node.span })
}

/// Whether a relative path leaves the folder that it starts in.
fn climbs(text: &str) -> bool {
    let mut depth = 0i64;
    text.split('/').any(|part| {
        depth += match part {
            "" | "." => 0,
            ".." => -1,
            _ => 1,
        };
        depth < 0
    })
}
