//! `str` and `repr`.
//!
//! Purpose: how values print, alone and within lists and dicts.
//! Invariant: the same characters as Python 3 prints; what Python prints with an address in memory is an error.
//! Must not know: where the text goes.

use std::borrow::Cow;
use std::fmt::Write;
use std::sync::OnceLock;

use minijinja::Value;
use regex::Regex;

use super::kind::{Kind, kind, name};
use super::number;
use super::object::{Form, List, pay, pay_bytes};
use super::{Result, State, error};

/// `str(value)`.
pub(in crate::template) fn text<'v>(state: &State<'_, '_>, value: &'v Value) -> Result<Cow<'v, str>> {
    Ok(match kind(value) {
        Kind::Undefined => "".into(),
        Kind::Str(text) => text.into(),
        Kind::List(_) | Kind::Dict(_) => {
            pay(state, value)?;
            let mut out = String::new();
            write_repr(&mut out, value)?;
            // Text within a list may grow by its escapes.
            pay_bytes(state, out.len())?;
            out.into()
        }
        _ => {
            let mut out = String::new();
            write_repr(&mut out, value)?;
            out.into()
        }
    })
}

/// `repr(value)`.
pub(in crate::template) fn repr(state: &State<'_, '_>, value: &Value) -> Result<String> {
    pay(state, value)?;
    let mut out = String::new();
    write_repr(&mut out, value)?;
    pay_bytes(state, out.len())?;
    Ok(out)
}

/// Writes `repr(value)`, for which the caller has paid. Depth is bounded by the depth of containers.
fn write_repr(out: &mut String, value: &Value) -> Result<()> {
    match kind(value) {
        Kind::Undefined => out.push_str("Undefined"),
        Kind::None => out.push_str("None"),
        Kind::Bool(truth) => out.push_str(if truth { "True" } else { "False" }),
        Kind::Int(integer) => write!(out, "{integer}").unwrap_or_default(),
        Kind::Float(float) => out.push_str(&number::repr(float)),
        Kind::Str(text) if value.is_safe() => {
            out.push_str("Markup(");
            quote(out, text);
            out.push(')');
        }
        Kind::Str(text) => quote(out, text),
        Kind::List(list) => write_list(out, list)?,
        Kind::Dict(dict) => {
            out.push('{');
            for (index, (key, value)) in dict.entries().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                write_repr(out, &key)?;
                out.push_str(": ");
                write_repr(out, &value)?;
            }
            out.push('}');
        }
        _ => {
            return Err(error(format!(
                "a {} has no text of its own; print what it holds or gives",
                name(value)
            )));
        }
    }
    Ok(())
}

fn write_list(out: &mut String, list: &List) -> Result<()> {
    let (open, close) = match list.form {
        Form::List => ("[", "]"),
        Form::Tuple | Form::Group => ("(", if list.items.len() == 1 { ",)" } else { ")" }),
        Form::View(name) => {
            out.push_str(name);
            ("([", "])")
        }
        Form::Range(start, stop, step) => {
            let step = if step == 1 { String::new() } else { format!(", {step}") };
            write!(out, "range({start}, {stop}{step})").unwrap_or_default();
            return Ok(());
        }
    };
    out.push_str(open);
    for (index, item) in list.items.iter().enumerate() {
        out.push_str(if index > 0 { ", " } else { "" });
        write_repr(out, item)?;
    }
    out.push_str(close);
    Ok(())
}

/// Text in quotes.
pub(in crate::template) fn quote(out: &mut String, text: &str) {
    let mark = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(mark);
    for character in text.chars() {
        match character {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\\' => out.push_str("\\\\"),
            quote if quote == mark => {
                out.push('\\');
                out.push(quote);
            }
            ' '..='~' => out.push(character),
            _ if is_printable(character) => out.push(character),
            _ => match u32::from(character) {
                code @ 0..0x100 => write!(out, "\\x{code:02x}").unwrap_or_default(),
                code @ 0x100..0x1_0000 => write!(out, "\\u{code:04x}").unwrap_or_default(),
                code => write!(out, "\\U{code:08x}").unwrap_or_default(),
            },
        }
    }
    out.push(mark);
}

/// `str.isprintable` of one character.
pub(in crate::template) fn is_printable(character: char) -> bool {
    static HIDDEN: OnceLock<Option<Regex>> = OnceLock::new();
    if character.is_ascii() {
        return !character.is_ascii_control();
    }
    let hidden = HIDDEN.get_or_init(|| Regex::new(r"\A[\p{C}\p{Z}]").ok());
    !hidden.as_ref().is_some_and(|hidden| hidden.is_match(character.encode_utf8(&mut [0; 4])))
}

/// Text as HTML shows it: what `escape` and strings that are marked as safe make of other text.
pub(in crate::template) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\'' => out.push_str("&#39;"),
            '"' => out.push_str("&#34;"),
            other => out.push(other),
        }
    }
    out
}

/// Text that is marked as safe if `safe` is.
pub(in crate::template) fn as_safe(text: String, safe: bool) -> Value {
    if safe { Value::from_safe_string(text) } else { Value::from(text) }
}

/// The text of a value within text that is marked as safe: escaped, unless it is marked itself.
pub(in crate::template) fn escaped(state: &State<'_, '_>, value: &Value) -> Result<String> {
    let plain = text(state, value)?;
    if value.is_safe() {
        return Ok(plain.into_owned());
    }
    pay_bytes(state, plain.len() * 5)?;
    Ok(escape(&plain))
}
