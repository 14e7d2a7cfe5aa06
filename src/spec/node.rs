//! The tree of a YAML text, with positions.
//!
//! Purpose: what all of `spec` reads: values with their place, entries in order.
//! Invariant: entries keep their order and duplicates; a number is finite, and one value has one
//! form (`1.0` is `1`).
//! Must not know: YAML's syntax, what any key means.

use std::borrow::Cow;

use serde_json::{Map, Number, Value};

use crate::spec::types::Position;
use crate::spec::yaml;

/// Where something stands and how many characters it takes.
pub type Place = (Position, u32);

/// A YAML node.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Node {
    /// What it is.
    pub data: Data,
    /// Where it starts; line 0 when it was set from outside the file.
    pub at: Position,
    /// Its characters, for underlining.
    pub length: u32,
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
    /// A finite number.
    Number(Number),
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
    /// Where it starts.
    pub at: Position,
    /// Its characters.
    pub length: u32,
}

impl Key {
    /// Where it stands.
    pub fn place(&self) -> Place {
        (self.at, self.length)
    }
}

impl Node {
    /// Where it stands.
    pub fn place(&self) -> Place {
        (self.at, self.length)
    }

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

    /// What it is, for a message.
    pub fn kind(&self) -> &'static str {
        match self.data {
            Data::Null => "nothing",
            Data::Bool(_) => "a boolean",
            Data::Number(_) => "a number",
            Data::String(_) => "a string",
            Data::Seq(_) => "a list",
            Data::Map(_) => "a mapping",
        }
    }

    /// The same without positions. Of a key that stands there twice, the first one counts.
    pub fn to_json(&self) -> Value {
        match &self.data {
            Data::Null => Value::Null,
            Data::Bool(value) => Value::Bool(*value),
            Data::Number(number) => Value::Number(number.clone()),
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
                let key = |text: &String| Key { text: text.clone(), at: Position::default(), length: 0 };
                let entry = |(k, v): (&String, &Value)| Entry { key: key(k), value: Self::from_json(v) };
                Data::Map(map.iter().map(entry).collect())
            }
        };
        Self { data, ..Self::default() }
    }

    /// Takes away all positions, as of a value that was set from outside the file.
    pub fn forget_positions(&mut self) {
        (self.at, self.length) = (Position::default(), 0);
        match &mut self.data {
            Data::Seq(items) => items.iter_mut().for_each(Self::forget_positions),
            Data::Map(entries) => entries.iter_mut().for_each(|entry| {
                (entry.key.at, entry.key.length) = (Position::default(), 0);
                entry.value.forget_positions();
            }),
            _ => {}
        }
    }

    /// A copy of a string as the scalar that it would be without quotes; none for all else.
    pub fn retyped(&self) -> Option<Self> {
        let text = self.as_str()?;
        Some(Self { data: yaml::plain_scalar(Cow::Borrowed(text)), ..self.clone() })
    }
}
