//! The placeholders of commands.
//!
//! Purpose: `{inputs.x}`, `{outputs.x}` and `{params.x}` in `run`. Params are filled in when the key
//! is made ([`fill_params`]), paths when the stage runs ([`fill_paths`]).
//! Invariant: in a shell command every value is quoted, so that no value can become code; in an
//! exec list a value never becomes two arguments. What was filled in is not looked at again.
//! Must not know: which stages there are, where artifacts lie.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;

use crate::digest::canonical_json;
use crate::spec::types::{Spanned, Run};

/// What a placeholder names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Space {
    /// `{inputs.x}`: the path of an input.
    Inputs,
    /// `{outputs.x}`: where to make an output.
    Outputs,
    /// `{params.x}`: a parameter's value.
    Params,
}

impl Space {
    /// The word before the dot.
    pub fn word(self) -> &'static str {
        match self {
            Self::Inputs => "inputs",
            Self::Outputs => "outputs",
            Self::Params => "params",
        }
    }
}

/// Why a command cannot be filled in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// A brace that begins or ends no placeholder.
    #[error("`{0}` is no placeholder such as `{{inputs.x}}`; write `{{{{` and `}}}}` for plain braces")]
    NoPlaceholder(String),
    /// A placeholder for something that is not there.
    #[error("`{{{0}.{1}}}` names nothing that the stage has")]
    Unknown(&'static str, String),
    /// A path that is no text.
    #[error("the path {0:?} is not UTF-8 and cannot stand in a command; move the store or the source")]
    NotText(PathBuf),
}

/// A part of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece<'t> {
    Text(&'t str),
    Slot(Space, &'t str),
}

/// Splits a text into plain parts and placeholders; `{{` and `}}` become single braces.
fn pieces(text: &str) -> Result<Vec<Piece<'_>>, CommandError> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(['{', '}']) {
        let (before, tail) = rest.split_at(start);
        out.push(Piece::Text(before));
        if tail.starts_with("{{") || tail.starts_with("}}") {
            out.push(Piece::Text(&tail[..1]));
            rest = &tail[2..];
            continue;
        }
        let shown =
            || CommandError::NoPlaceholder(tail.lines().next().unwrap_or(tail).chars().take(40).collect());
        let end = tail.find('}').filter(|_| tail.starts_with('{')).ok_or_else(shown)?;
        let inner = &tail[1..end];
        let (word, name) =
            inner.split_once('.').ok_or_else(|| CommandError::NoPlaceholder(tail[..=end].to_owned()))?;
        let space = [Space::Inputs, Space::Outputs, Space::Params].into_iter().find(|s| s.word() == word);
        out.push(Piece::Slot(
            space.ok_or_else(|| CommandError::NoPlaceholder(tail[..=end].to_owned()))?,
            name,
        ));
        rest = &tail[end + 1..];
    }
    out.push(Piece::Text(rest));
    Ok(out)
}

/// What a command names, in order, with repetitions.
///
/// # Errors
/// A brace that begins or ends no placeholder.
pub fn placeholders(run: &Run) -> Result<Vec<(Space, &str)>, CommandError> {
    let texts = match run {
        Run::Script(text) => std::slice::from_ref(text),
        Run::Exec(texts) => texts.as_slice(),
    };
    let mut out = Vec::new();
    for text in texts {
        out.extend(pieces(text)?.into_iter().filter_map(|piece| match piece {
            Piece::Slot(space, name) => Some((space, name)),
            Piece::Text(_) => None,
        }));
    }
    Ok(out)
}

/// Fills in the params: strings as they are, other values in canonical JSON, null as nothing. Paths
/// and doubled braces stay for [`fill_paths`]; braces of values are doubled for it.
///
/// # Errors
/// A placeholder for a param that is not there.
pub fn fill_params(run: &Run, params: &BTreeMap<String, Spanned<Value>>) -> Result<Run, CommandError> {
    map_texts(run, |text, shell| {
        let mut out = String::with_capacity(text.len());
        for piece in pieces(text)? {
            match piece {
                Piece::Text(text) => out.push_str(&doubled(text)),
                Piece::Slot(Space::Params, name) => {
                    let unknown = || CommandError::Unknown(Space::Params.word(), name.to_owned());
                    let value = value_text(&params.get(name).ok_or_else(unknown)?.value);
                    out.push_str(&doubled(&if shell { quote(&value) } else { value.into() }));
                }
                Piece::Slot(space, name) => out.push_str(&format!("{{{}.{name}}}", space.word())),
            }
        }
        Ok(out)
    })
}

