//! The worker `kiln-stages`: Kiln's training stages as a provider.
//!
//! Purpose: speaks the provider protocol: `describe`, `check`, `inspect`, `run`, `converse`, `export`; and `tokenizer …` and
//! `model …` for checks against other implementations, and `bandwidth` for benchmarks.
//! Invariant: stdout carries the protocol alone; exit codes are the protocol's.
//! Must not know: pipelines, the store.

use std::io::Read;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use kiln::protocol::{EXIT_INTERRUPTED, Event, StageRequest};
use kiln_formats::bpe;
use kiln_stages::context::{self, Context, StageError, emit, try_emit};
use kiln_stages::kernels::bandwidth;
use kiln_stages::{compare, converse, device, export, inspect, stages};
use serde::Serialize;

/// A request is never longer.
const REQUEST_LIMIT: u64 = 16 << 20;

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(|panic| {
        // The runner shows this instead of a back trace; the log has the rest.
        let message = format!("internal error: {panic}; please report it with the stage's log");
        emit(&Event::Error { message });
    }));
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("describe") => describe(),
        Some("check") => check(),
        Some("run") => finish(run()),
        Some("converse") => finish(converse::converse().map(|()| Vec::new())),
        Some("export") => finish(export::export()),
        Some("inspect") => inspect(),
        Some("tokenizer") => tokenizer(&arguments[1..]),
        Some("model") => model(&arguments[1..]),
        Some("bandwidth") => bandwidth(&arguments[1..]),
        _ => usage_error(
            "usage: kiln-stages describe | check | inspect | run | converse | export | tokenizer … | model … | bandwidth THREADS; \
             `kiln run` calls it",
        ),
    }
}

#[allow(clippy::print_stderr)]
fn usage_error(text: &str) -> ExitCode {
    eprintln!("{text}");
    ExitCode::from(3)
}

fn describe() -> ExitCode {
    answer(&stages::registry::description())
}

fn check() -> ExitCode {
    match serde_json::from_reader(std::io::stdin().lock().take(REQUEST_LIMIT)) {
        Ok(request) => answer(&stages::registry::check(&request)),
        Err(e) => usage_error(&format!("the request: {e}")),
    }
}

fn inspect() -> ExitCode {
    match serde_json::from_reader(std::io::stdin().lock().take(REQUEST_LIMIT)) {
        Ok(request) => answer(&inspect::inspect(&request)),
        Err(e) => usage_error(&format!("the request: {e}")),
    }
}

#[allow(clippy::print_stdout)]
fn answer(answer: &impl Serialize) -> ExitCode {
    match serde_json::to_string_pretty(answer) {
        Ok(text) => println!("{text}"),
        Err(e) => return usage_error(&e.to_string()),
    }
    ExitCode::SUCCESS
}

fn tokenizer(arguments: &[String]) -> ExitCode {
    let (mut stdin, mut stdout) = (std::io::stdin().lock(), std::io::stdout().lock());
    match bpe::cli::run(arguments, &mut stdin, &mut stdout, &mut std::io::stderr()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => usage_error(&e.to_string()),
    }
}

fn model(arguments: &[String]) -> ExitCode {
    match compare::run(arguments, &mut std::io::stdin().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => usage_error(&e.to_string()),
    }
}

fn bandwidth(arguments: &[String]) -> ExitCode {
    let threads = match arguments {
        [threads] => threads.parse().ok().filter(|threads| (1..=1024).contains(threads)),
        _ => None,
    };
    let Some(threads) = threads else {
        return usage_error("usage: kiln-stages bandwidth THREADS, of which there are 1 to 1024");
    };
    device::set_threads(threads);
    answer(&serde_json::json!({ "bytes_per_second": bandwidth::measure().round() }))
}

/// Runs the stage that stdin asks for.
fn run() -> Result<context::Summary, StageError> {
    let stop = stop_flag()?;
    let mut text = String::new();
    std::io::stdin().lock().take(REQUEST_LIMIT).read_to_string(&mut text).map_err(StageError::failed)?;
    let request: StageRequest =
        serde_json::from_str(&text).map_err(|e| StageError::failed(format!("the request: {e}")))?;
    device::set_threads(request.threads);
    let device = device::resolve(&request.device).map_err(StageError::Failed)?;
    let entry = stages::registry::entries().into_iter().find(|e| e.kind.name == request.kind);
    let entry = entry.ok_or_else(|| StageError::failed(stages::registry::no_kind(&request.kind)))?;
    entry.run(&request, &Context::new(&request, device, stop))
}

/// A flag that SIGTERM and SIGINT raise; the stage then checkpoints and ends. A signal before this
/// (while libtorch is loaded) ends the process at once, which does no harm: nothing is read or
/// written yet, and an earlier checkpoint stays. One after the last step changes nothing.
fn stop_flag() -> Result<Arc<AtomicBool>, StageError> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).map_err(StageError::failed)?;
    }
    Ok(stop)
}

/// The last event and the exit code: 0 only after a `done` that the runner can read.
fn finish(result: Result<context::Summary, StageError>) -> ExitCode {
    match result {
        Ok(mut summary) => {
            // JSON has no other numbers.
            summary.retain(|(_, value)| value.is_finite());
            match try_emit(&Event::Done { summary }) {
                Ok(()) => ExitCode::SUCCESS,
                Err(_) => ExitCode::FAILURE,
            }
        }
        Err(StageError::Interrupted) => ExitCode::from(EXIT_INTERRUPTED as u8),
        Err(StageError::Failed(message)) => {
            emit(&Event::Error { message });
            ExitCode::FAILURE
        }
    }
}
