//! `kiln du`.
//!
//! Purpose: shows what the store takes, by what it is, and which stages of the pipeline take it.
//! Invariant: no remote is asked, no source is read, nothing is planned, and no record is changed.
//! Must not know: how a store is laid out.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};

use crate::cas::care::{Part, Size, StoreUsage};
use crate::cas::{Action, Store};
use crate::cli::args::{Common, DuArgs};
use crate::cli::context::{Context, open_store};
use crate::cli::printer::{CHANGED, FAINT, Printer, paint};
use crate::cli::root::find_root;
use crate::cli::{CliError, Exit};
use crate::digest::Digest;
use crate::report::text::{bytes, printable, table};

/// The format of an answer in JSON.
pub const DU_FORMAT: &str = "kiln.du/1";
/// The most stages that are listed for people.
const MOST: usize = 40;
/// The parts in the order in which they are shown, and what they are called.
const PARTS: [(Part, &str); 9] = [
    (Part::Blobs, "blobs of records"),
    (Part::OtherBlobs, "other blobs"),
    (Part::Records, "records"),
    (Part::Runs, "runs and logs"),
    (Part::Work, "scratch and checkpoints"),
    (Part::Quarantine, "quarantine"),
    (Part::Views, "views"),
    (Part::Cache, "cache"),
    (Part::Other, "anything else"),
];

/// What a stage takes.
#[derive(Serialize)]
struct StageUsage {
    name: String,
    kind: String,
    /// The key of its last good record; none when there is none here.
    key: Option<Digest>,
    /// The bytes of its outputs, wherever they are.
    bytes: u64,
    /// The bytes here that no other record has among its outputs.
    only: u64,
}

/// Runs the command.
///
/// # Errors
/// A wrong pipeline or call; the store cannot be read.
pub fn run(common: &Common, args: &DuArgs, printer: &mut Printer) -> Result<Exit, CliError> {
    // Nothing here needs an answer of a remote.
    let common = Common { offline: true, ..common.clone() };
    let (store, context) = match Context::open(&common, &args.pipeline) {
        Ok(context) => (Arc::clone(&context.store), Some(context)),
        // There is no pipeline here.
        Err(CliError::Call(_)) if args.pipeline.names.is_empty() => {
            (open_store(&common, &find_root(None)?)?.into(), None)
        }
        Err(error) => return Err(error),
    };
    let usage = store.usage()?;
    let stages = match &context {
        Some(context) => stages(context, args.pipeline.split().1, &usage)?,
        None => Vec::new(),
    };
    let pipeline = context.as_ref().map(|context| context.graph.pipeline().name.as_str());
    if args.pipeline.json {
        printer.json(&to_json(&store, &usage, pipeline, &stages))?;
    } else {
        to_text(&store, &usage, pipeline, stages, printer);
    }
    Ok(if usage.unreadable.is_empty() { Exit::Ok } else { Exit::Failed })
}

/// What the stages of these names take, or all stages, each after those that it reads from. A record that two stages
/// share is nobody's alone.
fn stages(context: &Context, names: &[String], usage: &StoreUsage) -> Result<Vec<StageUsage>, CliError> {
    let (graph, store) = (&context.graph, &context.store);
    graph.targets(names).map_err(CliError::Pipeline)?;
    let (mut last, mut sharers): (BTreeMap<&str, Action>, HashMap<Digest, usize>) = Default::default();
    for (name, key) in &store.history().last_keys(&graph.pipeline().name)? {
        // Of stages that the pipeline no longer has nothing is shown.
        let stage = graph.index(name).map(|index| graph.stage(index).name.value.as_str());
        if let (Some(stage), Some(action)) = (stage, store.action(key)?) {
            *sharers.entry(*key).or_default() += 1;
            last.insert(stage, action);
        }
    }
    let one = |index: &usize| {
        let (stage, kind) = (graph.stage(*index), graph.stage(*index).kind().to_owned());
        let (name, action) = (stage.name.value.clone(), last.get(stage.name.value.as_str()));
        let key = action.map(|action| action.key);
        let sizes = action.iter().flat_map(|action| action.outputs.values()).map(|output| output.size);
        let alone = key.filter(|key| sharers.get(key) == Some(&1));
        let only = alone.and_then(|key| usage.alone.get(&key)).copied().unwrap_or_default();
        StageUsage { name, kind, key, bytes: sizes.fold(0, u64::saturating_add), only }
    };
    let all = graph.order().iter().map(one);
    Ok(all.filter(|stage| names.is_empty() || names.contains(&stage.name)).collect())
}

