//! `kiln schema`.
//!
//! Purpose: the JSON Schema of pipeline files, with the kinds of the default provider if that is found.
//! Invariant: without a provider the schema has everything but kinds.
//! Must not know: any pipeline file.

use crate::cli::args::Common;
use crate::cli::context::open_store;
use crate::cli::printer::Printer;
use crate::cli::root::find_root;
use crate::cli::{CliError, Exit};
use crate::provider::Providers;
use crate::spec::schema::pipeline_schema;

/// Runs the command.
///
/// # Errors
/// The answer cannot be written, or the store cannot be opened.
pub fn run(common: &Common, printer: &mut Printer) -> Result<Exit, CliError> {
    let store = open_store(common, &find_root(None)?)?;
    let mut providers = Providers::new(&store);
    let found: Vec<_> = match providers.find(None) {
        Ok(found) => vec![found.description.clone()],
        Err(why) => {
            tracing::warn!("the schema has no kinds but `command`: {why}");
            Vec::new()
        }
    };
    printer.json(&pipeline_schema(&found))?;
    Ok(Exit::Ok)
}
