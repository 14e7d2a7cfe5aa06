//! A chat template and its rendering.
//!
//! Purpose: from a template's source and an input to text, and to the places of the text that `{% generation %}` marks.
//! Invariant: rendering changes nothing; a template may be shared by threads.
//! Must not know: how templates are read.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use minijinja::{Environment, Error, ErrorKind, Value};

use super::bounds::{MAX_OUTPUT, STEPS};
use super::data::Data;
use super::error::TemplateError;
use super::generation::{Marks, Sink};
use super::globals::Raised;
use super::syntax::Program;
use super::{clock, engine, generation, messages};

/// The name of the one template in its environment.
const NAME: &str = "chat";

/// A chat template, ready to render. Clones share their content.
#[derive(Clone)]
pub struct ChatTemplate(Arc<Inner>);

struct Inner {
    source: String,
    program: Program,
    environment: Environment<'static>,
}

impl fmt::Debug for ChatTemplate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ChatTemplate").field("source", &self.0.source).finish_non_exhaustive()
    }
}

/// What a template is rendered with.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// The conversation: a list of objects with `role`, `content` and the like, at least one.
    pub messages: &'a Data,
    /// A list of the JSON schemas of tools.
    pub tools: Option<&'a Data>,
    /// A list of documents, objects with `title` and `text`.
    pub documents: Option<&'a Data>,
    /// Whether the text ends with the beginning of an answer.
    pub add_generation_prompt: bool,
    /// The special tokens by name: `bos_token`, `eos_token`, `pad_token` and others.
    pub tokens: &'a BTreeMap<String, String>,
    /// Other variables of the template, say `enable_thinking`; they come before tokens of the same name. `strftime_now`
    /// holds the time that the function of that name knows, like `2024-07-26` or `2024-07-26T12:30:00`; without it the call
    /// of `strftime_now` is an error.
    pub more: &'a BTreeMap<String, Data>,
}

/// A rendered conversation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rendered {
    /// The text, special tokens spelled out.
    pub text: String,
    /// The ranges of bytes of the text that stood in `{% generation %}` blocks, in order; an inner block counts with the
    /// outer one.
    pub generated: Vec<Range<usize>>,
    /// How many blocks have no known place, for they stood in a macro, a `set` block or the like. A mask must not be made
    /// unless this is 0.
    pub unplaced: usize,
}

impl ChatTemplate {
    /// Reads a template of at most 1 MiB.
    pub fn new(source: &str) -> Result<Self, TemplateError> {
        let program = Program::of(source)?;
        let mut environment = engine::environment();
        let added = environment.add_template_owned(NAME, program.text.clone());
        added.map_err(|error| failure(&program, &error))?;
        Ok(Self(Arc::new(Inner { source: source.to_owned(), program, environment })))
    }

    /// The source as it was given.
    pub fn source(&self) -> &str {
        &self.0.source
    }

    /// Whether the template says by `{% generation %}` what the model is to learn.
    pub fn has_generation_marks(&self) -> bool {
        self.0.program.has_generation
    }

    /// Renders a conversation as `apply_chat_template(tokenize=False)` of transformers does.
    pub fn render(&self, input: &Input<'_>) -> Result<Rendered, TemplateError> {
        let marks = Marks::default();
        let context = context(input, &marks)?;
        let template =
            self.0.environment.get_template(NAME).map_err(|error| failure(&self.0.program, &error))?;
        let mut text = Vec::new();
        let sink = Sink::new(&mut text, &marks);
        let done = template.render_captured_to(context, sink);
        done.map_err(|error| failure(&self.0.program, &error))?;
        let text =
            String::from_utf8(text).map_err(|_| TemplateError::Bounds("the text is no UTF-8".into()))?;
        let (generated, unplaced) = marks.ranges();
        Ok(Rendered { text, generated, unplaced })
    }
}

/// The variables of a rendering.
fn context(input: &Input<'_>, marks: &Marks) -> Result<Value, TemplateError> {
    let mut variables: BTreeMap<&str, Value> = BTreeMap::new();
    for (name, token) in input.tokens {
        variables.insert(name, Value::from(token.as_str()));
    }
    for (name, value) in input.more {
        let value = if name == clock::NAME { clock::at(&value.0)? } else { value.0.clone() };
        variables.insert(name, value);
    }
    let own = [
        ("messages", messages::conversation(input.messages)?),
        ("tools", messages::objects("tools", input.tools)?),
        ("documents", messages::objects("documents", input.documents)?),
        ("add_generation_prompt", Value::from(input.add_generation_prompt)),
        (generation::NAME, marks.value()),
    ];
    for (name, value) in own {
        if variables.insert(name, value).is_some() {
            let what =
                format!("the variable `{name}` has a field of its own in the input of a chat template");
            return Err(TemplateError::Input(what));
        }
    }
    Ok(Value::from_pairs(variables))
}

/// An error of minijinja with its place in the source.
fn failure(program: &Program, error: &Error) -> TemplateError {
    let place = match (error.range(), error.line()) {
        (Some(range), _) => program.place(range.start),
        (None, line) => program.place_of_line(line.unwrap_or(1)),
    };
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if let Some(Raised(message)) = inner.downcast_ref() {
            return TemplateError::Raised { place, message: message.clone() };
        }
        source = inner.source();
    }
    let what = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    match error.kind() {
        ErrorKind::OutOfFuel => {
            TemplateError::Bounds(format!("{place}: the rendering takes more than {STEPS} steps"))
        }
        ErrorKind::WriteFailure => {
            TemplateError::Bounds(format!("the rendered text has more than {MAX_OUTPUT} bytes"))
        }
        ErrorKind::SyntaxError => TemplateError::Syntax { place, what },
        _ => TemplateError::Render { place, what },
    }
}
