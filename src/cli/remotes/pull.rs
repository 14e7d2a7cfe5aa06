//! `kiln pull`.
//!
//! Purpose: brings the results of a pipeline here that remotes have.
//! Invariant: nothing runs; every byte is verified before it counts.
//! Must not know: how a result is fetched.

use serde_json::json;

use crate::cas::remote::FetchError;
use crate::cli::args::{Common, PullArgs};
use crate::cli::context::Context;
use crate::cli::printer::{BAD, GOOD, Printer, paint};
use crate::cli::remotes::progress::Progress;
use crate::cli::{CliError, Exit};
use crate::executor::take_over;
use crate::plan::{StagePlan, State};
use crate::report::links::link_output;
use crate::report::text::printable;

/// Runs the command.
///
/// # Errors
/// A wrong pipeline or call; there is no remote to read; a store that fails.
pub fn run(common: &Common, args: &PullArgs, printer: &mut Printer) -> Result<Exit, CliError> {
    for (is_given, flag) in [(common.offline, "--offline"), (common.no_cache_read, "--no-cache-read")] {
        if is_given {
            return Err(CliError::Call(format!("`{flag}` reads no remote, so nothing can be pulled")));
        }
    }
    let (_, targets) = args.pipeline.split();
    let context = Context::open(common, &args.pipeline)?;
    let _in_use = context.store.share_if_there()?;
    let Some(remotes) = context.store.remotes() else {
        let message = "there is no remote; `kiln remote add NAME URL` adds one, or the pipeline names some";
        return Err(CliError::Call(message.into()));
    };
    let plan = context.plan(targets, &[])?;
    let progress = Progress::of(remotes, "fetched");
    let (mut fetched, mut transferred, mut errors) = (Vec::new(), 0, Vec::new());
    for stage in plan.stages.iter().filter(|stage| stage.state == State::Fetch) {
        let Some(action) = stage.last.as_deref() else { continue };
        match take_over(&context.store, action, true) {
            Ok(()) => {
                transferred += stage.remote.as_ref().map_or(0, |(_, bytes)| *bytes);
                for (output, artifact) in &action.outputs {
                    if let Err(e) = link_output(&context.store, &plan.pipeline, &stage.name, output, artifact)
                    {
                        tracing::warn!(stage = stage.name, output, "{e}");
                    }
                }
                fetched.push(stage.name.clone());
            }
            Err(error @ FetchError::Missing(_)) => errors.push(format!(
                "`{name}`: {error}; where `{name}` has run, `kiln push --resend {name}` sends them again",
                name = stage.name
            )),
            Err(error) => errors.push(format!("`{}`: {error}", stage.name)),
        }
    }
    let failed = remotes.iter().filter(|remote| remote.has_failed());
    errors.extend(
        failed.map(|remote| format!("the remote `{}` could not be asked for everything", remote.name)),
    );
    let is_here = |stage: &&StagePlan| stage.state == State::Cached || fetched.contains(&stage.name);
    let here = plan.stages.iter().filter(is_here).filter_map(|stage| Some((stage.name.clone(), stage.key?)));
    context.store.history().remember(&plan.pipeline, &here.collect::<Vec<_>>())?;
    context.store.flush_or_warn();
    let summary = plan.summary();
    let absent = summary.run + summary.maybe + summary.people;
    if args.pipeline.json {
        printer.json(&json!({
            "schema": "kiln.pull/1", "pipeline": plan.pipeline, "fetched": fetched, "bytes": transferred,
            "local": summary.cached, "absent": absent, "errors": errors,
        }))?;
    } else {
        printer.line(format!(
            "{} {} fetched ({}), {} here already, {absent} not found",
            paint(GOOD, "="),
            fetched.len(),
            progress.summary(transferred),
            summary.cached
        ));
        errors
            .iter()
            .for_each(|error| printer.line(format!("{} {}", paint(BAD, "error:"), printable(error))));
    }
    Ok(if errors.is_empty() { Exit::Ok } else { Exit::Failed })
}