fn to_json(store: &Store, usage: &StoreUsage, pipeline: Option<&str>, stages: &[StageUsage]) -> Value {
    let parts: BTreeMap<_, _> = PARTS.iter().map(|(part, _)| (*part, size_of(usage, *part))).collect();
    let StoreUsage { links, unreadable, .. } = usage;
    json!({
        "schema": DU_FORMAT, "store": store.root(), "parts": parts, "total": usage.total(),
        "pipeline": pipeline, "stages": stages, "links": links, "unreadable": unreadable,
    })
}

fn size_of(usage: &StoreUsage, part: Part) -> Size {
    usage.parts.get(&part).copied().unwrap_or_default()
}

fn to_text(
    store: &Store,
    usage: &StoreUsage,
    pipeline: Option<&str>,
    stages: Vec<StageUsage>,
    printer: &mut Printer,
) {
    let total = usage.total();
    if total.files == 0 && usage.unreadable.is_empty() {
        printer.line(format!("There is no store at {}.", store.root().display()));
        return;
    }
    let files = |n: u64| if n == 1 { "1 file".to_owned() } else { format!("{n} files") };
    let row = |name: &str, size: Size| vec![name.to_owned(), bytes(size.bytes), files(size.files)];
    let parts = PARTS.iter().map(|(part, name)| (*name, size_of(usage, *part)));
    let mut rows: Vec<_> = parts.filter(|(_, size)| size.files > 0).map(|(n, s)| row(n, s)).collect();
    rows.push(row("total", total));
    table(&rows).into_iter().for_each(|line| printer.line(format!("  {line}")));
    if let Some(pipeline) = pipeline {
        printer.line("");
        by_stage(pipeline, stages, printer);
    }
    printer.line("");
    let inside = |path: &Path| path.strip_prefix(store.root()).unwrap_or(path).display().to_string();
    for link in &usage.links {
        let link = printable(&inside(link));
        printer.line(format!("{} {link} is a link; what is behind it is not counted", paint(CHANGED, "!")));
    }
    for path in usage.unreadable.iter().take(MOST) {
        printer.line(format!("{} {} could not be read", paint(CHANGED, "!"), printable(&inside(path))));
    }
    if usage.unreadable.len() > MOST {
        printer.line(paint(FAINT, format!("  and {} more", usage.unreadable.len() - MOST)));
    }
    printer.line(format!(
        "{} in {}, {} on disk.",
        bytes(total.bytes),
        store.root().display(),
        bytes(total.on_disk)
    ));
}

/// The stages that have results, the largest first.
fn by_stage(pipeline: &str, mut stages: Vec<StageUsage>, printer: &mut Printer) {
    stages.retain(|stage| stage.key.is_some());
    stages.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.name.cmp(&b.name)));
    if stages.is_empty() {
        printer.line(format!("No stage of `{}` has a result here.", printable(pipeline)));
        return;
    }
    let head = ["stage", "kind", "outputs", "only here"].map(str::to_owned).to_vec();
    let row = |stage: &StageUsage| {
        vec![printable(&stage.name), printable(&stage.kind), bytes(stage.bytes), bytes(stage.only)]
    };
    let rows: Vec<_> = std::iter::once(head).chain(stages.iter().take(MOST).map(row)).collect();
    let mut lines = table(&rows).into_iter();
    lines.next().into_iter().for_each(|head| printer.line(paint(FAINT, format!("  {head}"))));
    lines.for_each(|line| printer.line(format!("  {line}")));
    if stages.len() > MOST {
        printer.line(paint(FAINT, format!("  and {} more", stages.len() - MOST)));
    }
}
