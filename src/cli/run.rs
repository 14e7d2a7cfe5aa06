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
use crate::report::{JsonReport, Links, LockFile, Recorder, Terminal};
use crate::sched::Reporter;
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
    let pipeline = context.graph.pipeline();
    let run = context.store.runs().begin(&pipeline.name, &pipeline.file.to_string_lossy())?;
    let mut json = args.pipeline.json.then(|| JsonReport::new(&plan, plan::to_json(&plan)));
    let mut reporters: Vec<Box<dyn Reporter + '_>> = vec![
        Box::new(Recorder::new(&run)),
        Box::new(Links::new(&context.store, &pipeline.name)),
        Box::new(LockFile::new(pipeline)),
        Box::new(Terminal::new(common.color.choice())),
    ];
    if let Some(json) = &mut json {
        reporters.push(Box::new(json));
    }
    let wanted = Wanted {
        graph: &context.graph,
        store: &context.store,
        planner: &planner,
        plan: &plan,
        run: &run,
        providers: &context.providers,
    };
    let outcome = execute::run(wanted, &options, &mut reporters)?;
    drop(reporters);
    if let Some(answer) = json.and_then(JsonReport::into_answer) {
        printer.json(&answer)?;
    }
    Ok(match outcome {
        RunOutcome::Ok | RunOutcome::Running => Exit::Ok,
        RunOutcome::Failed => Exit::Failed,
        RunOutcome::Interrupted => Exit::Interrupted,
        RunOutcome::Waiting => Exit::People,
    })
}
