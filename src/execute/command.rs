//! The command line of a `command` stage.
//!
//! Purpose: fills `{inputs.x}`, `{outputs.x}` and `{params.x}` in.
//! Invariant: for the shell every filled-in text is quoted, so that no path or param is ever read as
//! shell code; any other brace stays as it is (`awk '{print $1}'`).
//! Must not know: how a command is run.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use serde_json::Value;

use crate::spec::types::Run;

/// What the placeholders of a command stand for.
#[derive(Debug, Default)]
pub struct Filling {
    /// Input files and folders.
    pub inputs: BTreeMap<String, PathBuf>,
    /// Where the outputs are to be made.
    pub outputs: BTreeMap<String, PathBuf>,
    /// The params.
    pub params: BTreeMap<String, Value>,
}

/// A placeholder that names nothing.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// It names an input, output or param that the stage does not have.
    #[error("`{{{0}}}` in `run` names nothing of this stage; declare it, or correct the name")]
    Unknown(String),
    /// A path that is not UTF-8.
    #[error("{} is not UTF-8 and cannot stand in a command; rename it", .0.display())]
    NotText(PathBuf),
    /// An empty list.
    #[error("`run` is an empty list; its first item is the program")]
    Empty,
}

/// The arguments to execute, the program first.
///
/// # Errors
/// A placeholder names nothing.
pub fn arguments(run: &Run, filling: &Filling) -> Result<Vec<OsString>, CommandError> {
    match run {
        Run::Shell(script) => {
            let script = fill(script, filling, quote)?;
            Ok(["/bin/sh", "-c"].map(OsString::from).into_iter().chain([script.into()]).collect())
        }
        Run::Exec(list) if list.is_empty() => Err(CommandError::Empty),
        Run::Exec(list) => list.iter().map(|item| Ok(fill(item, filling, |text| text)?.into())).collect(),
    }
}

fn fill(text: &str, filling: &Filling, spell: fn(String) -> String) -> Result<String, CommandError> {
    let mut out = String::with_capacity(text.len() + 128);
    let mut rest = text;
    while let Some(open) = rest.find('{') {
        out.push_str(&rest[..open]);
        rest = &rest[open..];
        match placeholder(rest) {
            Some(name) => {
                out.push_str(&spell(value(name, filling)?));
                rest = &rest[name.len() + 2..];
            }
            None => {
                out.push('{');
                rest = &rest[1..];
            }
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// The name of a placeholder at the start of the text, such as `inputs.corpus`.
fn placeholder(text: &str) -> Option<&str> {
    let inside = &text[1..text.find('}')?];
    let name = ["inputs.", "outputs.", "params."].iter().find_map(|prefix| inside.strip_prefix(prefix))?;
    let plain = |c: char| c.is_alphanumeric() || c == '_' || c == '-' || c == '.';
    (!name.is_empty() && name.chars().all(plain)).then_some(inside)
}

fn value(name: &str, filling: &Filling) -> Result<String, CommandError> {
    let unknown = || CommandError::Unknown(name.to_owned());
    let (section, key) = name.split_once('.').ok_or_else(unknown)?;
    let path = match section {
        "inputs" => filling.inputs.get(key),
        "outputs" => filling.outputs.get(key),
        _ => {
            return Ok(match filling.params.get(key).ok_or_else(unknown)? {
                Value::String(text) => text.clone(),
                other => crate::digest::canonical_json(other),
            });
        }
    };
    let path = path.ok_or_else(unknown)?;
    path.to_str().map(str::to_owned).ok_or_else(|| CommandError::NotText(path.clone()))
}

/// A text as one word of the shell.
fn quote(text: String) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn filling() -> Filling {
        Filling {
            inputs: [("a".into(), "/x/it's here".into())].into(),
            outputs: [("out".into(), "/y/out".into())].into(),
            params: [("n".into(), json!(1.0)), ("s".into(), json!("$(rm -rf /)"))].into(),
        }
    }

    fn shell(script: &str) -> Result<String, CommandError> {
        let args = arguments(&Run::Shell(script.into()), &filling())?;
        Ok(args[2].to_str().unwrap().to_owned())
    }

    #[test]
    fn paths_and_params_are_words_for_the_shell() {
        assert_eq!(shell("cat {inputs.a} > {outputs.out}").unwrap(), r"cat '/x/it'\''s here' > /y/out");
        assert_eq!(shell("echo {params.n} {params.s}").unwrap(), "echo 1 '$(rm -rf /)'");
    }

    #[test]
    fn other_braces_stay() {
        for text in ["awk '{print $1}' {", "${HOME} {a,b} {inputs} {{}}", "{inputs.}", "é{ü}"] {
            assert_eq!(shell(text).unwrap(), text);
        }
    }

    #[test]
    fn a_placeholder_that_names_nothing_is_an_error() {
        assert_eq!(shell("{inputs.b}"), Err(CommandError::Unknown("inputs.b".into())));
        assert_eq!(shell("{outputs.a}"), Err(CommandError::Unknown("outputs.a".into())));
    }

    #[test]
    fn exec_fills_without_quoting() {
        let run = Run::Exec(vec!["cp".into(), "--from={inputs.a}".into()]);
        let args = arguments(&run, &filling()).unwrap();
        assert_eq!(args, ["cp", "--from=/x/it's here"]);
        assert_eq!(arguments(&Run::Exec(vec![]), &filling()), Err(CommandError::Empty));
    }
}
