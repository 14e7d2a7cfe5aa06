//! JSON lines on disk.
//!
//! Purpose: read rows with errors that name file and line; write rows as one line each.
//! Invariants: blank lines are skipped but counted; a line has at most [`LARGEST_LINE`] bytes;
//! equal rows are equal bytes.
//! Must not know: what the rows mean.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use serde_json::error::Category;

use super::{BYTE_ORDER_MARK, DataError, Row};

/// The longest line that is read, in bytes.
const LARGEST_LINE: u64 = 16 << 20;

/// The rows of an artifact: a file, or a folder that holds `TYPE.jsonl`.
///
/// # Errors
/// [`DataError`] with file and line; an artifact without rows is one.
pub fn read<R: Row>(artifact: &Path) -> Result<Vec<R>, DataError> {
    let path = if artifact.is_dir() { inside::<R>(artifact) } else { artifact.to_path_buf() };
    let rows = read_lines(&path)?;
    if rows.is_empty() { Err(DataError::Empty { path, what: "at least one row" }) } else { Ok(rows) }
}

/// The rows of one file; none when it is empty.
///
/// # Errors
/// [`DataError`] with file and line.
pub fn read_lines<R: Row>(path: &Path) -> Result<Vec<R>, DataError> {
    let io = |source| DataError::Io { doing: "read", path: path.to_path_buf(), source };
    let mut reader = BufReader::new(File::open(path).map_err(io)?);
    let (mut rows, mut bytes) = (Vec::new(), Vec::new());
    for line in 1.. {
        bytes.clear();
        let size = (&mut reader).take(LARGEST_LINE + 1).read_until(b'\n', &mut bytes).map_err(io)? as u64;
        if size == 0 {
            break;
        }
        if size > LARGEST_LINE {
            return Err(DataError::TooLarge { path: path.to_path_buf(), size, limit: LARGEST_LINE });
        }
        let text = match line {
            1 => bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&bytes),
            _ => &bytes,
        };
        if !text.trim_ascii().is_empty() {
            rows.push(parse::<R>(text).map_err(|message| DataError::Line {
                path: path.to_path_buf(),
                line,
                message,
            })?);
        }
    }
    Ok(rows)
}

fn parse<R: Row>(line: &[u8]) -> Result<R, String> {
    if let Err(error) = std::str::from_utf8(line) {
        let at = error.valid_up_to() + 1;
        return Err(format!("it is not UTF-8 at byte {at} of the line; convert the file (iconv -t UTF-8)"));
    }
    // A struct would also be read from an array, by the order of its fields.
    if line.trim_ascii_start().starts_with(b"[") {
        return Err(format!("this is an array; a line of {} is {}", R::TYPE, R::EXAMPLE));
    }
    let row: R = serde_json::from_slice(line)
        .map_err(|error| format!("{}; a line of {} is {}", said(&error), R::TYPE, R::EXAMPLE))?;
    row.check()?;
    Ok(row)
}

/// What serde_json said, in the words of JSON and without its own line number (a row is always its line 1).
fn said(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let what = text.split_once(" at line ").map_or(text.as_str(), |(what, _)| what);
    let what = match error.classify() {
        Category::Eof => "this JSON has no end",
        Category::Syntax if error.column() <= 1 => "this is not JSON",
        _ => what,
    };
    // A Rust type says nothing to people.
    let what = match what.split_once(", expected struct ") {
        Some((found, _)) => format!("{found}, expected an object"),
        None => what.to_owned(),
    };
    if error.column() > 1 { format!("{what} at column {}", error.column()) } else { what }
}

/// Writes rows as an artifact that is one file.
///
/// # Errors
/// [`DataError`] of the file system, or a row that does not pass its own check.
pub fn write<'a, R: Row + 'a>(
    artifact: &Path,
    rows: impl IntoIterator<Item = &'a R>,
) -> Result<(), DataError> {
    let io = |source| DataError::Io { doing: "write", path: artifact.to_path_buf(), source };
    let mut out = BufWriter::new(File::create(artifact).map_err(io)?);
    write_lines(&mut out, rows).map_err(io)?;
    out.into_inner().map_err(|error| io(error.into_error()))?.sync_all().map_err(io)
}

