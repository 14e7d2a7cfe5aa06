//! From the arguments to an exit code.
//!
//! Purpose: parses, sets up the log, makes one call and reports what went wrong.
//! Invariant: a wrong call exits with 3, help and version with 0; `--version` does no more than that.
//! Must not know: what commands do.

use std::ffi::OsString;
use std::io;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use crate::cli::args::{
    Cli, Color, Command, Common, KeyCommand, LockCommand, LogFormat, PinCommand, RemoteCommand,
};
use crate::cli::care::{du, fsck, gc, pin, verify};
use crate::cli::cluster::{exec, jobs};
use crate::cli::pipeline::{graph, lock, plan, run, status, why};
use crate::cli::printer::Printer;
use crate::cli::remotes::{key, provenance, pull, push, remote};
use crate::cli::results::{card, converse, export, log, metrics, show};
use crate::cli::setup::{completions, doctor, explain, import, init, params, schema};
use crate::cli::{CliError, Exit};

/// Runs one command.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> Exit {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // An error of stderr cannot be reported.
            let _ = error.print();
            return if error.use_stderr() { Exit::Wrong } else { Exit::Ok };
        }
    };
    let mut printer = Printer::new(cli.common.color);
    let json = cli.command.wants_json();
    let outcome = log_to_stderr(&cli.common).and_then(|()| {
        let exit = call(&cli, &mut printer)?;
        printer.flush()?;
        Ok(exit)
    });
    outcome.unwrap_or_else(|error| {
        let exit = error.exit();
        error.report(&mut printer, json).map_or(Exit::Failed, |()| exit)
    })
}

fn call(cli: &Cli, printer: &mut Printer) -> Result<Exit, CliError> {
    let common = &cli.common;
    match &cli.command {
        Command::Init(args) => init::run(args, printer),
        Command::Plan(args) => plan::run(common, args, printer),
        Command::Status(args) => status::run(common, args, printer),
        Command::Why(args) => why::run(common, args, printer),
        Command::Attach(args) => jobs::attach(common, args, printer),
        Command::Cancel(args) => jobs::cancel(common, args, printer),
        Command::Exec(args) => exec::run(common, args),
        Command::Graph(args) => graph::run(common, args, printer),
        Command::Log(args) => log::run(common, args, printer),
        Command::Show(args) => show::run(common, args, printer),
        Command::Metrics(args) => metrics::run(common, args, printer),
        Command::Card(args) => card::run(common, args, printer),
        Command::Run(args) => run::run(common, args, printer),
        Command::Generate(args) => converse::generate(common, args, printer),
        Command::Chat(args) => converse::chat(common, args, printer),
        Command::Import(args) => import::run(args, printer),
        Command::Export(args) => export::run(common, args, printer),
        Command::Push(args) => push::run(common, args, printer),
        Command::Pull(args) => pull::run(common, args, printer),
        Command::Remote(args) => remote::run(common, args, printer),
        Command::Key(args) => key::run(args, printer),
        Command::Provenance(args) => provenance::run(common, args, printer),
        Command::Fsck(args) => fsck::run(common, args, printer),
        Command::Verify(args) => verify::run(common, args, printer),
        Command::Du(args) => du::run(common, args, printer),
        Command::Gc(args) => gc::run(common, args, printer),
        Command::Pin(args) => pin::run(common, args, printer),
        Command::Doctor(args) => doctor::run(common, args, printer),
        Command::Lock(args) => lock::run(common, args, printer),
        Command::Params(args) => params::run(common, args, printer),
        Command::Schema(_) => schema::run(common, printer),
        Command::Explain(args) => explain::run(args, printer),
        Command::Completions(args) => completions::run(args, printer),
    }
}

impl Command {
    fn wants_json(&self) -> bool {
        match self {
            Self::Init(_) | Self::Import(_) | Self::Completions(_) | Self::Exec(_) => false,
            Self::Plan(a) => a.pipeline.json,
            Self::Run(a) => a.pipeline.json,
            Self::Status(a) => a.pipeline.json,
            Self::Why(a) => a.pipeline.json,
            Self::Attach(a) | Self::Cancel(a) => a.pipeline.json,
            Self::Graph(a) => a.pipeline.json,
            Self::Log(a) => a.pipeline.json,
            Self::Show(a) => a.pipeline.json,
            Self::Metrics(a) => a.pipeline.json,
            Self::Card(a) => a.pipeline.json,
            Self::Generate(a) => a.pipeline.json,
            Self::Chat(a) => a.pipeline.json,
            Self::Export(a) => a.pipeline.json,
            Self::Push(a) => a.pipeline.json,
            Self::Pull(a) => a.pipeline.json,
            Self::Remote(a) => match &a.command {
                RemoteCommand::List(a) | RemoteCommand::Check(a) => a.json,
                RemoteCommand::Du(a) => a.pipeline.json,
                RemoteCommand::Add(_) | RemoteCommand::Remove(_) => false,
            },
            Self::Key(a) => matches!(&a.command, KeyCommand::List(a) if a.json),
            Self::Provenance(a) => a.pipeline.json,
            Self::Fsck(a) => a.pipeline.json,
            Self::Verify(a) => a.pipeline.json,
            Self::Du(a) => a.pipeline.json,
            Self::Gc(a) => a.json,
            Self::Pin(a) => matches!(&a.command, PinCommand::List(a) if a.json),
            Self::Doctor(a) => a.json,
            Self::Lock(a) => matches!(&a.command, LockCommand::Check(a) if a.json),
            Self::Params(a) => a.json,
            Self::Schema(a) => a.json,
            Self::Explain(a) => a.json,
        }
    }
}

/// Sends the log to stderr.
fn log_to_stderr(common: &Common) -> Result<(), CliError> {
    let filter = EnvFilter::try_new(&common.log_level)
        .map_err(|e| CliError::Call(format!("`--log-level {}` is not a log level: {e}", common.log_level)))?;
    let colour = match common.color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => anstream::AutoStream::choice(&io::stderr()) != anstream::ColorChoice::Never,
    };
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(colour);
    // Its own errors would go to stderr; when that is closed, it would panic.
    let log = log.log_internal_errors(false);
    // A test may have set up a log before.
    let _ = match common.log_format {
        LogFormat::Text => log.with_target(false).try_init(),
        LogFormat::Json => log.json().try_init(),
    };
    Ok(())
}