/// Fills in the paths, and makes doubled braces single: what comes out is what runs.
///
/// # Errors
/// A placeholder for a path that is not there (or for a param: fill those in first), or a path that
/// is not UTF-8.
pub fn fill_paths(
    run: &Run,
    inputs: &BTreeMap<String, PathBuf>,
    outputs: &BTreeMap<String, PathBuf>,
) -> Result<Run, CommandError> {
    map_texts(run, |text, shell| {
        let mut out = String::with_capacity(text.len());
        for piece in pieces(text)? {
            let (space, name) = match piece {
                Piece::Text(text) => {
                    out.push_str(text);
                    continue;
                }
                Piece::Slot(space, name) => (space, name),
            };
            let path = match space {
                Space::Inputs => inputs.get(name),
                Space::Outputs => outputs.get(name),
                Space::Params => None,
            };
            let path = path.ok_or_else(|| CommandError::Unknown(space.word(), name.to_owned()))?;
            let path = path.to_str().ok_or_else(|| CommandError::NotText(path.clone()))?;
            out.push_str(&if shell { quote(path) } else { path.into() });
        }
        Ok(out)
    })
}

fn map_texts(
    run: &Run,
    fill: impl Fn(&str, bool) -> Result<String, CommandError>,
) -> Result<Run, CommandError> {
    Ok(match run {
        Run::Script(text) => Run::Script(fill(text, true)?),
        Run::Exec(texts) => Run::Exec(texts.iter().map(|text| fill(text, false)).collect::<Result<_, _>>()?),
    })
}

fn value_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => canonical_json(other),
    }
}

fn doubled(text: &str) -> Cow<'_, str> {
    if text.contains(['{', '}']) {
        Cow::Owned(text.replace('{', "{{").replace('}', "}}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// A text as one word of a POSIX shell.
fn quote(text: &str) -> Cow<'_, str> {
    let safe = |c: char| c.is_ascii_alphanumeric() || "_-./:=@%+,".contains(c);
    if !text.is_empty() && text.chars().all(safe) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(format!("'{}'", text.replace('\'', r"'\''")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::types::Position;
    use serde_json::json;

    fn params(values: &[(&str, Value)]) -> BTreeMap<String, Spanned<Value>> {
        let at = Position::default();
        values.iter().map(|(k, v)| ((*k).to_owned(), Spanned { value: v.clone(), span: at.into() })).collect()
    }

    fn paths(values: &[(&str, &str)]) -> BTreeMap<String, PathBuf> {
        values.iter().map(|(k, v)| ((*k).to_owned(), PathBuf::from(v))).collect()
    }

    #[test]
    fn a_shell_command_is_filled_in_two_steps_and_every_value_is_quoted() {
        let run = Run::Script("awk '{{print}}' {inputs.a} > {outputs.b} # {params.x} {params.n}".into());
        let values = params(&[("x", json!("it's {inputs.a}; rm -rf")), ("n", json!(0.001))]);
        let keyed = fill_params(&run, &values).unwrap();
        let text = r"awk '{{print}}' {inputs.a} > {outputs.b} # 'it'\''s {{inputs.a}}; rm -rf' 0.001";
        assert_eq!(keyed, Run::Script(text.into()));
        let done = fill_paths(&keyed, &paths(&[("a", "/d/my file")]), &paths(&[("b", "/w/b")])).unwrap();
        let text = r"awk '{print}' '/d/my file' > /w/b # 'it'\''s {inputs.a}; rm -rf' 0.001";
        assert_eq!(done, Run::Script(text.into()));
    }

    #[test]
    fn an_exec_list_takes_values_as_they_are() {
        let run = Run::Exec(vec!["cp".into(), "{inputs.a}".into(), "--x={params.x}".into()]);
        let keyed = fill_params(&run, &params(&[("x", json!("a 'b' {c}"))])).unwrap();
        let done = fill_paths(&keyed, &paths(&[("a", "/d/my file")]), &paths(&[])).unwrap();
        assert_eq!(done, Run::Exec(vec!["cp".into(), "/d/my file".into(), "--x=a 'b' {c}".into()]));
    }

    #[test]
    fn a_brace_that_is_no_placeholder_is_an_error() {
        for text in ["{", "}", "{x}", "{inputs}", "{foo.x}", "a {print $1} b", "{inputs.x"] {
            let run = Run::Script(text.into());
            assert!(matches!(placeholders(&run), Err(CommandError::NoPlaceholder(_))), "{text}");
        }
        let missing = fill_params(&Run::Script("{params.x}".into()), &params(&[])).unwrap_err();
        assert_eq!(missing.to_string(), "`{params.x}` names nothing that the stage has");
    }

    proptest::proptest! {
        #[test]
        fn the_shell_reads_back_any_value_as_one_word(value in "[^\\x00]{0,40}") {
            let keyed = fill_params(&Run::Script("printf %s {params.x}".into()), &params(&[("x", json!(value))])).unwrap();
            let Run::Script(text) = fill_paths(&keyed, &paths(&[]), &paths(&[])).unwrap() else { panic!("a shell") };
            let out = std::process::Command::new("/bin/sh").args(["-c", &text]).output().unwrap();
            proptest::prop_assert_eq!(String::from_utf8(out.stdout).unwrap(), value);
        }
    }
}
