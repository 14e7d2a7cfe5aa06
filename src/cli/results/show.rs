//! `kiln show STAGE[.OUTPUT]`.
//!
//! Purpose: shows where an artifact can be read, its type, its files and its first lines.
//! Invariant: the store verified what is shown; no control character of it reaches the terminal.
//! Must not know: what the artifact means, except that the best file of a report is `report.md`; `dataset` knows more.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::dataset;
use super::origin::origin;
use crate::cas::Store;
use crate::cas::remote::FetchError;
use crate::cas::types::ArtifactRef;
use crate::cli::args::{Common, ShowArgs};
use crate::cli::context::Context;
use crate::cli::printer::{CHANGED, FAINT, Printer, STRONG, paint};
use crate::cli::{CliError, Exit};
use crate::executor::take_over;
use crate::graph::Graph;
use crate::plan::{Plan, SourceFiles, StageIx, State};
use crate::protocol::{InspectAnswer, Port};
use crate::report::links;
use crate::report::text::{bytes, table};
use crate::spec::diagnostic::printable_char;

/// The format of an answer in JSON.
pub const SHOW_FORMAT: &str = "kiln.show/1";
/// The most files of a folder that are listed for people.
const MOST_FILES: usize = 40;
/// The most bytes read for a preview.
const MOST_BYTES: u64 = 64 << 10;
/// The most lines of a preview, and of a report.
const MOST_LINES: (usize, usize) = (12, 400);

/// An artifact to show.
pub struct Shown {
    /// Its name: `stage.output`, or a source.
    pub name: String,
    /// Its artifact type.
    pub artifact_type: String,
    /// The artifact.
    pub artifact: ArtifactRef,
    /// Where it can be read.
    pub path: PathBuf,
    /// The same, or the pattern that its files match.
    pub pattern: PathBuf,
    /// Its files, if it is a folder.
    files: Vec<(String, u64)>,
    /// The run that made it, and how people are told of it.
    made: Option<(String, String)>,
    /// The pipeline, as it is now, would make another one.
    stale: bool,
}

impl Shown {
    /// Says on stderr that the artifact is not what the pipeline would make now.
    pub fn warn_if_stale(&self, printer: &Printer) {
        let stage = self.name.rsplit_once('.').map_or(self.name.as_str(), |(stage, _)| stage);
        if let (true, Some((run, _))) = (self.stale, &self.made) {
            printer.warn(format!(
                "`{stage}` is stale; this is what run {run} made (`kiln why {stage}` says why, `kiln run {stage}` \
                 makes it again)"
            ));
        }
    }
}

/// Runs the command.
///
/// # Errors
/// A wrong pipeline or call; an artifact that does not exist; a store that fails.
pub fn run(common: &Common, args: &ShowArgs, printer: &mut Printer) -> Result<Exit, CliError> {
    let (_, names) = args.pipeline.split();
    let [name] = names else {
        return Err(CliError::Call("`kiln show` takes one artifact: kiln show [FILE] STAGE[.OUTPUT]".into()));
    };
    let context = Context::open(common, &args.pipeline)?;
    let _in_use = context.store.share_if_there()?;
    let shown = find(&context, name)?;
    if args.path {
        shown.warn_if_stale(printer);
        printer.line(shown.path.display().to_string());
    } else if args.pipeline.json {
        let dataset = dataset::look(&context, &shown)?;
        let files: Vec<_> =
            shown.files.iter().map(|(path, size)| json!({ "path": path, "size": size })).collect();
        printer.json(&json!({
            "schema": SHOW_FORMAT,
            "name": shown.name,
            "type": shown.artifact_type,
            "digest": shown.artifact.digest,
            "size": shown.artifact.size,
            "folder": shown.artifact.tree,
            "path": shown.path,
            "files": files,
            "stale": shown.stale,
            "run": shown.made.as_ref().map(|(run, _)| run),
            "dataset": dataset,
        }))?;
    } else {
        let dataset = dataset::look(&context, &shown)?;
        to_text(&shown, dataset.as_ref(), printer);
    }
    Ok(Exit::Ok)
}

