//! `kiln init`.
//!
//! Purpose: writes a commented pipeline that runs as it is.
//! Invariant: nothing that exists is ever overwritten.
//! Must not know: what the pipeline does.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::Path;

use crate::cli::args::{InitArgs, Template};
use crate::cli::printer::Printer;
use crate::cli::{CliError, Exit};

const COMMANDS: &str = include_str!("templates/commands.yaml");
const TINY: &str = include_str!("templates/tiny.yaml");

/// Runs the command.
///
/// # Errors
/// The file exists or cannot be written.
pub fn run(args: &InitArgs, printer: &mut Printer) -> Result<Exit, CliError> {
    let (text, next) = match args.template {
        Template::Commands => (COMMANDS, "see what would run"),
        Template::Tiny => (TINY, "put a text at data/text.txt, then see what would run"),
    };
    let name = args.file.display().to_string();
    write_new(&args.file, text, "kiln init other.yaml")?;
    printer.line(format!("Wrote {name}. Next: {next}:"));
    printer.line(format!("  kiln plan {name}"));
    printer.line(format!("  kiln run {name}"));
    Ok(Exit::Ok)
}

/// Writes a pipeline file that is not there yet; `instead` is a call that would write another one.
///
/// # Errors
/// The name is none of a pipeline file; the file exists or cannot be written.
pub fn write_new(file: &Path, text: &str, instead: &str) -> Result<(), CliError> {
    let name = file.display().to_string();
    if !matches!(file.extension().and_then(|e| e.to_str()), Some("yaml" | "yml")) {
        return Err(CliError::Call(format!(
            "`{name}` is not the name of a pipeline file: it must end in .yaml"
        )));
    }
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).map_err(CliError::io(format!("make {}", folder.display())))?;
    }
    let made = OpenOptions::new().write(true).create_new(true).open(file);
    let mut made = made.map_err(|e| match e.kind() {
        ErrorKind::AlreadyExists => {
            CliError::Call(format!("{name} already exists; name another file: {instead}"))
        }
        _ => CliError::io(format!("write {name}"))(e),
    })?;
    if let Err(error) = made.write_all(text.as_bytes()) {
        // A part of it would be in the way of the next try.
        let _ = fs::remove_file(file);
        return Err(CliError::io(format!("write {name}"))(error));
    }
    Ok(())
}
