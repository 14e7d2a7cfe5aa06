//! Values in place of placeholders.
//!
//! Purpose: what a command names, and the command with its values.
//! Invariants: in a script a value is one piece of one word, byte for byte, and never code; in a list it is as it
//! is, but in the script behind the `-c` of a shell. What was filled in is not looked at again. Both functions refuse the same commands.
//! Must not know: which stages there are, where artifacts lie.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::error::{CommandError, Refusal, Spot, variable};
use super::script::{self, Mark, Marked, Plain, Quoting, odd_dollars};
use super::shell::{Dialect, program, script_word};
use super::slot::{Slot, Space, slot};
use crate::spec::types::Run;

/// A placeholder of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placeholder {
    /// What it names.
    pub space: Space,
    /// The name; empty for the checkpoint.
    pub name: String,
    /// Where it stands.
    pub spot: Spot,
    /// Its length in bytes.
    pub length: usize,
}

/// What placeholders stand for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Values {
    /// The paths of inputs.
    pub inputs: BTreeMap<String, String>,
    /// The paths of outputs.
    pub outputs: BTreeMap<String, String>,
    /// The params as texts.
    pub params: BTreeMap<String, String>,
    /// The path of the checkpoint folder.
    pub checkpoint: String,
}

impl Values {
    fn get(&self, space: Space, name: &str) -> Option<&str> {
        let values = match space {
            Space::Inputs => &self.inputs,
            Space::Outputs => &self.outputs,
            Space::Params => &self.params,
            Space::Checkpoint => return Some(&self.checkpoint),
        };
        values.get(name).map(String::as_str)
    }
}

/// What a command names, in order, with repetitions; comments do not count.
///
/// # Errors
/// A placeholder where no value is safe, something that was meant as one, a script that cannot be followed.
pub fn placeholders(run: &Run, shell: &[String]) -> Result<Vec<Placeholder>, CommandError> {
    let mut out = Vec::new();
    each_text(run, shell, |word, text, marks, _| {
        out.extend(marks.iter().filter_map(|mark| match mark.what {
            Marked::Value(space, name, _) => Some(Placeholder {
                space,
                name: name.to_owned(),
                spot: Spot::of(text, mark.start, word),
                length: mark.end - mark.start,
            }),
            Marked::Escaped(_) => None,
        }));
        Ok(())
    })?;
    Ok(out)
}

/// The command with its values.
///
/// # Errors
/// What [`placeholders`] refuses; a placeholder without a value; a value with a NUL byte.
pub fn expand(run: &Run, shell: &[String], values: &Values) -> Result<Run, CommandError> {
    let mut out = Vec::new();
    let is_script = matches!(run, Run::Script(_));
    each_text(run, shell, |word, text, marks, quotes| {
        out.push(fill(text, marks, values, quotes, word)?);
        Ok(())
    })?;
    Ok(if is_script { Run::Script(out.concat()) } else { Run::Exec(out) })
}

/// Calls `then` with each text of a command, what is replaced in it, and whether a shell reads it.
fn each_text(
    run: &Run,
    shell: &[String],
    mut then: impl FnMut(usize, &str, &[Mark<'_>], bool) -> Result<(), CommandError>,
) -> Result<(), CommandError> {
    match run {
        Run::Script(text) => then(0, text, &marks_of_script(text, shell)?, true),
        Run::Exec(words) => {
            let script = script_word(words);
            words.iter().enumerate().try_for_each(|(index, word)| {
                if script != Some(index) {
                    return then(index, word, &plain_marks(word, index)?, false);
                }
                let marks = marks_of_script(word, words);
                let marks = marks.map_err(|e| CommandError { spot: Spot { word: index, ..e.spot }, ..e })?;
                then(index, word, &marks, true)
            })
        }
    }
}

fn marks_of_script<'t>(text: &'t str, shell: &[String]) -> Result<Vec<Mark<'t>>, CommandError> {
    if let Some(dialect) = Dialect::of(shell) {
        // A script without placeholders need not be understood.
        let plain = plain_marks(text, 0);
        let simple = plain.as_ref().is_ok_and(|marks| {
            marks.iter().all(|mark| {
                matches!(mark.what, Marked::Escaped(_)) && !odd_dollars(text.as_bytes(), mark.start)
            })
        });
        return if simple { plain } else { script::marks(text, dialect) };
    }
    let marks = plain_marks(text, 0)?;
    for mark in &marks {
        if let Marked::Value(space, name, _) = mark.what {
            let shell = program(shell).unwrap_or_default().to_owned();
            let refusal =
                Refusal::Shell { text: space.placeholder(name), shell, variable: variable(space, name) };
            return Err(CommandError { spot: Spot::of(text, mark.start, 0), refusal });
        }
    }
    Ok(marks)
}

