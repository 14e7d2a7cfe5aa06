//! `kiln completions`.
//!
//! Purpose: prints the completion script of a shell.
//! Invariant: the script is made from the same types as the parser.
//! Must not know: what commands do.

use clap::CommandFactory;

use crate::cli::args::{Cli, CompletionsArgs};
use crate::cli::printer::Printer;
use crate::cli::{CliError, Exit};

/// Runs the command.
///
/// # Errors
/// None; the type is that of every command.
pub fn run(args: &CompletionsArgs, printer: &mut Printer) -> Result<Exit, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "kiln", &mut script);
    printer.text(String::from_utf8_lossy(&script));
    Ok(Exit::Ok)
}
