//! `kiln push`.
//!
//! Purpose: sends the results of a pipeline that are here to the remotes that may be written.
//! Invariant: nothing runs; what a remote has already is not sent again.
//! Must not know: how a result is sent.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;

use crate::cas::remote::{Pushed, Sending, Sent};
use crate::cli::args::{Common, PushArgs};
use crate::cli::context::Context;
use crate::cli::printer::{BAD, CHANGED, GOOD, Printer, paint};
use crate::cli::remotes::progress::Progress;
use crate::cli::{CliError, Exit};
use crate::plan::State;
use crate::report::text::{printable, printable_error};

/// How many results are on their way at a time.
const AT_A_TIME: usize = 16;

/// What became of the results at one remote.
#[derive(Default)]
struct Tally {
    new: usize,
    same: usize,
    bytes: u64,
    /// What went wrong, and the stages.
    errors: BTreeMap<String, Vec<String>>,
}

/// Runs the command.
///
/// # Errors
/// A wrong pipeline or call; no remote may be written; a store that fails.
pub fn run(common: &Common, args: &PushArgs, printer: &mut Printer) -> Result<Exit, CliError> {
    if common.offline {
        return Err(CliError::Call("`--offline` uses no remote, so nothing can be pushed".into()));
    }
    let (_, targets) = args.pipeline.split();
    let context = Context::open(common, &args.pipeline)?;
    let _in_use = context.store.share_if_there()?;
    let remotes = context.store.remotes().filter(|remotes| remotes.has_writable()).ok_or_else(|| {
        CliError::Call("no remote may be written; `kiln remote add NAME URL` adds one of your own".into())
    })?;
    let plan = context.plan(targets, &[])?;
    let here = plan.stages.iter().filter(|stage| stage.state == State::Cached);
    let mut here = here.filter_map(|stage| Some((stage.name.clone(), stage.last.as_deref()?.clone())));
    let how = Sending { resend: args.resend, ..Sending::default() };
    let (mut tallies, mut on_the_way) = (BTreeMap::<String, Tally>::new(), std::collections::VecDeque::new());
    let progress = Progress::of(remotes, "sent");
    loop {
        while on_the_way.len() < AT_A_TIME
            && let Some((name, action)) = here.next()
        {
            let sent = remotes.send(Arc::clone(&context.store), Arc::new(action), how, None);
            on_the_way.push_back((name, sent));
        }
        let Some((name, sent)) = on_the_way.pop_front() else { break };
        for pushed in remotes.wait(sent).unwrap_or_default() {
            tally(tallies.entry(pushed.remote.clone()).or_default(), &name, pushed);
        }
    }
    let failed = tallies.values().any(|tally| !tally.errors.is_empty());
    if args.pipeline.json {
        let remote = |(name, tally): (&String, &Tally)| {
            let Tally { new, same, bytes, errors } = tally;
            let of_stages = |(error, stages): (&String, &Vec<String>)| {
                stages.iter().map(|stage| format!("`{stage}`: {error}")).collect::<Vec<_>>()
            };
            let errors: Vec<_> = errors.iter().flat_map(of_stages).collect();
            json!({ "name": name, "new": new, "same": same, "bytes": bytes, "errors": errors })
        };
        let remotes: Vec<_> = tallies.iter().map(remote).collect();
        printer.json(&json!({ "schema": "kiln.push/1", "pipeline": plan.pipeline, "remotes": remotes }))?;
    } else {
        tallies.iter().for_each(|(name, tally)| to_text(name, tally, &progress, printer));
        if tallies.is_empty() {
            printer.line("Nothing to push: no result of this pipeline is here.");
        }
    }
    Ok(if failed { Exit::Failed } else { Exit::Ok })
}

impl Tally {
    fn add(&mut self, stage: &str, error: String) {
        self.errors.entry(error).or_default().push(stage.to_owned());
    }
}

fn tally(tally: &mut Tally, stage: &str, pushed: Pushed) {
    tally.bytes += pushed.bytes;
    match pushed.sent {
        Ok(Sent::New) => tally.new += 1,
        Ok(Sent::Same) => tally.same += 1,
        Ok(Sent::Conflict(theirs)) => tally.add(
            stage,
            format!(
                "it has other outputs there, from run {}; they stay. The stage is not deterministic: `kiln run \
                 --force {stage}` with this remote replaces them",
                theirs.provenance.run
            ),
        ),
        Err(error) => tally.add(stage, error.to_string()),
    }
}

fn to_text(name: &str, tally: &Tally, progress: &Progress, printer: &mut Printer) {
    const MOST: usize = 5;
    let mark = if tally.errors.is_empty() { paint(GOOD, "^") } else { paint(CHANGED, "!") };
    printer.line(format!(
        "{mark} {}  {} new, {} there already, {} sent",
        printable(name),
        tally.new,
        tally.same,
        progress.summary(tally.bytes)
    ));
    for (error, stages) in tally.errors.iter().take(MOST) {
        let named =
            stages.iter().take(MOST).map(|stage| format!("`{}`", printable(stage))).collect::<Vec<_>>();
        let more = match stages.len().saturating_sub(MOST) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let (stages, error) = (named.join(", ") + &more, printable_error(error));
        printer.line(format!("  {} {stages}: {error}", paint(BAD, "error:")));
    }
    if tally.errors.len() > MOST {
        printer.line(format!("  and {} more errors", tally.errors.len() - MOST));
    }
}
