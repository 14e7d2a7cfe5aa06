//! `kiln doctor --executor`.
//!
//! Purpose: submit one small job to an executor by the way that stages go, and say what came of it.
//! Invariant: what is tried is a stage like any other, so that it works if and only if stages do. Nothing of it stays but a
//! record that nobody needs.
//! Must not know: how a stage becomes a job.

use std::fs;
use std::path::Path;

use crate::cli::args::{Common, DoctorArgs, PipelineArgs, RunArgs};
use crate::cli::cluster::jobs::asked;
use crate::cli::context::{Context, find_file, open_store};
use crate::cli::pipeline::run;
use crate::cli::printer::{BAD, GOOD, Printer, paint};
use crate::cli::root::find_root;
use crate::cli::{CliError, Exit};
use crate::executor::cluster::engine;
use crate::report::text::printable;
use crate::spec::diagnostic::{did_you_mean, list_names};
use crate::spec::executors;

/// Tries an executor.
///
/// # Errors
/// The executor is not described, or the pipeline file is wrong.
pub fn run(common: &Common, args: &DoctorArgs, name: &str, printer: &mut Printer) -> Result<Exit, CliError> {
    let root = find_root(args.file.as_deref())?;
    let store = open_store(common, &root)?;
    let file = args.file.clone().or_else(|| find_file(&root).ok());
    let known = match &file {
        Some(file) => {
            let names = vec![file.display().to_string()];
            let context = Context::open(common, &PipelineArgs { names, ..PipelineArgs::default() })?;
            super::executors::known(context.graph.pipeline())?
        }
        None => super::executors::described()?,
    };
    let Some(spec) = known.iter().find(|spec| spec.name == name) else {
        let names = || known.iter().map(|spec| spec.name.as_str());
        let there = list_names(names());
        let hint = did_you_mean(name, names()).unwrap_or_else(|| {
            "name the pipeline FILE that describes it, or describe it in your own file".to_owned()
        });
        return Err(CliError::Call(format!("`--executor {name}`: there is: {there}; {hint}")));
    };
    let jobs = match asked(engine::jobs(spec)) {
        Ok(jobs) => jobs,
        Err(error) => {
            printer.line(format!(
                "{}  the cluster does not answer: {}",
                paint(BAD, "--"),
                printable(&error.to_string())
            ));
            return Ok(Exit::Failed);
        }
    };
    printer.line(format!(
        "{}  the cluster answers; you have {} job(s) of Kiln there",
        paint(GOOD, "ok"),
        jobs.values().filter(|job| job.is_alive()).count()
    ));
    let folder = store.root().join(format!("work/trial-{}", std::process::id()));
    let began = std::time::Instant::now();
    let exit = try_stage(common, &folder, store.root(), spec, printer);
    let _ = crate::cas::disk::remove_tree(&folder);
    let exit = exit?;
    let seconds = began.elapsed().as_secs_f64();
    printer.line(match exit {
        Exit::Ok => format!(
            "{}  a trial job ran, and its result came back by {}, after {seconds:.1} s",
            paint(GOOD, "ok"),
            spec.remote
                .as_ref()
                .map_or("the store".to_owned(), |remote| format!("the remote `{}`", printable(remote)))
        ),
        _ => format!("{}  the trial job failed; the error is above", paint(BAD, "--")),
    });
    Ok(exit)
}

fn try_stage(
    common: &Common,
    folder: &Path,
    store: &Path,
    spec: &executors::ExecutorSpec,
    printer: &mut Printer,
) -> Result<Exit, CliError> {
    let file = folder.join("kiln.yaml");
    let now = jiff::Timestamp::now();
    let text = format!(
        "pipeline: trial\n{}stages:\n  trial:\n    kind: command\n    executor: {}\n    params: {{ at: \"{now}\" }}\n    \
         run: 'uname -n > {{outputs.node}}; echo {{params.at}}'\n    outputs: {{ node: table }}\n",
        executors::to_text(std::slice::from_ref(spec)),
        spec.name
    );
    let written = fs::create_dir_all(folder).and_then(|()| fs::write(&file, text));
    written.map_err(CliError::io(format!("write {}", file.display())))?;
    let mut common = common.clone();
    common.store = Some(store.to_owned());
    let pipeline = PipelineArgs { names: vec![file.display().to_string()], ..PipelineArgs::default() };
    run::run(&common, &RunArgs { pipeline, leaves_lock_file: true, ..RunArgs::default() }, printer)
}
