//! `kiln generate` and `kiln chat`.
//!
//! Purpose: sends prompts to `PROVIDER converse`, and shows the replies.
//! Invariant: tokens are shown as they arrive, without control characters.
//! Must not know: how a model makes its tokens.

use std::fs;
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::Path;

use serde_json::{Value, json};

use super::model::{self, Model, Use};
use crate::cli::args::{ChatArgs, Common, GenerateArgs, SamplingArgs};
use crate::cli::context::cores;
use crate::cli::printer::{FAINT, Printer, paint};
use crate::cli::{CliError, Exit};
use crate::protocol::{ConverseRequest, ReplyEnd};
use crate::provider::conversation::{Conversation, ConversationError, Reply, Said};
use crate::report::text::{printable, printable_lines};

/// `kiln generate MODEL PROMPT..`
///
/// # Errors
/// There is no such model or no prompt; the provider fails.
pub fn generate(common: &Common, args: &GenerateArgs, printer: &mut Printer) -> Result<Exit, CliError> {
    let (model, prompts) = model::find(common, &args.pipeline, Use::Converse, printer)?;
    let prompts = [prompts, prompts_of_file(args, prompts.is_empty())?.as_slice()].concat();
    if prompts.is_empty() {
        return Err(CliError::Call("no prompt: kiln generate MODEL PROMPT..".into()));
    }
    let mut conversation = begin(&model, &args.sampling, args.pipeline.device.name(), (args.raw, false))?;
    let mut replies = Vec::new();
    for prompt in &prompts {
        if !args.pipeline.json && prompts.len() > 1 {
            printer.line(paint(FAINT, format!("> {}", printable(prompt))));
        }
        let reply = turn(&mut conversation, prompt, args.pipeline.json, printer)?;
        replies.push(to_json(prompt, &reply));
    }
    conversation.end()?;
    if args.pipeline.json {
        printer.json(&json!({ "schema": "kiln.generate/1", "model": model.name, "replies": replies }))?;
    }
    Ok(Exit::Ok)
}

/// `kiln chat MODEL`
///
/// # Errors
/// There is no such model; the provider fails.
pub fn chat(common: &Common, args: &ChatArgs, printer: &mut Printer) -> Result<Exit, CliError> {
    let (model, rest) = model::find(common, &args.pipeline, Use::Converse, printer)?;
    if !rest.is_empty() {
        return Err(CliError::Call("`kiln chat` takes one model; then type, and end with Ctrl-D".into()));
    }
    let mut conversation = begin(&model, &args.sampling, args.pipeline.device.name(), (false, true))?;
    let (mut stdin, mut replies) = (io::stdin().lock(), Vec::new());
    let live = stdin.is_terminal();
    if live {
        printer.complain(
            paint(FAINT, format!("{}: type a message; Ctrl-D ends the chat", printable(&model.name))) + "\n",
        );
    }
    let ask = || {
        if live {
            printer_prompt()
        }
    };
    ask();
    while let Some(line) = next_line(&mut stdin).map_err(CliError::io("read what is typed"))? {
        match String::from_utf8(line) {
            Ok(prompt) if prompt.trim().is_empty() => {}
            Ok(prompt) => {
                let reply = turn(&mut conversation, &prompt, args.pipeline.json, printer)?;
                replies.push(to_json(&prompt, &reply));
            }
            Err(error) => {
                let read = printable(&String::from_utf8_lossy(error.as_bytes()));
                printer.warn(format!("this line is not UTF-8 and is left out: {read}"));
            }
        }
        ask();
    }
    conversation.end()?;
    if args.pipeline.json {
        printer.json(&json!({ "schema": "kiln.chat/1", "model": model.name, "replies": replies }))?;
    }
    Ok(Exit::Ok)
}

/// The next line without its end, whatever bytes it has; none at the end of the input.
fn next_line(input: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    if input.read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    let end = line.iter().rposition(|&byte| byte != b'\n' && byte != b'\r').map_or(0, |last| last + 1);
    line.truncate(end);
    Ok(Some(line))
}

/// Prints the prompt for the next line on stderr. An error there cannot be reported.
fn printer_prompt() {
    let mut err = io::stderr().lock();
    let _ = err.write_all(b"> ").and_then(|()| err.flush());
}

fn prompts_of_file(args: &GenerateArgs, none_given: bool) -> Result<Vec<String>, CliError> {
    let stdin = Path::new("-");
    let piped = none_given && !io::stdin().is_terminal();
    let Some(path) = args.file.as_deref().or(piped.then_some(stdin)) else { return Ok(Vec::new()) };
    let (text, name) = match path == stdin {
        true => (io::read_to_string(io::stdin()), "stdin".to_owned()),
        false => (fs::read_to_string(path), path.display().to_string()),
    };
    let text = text.map_err(CliError::io(format!("read the prompts in {name}")))?;
    Ok(text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect())
}

/// Starts a model: with `raw` for plain text, with `chat` for prompts that go on with those before.
fn begin(
    model: &Model,
    sampling: &SamplingArgs,
    device: &str,
    (raw, chat): (bool, bool),
) -> Result<Conversation, CliError> {
    let request = ConverseRequest {
        model: model.folder.clone(),
        temperature: sampling.temperature,
        max_tokens: sampling.max_tokens,
        seed: sampling.seed,
        threads: cores(),
        device: device.to_owned(),
        raw,
        chat,
    };
    Ok(Conversation::begin(&model.program, &request)?)
}

/// One prompt and its reply, shown as it arrives unless the answer is JSON.
fn turn(
    conversation: &mut Conversation,
    prompt: &str,
    json: bool,
    printer: &mut Printer,
) -> Result<Reply, CliError> {
    let mut shown = Ok(());
    let reply = conversation.ask(prompt, |said| match said {
        Said::Piece(piece) if !json && shown.is_ok() => {
            printer.text(printable_lines(piece));
            shown = printer.flush();
        }
        Said::Piece(_) => {}
        Said::Warning(message) => {
            printer.warn(message);
        }
    })?;
    shown?;
    if !json {
        printer.text("\n");
        printer.flush()?;
    }
    if reply.end == Some(ReplyEnd::Context) {
        printer.warn(
            "the reply ends because the context of the model is full; a shorter prompt leaves more room",
        );
    }
    Ok(reply)
}

fn to_json(prompt: &str, reply: &Reply) -> Value {
    json!({
        "prompt": prompt, "text": reply.text, "finished": reply.finished, "tokens": reply.tokens, "end": reply.end,
    })
}

impl From<ConversationError> for CliError {
    fn from(error: ConversationError) -> Self {
        Self::Failed(error.to_string())
    }
}
