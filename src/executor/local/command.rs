//! An attempt at a command.
//!
//! Purpose: the execution folder, which holds what the stage declared and nothing else, and the process in it.
//! Invariant: what a command is told are relative paths that are the same on every machine; what it reads
//! of the user's files are copies whose bytes are those of the key.
//! Must not know: how a process is started, what becomes of the outputs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::environment::environment;
use super::provider::{link_inputs, missing};
use super::{Prepared, made};
use crate::cas::How;
use crate::cas::types::ArtifactRef;
use crate::executor::attempt::{AttemptError, Request};
use crate::executor::machine::Claim;
use crate::executor::sandbox::{Method, Strict};
use crate::executor::supervise::launch::{Confinement, Launch, OsText};
use crate::graph::Producer;
use crate::plan::key_inputs;
use crate::spec::command::{self, Values, expand};
use crate::spec::types::{Run, Sandbox, Stage, Work};

/// The variables that name folders of programs, which stay readable in a strict sandbox.
const PROGRAM_FOLDERS: [&str; 2] = ["VIRTUAL_ENV", "CONDA_PREFIX"];

/// Longer scripts are handed over as files: the system bounds an argument to 128 KiB.
const LONGEST_ARGUMENT: usize = 64 * 1024;

/// The folders of an attempt, as the command sees them.
struct Places {
    /// The execution folder, or the project root without one.
    root: PathBuf,
    /// Where it starts.
    folder: PathBuf,
    /// Leads from `folder` to `root`; none when paths are absolute.
    back: Option<String>,
    inputs: BTreeMap<String, PathBuf>,
    outputs: BTreeMap<String, PathBuf>,
}

/// Makes an attempt ready.
///
/// # Errors
/// An input is missing or has changed, the command cannot be filled in, or the disk refuses.
pub fn prepare(request: &Request<'_>, claim: &Claim) -> Result<Prepared, AttemptError> {
    let (stage, scratch) = (request.stage(), request.scratch);
    let Work::Command { run, shell, cwd, sandbox, .. } = &stage.work else {
        return Err(AttemptError::NoProvider(stage.kind().to_owned()));
    };
    let io = |source| AttemptError::Io { what: "make the execution folder", source };
    let off = *sandbox == Sandbox::Off;
    let mut places = places(request, stage, cwd.as_ref().map(|cwd| cwd.value.as_str()), off);
    for path in places.outputs.values() {
        path.parent().map_or(Ok(()), fs::create_dir_all).map_err(io)?;
    }
    if off {
        places.inputs = link_inputs(request, &scratch.run().join("inputs"))?;
    } else {
        copy_inputs(request, &places)?;
        copy_uses(request, &places.root)?;
        fs::create_dir_all(&places.folder).map_err(io)?;
    }
    let values = values(request, stage, &places);
    let environment = environment(request, None, &values, claim)?;
    let inputs =
        places.inputs.iter().filter_map(|(name, path)| Some((path.clone(), *request.job.inputs.get(name)?)));
    let launch = Launch {
        arguments: arguments(request, expand(run, shell, &values)?, shell, &places)?,
        folder: places.folder.clone(),
        confinement: (*sandbox == Sandbox::Strict).then(|| confinement(request, &environment.variables)),
        environment: environment.variables,
        cores: Vec::new(),
        linger_ms: 0,
    };
    let inputs: Vec<(PathBuf, ArtifactRef)> = if off { Vec::new() } else { inputs.collect() };
    let made = made(places.outputs, inputs);
    Ok(Prepared {
        launch,
        stdin: None,
        events: false,
        masks: environment.masks,
        made,
        claim: Claim::default(),
    })
}

fn places(request: &Request<'_>, stage: &Stage, cwd: Option<&str>, off: bool) -> Places {
    let execution = request.scratch.run();
    let root = if off { request.context.graph.pipeline().root.clone() } else { execution.clone() };
    let depth = cwd.map_or(0, |cwd| Path::new(cwd).components().count());
    let input = |name: &String| {
        let place = stage.places.get(name).map_or_else(|| format!("inputs/{name}"), |at| at.value.clone());
        (name.clone(), execution.join(place))
    };
    let output = |name: &String| {
        let place = stage.output_paths.get(name).map(|at| at.value.clone());
        (name.clone(), execution.join(place.unwrap_or_else(|| format!("outputs/{name}"))))
    };
    Places {
        folder: cwd.map_or_else(|| root.clone(), |cwd| root.join(cwd)),
        back: (!off).then(|| "../".repeat(depth)),
        inputs: request.job.inputs.keys().map(input).collect(),
        outputs: stage.outputs.iter().map(|port| output(&port.name)).collect(),
        root,
    }
}

