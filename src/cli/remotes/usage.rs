//! `kiln remote du`.
//!
//! Purpose: shows how many objects each remote holds and their bytes, by kind, and the sum.
//! Invariant: remotes are listed and never written. A remote that cannot be counted stops no other one, and the sum
//! says that it is left out.
//! Must not know: how a remote is listed.

use serde_json::{Value, json};

use crate::cas::remote::{Access, Count, RemoteError, RemoteUsage, Remotes};
use crate::cli::args::{Common, RemoteDuArgs};
use crate::cli::printer::{BAD, CHANGED, FAINT, Printer, STRONG, paint};
use crate::cli::remotes::config::{self, Known};
use crate::cli::remotes::remote::{load, to_json};
use crate::cli::{CliError, Exit};
use crate::report::text::{bytes, printable, printable_error, table};
use crate::spec::types::RemoteSpec;

/// The format of an answer in JSON.
pub const REMOTE_DU_FORMAT: &str = "kiln.remote-du/1";

/// Why a remote was not counted.
enum Uncounted {
    /// It has no listing.
    Unlistable(String),
    /// It failed.
    Failed(String),
}

/// A remote and what it holds.
struct Counted {
    known: Known,
    usage: Result<RemoteUsage, Uncounted>,
}

/// Runs the command.
///
/// # Errors
/// A wrong file or call; there is no remote that can be read.
pub fn du(common: &Common, args: &RemoteDuArgs, printer: &mut Printer) -> Result<Exit, CliError> {
    if common.offline {
        return Err(CliError::Call("`--offline` uses no remote, so none can be counted".into()));
    }
    let (_, names) = args.pipeline.split();
    let counted: Vec<_> = chosen(load(common, &args.pipeline)?, names)?.into_iter().map(count).collect();
    let sum = counted.iter().filter_map(|one| one.usage.as_ref().ok()).map(RemoteUsage::total);
    let sum = sum.fold(Count::default(), |mut sum, count| {
        sum += count;
        sum
    });
    if args.pipeline.json {
        let remotes: Vec<_> = counted.iter().map(answer).collect();
        printer.json(&json!({ "schema": REMOTE_DU_FORMAT, "remotes": remotes, "total": sum }))?;
    } else {
        counted.iter().for_each(|one| to_text(one, printer));
        // Of one remote the sum stands there already.
        if counted.len() > 1 {
            printer.line(summary(&counted, sum));
        }
    }
    // Whoever asks for a remote by its name wants its figures.
    let is_lost = |one: &Counted| match one.usage {
        Ok(_) => false,
        Err(Uncounted::Unlistable(_)) => !names.is_empty(),
        Err(Uncounted::Failed(_)) => true,
    };
    Ok(if counted.iter().any(is_lost) { Exit::Failed } else { Exit::Ok })
}

/// The remotes with these names; all that can be read when none is named.
fn chosen(known: Vec<Known>, names: &[String]) -> Result<Vec<Known>, CliError> {
    let none = || CliError::Call("there is no remote to read; `kiln remote add NAME URL` adds one".into());
    for name in names {
        let found = known.iter().find(|known| known.spec.name == *name).ok_or_else(|| {
            CliError::Call(format!("there is no remote `{name}`; `kiln remote list` lists them"))
        })?;
        if !found.spec.access.reads() {
            return Err(CliError::Call(format!("the remote `{name}` may only be written, not read")));
        }
    }
    let wanted = |known: &Known| names.is_empty() || names.contains(&known.spec.name);
    let chosen: Vec<_> =
        known.into_iter().filter(|known| wanted(known) && known.spec.access.reads()).collect();
    if chosen.is_empty() { Err(none()) } else { Ok(chosen) }
}

fn count(known: Known) -> Counted {
    // Whoever may only read never writes down a format.
    let spec = RemoteSpec { access: Access::Read, ..known.spec.clone() };
    let failed = |error: String| Uncounted::Failed(error);
    let usage = config::open_one(&spec).map_err(|e| failed(e.to_string())).and_then(|remote| {
        let remotes = Remotes::new(vec![remote]).map_err(|e| failed(e.to_string()))?;
        let usage = remotes.map_or_else(|| Ok(RemoteUsage::default()), |remotes| remotes.usage());
        usage.map_err(|error| match error {
            RemoteError::Unlistable(_) => Uncounted::Unlistable(error.to_string()),
            error => failed(error.to_string()),
        })
    });
    Counted { known, usage }
}

fn answer(one: &Counted) -> Value {
    let mut answer = to_json(&one.known);
    let (usage, error) = match &one.usage {
        Ok(usage) => (Some(usage), None),
        Err(Uncounted::Unlistable(error) | Uncounted::Failed(error)) => (None, Some(error)),
    };
    answer["parts"] = json!(usage);
    answer["total"] = json!(usage.map(RemoteUsage::total));
    answer["error"] = json!(error);
    answer
}

fn to_text(Counted { known, usage }: &Counted, printer: &mut Printer) {
    let name = printable(&known.spec.name);
    match usage {
        Ok(usage) => {
            let url = paint(FAINT, &known.spec.address);
            printer.line(format!("{}  {url}", paint(STRONG, &name)));
            let total = [("total", usage.total())];
            let parts = usage.parts().into_iter().filter(|(_, count)| count.objects > 0).chain(total);
            let rows: Vec<_> = parts.map(|(name, count)| row(name, count)).collect();
            table(&rows).into_iter().for_each(|line| printer.line(format!("  {line}")));
        }
        Err(Uncounted::Unlistable(_)) => {
            let url = &known.spec.address;
            printer.line(format!("{} {name}  {url}  not counted: HTTP has no listing", paint(CHANGED, "!")));
        }
        Err(Uncounted::Failed(why)) => {
            printer.line(format!("{} {name}  {}", paint(BAD, "error:"), printable_error(why)));
        }
    }
}

fn row(name: &str, Count { objects, bytes: size }: Count) -> Vec<String> {
    vec![name.to_owned(), bytes(size), objects_of(objects)]
}

fn objects_of(objects: u64) -> String {
    if objects == 1 { "1 object".to_owned() } else { format!("{objects} objects") }
}

fn summary(counted: &[Counted], sum: Count) -> String {
    let (there, lost): (Vec<_>, Vec<_>) = counted.iter().partition(|one| one.usage.is_ok());
    let remotes = |n: usize| if n == 1 { "1 remote".to_owned() } else { format!("{n} remotes") };
    let without = match lost.len() {
        0 => String::new(),
        n => format!("; {} could not be counted", remotes(n)),
    };
    if there.is_empty() {
        return "No remote could be counted.".to_owned();
    }
    let (size, objects) = (bytes(sum.bytes), objects_of(sum.objects));
    format!("{size} in {objects} of {}{without}.", remotes(there.len()))
}
