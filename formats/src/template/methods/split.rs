//! What takes text apart.
//!
//! Purpose: `strip`, `split`, `rsplit`, `splitlines` and `partition` as Python has them.
//! Invariant: white space and line ends are those of Python's `str`.
//! Must not know: values.

use crate::template::syntax::is_space;

/// Which ends are stripped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::template) enum Side {
    Left,
    Right,
    Both,
}

/// `strip`, `lstrip` or `rstrip`, of white space or of these characters.
pub(in crate::template) fn strip<'t>(text: &'t str, characters: Option<&str>, side: Side) -> &'t str {
    let mut set: Vec<char> = characters.unwrap_or_default().chars().collect();
    set.sort_unstable();
    let is_stripped = |character: char| match characters {
        None => is_space(character),
        Some(_) => set.binary_search(&character).is_ok(),
    };
    match side {
        Side::Left => text.trim_start_matches(is_stripped),
        Side::Right => text.trim_end_matches(is_stripped),
        Side::Both => text.trim_matches(is_stripped),
    }
}

/// `split()` or `rsplit()` by white space, at most `most` times.
pub(in crate::template) fn words(text: &str, most: usize, from_right: bool) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = strip(text, None, if from_right { Side::Right } else { Side::Left });
    while !rest.is_empty() {
        let space = if from_right { rest.rfind(is_space) } else { rest.find(is_space) };
        let Some(space) = space.filter(|_| words.len() < most) else {
            // What is left keeps the white space of its far end, which `split` strips at the near one alone.
            words.push(if from_right { strip(rest, None, Side::Right) } else { rest });
            break;
        };
        let width = rest[space..].chars().next().map_or(1, char::len_utf8);
        if from_right {
            words.push(&rest[space + width..]);
            rest = strip(&rest[..space], None, Side::Right);
        } else {
            words.push(&rest[..space]);
            rest = strip(&rest[space..], None, Side::Left);
        }
    }
    if from_right {
        words.reverse();
    }
    words
}

/// `split(separator)` or `rsplit(separator)`, at most `most` times; the separator is not empty.
pub(super) fn parts<'t>(text: &'t str, separator: &str, most: usize, from_right: bool) -> Vec<&'t str> {
    let pieces = most.saturating_add(1);
    if !from_right {
        return text.splitn(pieces, separator).collect();
    }
    let mut parts: Vec<&str> = text.rsplitn(pieces, separator).collect();
    parts.reverse();
    parts
}

/// `splitlines`, with the line ends or without.
pub(in crate::template) fn lines(text: &str, keep_ends: bool) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(is_line_end) {
        let mut end = at + rest[at..].chars().next().map_or(1, char::len_utf8);
        if rest[at..].starts_with("\r\n") {
            end = at + 2;
        }
        lines.push(if keep_ends { &rest[..end] } else { &rest[..at] });
        rest = &rest[end..];
    }
    if !rest.is_empty() {
        lines.push(rest);
    }
    lines
}

fn is_line_end(character: char) -> bool {
    matches!(character, '\n'..='\r' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// `partition` or `rpartition`; the separator is not empty.
pub(super) fn partition<'t>(text: &'t str, separator: &'t str, from_right: bool) -> [&'t str; 3] {
    let found = if from_right { text.rsplit_once(separator) } else { text.split_once(separator) };
    match found {
        Some((before, after)) => [before, separator, after],
        None if from_right => ["", "", text],
        None => [text, "", ""],
    }
}
