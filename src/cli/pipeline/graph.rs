//! `kiln graph`.
//!
//! Purpose: prints the DAG in one of several formats.
//! Invariant: the same file gives the same text.
//! Must not know: what is cached or stale.

use crate::cli::args::{Common, GraphArgs, GraphFormat};
use crate::cli::context::Context;
use crate::cli::printer::Printer;
use crate::cli::{CliError, Exit};
use crate::graph::render;

/// Runs the command.
///
/// # Errors
/// A wrong pipeline or call.
pub fn run(common: &Common, args: &GraphArgs, printer: &mut Printer) -> Result<Exit, CliError> {
    let (_, targets) = args.pipeline.split();
    let context = Context::open(common, &args.pipeline)?;
    let graph = &context.graph;
    let stages = graph.targets(targets).map_err(CliError::Pipeline)?;
    match args.format {
        _ if args.pipeline.json => printer.json(&render::json(graph, &stages))?,
        GraphFormat::Json => printer.json(&render::json(graph, &stages))?,
        GraphFormat::Text => printer.text(render::text(graph, &stages)),
        GraphFormat::Dot => printer.text(render::dot(graph, &stages)),
        GraphFormat::Mermaid => printer.text(render::mermaid(graph, &stages)),
    }
    Ok(Exit::Ok)
}