/// What is replaced in a text that no shell reads.
fn plain_marks(text: &str, word: usize) -> Result<Vec<Mark<'_>>, CommandError> {
    let mut out = Vec::new();
    let mut next = 0;
    for (start, _) in text.match_indices('{') {
        if start < next {
            continue;
        }
        let fail = |refusal| CommandError { spot: Spot::of(text, start, word), refusal };
        let behind_dollar = odd_dollars(text.as_bytes(), start);
        match slot(text, start) {
            Slot::Escaped { text, end } => {
                out.push(Mark { start, end, what: Marked::Escaped(text) });
                next = end;
            }
            Slot::Value { space, name, .. } if behind_dollar && space != Space::Checkpoint => {
                return Err(fail(Refusal::Dollar { text: space.placeholder(name) }));
            }
            Slot::Slip { right, dotted: true, .. } if behind_dollar => {
                return Err(fail(Refusal::Dollar { text: right }));
            }
            Slot::Value { space, name, end } if !behind_dollar => {
                let quoting = Quoting::Outside(Plain::Nothing);
                out.push(Mark { start, end, what: Marked::Value(space, name, quoting) });
                next = end;
            }
            Slot::Slip { text, right, .. } if !behind_dollar => {
                return Err(fail(Refusal::Slip { text: text.to_owned(), right }));
            }
            _ => {}
        }
    }
    Ok(out)
}

fn fill(
    text: &str,
    marks: &[Mark<'_>],
    values: &Values,
    is_script: bool,
    word: usize,
) -> Result<String, CommandError> {
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    for mark in marks {
        out.push_str(&text[done..mark.start]);
        done = mark.end;
        let (space, name, quoting) = match mark.what {
            Marked::Escaped(plain) => {
                out.push_str(plain);
                continue;
            }
            Marked::Value(space, name, quoting) => (space, name, quoting),
        };
        let fail = |refusal| CommandError { spot: Spot::of(text, mark.start, word), refusal };
        let shown = || space.placeholder(name);
        let value = values.get(space, name).ok_or_else(|| fail(Refusal::Unknown(shown())))?;
        if value.contains('\0') {
            return Err(fail(Refusal::Nul(shown())));
        }
        if is_script {
            let neighbours = (out.ends_with('\''), text[done..].starts_with('\''));
            out.push_str(&quoted(value, quoting, neighbours));
        } else {
            out.push_str(value);
        }
    }
    out.push_str(&text[done..]);
    Ok(out)
}

/// A value as a piece of a word.
fn quoted(value: &str, quoting: Quoting, neighbours: (bool, bool)) -> Cow<'_, str> {
    let inner = || value.replace('\'', r"'\''");
    Cow::Owned(match quoting {
        Quoting::Outside(plain) if is_plain(value, plain) => return Cow::Borrowed(value),
        Quoting::Outside(_) => {
            // Two single quotes in a row are one quote for a zsh with `rcquotes`.
            let apart = |needed| if needed { r#""""# } else { "" };
            format!("{}'{}'{}", apart(neighbours.0), inner(), apart(neighbours.1))
        }
        Quoting::Single => inner(),
        _ if value.is_empty() => return Cow::Borrowed(""),
        Quoting::Double => format!("\"'{}'\"", inner()),
        Quoting::Escapes => format!("'\"\"'{}'\"\"$'", inner()),
    })
}

/// True for a value that means the same without quotes: it is no reserved word, no name, no number before `>`.
fn is_plain(value: &str, plain: Plain) -> bool {
    match plain {
        Plain::Nothing => false,
        Plain::Path => {
            value.contains('/')
                && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"_./:@%+-".contains(&b))
        }
        Plain::Number => {
            let digits = value.strip_prefix('-').unwrap_or(value);
            !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
        }
    }
}
