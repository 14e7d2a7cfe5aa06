//! Texts from outside in Markdown and in YAML.
//!
//! Purpose: a name or a value as code, as words, as a block of lines, as a YAML string, as a word of a shell.
//! Invariant: whatever a text holds, it stays a text: it makes no markup, HTML, link, formula, cell or line of its own,
//! and no control character of it is left.
//! Must not know: what the texts say.

use std::fmt::Write as _;

use crate::report::text::{printable, printable_lines};

/// What has a meaning within a code span, in a cell of a table, or before Markdown is read (the Hub's formulas).
const NOT_IN_CODE: [char; 7] = ['`', '|', '\\', '<', '>', '&', '$'];

/// A text as code on one line, also in a cell of a table.
pub fn code(text: &str) -> String {
    let text = one_line(text);
    if text.is_empty() || text.trim() != text || text.contains(NOT_IN_CODE) {
        return format!("<code>{}</code>", encoded(&text, |_| false));
    }
    format!("`{text}`")
}

/// A text as words on one line, also in a cell of a table; what stands between two backticks as code.
pub fn words(text: &str) -> String {
    let text = one_line(text);
    let (mut out, mut rest) = (String::new(), text.as_str());
    while let Some((before, after)) = rest.split_once('`')
        && let Some((inside, after)) = after.split_once('`')
    {
        out += &(plain_words(before) + &code(inside));
        rest = after;
    }
    out + &plain_words(rest)
}

/// A text without control characters, and without those that some programs take for the end of a line.
fn one_line(text: &str) -> String {
    printable(text).replace(['\u{2028}', '\u{2029}'], " ")
}

fn plain_words(text: &str) -> String {
    encoded(text, |c| matches!(c, ',' | ';' | '-' | '\''))
}

/// Every punctuation mark but the allowed ones as a character reference, which makes no markup. A point and a colon stay
/// where a blank follows.
fn encoded(text: &str, allowed: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let ends = matches!(c, '.' | ':') && chars.peek().is_none_or(|next| *next == ' ');
        match c.is_ascii_punctuation() && !allowed(c) && !ends {
            // Writing to a text cannot fail.
            true => _ = write!(out, "&#{};", u32::from(c)),
            false => out.push(c),
        }
    }
    out
}

/// Lines as a block of code, in a fence that they cannot end.
pub fn block(language: &str, text: &str) -> String {
    let text = printable_lines(text);
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or_default();
    let fence = "`".repeat((longest + 1).max(3));
    format!("{fence}{language}\n{}\n{fence}\n", text.trim_end_matches('\n'))
}

/// A text as a YAML string in double quotes.
pub fn yaml(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            ' '..='~' => out.push(c),
            c if c.is_alphanumeric() => out.push(c),
            c => _ = write!(out, "\\U{:08x}", u32::from(c)),
        }
    }
    out.push('"');
    out
}

/// A text as one word of a shell.
pub fn shell(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_./:@%+-=,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_texts_stay_readable() {
        assert_eq!(code("learning_rate=1e-3"), "`learning_rate=1e-3`");
        assert_eq!(
            words("it is stale; `kiln run a|b` runs it."),
            "it is stale; <code>kiln run a&#124;b</code> runs it."
        );
        assert_eq!(shell("pipelines/p.yaml"), "pipelines/p.yaml");
        assert_eq!(yaml("kiln-stages"), "\"kiln-stages\"");
    }

    #[test]
    fn no_text_makes_markup() {
        assert_eq!(code("a|b"), "<code>a&#124;b</code>");
        assert_eq!(code(r"a\|b`c"), "<code>a&#92;&#124;b&#96;c</code>");
        assert_eq!(code("<img src=x>"), "<code>&#60;img src&#61;x&#62;</code>");
        assert_eq!(code("$$x$$"), "<code>&#36;&#36;x&#36;&#36;</code>");
        assert_eq!(code("a\n## b\u{1b}[31m\u{202e}\u{2028}c"), "`a ## b\u{fffd}[31m\u{fffd} c`");
        assert_eq!(code(""), "<code></code>");
        assert_eq!(
            words("*a* www.b.c [d](e) <f>"),
            "&#42;a&#42; www&#46;b&#46;c &#91;d&#93;&#40;e&#41; &#60;f&#62;"
        );
    }

    #[test]
    fn no_line_ends_its_block() {
        assert_eq!(block("sh", "a\n````\n<b>\r\n"), "`````sh\na\n````\n<b>\u{fffd}\n`````\n");
    }

    #[test]
    fn no_text_ends_its_yaml_string_or_its_word() {
        assert_eq!(yaml("a\"\\\n---\n\u{85}é"), "\"a\\\"\\\\\\U0000000a---\\U0000000a\\U00000085é\"");
        assert_eq!(shell("a'b $(c)"), r"'a'\''b $(c)'");
        assert_eq!(shell(""), "''");
    }
}
