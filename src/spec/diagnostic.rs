//! Errors of a pipeline file.
//!
//! Purpose: one error with its span and the nearest right word; collecting, sorting and rendering
//! them for people and as JSON.
//! Invariant: what is rendered holds no control characters of the file, and is bounded in length.
//! Must not know: what is checked; colours (callers colour).

use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::spec::code::Code;
use crate::spec::types::Span;

/// The format of [`to_json`].
pub const ERRORS_FORMAT: &str = "kiln.errors/1";

/// The most characters shown of a source line, and of a name inside a message.
const SHOWN: usize = 140;

/// One error of a pipeline file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// A stable code.
    pub code: Code,
    /// What is wrong: a lowercase fragment.
    pub message: String,
    /// The file, as the user named it.
    pub file: PathBuf,
    /// Where; nowhere when it stands in no file (the file is missing, `--set`).
    pub span: Span,
    /// What to do, such as ``did you mean `learning_rate`?``.
    pub hint: Option<String>,
    /// The source line, as it was when the file was read.
    pub source: Option<String>,
}

/// A file that was read.
#[derive(Debug)]
struct SourceFile {
    path: PathBuf,
    text: String,
}

/// Collects the errors of one pipeline.
#[derive(Debug)]
pub struct Diagnostics {
    /// By `FileId`.
    files: Vec<SourceFile>,
    list: Vec<Diagnostic>,
    /// Places whose value is not known: more errors there would be noise.
    muted: HashSet<Span>,
}

impl Diagnostics {
    /// Nothing found yet in a main file with this text.
    pub fn new(file: &Path, text: String) -> Self {
        let main = SourceFile { path: file.to_owned(), text };
        Self { files: vec![main], list: Vec::new(), muted: HashSet::new() }
    }

    /// The text of the main file.
    pub fn text(&self) -> &str {
        self.files.first().map_or("", |file| &file.text)
    }

    /// True when nothing was found.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Adds an error.
    pub fn push(&mut self, code: Code, span: Span, message: String) {
        self.push_hint(code, span, message, None);
    }

    /// Adds the last error of a place: the value there is not known, so nothing more is said of it.
    pub fn push_last(&mut self, code: Code, span: Span, message: String, hint: Option<String>) {
        self.push_hint(code, span, message, hint);
        self.muted.insert(span);
    }

    /// Adds an error with what to do about it.
    pub fn push_hint(&mut self, code: Code, span: Span, message: String, hint: Option<String>) {
        if self.muted.contains(&span) {
            return;
        }
        let file = self.files.get(usize::from(span.file.0)).map(|f| f.path.clone()).unwrap_or_default();
        self.list.push(Diagnostic { code, message, file, span, hint, source: None });
    }

    /// All errors by file and position, each once, with their source lines.
    pub fn into_vec(mut self) -> Vec<Diagnostic> {
        // A stable sort: errors of one place stay in the order in which they were found.
        self.list.sort_by_key(|d| (d.span.file, d.span.start));
        let mut seen = HashSet::new();
        self.list.retain(|d| seen.insert((d.span.file, d.span.start, d.code, d.message.clone())));
        for chunk in self.list.chunk_by_mut(|a, b| a.span.file == b.span.file) {
            if let Some(file) = self.files.get(usize::from(chunk[0].span.file.0)) {
                add_source_lines(chunk, &file.text);
            }
        }
        self.list
    }
}

/// Gives each error of one file, sorted by position, its line.
fn add_source_lines(list: &mut [Diagnostic], text: &str) {
    let mut lines = text.lines().zip(1u32..);
    let mut current = lines.next();
    for diagnostic in list {
        let line = diagnostic.span.start.line;
        while current.is_some_and(|(_, n)| n < line) {
            current = lines.next();
        }
        diagnostic.source = current.filter(|(_, n)| *n == line).map(|(line, _)| without_credentials(line));
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

/// Names for a message: sorted as given, at most forty.
pub fn list_names<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const MOST: usize = 40;
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

/// A line in which what stands before the `@` of a URL is hidden, character by character, so that columns stay.
pub fn without_credentials(line: &str) -> String {
    let mut shown: Vec<char> = line.chars().collect();
    let mut from = 0;
    while let Some(scheme) = shown[from..].windows(3).position(|three| three == [':', '/', '/']) {
        let start = from + scheme + 3;
        let is_end = |c: &char| c.is_whitespace() || matches!(c, '"' | '\'' | '}' | ']');
        let end = shown[start..].iter().position(is_end).map_or(shown.len(), |length| start + length);
        if let Some(at) = shown[start..end].iter().rposition(|c| *c == '@') {
            shown[start..start + at].fill('*');
        }
        from = end;
    }
    shown.into_iter().collect()
}

/// One error as plain text: code and message, place, the source line underlined, the hint.
pub fn render_one(diagnostic: &Diagnostic) -> String {
    let Diagnostic { code, message, file, span, hint, source } = diagnostic;
    let start = span.start;
    let mut out = format!("error[{code}]: {}\n", printable(message));
    let number = start.line.to_string();
    let pad = " ".repeat(number.len());
    let place = printable(&file.display().to_string());
    match start.line {
        0 => out.push_str(&format!("   {place}\n")),
        line => out.push_str(&format!("   {place}:{line}:{}\n", start.column)),
    }
    let hint = hint.as_deref().map(printable);
    let Some(source) = source else {
        if let Some(hint) = hint {
            let _ = writeln!(out, "   {hint}");
        }
        return out;
    };
    let (shown, before, under) = window(source, *span);
    let _ = writeln!(out, "{number} | {shown}");
    let carets = format!("{}{}", " ".repeat(before), "^".repeat(under));
    let _ =
        writeln!(out, "{pad} | {}", [Some(carets), hint].into_iter().flatten().collect::<Vec<_>>().join(" "));
    out
}

/// The part of a line around the start of a span, how far in that start is, and how much to underline; what
/// goes on in the next line is underlined to the end of this one.
fn window(source: &str, span: Span) -> (String, usize, usize) {
    let column = (span.start.column.max(1) - 1) as usize;
    let length = match span.end {
        end if end.line == span.start.line => end.column.saturating_sub(span.start.column) as usize,
        _ => usize::MAX,
    };
    let skipped = if column + 20 > SHOWN { column - SHOWN / 2 } else { 0 };
    let shown: String = source.chars().skip(skipped).take(SHOWN).map(printable_char).collect();
    let shown = shown.trim_end().to_owned();
    let before = column - skipped;
    let room = shown.chars().count().saturating_sub(before);
    (shown, before, length.clamp(1, room.max(1)))
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

/// A character from outside, or a replacement for one that changes what the terminal does or what is read. Joiners
/// (U+200C, U+200D) are part of words and of pictures.
pub fn printable_char(c: char) -> char {
    match c {
        '\t' | '\n' => ' ',
        c if c.is_control() => '\u{fffd}',
        // Marks that reorder or hide text.
        '\u{200b}'
        | '\u{200e}'
        | '\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}'
        | '\u{feff}' => '\u{fffd}',
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
                "line": d.span.start.line,
                "column": d.span.start.column,
                "hint": d.hint,
            })
        })
        .collect();
    json!({ "schema": ERRORS_FORMAT, "errors": errors })
}
