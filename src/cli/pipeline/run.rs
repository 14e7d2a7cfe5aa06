//! `kiln run`.
//!
//! Purpose: plans, runs the stages that are stale, and reports the outcome.
//! Invariant: only stages that the plan does not call cached run; the exit code follows from the outcome.
//! Must not know: how stages are scheduled or run.

use std::sync::Arc;

use crate::cli::args::{Common, RunArgs};
use crate::cli::cluster::{executors, jobs};
use crate::cli::context::Context;
use crate::cli::pipeline::{lock, params, plan};
use crate::cli::printer::Printer;
use crate::cli::{CliError, Exit};
use crate::executor::cluster::{Placement, intent};
use crate::executor::{self, Options, Wanted};
use crate::plan::Plan;
use crate::report::lockfile::{Difference, LockCheck, LockFileReporter};
use crate::report::resume::resume_points;
use crate::report::{JsonReport, Links, Recorder, Terminal};
use crate::sched::Reporter;
use crate::spec::diagnostic::without_credentials;
use crate::state::RunOutcome;

/// Runs the command.
///
/// # Errors
/// A wrong pipeline or call, or a lock file that does not match, in which case nothing ran; a store that
/// fails.
pub fn run(common: &Common, args: &RunArgs, printer: &mut Printer) -> Result<Exit, CliError> {
    let (_, names) = args.pipeline.split();
    let context = Context::open(common, &args.pipeline)?;
    let _in_use = context.store.share_if_there()?;
    if context.store.trust().demanded && context.store.trust().signer.is_none() {
        tracing::warn!(
            "signatures are required and there is no key here that signs, so nothing that runs here will count; \
             `kiln key new` makes one"
        );
    }
    let targets = context.graph.targets(names).map_err(CliError::Pipeline)?;
    let planner = Arc::new(context.planner(&args.force, args.executor.as_deref())?);
    let plan = planner.plan(&targets).map_err(|e| context.plan_error(e))?;
    Context::check_forced(&plan, &context.graph, &args.force)?;
    params::check(&context, &plan)?;
    let lock = args.locked.then(|| lock::locked(&context, &plan, names.is_empty())).transpose()?;
    let pipeline = context.graph.pipeline();
    let placement = place(&context, &plan, args)?;
    let ready = executor::preflight(&context.graph, &context.store, &plan, &placement)?;
    let mut run = context.store.history().begin(&pipeline.name, &pipeline.file().to_string_lossy())?;
    let set: Vec<_> = args.pipeline.set.iter().map(|text| without_credentials(text)).collect();
    run.overridden(&set, &args.pipeline.unset)?;
    let run = Arc::new(run);
    let mut json = args.pipeline.json.then(|| {
        let resumes = resume_points(&context.store, &plan);
        JsonReport::new(&plan, plan::to_json(&plan, &resumes))
    });
    let mut check = lock.as_ref().map(LockCheck::new);
    let mut reporters: Vec<Box<dyn Reporter + '_>> =
        vec![Box::new(Recorder::new(&run)), Box::new(Links::new(&context.store, &pipeline.name))];
    // What `--set` tries is not what the file says.
    if !args.locked
        && !args.leaves_lock_file
        && args.pipeline.set.is_empty()
        && args.pipeline.unset.is_empty()
    {
        reporters.push(Box::new(LockFileReporter::new(pipeline)));
    }
    reporters.push(Box::new(Terminal::new(common.color.choice())));
    reporters.extend(json.as_mut().map(|json| Box::new(json) as Box<dyn Reporter>));
    reporters.extend(check.as_mut().map(|check| Box::new(check) as Box<dyn Reporter>));
    let wanted = Wanted {
        graph: Arc::clone(&context.graph),
        store: Arc::clone(&context.store),
        planner,
        plan: &plan,
        run: Arc::clone(&run),
        providers: Arc::clone(&context.providers),
        ready,
    };
    let device = context.device.to_owned();
    let others = jobs::of_other_versions(&context, &plan).into_iter().map(|intent| jobs::other(&intent));
    let notes = executors::short(&placement).into_iter().chain(others).collect();
    let options = Options { jobs: args.jobs, keep_going: args.keep_going, device, placement, notes };
    let outcome = executor::run(wanted, &options, reporters)?;
    let differences = check.map(LockCheck::into_differences).unwrap_or_default();
    if let Some(mut answer) = json.and_then(JsonReport::into_answer) {
        if args.locked {
            answer["differences"] = differences.iter().map(Difference::to_json).collect();
        }
        printer.json(&answer)?;
    }
    if let (Some(lock), false) = (&lock, differences.is_empty()) {
        lock::complain(lock, &differences, printer);
        return Ok(Exit::Failed);
    }
    // Who asked for it is not interrupted by it.
    Ok(if args.detach && outcome == RunOutcome::Detached { Exit::Ok } else { exit(outcome) })
}

/// Decides which stages run on a cluster.
fn place(context: &Context, plan: &Plan, args: &RunArgs) -> Result<Placement, CliError> {
    let known = executors::known(context.graph.pipeline())?;
    let call = args.executor.as_deref();
    executors::check(context, &known, call)?;
    let placement = match args.only_follows {
        true => Placement::of_jobs(plan, &intent::all(&context.store), &known),
        false => Placement::of(&context.graph, plan, &known, call, args.detach),
    };
    executors::check_placement(context, &placement)?;
    Ok(placement)
}

fn exit(outcome: RunOutcome) -> Exit {
    match outcome {
        RunOutcome::Ok | RunOutcome::Running => Exit::Ok,
        RunOutcome::Failed => Exit::Failed,
        RunOutcome::Interrupted | RunOutcome::Detached => Exit::Interrupted,
        RunOutcome::Waiting => Exit::People,
    }
}