/// Copies the inputs to their places. The bytes of a source are hashed on the way.
fn copy_inputs(request: &Request<'_>, places: &Places) -> Result<(), AttemptError> {
    let context = request.context;
    for input in context.graph.inputs(request.job.stage) {
        let (Some(artifact), Some(dest)) =
            (request.job.inputs.get(input.name), places.inputs.get(input.name))
        else {
            continue;
        };
        if let Some(parent) = dest.parent() {
            fs::create_dir_all(parent)
                .map_err(|source| AttemptError::Io { what: "make a folder for an input", source })?;
        }
        match input.from {
            Producer::Stage { .. } => {
                let copied = context.store.materialize(artifact, dest, How::Copies);
                copied.map_err(|e| missing(input.name, e))?;
            }
            Producer::Source(name) => {
                let copied = context.planner.sources().copy(name, dest)?;
                if copied != *artifact {
                    return Err(AttemptError::Changed { what: format!("source `{name}`") });
                }
            }
        }
    }
    Ok(())
}

/// Copies the files under `uses` to their own places below the execution folder.
fn copy_uses(request: &Request<'_>, execution: &Path) -> Result<(), AttemptError> {
    let sources = request.context.planner.sources();
    let keyed = request.job.key_inputs.get("uses");
    for (name, file) in sources.uses(request.stage())? {
        let dest = execution.join(&name);
        if let Some(parent) = dest.parent() {
            fs::create_dir_all(parent).map_err(|source| AttemptError::Io {
                what: "make a folder for a file under `uses`",
                source,
            })?;
        }
        let copied = sources.copy_file(&file, &dest)?;
        let expected = keyed.and_then(|uses| uses.get(&name)?.as_str());
        if expected != Some(key_inputs::artifact(&copied).as_str()) {
            return Err(AttemptError::Changed { what: format!("`{name}` under `uses`") });
        }
    }
    Ok(())
}

/// What placeholders stand for.
fn values(request: &Request<'_>, stage: &Stage, places: &Places) -> Values {
    let text = |path: &PathBuf| match &places.back {
        Some(back) => {
            let below = path.strip_prefix(&places.root).unwrap_or(path);
            format!("{back}{}", below.to_string_lossy())
        }
        None => path.to_string_lossy().into_owned(),
    };
    let texts = |paths: &BTreeMap<String, PathBuf>| {
        paths.iter().map(|(name, path)| (name.clone(), text(path))).collect()
    };
    let param = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    Values {
        inputs: texts(&places.inputs),
        outputs: texts(&places.outputs),
        params: stage.params.iter().map(|(name, at)| (name.clone(), param(&at.value))).collect(),
        checkpoint: match &places.back {
            Some(back) => format!("{back}../checkpoint"),
            None => request.scratch.checkpoint().to_string_lossy().into_owned(),
        },
    }
}

/// The words of the process. A long script is handed over as a file, so that its length has no limit.
fn arguments(
    request: &Request<'_>,
    run: Run,
    shell: &[String],
    places: &Places,
) -> Result<Vec<OsText>, AttemptError> {
    let script = match run {
        Run::Exec(words) => return Ok(words.into_iter().map(OsText::from).collect()),
        Run::Script(script) => script,
    };
    let mut words = shell.to_vec();
    if shell.first().is_some_and(|program| Path::new(program).file_name().is_some_and(|n| n == "bash")) {
        // Without it, `-e` does not hold inside of `$(..)`.
        words.extend(["-O".to_owned(), "inherit_errexit".to_owned()]);
    }
    let file = request.scratch.script();
    let name = match &places.back {
        Some(back) => format!("{back}../script"),
        None => file.to_string_lossy().into_owned(),
    };
    if script.len() <= LONGEST_ARGUMENT && command::is_posix(shell) {
        // Saves a file; `$0` and messages are the same.
        words.extend(["-c".to_owned(), script, name]);
    } else {
        fs::write(&file, script).map_err(|source| AttemptError::Io { what: "write the script", source })?;
        words.push(name);
    }
    Ok(words.into_iter().map(OsText::from).collect())
}

/// A strict sandbox around the attempt. The method is filled in by the executor.
fn confinement(request: &Request<'_>, variables: &[(OsText, OsText)]) -> Confinement {
    let value = |wanted: &str| variables.iter().find(|(name, _)| name.0 == wanted).map(|(_, value)| &value.0);
    let path = value("PATH").into_iter().flat_map(|path| std::env::split_paths(path).collect::<Vec<_>>());
    let named = PROGRAM_FOLDERS.iter().filter_map(|name| value(name)).map(PathBuf::from);
    let strict = Strict {
        execution: request.scratch.run(),
        // The whole scratch folder: one mount, so that files can be moved between its folders.
        checkpoint: request.scratch.root().to_owned(),
        tmp: request.scratch.root().to_owned(),
        project: request.context.graph.pipeline().root.clone(),
        store: request.context.store.root().to_owned(),
        readable: path.chain(named).chain([request.scratch.script()]).collect(),
    };
    Confinement { strict, method: Method::Landlock }
}
