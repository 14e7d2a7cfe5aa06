//! Why a command cannot be filled in.
//!
//! Purpose: one error type for the placeholders of `run`, each with its place and with what to do about it.
//! Invariant: every error says where in the script, or in which word of the list, it was found.
//! Must not know: where the script stands in a pipeline file.

use super::slot::Space;

/// A place in `run`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Spot {
    /// Which word of a list; 0 for a script.
    pub word: usize,
    /// Bytes from the start of the script or the word.
    pub offset: usize,
    /// The line within it, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
}

impl Spot {
    /// The place of an offset in a text.
    pub(super) fn of(text: &str, offset: usize, word: usize) -> Self {
        let before = &text[..offset];
        let line_start = before.rfind('\n').map_or(0, |i| i + 1);
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let line = count(before.matches('\n').count()).saturating_add(1);
        let column = count(before[line_start..].chars().count()).saturating_add(1);
        Self { word, offset, line, column }
    }
}

/// Why a command cannot be filled in, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{refusal}")]
pub struct CommandError {
    /// Where.
    pub spot: Spot,
    /// Why.
    pub refusal: Refusal,
}

/// Why a command cannot be filled in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Something that was meant as a placeholder.
    #[error("`{text}` is no placeholder; did you mean `{right}`?")]
    Slip {
        /// As it stands.
        text: String,
        /// The nearest placeholder.
        right: String,
    },
    /// A placeholder behind a dollar sign.
    #[error(
        "`${text}` is a variable of the shell, not a placeholder; write `{text}` without the dollar sign"
    )]
    Dollar {
        /// The placeholder.
        text: String,
    },
    /// A placeholder where no value is safe.
    #[error("`{text}` cannot stand {region}")]
    Region {
        /// The placeholder.
        text: String,
        /// What it stands in.
        region: Region,
        /// The variable of the environment that holds the value.
        variable: String,
    },
    /// A placeholder in a script for another program than a POSIX shell.
    #[error("`{text}` cannot stand in a script for `{shell}`, whose quoting is not known")]
    Shell {
        /// The placeholder.
        text: String,
        /// The program.
        shell: String,
        /// The variable of the environment that holds the value.
        variable: String,
    },
    /// The script cannot be followed, so its placeholders cannot be quoted.
    #[error("the quoting of this script cannot be followed from here: {0}")]
    Lost(&'static str),
    /// A placeholder for something that is not there.
    #[error("`{0}` names nothing that the stage has")]
    Unknown(String),
    /// A value that no command can be given.
    #[error("the value of `{0}` contains a NUL byte, which no command can be given")]
    Nul(String),
}

/// Where no value is safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Region {
    /// `<<EOF`.
    #[error("in a here-document")]
    HereDocument,
    /// Old command substitution.
    #[error("in backticks")]
    Backticks,
    /// `$((..))` and `((..))`.
    #[error("in arithmetic, where a shell may run what a value holds")]
    Arithmetic,
    /// `${..}`.
    #[error("in `${{..}}`")]
    Parameter,
    /// `a[..]`.
    #[error("in `[..]`, where a shell may run what a value holds")]
    Subscript,
    /// `[[ .. -eq .. ]]`.
    #[error("in a `[[ ]]` with `-eq`, `-v` and the like, where a shell may run what a value holds")]
    NumberTest,
    /// `\{params.x}`.
    #[error("behind a backslash")]
    Backslash,
    /// `>&{params.x}`.
    #[error("behind `>&` or `<&`, where bash may run what a value holds")]
    Duplicate,
    /// `$".."`.
    #[error("in a `$\"..\"`, which is translated")]
    Translated,
    /// `$'..'` where the shell may not know it.
    #[error("in a `$'..'`, which not every `sh` understands")]
    EscapeString,
    /// Parentheses of a pattern in zsh, of an array in ksh.
    #[error("in these parentheses, where this shell may run what a value holds")]
    Parentheses,
}

impl CommandError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match &self.refusal {
            Refusal::Slip { text, .. } if text.ends_with('}') && !text.contains([' ', '\t']) => {
                format!("write `{{{text}}}` for the plain text")
            }
            Refusal::Slip { .. } => "a placeholder is `{inputs.NAME}`, `{outputs.NAME}`, `{params.NAME}` or \
                `{checkpoint}`, without blanks"
                .to_owned(),
            Refusal::Dollar { text } => format!(
                "write `'$'{text}` for a dollar sign before the value, or `{{{text}}}` in single quotes for the plain text"
            ),
            Refusal::Region { text, region: Region::Backslash, .. } => {
                format!("write two backslashes before `{text}` for one, or none")
            }
            Refusal::Region { text, region: Region::Duplicate, .. } => format!("write `> {text} 2>&1`"),
            Refusal::Region { region: Region::Backticks, .. } => {
                "write `$(..)` instead of backticks".to_owned()
            }
            Refusal::Region { text, region: Region::HereDocument, variable } => {
                format!("write a here-string or `printf '%s\\n' {text}`, or read `${variable}`")
            }
            // A shell would also run what a variable holds here.
            Refusal::Region {
                text,
                region: Region::Arithmetic | Region::Subscript | Region::NumberTest,
                ..
            } => format!(
                "let a program compute with it, as in `awk -v value={text} 'BEGIN {{ print value + 1 }}'`; in this \
                 place a shell also runs what a variable holds"
            ),
            Refusal::Region { text, region: Region::Parameter, .. } => format!(
                "write `value={text}` on a line before, and `\"$value\"` in this place, unless it is a number such \
                 as an offset, which a shell evaluates"
            ),
            Refusal::Region { text, .. } => {
                format!("write `value={text}` on a line before, and `$value` in this place")
            }
            Refusal::Shell { variable, .. } => {
                format!("read the environment variable `{variable}`, which holds the value")
            }
            Refusal::Lost(_) => {
                "set variables from the placeholders in a short script that runs the rest as a file"
                    .to_owned()
            }
            Refusal::Unknown(_) | Refusal::Nul(_) => return None,
        })
    }
}

/// The environment variable that holds what a placeholder stands for.
pub(super) fn variable(space: Space, name: &str) -> String {
    match space {
        Space::Inputs => format!("KILN_INPUT_{name}"),
        Space::Outputs => format!("KILN_OUTPUT_{name}"),
        Space::Params => format!("KILN_PARAM_{name}"),
        Space::Checkpoint => "KILN_CHECKPOINT".to_owned(),
    }
}
