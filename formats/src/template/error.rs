//! What can be wrong with a chat template, its input or its rendering.
//!
//! Invariant: a message names the line and column of the template wherever there is one, and says what was wrong; what a
//! template raises itself is repeated exactly.
//! Must not know: how the errors are shown.

/// A chat template could not be read or rendered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// The source is not a template.
    #[error("chat template, {place}: {what}")]
    Syntax {
        /// Where.
        place: Place,
        /// What is wrong, and what to write instead.
        what: String,
    },
    /// The rendering failed.
    #[error("chat template, {place}: {what}")]
    Render {
        /// Where.
        place: Place,
        /// What is wrong.
        what: String,
    },
    /// The template called `raise_exception`.
    #[error("chat template, {place}: the template refuses these messages: {message}")]
    Raised {
        /// Where.
        place: Place,
        /// What the template says.
        message: String,
    },
    /// The template wants too much: a bound on its size, on its steps or on its output.
    #[error("chat template: {0}")]
    Bounds(String),
    /// The messages, tools or documents are not of the form that every template takes.
    #[error("{0}")]
    Input(String),
}

impl TemplateError {
    /// The place in the template, when there is one.
    pub fn place(&self) -> Option<&Place> {
        match self {
            Self::Syntax { place, .. } | Self::Render { place, .. } | Self::Raised { place, .. } => {
                Some(place)
            }
            Self::Bounds(_) | Self::Input(_) => None,
        }
    }
}

/// A place in a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// The text of the line around the place.
    pub near: String,
}

impl std::fmt::Display for Place {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "line {}, column {}", self.line, self.column)?;
        match self.near.is_empty() {
            true => Ok(()),
            false => write!(formatter, " (`{}`)", self.near),
        }
    }
}

/// Characters of a line that a message shows before and after a place.
const BEFORE: usize = 30;
const AFTER: usize = 50;

impl Place {
    /// The place at byte `offset` of `source`.
    pub(super) fn of(source: &str, offset: usize) -> Self {
        let offset = source.floor_char_boundary(offset);
        let (before, after) = source.split_at(offset);
        let begin = before.rfind('\n').map_or(0, |at| at + 1);
        let end = after.find('\n').map_or(source.len(), |at| offset + at);
        let column = source[begin..offset].chars().count();
        let line: Vec<char> = source[begin..end].chars().take(column + AFTER).collect();
        let shown: String = line[column.saturating_sub(BEFORE).min(line.len())..].iter().collect();
        Self { line: before.matches('\n').count() + 1, column: column + 1, near: shown.trim().to_owned() }
    }
}