/// Brings the outputs of a stage here if a remote has them.
fn fetch(context: &Context, plan: &Plan, stage: &str) -> Result<(), CliError> {
    let planned = plan.stage(stage).filter(|planned| planned.state == State::Fetch);
    let Some(action) = planned.and_then(|planned| planned.last.as_deref()) else { return Ok(()) };
    take_over(&context.store, action, true).map_err(|error| match error {
        FetchError::Store(error) if error.is_of_disk() => CliError::Store(error),
        error => CliError::Failed(format!("{error}; `kiln run {stage}` makes them")),
    })
}

/// The stage and the output that a name means, `stage` or `stage.output`.
pub fn split<'n>(graph: &Graph, name: &'n str) -> (&'n str, Option<&'n str>) {
    match (graph.index(name), name.rsplit_once('.')) {
        (None, Some((stage, output))) if graph.index(stage).is_some() => (stage, Some(output)),
        _ => (name, None),
    }
}

/// An output of a stage by its name, or the default one.
///
/// # Errors
/// The stage has no such output.
pub fn port<'g>(graph: &'g Graph, stage: StageIx, wanted: Option<&str>) -> Result<&'g Port, CliError> {
    let stage = graph.stage(stage);
    stage.output(wanted).ok_or_else(|| {
        let there: Vec<_> = stage.outputs.iter().map(|port| port.name.as_str()).collect();
        let (name, wanted, there) = (&stage.name.value, wanted.unwrap_or("?"), there.join(", "));
        CliError::Call(format!("stage `{name}` has no output `{wanted}`; there is: {there}"))
    })
}

/// Finds an artifact by `stage`, `stage.output` or the name of a source, and makes it readable.
///
/// # Errors
/// There is no such artifact, or it was never made.
pub fn find(context: &Context, name: &str) -> Result<Shown, CliError> {
    let (graph, store) = (&context.graph, &context.store);
    if graph.index(name).is_none() && graph.pipeline().sources.contains_key(name) {
        return source(context, name);
    }
    let (stage, wanted) = split(graph, name);
    let plan = context.plan(&[stage.to_owned()], &[])?;
    fetch(context, &plan, stage)?;
    let (Some(planned), Some(index)) = (plan.stage(stage), graph.index(stage)) else {
        return Err(CliError::Call(format!("there is no stage `{stage}`")));
    };
    let port = port(graph, index, wanted)?;
    let last = planned.last.as_ref().filter(|action| action.outputs.contains_key(&port.name));
    let (Some(action), Some(artifact)) = (last, last.and_then(|a| a.outputs.get(&port.name)).copied()) else {
        return Err(CliError::Failed(format!(
            "stage `{stage}` has not run here yet; `kiln run {stage}` runs it"
        )));
    };
    if !store.is_intact(&artifact)? {
        return Err(CliError::Failed(format!(
            "the store has lost bytes of `{stage}.{}`; `kiln run {stage}` makes them again",
            port.name
        )));
    }
    let path = links::readable(store, &artifact).map_err(|e| CliError::Failed(e.to_string()))?;
    Ok(Shown {
        name: format!("{stage}.{}", port.name),
        artifact_type: port.types.first().cloned().unwrap_or_else(|| "any".into()),
        pattern: path.clone(),
        path,
        files: files(store, &artifact)?,
        artifact,
        made: Some((action.provenance.run.clone(), origin(store, action))),
        // What was in a remote is here now.
        stale: !planned.state.is_fresh(),
    })
}

fn source(context: &Context, name: &str) -> Result<Shown, CliError> {
    let planner = context.planner(&[], None)?;
    let found = planner.sources().files(name).and_then(|files| Ok((files, planner.sources().source(name)?)));
    let (found, artifact) = found.map_err(|e| context.plan_error(e))?;
    let size = |path: &Path| fs::metadata(path).map_or(0, |m| m.len());
    let declared = context.graph.pipeline().sources.get(name);
    let pattern = match &found {
        SourceFiles::Path(path) => path.clone(),
        SourceFiles::Glob { .. } => {
            context.graph.pipeline().root.join(declared.map_or("", |source| source.path.as_str()))
        }
    };
    let (path, files) = match found {
        SourceFiles::Path(path) if artifact.tree => {
            let tree = context.store.list_source(&path, planner.sources().ignore())?;
            (path, tree.files.into_iter().map(|file| (file.path, file.size)).collect())
        }
        SourceFiles::Path(path) => (path, Vec::new()),
        SourceFiles::Glob { base, files } => {
            let name = |file: &Path| file.strip_prefix(&base).unwrap_or(file).display().to_string();
            let files = files.iter().map(|file| (name(file), size(file))).collect();
            (base, files)
        }
    };
    let artifact_type = declared.map(|source| source.artifact_type.clone());
    Ok(Shown {
        name: name.to_owned(),
        artifact_type: artifact_type.unwrap_or_else(|| "any".into()),
        artifact,
        path,
        pattern,
        files,
        made: None,
        stale: false,
    })
}

