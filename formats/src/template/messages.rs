//! What transformers does to a conversation before a template sees it.
//!
//! Purpose: `apply_chat_template` drops the keys of a message whose value is None, and gives the reasoning of a message the
//! names by which templates know it; tools and documents must be objects.
//! Invariant: what a caller handed over is not changed.
//! Must not know: templates.

use minijinja::Value;

use super::data::Data;
use super::error::TemplateError;
use super::python::kind::{Kind, kind, name};
use super::python::object::{Dict, Form, List};

type Result<T> = std::result::Result<T, TemplateError>;

/// The names of a message's reasoning, the newest first.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// The messages as a template sees them.
pub(super) fn conversation(messages: &Data) -> Result<Value> {
    let Kind::List(list) = kind(&messages.0) else {
        return Err(TemplateError::Input(format!("messages must be a list, not a {}", name(&messages.0))));
    };
    if list.items.is_empty() {
        return Err(TemplateError::Input("a conversation without messages; give at least one".into()));
    }
    let messages: Result<Vec<Value>> =
        list.items.iter().enumerate().map(|(index, value)| message(index, value)).collect();
    made(List::value(messages?, Form::List))
}

fn made(value: std::result::Result<Value, minijinja::Error>) -> Result<Value> {
    value.map_err(|error| TemplateError::Input(error.detail().unwrap_or("too deep a value").to_owned()))
}

fn message(index: usize, value: &Value) -> Result<Value> {
    let Kind::Dict(dict) = kind(value) else {
        let what =
            format!("message {index} must be an object with `role` and `content`, not a {}", name(value));
        return Err(TemplateError::Input(what));
    };
    let reasoning =
        REASONING.iter().find_map(|name| dict.get(&Value::from(*name)).filter(|found| !found.is_none()));
    let mut entries: Vec<(Value, Value)> = Vec::with_capacity(dict.length + 2);
    if let Some(reasoning) = &reasoning {
        // First, unless the message has one: its own value then takes this place.
        entries.push((Value::from("thinking"), reasoning.clone()));
    }
    entries.extend(dict.entries().filter(|(_, value)| !value.is_none()));
    if let Some(reasoning) = reasoning {
        entries.push((Value::from("reasoning_content"), reasoning));
    }
    made(Dict::value(entries))
}

/// Tools or documents: nothing, or a list of objects.
pub(super) fn objects(what: &str, data: Option<&Data>) -> Result<Value> {
    let Some(Data(value)) = data.filter(|data| !data.0.is_none()) else { return Ok(Value::from(())) };
    let Kind::List(list) = kind(value) else {
        return Err(TemplateError::Input(format!("{what} must be a list, not a {}", name(value))));
    };
    match list.items.iter().position(|item| !matches!(kind(item), Kind::Dict(_))) {
        Some(index) => Err(TemplateError::Input(format!("{what}: item {index} must be an object"))),
        None => Ok(value.clone()),
    }
}
