//! The tokenizer on the command line, for checks against other implementations.
//!
//! Purpose: `tokenizer train --pattern P --vocab-size N --out DIR`, `tokenizer encode --tokenizer DIR
//! [--as text|prompt|response] [--lines yes]` and `tokenizer decode --tokenizer DIR`, each from stdin
//! to stdout. Encode prints ids with spaces between; with `--lines yes` the input is one JSON string a
//! line and the output a line of ids for each.
//! Invariant: everything here goes through [`Tokenizer`], as the stages do.
//! Must not know: where the streams lead.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::path::Path;
use std::time::Instant;

use super::{Pattern, Tokenizer, TokenizerError, TrainOptions};

/// Why such a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The command line is wrong.
    #[error("{0}")]
    Usage(String),
    /// The tokenizer's part.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// Stdin or stdout failed, or stdin is not UTF-8.
    #[error("stdin or stdout: {0}")]
    Stream(#[from] std::io::Error),
    /// A line of the input is not a JSON string.
    #[error("line {line} of stdin is not a JSON string: {source}")]
    Line {
        /// From 1.
        line: usize,
        /// Why.
        source: serde_json::Error,
    },
}

/// Runs the command that `arguments` (without `tokenizer`) name; how long a text took to encode goes to `log`.
pub fn run(
    arguments: &[String],
    input: &mut dyn Read,
    output: &mut dyn Write,
    log: &mut dyn Write,
) -> Result<(), CommandError> {
    let options = Options::parse(arguments)?;
    let mut text = String::new();
    input.read_to_string(&mut text)?;
    let answer = match options.command.as_str() {
        "train" => train(&options, &text)?,
        "encode" => encode(&options, &text, log)?,
        "decode" => decode(&options, &text)?,
        other => {
            return Err(CommandError::Usage(format!("unknown command `{other}`: train, encode or decode")));
        }
    };
    output.write_all(answer.as_bytes())?;
    Ok(output.flush()?)
}

struct Options {
    command: String,
    values: BTreeMap<String, String>,
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self, CommandError> {
        let usage = |what: &str| CommandError::Usage(what.into());
        let (command, rest) = arguments.split_first().ok_or_else(|| usage("train, encode or decode?"))?;
        let mut values = BTreeMap::new();
        for pair in rest.chunks(2) {
            let [name, value] = pair else { return Err(usage("an option lacks its value")) };
            let name = name.strip_prefix("--").ok_or_else(|| usage("options begin with --"))?;
            values.insert(name.into(), value.clone());
        }
        Ok(Self { command: command.clone(), values })
    }

    fn need(&self, name: &str) -> Result<&str, CommandError> {
        let value = self.values.get(name).map(String::as_str);
        value.ok_or_else(|| CommandError::Usage(format!("`{}` needs --{name}", self.command)))
    }

    fn tokenizer(&self) -> Result<Tokenizer, CommandError> {
        Ok(Tokenizer::load(Path::new(self.need("tokenizer")?))?)
    }
}

fn train(options: &Options, text: &str) -> Result<String, CommandError> {
    let size = options.need("vocab-size")?;
    let vocab_size =
        size.parse().map_err(|_| CommandError::Usage(format!("--vocab-size {size} is not a number")))?;
    let pattern = Pattern::named(options.need("pattern")?)?;
    let started = Instant::now();
    let trained = Tokenizer::train([text], &TrainOptions { vocab_size, pattern, ..TrainOptions::default() })?;
    let seconds = started.elapsed().as_secs_f64();
    trained.tokenizer.save(Path::new(options.need("out")?))?;
    let note = trained.note.map(|note| format!("{note}\n")).unwrap_or_default();
    Ok(format!("{note}{} tokens in {seconds:.3} s\n", trained.tokenizer.vocab_size()))
}

fn encode(options: &Options, text: &str, log: &mut dyn Write) -> Result<String, CommandError> {
    let tokenizer = options.tokenizer()?;
    let form = options.values.get("as").map_or("text", String::as_str);
    let ids_of = |text: &str| match form {
        "text" => Ok(tokenizer.encode(text)),
        "prompt" => Ok(tokenizer.prompt_ids(text)),
        "response" => Ok(tokenizer.response_ids(text)),
        other => Err(CommandError::Usage(format!("--as {other}: text, prompt or response"))),
    };
    let mut answer = String::new();
    if !options.values.contains_key("lines") {
        let started = Instant::now();
        let ids = ids_of(text)?;
        writeln!(log, "{} tokens in {:.4} s", ids.len(), started.elapsed().as_secs_f64())?;
        print_ids(&ids, &mut answer);
        return Ok(answer);
    }
    for (index, line) in text.lines().enumerate() {
        let text: String =
            serde_json::from_str(line).map_err(|source| CommandError::Line { line: index + 1, source })?;
        print_ids(&ids_of(&text)?, &mut answer);
    }
    Ok(answer)
}

fn print_ids(ids: &[u32], answer: &mut String) {
    for (at, id) in ids.iter().enumerate() {
        // Writing to a String cannot fail.
        let _ = write!(answer, "{}{id}", if at == 0 { "" } else { " " });
    }
    answer.push('\n');
}

fn decode(options: &Options, text: &str) -> Result<String, CommandError> {
    let tokenizer = options.tokenizer()?;
    let wrong = |id: &str| CommandError::Usage(format!("`{id}` is not a token id"));
    let ids: Result<Vec<u32>, _> =
        text.split_whitespace().map(|id| id.parse().map_err(|_| wrong(id))).collect();
    Ok(tokenizer.decode(&ids?))
}
