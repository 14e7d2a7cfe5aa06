//! What templates are given: JSON whose objects keep their order.
//!
//! Purpose: messages, tools and documents as values of `python`, read once and then cheap to hand to many renderings.
//! Invariant: the keys of an object stay in the order in which they were read, for templates print them so. A
//! `serde_json::Value` sorts them, so that text which is to be equal must be read by [`Data::from_json`] or `Deserialize`.
//! Must not know: templates.

use std::fmt;

use minijinja::Value;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::error::TemplateError;
use super::python::object::{Dict, Form, List};

/// A JSON value for a template. Clones share their content.
#[derive(Clone)]
pub struct Data(pub(super) Value);

impl Data {
    /// Reads JSON; objects keep the order of their keys, and the last of equal keys counts. Integers beyond 64 bits become
    /// floats.
    pub fn from_json(text: &str) -> Result<Self, TemplateError> {
        serde_json::from_str(text)
            .map_err(|error| TemplateError::Input(format!("JSON for a chat template: {error}")))
    }

    /// A list of values.
    pub fn list(items: impl IntoIterator<Item = Data>) -> Result<Self, TemplateError> {
        made(List::value(items.into_iter().map(|item| item.0).collect(), Form::List))
    }

    /// An object, in this order.
    pub fn object<K: AsRef<str>>(
        entries: impl IntoIterator<Item = (K, Data)>,
    ) -> Result<Self, TemplateError> {
        let entries = entries.into_iter().map(|(key, value)| (Value::from(key.as_ref()), value.0));
        made(Dict::value(entries.collect()))
    }
}

fn made(value: Result<Value, minijinja::Error>) -> Result<Data, TemplateError> {
    value
        .map(Data)
        .map_err(|error| TemplateError::Input(error.detail().unwrap_or("too deep a value").to_owned()))
}

impl fmt::Debug for Data {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Data").field(&self.0).finish()
    }
}

impl From<&str> for Data {
    fn from(text: &str) -> Self {
        Self(Value::from(text))
    }
}

impl From<bool> for Data {
    fn from(truth: bool) -> Self {
        Self(Value::from(truth))
    }
}

impl From<i64> for Data {
    fn from(integer: i64) -> Self {
        Self(Value::from(integer))
    }
}

/// The objects of a `serde_json::Value` are sorted by their keys.
impl TryFrom<&serde_json::Value> for Data {
    type Error = TemplateError;

    fn try_from(value: &serde_json::Value) -> Result<Self, TemplateError> {
        Self::deserialize(value).map_err(|error| TemplateError::Input(error.to_string()))
    }
}

impl TryFrom<&serde_json::value::RawValue> for Data {
    type Error = TemplateError;

    fn try_from(value: &serde_json::value::RawValue) -> Result<Self, TemplateError> {
        Self::from_json(value.get())
    }
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DataVisitor)
    }
}

struct DataVisitor;

impl<'de> Visitor<'de> for DataVisitor {
    type Value = Data;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any JSON")
    }

    fn visit_unit<E>(self) -> Result<Data, E> {
        Ok(Data(Value::from(())))
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Data, E> {
        Ok(truth.into())
    }

    fn visit_i64<E>(self, integer: i64) -> Result<Data, E> {
        Ok(integer.into())
    }

    fn visit_u64<E>(self, integer: u64) -> Result<Data, E> {
        Ok(Data(Value::from(integer)))
    }

    fn visit_f64<E>(self, float: f64) -> Result<Data, E> {
        Ok(Data(Value::from(float)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Data, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Data, A::Error> {
        let mut list = Vec::new();
        while let Some(Data(item)) = items.next_element()? {
            list.push(item);
        }
        List::value(list, Form::List).map(Data).map_err(A::Error::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Data, A::Error> {
        let mut dict = Vec::new();
        while let Some((key, Data(value))) = entries.next_entry::<String, Data>()? {
            dict.push((Value::from(key), value));
        }
        Dict::value(dict).map(Data).map_err(A::Error::custom)
    }
}
