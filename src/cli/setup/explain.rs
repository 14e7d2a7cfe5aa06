//! `kiln explain CODE`.
//!
//! Purpose: explains the code of an error of a pipeline file, such as `unknown-key`.
//! Invariant: the texts are in `codes.md`, one section per code.
//! Must not know: where errors are found.

use serde_json::json;

use crate::cli::args::ExplainArgs;
use crate::cli::printer::{Printer, STRONG, paint};
use crate::cli::{CliError, Exit};
use crate::spec::diagnostic::did_you_mean;

const CODES: &str = include_str!("codes.md");

/// Runs the command. Without a code it lists all of them.
///
/// # Errors
/// There is no such code.
pub fn run(args: &ExplainArgs, printer: &mut Printer) -> Result<Exit, CliError> {
    let Some(asked) = &args.code else {
        sections().for_each(|(code, _)| printer.line(code));
        return Ok(Exit::Ok);
    };
    let Some((code, text)) = sections().find(|(code, _)| code == asked) else {
        let codes: Vec<_> = sections().map(|(code, _)| code).collect();
        let hint = did_you_mean(asked, codes.iter().copied());
        let hint = hint.unwrap_or_else(|| "`kiln explain` lists the codes".into());
        return Err(CliError::Call(format!("no error has the code `{asked}`: {hint}")));
    };
    if args.json {
        printer.json(&json!({ "schema": "kiln.explain/1", "code": code, "text": text }))?;
    } else {
        printer.line(format!("{}: {text}", paint(STRONG, code)));
    }
    Ok(Exit::Ok)
}

/// Each code with its text.
fn sections() -> impl Iterator<Item = (&'static str, &'static str)> {
    let section = |section: &'static str| section.split_once('\n');
    CODES.split("## ").filter_map(section).map(|(code, text)| (code, text.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_text_of_its_own() {
        let codes: Vec<_> = sections().collect();
        assert!(codes.len() > 30);
        assert!(codes.is_sorted_by(|(a, _), (b, _)| a < b), "sorted, and none twice");
        assert!(codes.iter().all(|(_, text)| text.ends_with('.')));
    }
}