fn files(store: &Store, artifact: &ArtifactRef) -> Result<Vec<(String, u64)>, CliError> {
    if !artifact.tree {
        return Ok(Vec::new());
    }
    Ok(store.tree(&artifact.digest)?.files.into_iter().map(|f| (f.path, f.size)).collect())
}

fn to_text(shown: &Shown, dataset: Option<&InspectAnswer>, printer: &mut Printer) {
    let Shown { name, artifact_type, artifact, path, files, made, stale, .. } = shown;
    let form = if artifact.tree { format!("folder of {} files", files.len()) } else { "file".into() };
    printer.line(format!("{}  {artifact_type}, {form}, {}", paint(STRONG, name), bytes(artifact.size)));
    printer.line(format!("digest  {}", artifact.digest));
    printer.line(format!("path    {}", path.display()));
    if let Some((_, origin)) = made {
        printer.line(format!("made    {origin}"));
    }
    if *stale {
        printer.line(paint(CHANGED, "stale   `kiln why` says why; this is what the last run made"));
    }
    let rows: Vec<_> = files
        .iter()
        .take(MOST_FILES)
        .map(|(path, size)| vec![format!("  {}", clean(path)), bytes(*size)])
        .collect();
    table(&rows).iter().for_each(|line| printer.line(line));
    if files.len() > MOST_FILES {
        printer.line(format!("  and {} more", files.len() - MOST_FILES));
    }
    if dataset.is_some_and(|dataset| dataset::to_text(shown, dataset, printer)) {
        return;
    }
    if let Some((of, lines)) = preview(shown) {
        printer.line("");
        if let Some(of) = of {
            printer.line(paint(FAINT, format!("{}:", clean(of))));
        }
        lines.iter().for_each(|line| printer.line(line));
    }
}

/// The first lines of the most readable file, and its name in a folder.
fn preview(shown: &Shown) -> Option<(Option<&str>, Vec<String>)> {
    if shown.files.is_empty() {
        return Some((None, head(&shown.path, MOST_LINES.0)?));
    }
    let report = shown.files.iter().find(|(path, _)| path == "report.md");
    if let Some((path, _)) = report {
        return Some((Some(path), head(&shown.path.join(path), MOST_LINES.1)?));
    }
    shown
        .files
        .iter()
        .find_map(|(path, _)| Some((Some(path.as_str()), head(&shown.path.join(path), MOST_LINES.0)?)))
}

/// The first lines of a text file; none for other files.
fn head(path: &Path, most: usize) -> Option<Vec<String>> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(MOST_BYTES).read_to_end(&mut bytes).ok()?;
    if bytes.is_empty() || bytes.contains(&0) {
        return None;
    }
    let text = match std::str::from_utf8(&bytes) {
        Ok(text) => text,
        // Only the last character may be cut.
        Err(e) if e.error_len().is_none() => std::str::from_utf8(bytes.get(..e.valid_up_to())?).ok()?,
        Err(_) => return None,
    };
    let small = (text.len() as u64) < MOST_BYTES;
    let object = small.then(|| serde_json::from_str::<serde_json::Value>(text).ok()).flatten();
    let pretty = object.and_then(|value| serde_json::to_string_pretty(&value).ok());
    let mut lines: Vec<_> = pretty.as_deref().unwrap_or(text).lines().take(most + 1).map(clean).collect();
    if lines.len() > most {
        lines.truncate(most);
        lines.push("...".to_owned());
    }
    Some(lines)
}

/// A line without control characters; long lines are cut.
pub(super) fn clean(line: &str) -> String {
    const LONG: usize = 160;
    let mut out: String = line.chars().take(LONG).map(printable_char).collect();
    if line.chars().nth(LONG).is_some() {
        out.push('…');
    }
    out
}
