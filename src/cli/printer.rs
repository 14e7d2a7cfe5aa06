//! The only way to stdout.
//!
//! Purpose: gathers an answer and writes it at once, with colours or without.
//! Invariant: stdout has answers only; when its reader goes away, the command ends without an error.
//! Must not know: what the answer is about.

use std::fmt::Display;
use std::io::{self, Write};

use anstream::adapter::strip_str;
use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use serde::Serialize;

use crate::cli::args::Color;
use crate::report::text::printable;

/// Good results.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// Changes.
pub const CHANGED: Style = AnsiColor::Yellow.on_default();
/// Errors.
pub const BAD: Style = AnsiColor::Red.on_default().bold();
/// Less important text.
pub const FAINT: Style = Style::new().dimmed();
/// Important text.
pub const STRONG: Style = Style::new().bold();

/// A text in a style.
pub fn paint(style: Style, text: impl Display) -> String {
    format!("{style}{text}{style:#}")
}

/// Gathers an answer.
#[derive(Debug)]
pub struct Printer {
    answer: String,
    choice: ColorChoice,
}

impl Printer {
    /// A printer with or without colours.
    pub fn new(color: Color) -> Self {
        Self { answer: String::new(), choice: color.choice() }
    }

    /// Whether colours are shown.
    pub fn has_colours(&self) -> bool {
        match self.choice {
            ColorChoice::Auto => AutoStream::choice(&io::stdout()) != ColorChoice::Never,
            choice => choice != ColorChoice::Never,
        }
    }

    /// Adds a line.
    pub fn line(&mut self, text: impl AsRef<str>) {
        self.answer.push_str(text.as_ref().trim_end());
        self.answer.push('\n');
    }

    /// Adds a text unchanged.
    pub fn text(&mut self, text: impl AsRef<str>) {
        self.answer.push_str(text.as_ref());
    }

    /// Adds a JSON object, pretty-printed.
    ///
    /// # Errors
    /// The value cannot be JSON.
    pub fn json(&mut self, value: &impl Serialize) -> io::Result<()> {
        self.answer.push_str(&serde_json::to_string_pretty(value).map_err(io::Error::from)?);
        self.answer.push('\n');
        Ok(())
    }

    /// Writes the gathered answer to stdout.
    ///
    /// # Errors
    /// An error of stdout, except for a reader that went away.
    pub fn flush(&mut self) -> io::Result<()> {
        let answer = std::mem::take(&mut self.answer);
        let plain = match self.choice {
            ColorChoice::Auto => AutoStream::choice(&io::stdout()) == ColorChoice::Never,
            choice => choice == ColorChoice::Never,
        };
        // A stripping stream would make one system call per line.
        let answer = if plain { strip_str(&answer).to_string() } else { answer };
        let mut out = io::stdout().lock();
        match out.write_all(answer.as_bytes()).and_then(|()| out.flush()) {
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other,
        }
    }

    /// Warns on stderr at once, in one line.
    pub fn warn(&self, message: impl AsRef<str>) {
        self.complain(format!("{} {}\n", paint(CHANGED, "!"), printable(message.as_ref())));
    }

    /// Writes a text to stderr at once. An error there cannot be reported.
    pub fn complain(&self, text: impl AsRef<str>) {
        let mut err = AutoStream::new(io::stderr().lock(), self.choice);
        let _ = err.write_all(text.as_ref().as_bytes()).and_then(|()| err.flush());
    }
}
