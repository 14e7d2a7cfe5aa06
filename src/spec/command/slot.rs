//! What a brace begins: a placeholder, an escaped one, a slip of the pen, or plain text.
//!
//! Purpose: the one definition of `{inputs.NAME}`, `{outputs.NAME}`, `{params.NAME}` and `{checkpoint}`.
//! Invariants: only these are placeholders, with a NAME of ASCII letters, digits, `_` and `-`. Doubled braces
//! around a placeholder or a slip stand for the text with single ones; all other braces are plain text.
//! Must not know: shells, quoting, which names a stage has.

/// What a placeholder names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Space {
    /// `{inputs.x}`: the path of an input.
    Inputs,
    /// `{outputs.x}`: where to make an output.
    Outputs,
    /// `{params.x}`: the value of a parameter.
    Params,
    /// `{checkpoint}`: the folder that survives from one attempt to the next. It has no name.
    Checkpoint,
}

impl Space {
    const NAMED: [Self; 3] = [Self::Inputs, Self::Outputs, Self::Params];

    /// The word before the dot.
    pub fn word(self) -> &'static str {
        match self {
            Self::Inputs => "inputs",
            Self::Outputs => "outputs",
            Self::Params => "params",
            Self::Checkpoint => "checkpoint",
        }
    }

    /// The placeholder for a name.
    pub fn placeholder(self, name: &str) -> String {
        match self {
            Self::Checkpoint => "{checkpoint}".to_owned(),
            _ => format!("{{{}.{name}}}", self.word()),
        }
    }
}

/// What a brace begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Slot<'t> {
    /// Plain text.
    Plain,
    /// A placeholder.
    Value {
        /// What it names.
        space: Space,
        /// The name after the dot; empty for the checkpoint.
        name: &'t str,
        /// Where it ends.
        end: usize,
    },
    /// A placeholder or a slip in doubled braces: the text with single braces.
    Escaped {
        /// The text.
        text: &'t str,
        /// Where it ends.
        end: usize,
    },
    /// Something that was meant as a placeholder.
    Slip {
        /// As it stands.
        text: &'t str,
        /// The nearest placeholder.
        right: String,
        /// True for `{inputs.x` and the like, which is no text that a shell gives a meaning to.
        dotted: bool,
    },
}

/// What the brace at `at` begins.
pub(super) fn slot(text: &str, at: usize) -> Slot<'_> {
    if text[at + 1..].starts_with('{') {
        return match single(text, at + 1) {
            Slot::Value { end, .. } => escaped(text, at, end),
            Slot::Slip { text: slip, .. } => escaped(text, at, at + 1 + slip.len()),
            _ => Slot::Plain,
        };
    }
    single(text, at)
}

fn escaped(text: &str, at: usize, end: usize) -> Slot<'_> {
    let inner = &text[at + 1..end];
    let whole = inner.ends_with('}') && !inner.contains([' ', '\t']);
    if whole && text[end..].starts_with('}') {
        return Slot::Escaped { text: inner, end: end + 1 };
    }
    Slot::Plain
}

/// What a brace begins that is looked at alone.
fn single(text: &str, at: usize) -> Slot<'_> {
    let rest = &text[at + 1..];
    let word_start = at + 1 + (rest.len() - rest.trim_start_matches([' ', '\t']).len());
    let word = span(text, word_start, |b| b.is_ascii_alphanumeric() || b == b'_');
    let after = word_start + word.len();
    let spaced = word_start != at + 1;
    match text.as_bytes().get(after) {
        Some(b'.') => dotted(text, at, word, after + 1, spaced),
        Some(b'}') if !spaced => bare(text, at, word),
        Some(b'[') if !spaced && Space::NAMED.iter().any(|space| space.word() == word) => {
            let name = span(text, after + 1, |b| b != b']' && b != b'}' && b != b'\n');
            let name = name.trim_matches(['"', '\'']);
            slip(text, at, format!("{{{word}.{name}}}"), true)
        }
        _ => Slot::Plain,
    }
}

/// `{word}`.
fn bare<'t>(text: &'t str, at: usize, word: &str) -> Slot<'t> {
    if word == Space::Checkpoint.word() {
        return Slot::Value { space: Space::Checkpoint, name: "", end: at + word.len() + 2 };
    }
    // `$h{inputs}`, `@{inputs}` and `%{params}` are Perl.
    let before = at.checked_sub(1).map(|i| text.as_bytes()[i]);
    if before.is_some_and(|b| b.is_ascii_alphanumeric() || b"_$@%#>".contains(&b)) {
        return Slot::Plain;
    }
    match Space::NAMED.iter().find(|space| space.word() == word) {
        Some(space) => slip(text, at, space.placeholder("NAME"), false),
        None if word == "checkpoints" => slip(text, at, Space::Checkpoint.placeholder(""), false),
        None => Slot::Plain,
    }
}

/// `{word.`, where `start` is behind the dot.
fn dotted<'t>(text: &'t str, at: usize, word: &str, start: usize, spaced: bool) -> Slot<'t> {
    let name = span(text, start, |b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    let rest = &text[start + name.len()..];
    let closed = rest.trim_start_matches([' ', '\t']).starts_with('}');
    if word == Space::Checkpoint.word() {
        let right = Space::Checkpoint.placeholder("");
        return if closed { slip(text, at, right, true) } else { Slot::Plain };
    }
    let exact = Space::NAMED.into_iter().find(|space| space.word() == word);
    let Some(space) = exact.or_else(|| near(word)) else { return Slot::Plain };
    if exact.is_some() && !spaced && !name.is_empty() && rest.starts_with('}') {
        return Slot::Value { space, name, end: start + name.len() + 1 };
    }
    // `{params.json,backup}` is a brace expansion of the shell, `{ inputs.x; }` a group.
    let meant = closed || (exact.is_some() && !spaced && !rest.starts_with(','));
    let name = if name.is_empty() { "NAME" } else { name };
    if meant { slip(text, at, space.placeholder(name), true) } else { Slot::Plain }
}

/// A word that is one letter off.
fn near(word: &str) -> Option<Space> {
    let lower = word.to_lowercase();
    Space::NAMED.into_iter().find(|space| strsim::damerau_levenshtein(&lower, space.word()) <= 1)
}

/// The slip up to its brace, or up to the end of its word where it has none.
fn slip(text: &str, at: usize, right: String, dotted: bool) -> Slot<'_> {
    let line = text[at..].lines().next().unwrap_or_default();
    let end = line.find('}').map(|i| i + 1).filter(|end| !line[1..*end].contains('{'));
    let end = end.or_else(|| line.find([' ', '\t'])).unwrap_or(line.len());
    Slot::Slip { text: &line[..end], right, dotted }
}

fn span(text: &str, start: usize, keep: impl Fn(u8) -> bool) -> &str {
    let length = text.as_bytes()[start..].iter().take_while(|b| b.is_ascii() && keep(**b)).count();
    &text[start..start + length]
}
