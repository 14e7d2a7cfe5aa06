//! The tree of a YAML text, with spans.
//!
//! Purpose: what all of `spec` reads: values with their span and spelling, entries in order.
//! Invariant: entries keep their order and duplicates; a plain scalar that is no string keeps its text as it
//! stands in the file; one whole number has one value (`1.0` is `1`).
//! Must not know: YAML's syntax, what any key means.

use std::borrow::Cow;

use serde_json::{Map, Number, Value};

use crate::digest::canonical_json;
use crate::spec::document::scalar;
use crate::spec::types::Span;

/// A YAML node.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Node {
    /// What it is.
    pub data: Data,
    /// Where it stands; nowhere when it was set from outside the file.
    pub span: Span,
    /// Of a plain scalar that is no string: its text as it stands in the file. Of a value of `--set`: its
    /// text as it was typed.
    pub spelling: Option<Box<str>>,
    /// True for a string that came out of `${NAME}`, which may stand for a number or a boolean.
    pub expanded: bool,
}

/// The content of a node.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Data {
    /// Nothing, `~` or `null`.
    #[default]
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A finite number; a whole one of 64 bits is exact.
    Number(Number),
    /// A number that 64 bits cannot hold, known by its spelling.
    OutOfRange,
    /// A string, quoted or not.
    String(String),
    /// A sequence.
    Seq(Vec<Node>),
    /// A mapping, in order, duplicates kept.
    Map(Vec<Entry>),
}

/// A key and its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: Key,
    /// The value.
    pub value: Node,
}

/// A key of a mapping.
#[derive(Debug, Clone, PartialEq)]
pub struct Key {
    /// Its text, as it is spelt (`1` and `"1"` are the same key).
    pub text: String,
    /// Where it stands.
    pub span: Span,
}

impl Node {
    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        match &self.data {
            Data::String(text) => Some(text),
            _ => None,
        }
    }

    /// The value of a key of a mapping (the first one, if it stands there twice).
    pub fn get(&self, key: &str) -> Option<&Node> {
        match &self.data {
            Data::Map(entries) => entries.iter().find(|e| e.key.text == key).map(|e| &e.value),
            _ => None,
        }
    }

    /// The entries of a mapping; none of anything else.
    pub fn entries(&self) -> &[Entry] {
        match &self.data {
            Data::Map(entries) => entries,
            _ => &[],
        }
    }

    /// What it is, for a message.
    pub fn kind(&self) -> &'static str {
        match self.data {
            Data::Null => "nothing",
            Data::Bool(_) => "a boolean",
            Data::Number(_) | Data::OutOfRange => "a number",
            Data::String(_) => "a string",
            Data::Seq(_) => "a list",
            Data::Map(_) => "a mapping",
        }
    }

    /// A scalar as it is written: the value of a string, the spelling of all else. None for a list or mapping.
    pub fn scalar(&self) -> Option<Cow<'_, str>> {
        match (&self.data, &self.spelling) {
            (Data::String(text), _) => Some(Cow::Borrowed(text)),
            (Data::Seq(_) | Data::Map(_), _) => None,
            (_, Some(text)) => Some(Cow::Borrowed(text)),
            _ => Some(Cow::Owned(canonical_json(&self.to_json()))),
        }
    }

    /// What a command receives: a scalar as it is written, a list or mapping as JSON in which each number
    /// keeps its spelling (as a string, where JSON has no such number) and keys are sorted; a value of
    /// `--set` as it was typed.
    pub fn text(&self) -> String {
        match (&self.data, &self.spelling) {
            (Data::String(_) | Data::Seq(_) | Data::Map(_), Some(typed)) => typed.to_string(),
            _ => self.scalar().map_or_else(|| self.spelled_json(), Cow::into_owned),
        }
    }

    fn spelled_json(&self) -> String {
        match &self.data {
            Data::Seq(items) => {
                let items: Vec<_> = items.iter().map(Self::spelled_json).collect();
                format!("[{}]", items.join(","))
            }
            Data::Map(entries) => {
                let mut sorted: Vec<_> = entries.iter().collect();
                sorted.sort_by(|a, b| a.key.text.cmp(&b.key.text));
                sorted.dedup_by(|later, first| later.key.text == first.key.text);
                let entry =
                    |e: &&Entry| format!("{}:{}", Value::from(e.key.text.as_str()), e.value.spelled_json());
                format!("{{{}}}", sorted.iter().map(entry).collect::<Vec<_>>().join(","))
            }
            Data::Number(_) | Data::OutOfRange => match self.spelling.as_deref() {
                Some(text) if scalar::is_json_number(text) => text.to_owned(),
                Some(text) => Value::from(text).to_string(),
                None => self.to_json().to_string(),
            },
            _ => self.to_json().to_string(),
        }
    }

    /// The same without spans. Of a key that stands there twice, the first one counts.
    pub fn to_json(&self) -> Value {
        match &self.data {
            Data::Null => Value::Null,
            Data::Bool(value) => Value::Bool(*value),
            Data::Number(number) => Value::Number(number.clone()),
            Data::OutOfRange => Value::from(self.spelling.as_deref().unwrap_or_default()),
            Data::String(text) => Value::String(text.clone()),
            Data::Seq(items) => items.iter().map(Self::to_json).collect(),
            Data::Map(entries) => {
                let mut map = Map::new();
                for entry in entries.iter().rev() {
                    map.insert(entry.key.text.clone(), entry.value.to_json());
                }
                Value::Object(map)
            }
        }
    }

    /// A node that stands nowhere in the file.
    pub fn from_json(value: &Value) -> Self {
        let data = match value {
            Value::Null => Data::Null,
            Value::Bool(value) => Data::Bool(*value),
            Value::Number(number) => Data::Number(number.clone()),
            Value::String(text) => Data::String(text.clone()),
            Value::Array(items) => Data::Seq(items.iter().map(Self::from_json).collect()),
            Value::Object(map) => {
                let key = |text: &String| Key { text: text.clone(), span: Span::default() };
                let entry = |(k, v): (&String, &Value)| Entry { key: key(k), value: Self::from_json(v) };
                Data::Map(map.iter().map(entry).collect())
            }
        };
        Self { data, ..Self::default() }
    }

    /// Takes away all spans, as of a value that was set from outside the file.
    pub fn forget_spans(&mut self) {
        self.span = Span::default();
        match &mut self.data {
            Data::Seq(items) => items.iter_mut().for_each(Self::forget_spans),
            Data::Map(entries) => entries.iter_mut().for_each(|entry| {
                entry.key.span = Span::default();
                entry.value.forget_spans();
            }),
            _ => {}
        }
    }

    /// A copy of a string as the scalar that it would be without quotes; none for all else.
    pub fn retyped(&self) -> Option<Self> {
        let text = self.as_str()?;
        let data = scalar::plain_scalar(Cow::Borrowed(text));
        Some(Self { data, spelling: Some(text.into()), ..self.clone() })
    }

    /// How many nodes a tree has and how deep its collections nest.
    pub fn extent(&self) -> (usize, usize) {
        let sum = |(nodes, depth): (usize, usize), more: (usize, usize)| (nodes + more.0, depth.max(more.1));
        let (nodes, depth) = match &self.data {
            Data::Seq(items) => items.iter().map(Self::extent).fold((1, 0), sum),
            Data::Map(entries) => entries.iter().map(|e| e.value.extent()).fold((1 + entries.len(), 0), sum),
            _ => return (1, 0),
        };
        (nodes, depth + 1)
    }
}