/// Writes rows as JSON lines.
///
/// # Errors
/// Those of the writer; a row that does not pass its own check is `InvalidData`.
pub fn write_lines<'a, R: Row + 'a>(
    out: &mut impl Write,
    rows: impl IntoIterator<Item = &'a R>,
) -> std::io::Result<()> {
    for row in rows {
        row.check().map_err(|message| std::io::Error::new(std::io::ErrorKind::InvalidData, message))?;
        serde_json::to_writer(&mut *out, row)?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

fn inside<R: Row>(folder: &Path) -> PathBuf {
    folder.join(format!("{}.jsonl", R::TYPE))
}

#[cfg(test)]
mod tests {
    use super::super::{Completion, CompletionSet, Demonstration, Prompt, Ranking};
    use super::*;
    use proptest::prelude::*;

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows");
        std::fs::write(&path, text).unwrap();
        (folder, path)
    }

    fn message<R: Row + std::fmt::Debug>(text: &str) -> String {
        let (_folder, path) = file(text);
        let message = read::<R>(&path).unwrap_err().to_string();
        message.replace(&*path.to_string_lossy(), "rows")
    }

    #[test]
    fn a_bad_line_is_named_with_its_file_and_number() {
        let text = "{\"prompt\":\"a\",\"response\":\"b\"}\n\n{\"prompt\":\"a\"}\n";
        assert_eq!(
            message::<Demonstration>(text),
            "rows:3: missing field `response` at column 14; a line of demonstrations is \
             {\"prompt\": \"..\", \"response\": \"..\"}"
        );
    }

    #[test]
    fn an_empty_prompt_is_an_error() {
        assert_eq!(message::<Prompt>("{\"prompt\":\" \"}"), "rows:1: `prompt` is empty");
    }

    #[test]
    fn a_file_without_rows_is_an_error() {
        assert_eq!(message::<Prompt>("\n\n"), "rows is empty or blank: it needs at least one row");
    }

    #[test]
    fn bytes_that_are_not_utf8_are_an_error_and_not_a_panic() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows");
        std::fs::write(&path, b"{\"prompt\":\"\xff\"}").unwrap();
        assert!(matches!(read::<Prompt>(&path), Err(DataError::Line { line: 1, .. })));
    }

    #[test]
    fn ranks_must_fit_their_completions() {
        let row =
            |ranks: &str| format!("{{\"prompt\":\"p\",\"completions\":[\"a\",\"b\"],\"ranks\":{ranks}}}");
        assert_eq!(message::<Ranking>(&row("[1]")), "rows:1: 1 `ranks` for 2 `completions`");
        assert_eq!(message::<Ranking>(&row("[1,3]")), "rows:1: rank 3 is not between 1 and 2");
        assert_eq!(message::<Ranking>(&row("[0,1]")), "rows:1: rank 0 is not between 1 and 2");
    }

    #[test]
    fn a_completion_may_be_a_bare_string() {
        let (_folder, path) =
            file("{\"prompt\":\"p\",\"completions\":[\"a\",{\"text\":\"b\",\"finished\":false}]}");
        let rows = read::<CompletionSet>(&path).unwrap();
        assert_eq!(
            rows[0].completions[0],
            Completion { text: "a".into(), finished: true, tokens: Vec::new() }
        );
        assert_eq!(
            rows[0].completions[1],
            Completion { text: "b".into(), finished: false, tokens: Vec::new() }
        );
    }

    #[test]
    fn a_folder_holds_the_rows_under_the_name_of_their_type() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("prompts.jsonl"), "{\"prompt\":\"p\"}").unwrap();
        assert_eq!(read::<Prompt>(folder.path()).unwrap()[0].prompt, "p");
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back_equal(texts in proptest::collection::vec(("\\PC+", any::<bool>()), 1..9)) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("rows");
            let completions: Vec<_> =
                texts.iter().map(|(text, finished)| Completion { text: text.clone(), finished: *finished, tokens: Vec::new() }).collect();
            let rows = vec![CompletionSet { prompt: "p".into(), completions }];
            write(&path, &rows).unwrap();
            prop_assert_eq!(read::<CompletionSet>(&path).unwrap(), rows);
        }
    }
}
