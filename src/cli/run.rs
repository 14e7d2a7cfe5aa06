//! `kiln run`.
//!
//! Purpose: plans, brings what is stale up to date, and tells how it went.
//! Invariant: what runs is what the plan said or what became stale by it; the exit code is the
//! outcome's.
//! Must not know: how stages are scheduled or run.

use crate::cli::args::{Common, RunArgs};
use crate::cli::context::Context;
use crate::cli::plan;
use crate::cli::printer::Printer;
use crate::cli::{CliError, Exit};
use crate::execute::{self, Options, Wanted};
use crate::report::{Terminal, run_to_json};
use crate::store::RunOutcome;

/// Runs the command.
///
/// # Errors
/// A wrong pipeline or call, in which case nothing ran; a store that fails.
pub fn run(common: &Common, args: &RunArgs, printer: &mut Printer) -> Result<Exit, CliError> {
    let (_, targets) = args.pipeline.split();
    let context = Context::open(common, &args.pipeline)?;
    let targets = context.graph.targets(targets).map_err(CliError::Pipeline)?;
    let planner = context.planner(&args.force)?;
    let plan = planner.plan(&targets).map_err(|e| context.plan_error(e))?;
    let options = Options { jobs: args.jobs, keep_going: args.keep_going, device: context.device.to_owned() };
    let wanted = Wanted {
        graph: &context.graph,
        store: &context.store,
        planner: &planner,
        plan: &plan,
        providers: &context.providers,
    };
    let report = execute::run(wanted, &options, &mut Terminal::new(common.color.choice()))?;
    if args.pipeline.json {
        printer.json(&run_to_json(&report, &plan, plan::to_json(&plan)))?;
    }
    Ok(match report.outcome {
        RunOutcome::Ok | RunOutcome::Running => Exit::Ok,
        RunOutcome::Failed => Exit::Failed,
        RunOutcome::Interrupted => Exit::Interrupted,
        RunOutcome::Waiting => Exit::People,
    })
}
