//! The command `kiln card`.
//!
//! Purpose: prints a card, or writes it to a file.
//! Invariant: a file is replaced only if it is a card that this command wrote.
//! Must not know: what a card says.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use super::gather::gather;
use super::markdown;
use crate::cas::disk;
use crate::cli::args::{CardArgs, Common};
use crate::cli::context::Context;
use crate::cli::printer::Printer;
use crate::cli::results::show;
use crate::cli::{CliError, Exit};

/// Runs the command.
///
/// # Errors
/// A wrong pipeline or call; nothing is known of the artifact; the file is somebody else's, or cannot be written.
pub fn run(common: &Common, args: &CardArgs, printer: &mut Printer) -> Result<Exit, CliError> {
    let (_, names) = args.pipeline.split();
    let [name] = names else {
        return Err(CliError::Call("`kiln card` takes one artifact: kiln card [FILE] STAGE[.OUTPUT]".into()));
    };
    let context = Context::open(common, &args.pipeline)?;
    let _in_use = context.store.share_if_there()?;
    let (stage, output) = show::split(&context.graph, name);
    let Some(index) = context.graph.index(stage) else {
        let unknown = context.graph.targets(&[stage.to_owned()]).err().unwrap_or_default();
        return Err(CliError::Pipeline(unknown));
    };
    let port = show::port(&context.graph, index, output)?;
    let card = gather(&context, &args.pipeline, index, port)?;
    let text = markdown::write(&card);
    if let Some(file) = &args.output {
        write(file, &text)?;
    }
    match (&args.output, args.pipeline.json) {
        (_, true) => printer.json(&card)?,
        (Some(file), false) => printer.line(format!("Wrote {}.", file.display())),
        (None, false) => printer.text(text),
    }
    Ok(Exit::Ok)
}

fn write(file: &Path, text: &str) -> Result<(), CliError> {
    let name = file.display();
    if !may_replace(file).map_err(CliError::io(format!("read {name}")))? {
        let message =
            format!("{name} is no card that `kiln card` wrote, and stays as it is; name another file");
        return Err(CliError::Call(message));
    }
    disk::replace(file, text.as_bytes()).map_err(CliError::io(format!("write {name}")))
}

/// Whether nothing is there, or a card of ours.
fn may_replace(file: &Path) -> std::io::Result<bool> {
    let mut start = Vec::new();
    match File::open(file) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(true),
        opened => opened?.take(markdown::HEAD.len() as u64).read_to_end(&mut start)?,
    };
    Ok(start == markdown::HEAD.as_bytes())
}
