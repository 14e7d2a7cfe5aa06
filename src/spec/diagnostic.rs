//! Errors of a pipeline file.
//!
//! Purpose: one error with its place and the nearest right word; collecting, sorting and rendering
//! them for people and as JSON.
//! Invariant: what is rendered holds no control characters of the file, and is bounded in length.
//! Must not know: what is checked; colours (callers colour).

use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::spec::node::Place;
use crate::spec::types::Position;

/// The format of [`to_json`].
pub const ERRORS_FORMAT: &str = "kiln.errors/1";

/// The most characters shown of a source line, and of a name inside a message.
const SHOWN: usize = 140;

/// One error of a pipeline file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// A stable code, such as `unknown-key`.
    pub code: &'static str,
    /// What is wrong: a lowercase fragment.
    pub message: String,
    /// The file, as the user named it.
    pub file: PathBuf,
    /// Where; line 0 when it stands nowhere in the file (the file is missing, `--set`).
    pub position: Position,
    /// How many characters to underline.
    pub length: u32,
    /// What to do, such as ``did you mean `learning_rate`?``.
    pub hint: Option<String>,
    /// The source line, as it was when the file was read.
    pub source: Option<String>,
}

/// Collects the errors of one file.
#[derive(Debug)]
pub struct Diagnostics {
    file: PathBuf,
    text: String,
    list: Vec<Diagnostic>,
    /// Places whose value is not known: more errors there would be noise.
    muted: HashSet<Position>,
}

impl Diagnostics {
    /// Nothing found yet in a file with this text.
    pub fn new(file: &Path, text: String) -> Self {
        Self { file: file.to_owned(), text, list: Vec::new(), muted: HashSet::new() }
    }

    /// The text of the file.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// True when nothing was found.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Adds an error.
    pub fn push(&mut self, code: &'static str, place: Place, message: String) {
        self.push_hint(code, place, message, None);
    }

    /// Adds the last error of a place: the value there is not known, so nothing more is said of it.
    pub fn push_last(&mut self, code: &'static str, place: Place, message: String, hint: Option<String>) {
        self.push_hint(code, place, message, hint);
        self.muted.insert(place.0);
    }

    /// Adds an error with what to do about it.
    pub fn push_hint(
        &mut self,
        code: &'static str,
        (position, length): Place,
        message: String,
        hint: Option<String>,
    ) {
        if self.muted.contains(&position) {
            return;
        }
        let file = self.file.clone();
        self.list.push(Diagnostic { code, message, file, position, length, hint, source: None });
    }

    /// All errors by position, each once, with their source lines.
    pub fn into_vec(mut self) -> Vec<Diagnostic> {
        if self.list.is_empty() {
            return self.list;
        }
        // A stable sort: errors of one place stay in the order in which they were found.
        self.list.sort_by_key(|d| d.position);
        let mut seen = HashSet::new();
        self.list.retain(|d| seen.insert((d.position, d.code, d.message.clone())));
        let mut lines = self.text.lines().zip(1u32..);
        let mut current = lines.next();
        for diagnostic in &mut self.list {
            while current.is_some_and(|(_, n)| n < diagnostic.position.line) {
                current = lines.next();
            }
            diagnostic.source =
                current.filter(|(_, n)| *n == diagnostic.position.line).map(|(line, _)| line.to_owned());
        }
        self.list
    }
}

/// The hint for a word that is wrong: the nearest of the right ones, if any is near.
pub fn did_you_mean<'a>(word: &str, right: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(word, right).map(|near| format!("did you mean `{near}`?"))
}

/// The nearest of the right words, if any is near: the same but for case, two letters in six
/// changed at most, or a long common part.
pub fn nearest<'a>(word: &str, right: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const FAR: usize = 64;
    if word.len() > FAR {
        return None;
    }
    let lower = word.to_lowercase();
    right
        .into_iter()
        .filter(|candidate| candidate.len() <= FAR)
        .map(|candidate| (strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance * 3 <= word.chars().count().max(candidate.chars().count()))
        .min()
        .map(|(_, candidate)| candidate)
}

/// Names for a message: sorted as given, at most sixteen.
pub fn list_names<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const MOST: usize = 16;
    let names: Vec<_> = names.into_iter().collect();
    let mut out = names.iter().take(MOST).copied().collect::<Vec<_>>().join(", ");
    if names.len() > MOST {
        let _ = write!(out, ", and {} more", names.len() - MOST);
    }
    if out.is_empty() { "nothing".to_owned() } else { out }
}

/// All errors as plain text, with a last line that counts them.
pub fn render(diagnostics: &[Diagnostic]) -> String {
    let mut out: String = diagnostics.iter().map(render_one).collect();
    let plural = if diagnostics.len() == 1 { "" } else { "s" };
    let _ = writeln!(out, "{} error{plural}. Nothing was run.", diagnostics.len());
    out
}

/// One error as plain text: code and message, place, the source line underlined, the hint.
pub fn render_one(diagnostic: &Diagnostic) -> String {
    let Diagnostic { code, message, file, position, length, hint, source } = diagnostic;
    let mut out = format!("error[{code}]: {}\n", printable(message));
    let number = position.line.to_string();
    let pad = " ".repeat(number.len());
    let place = printable(&file.display().to_string());
    match position.line {
        0 => out.push_str(&format!("   {place}\n")),
        line => out.push_str(&format!("   {place}:{line}:{}\n", position.column)),
    }
    let hint = hint.as_deref().map(printable);
    let Some(source) = source else {
        if let Some(hint) = hint {
            let _ = writeln!(out, "   {hint}");
        }
        return out;
    };
    let (shown, before, under) = window(source, position.column, *length);
    let _ = writeln!(out, "{number} | {shown}");
    let carets = format!("{}{}", " ".repeat(before), "^".repeat(under));
    let _ =
        writeln!(out, "{pad} | {}", [Some(carets), hint].into_iter().flatten().collect::<Vec<_>>().join(" "));
    out
}

/// The part of a line around a column, how far in the column then is, and how much to underline.
fn window(source: &str, column: u32, length: u32) -> (String, usize, usize) {
    let column = (column.max(1) - 1) as usize;
    let skipped = if column + 20 > SHOWN { column - SHOWN / 2 } else { 0 };
    let shown: String = source.chars().skip(skipped).take(SHOWN).map(printable_char).collect();
    let shown = shown.trim_end().to_owned();
    let before = column - skipped;
    let room = shown.chars().count().saturating_sub(before);
    (shown, before, (length as usize).clamp(1, room.max(1)))
}

/// A text from a file without what could steer a terminal; long ones are cut.
fn printable(text: &str) -> String {
    const MOST: usize = 1000;
    let mut out: String = text.chars().take(MOST).map(printable_char).collect();
    if text.chars().nth(MOST).is_some() {
        out.push('…');
    }
    out
}

fn printable_char(c: char) -> char {
    match c {
        '\t' | '\n' => ' ',
        c if c.is_control() => '\u{fffd}',
        // Marks that reorder or hide text.
        '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' => {
            '\u{fffd}'
        }
        c => c,
    }
}

/// All errors as one JSON object, [`ERRORS_FORMAT`].
pub fn to_json(diagnostics: &[Diagnostic]) -> Value {
    let errors: Vec<_> = diagnostics
        .iter()
        .map(|d| {
            json!({
                "code": d.code,
                "message": d.message,
                "file": d.file.display().to_string(),
                "line": d.position.line,
                "column": d.position.column,
                "hint": d.hint,
            })
        })
        .collect();
    json!({ "schema": ERRORS_FORMAT, "errors": errors })
}
