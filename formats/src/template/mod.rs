//! Chat templates: the text that a model reads of a conversation.
//!
//! Purpose: renders the Jinja templates that Hugging Face models carry, to the same text as `apply_chat_template` of
//! transformers 5.23. [`syntax`](self) reads a template by the grammar of Jinja2 and writes it for minijinja, [`python`](self)
//! gives its operators, attributes and methods the meaning of Python, [`filters`](self) and [`checks`](self) are Jinja2's
//! filters and tests; [`ChatTemplate`] is the door to all of it, [`Data`] what goes through it.
//! Invariant: the same template and input give the same bytes on every machine and day: nothing reads the clock. A hostile
//! template ends at a bound on its steps, its depth and its output.
//! Must not know: models, tokenizers, where templates are kept.

mod bounds;
mod chat;
mod checks;
mod clock;
mod data;
mod engine;
mod error;
mod filters;
mod fuzz;
mod generation;
mod globals;
mod messages;
mod methods;
mod python;
mod syntax;

pub use chat::{ChatTemplate, Input, Rendered};
pub use data::Data;
pub use error::{Place, TemplateError};
pub use fuzz::fuzz;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
