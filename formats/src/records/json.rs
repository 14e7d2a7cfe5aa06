//! JSON whose objects keep their order.
//!
//! Purpose: the values of a row: strict to read, and written as they were read, for chat templates print tools and tool calls in
//! the order of their keys.
//! Invariant: a key stands once in an object; two objects are equal whatever their order.
//! Must not know: rows, what a value means.

use std::fmt;

use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserializer, Serialize, Serializer};
use serde_json::Number;

/// A value of JSON.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Json {
    /// `null`.
    #[default]
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Number(Number),
    /// A string.
    String(String),
    /// A list.
    Array(Vec<Json>),
    /// An object.
    Object(Fields),
}

/// The fields of an object, in their order.
#[derive(Debug, Clone, Default)]
pub struct Fields(Vec<(String, Json)>);

impl Json {
    /// A finite number; null for any other.
    pub(super) fn float(number: f64) -> Self {
        Number::from_f64(number).map_or(Self::Null, Self::Number)
    }

    /// Whether it is `null`.
    pub fn is_null(&self) -> bool {
        *self == Self::Null
    }

    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The values of a list.
    pub fn as_array(&self) -> Option<&[Json]> {
        match self {
            Self::Array(values) => Some(values),
            _ => None,
        }
    }

    /// A field of an object; none where it is missing or null.
    pub fn get(&self, name: &str) -> Option<&Json> {
        match self {
            Self::Object(fields) => fields.get(name),
            _ => None,
        }
    }
}

impl Fields {
    /// A field; none where it is missing or null.
    pub fn get(&self, name: &str) -> Option<&Json> {
        let field = self.0.iter().find(|(key, _)| key == name);
        field.map(|(_, value)| value).filter(|value| !value.is_null())
    }

    /// Whether there is no field.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The fields in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Json)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// Takes a field out; none where it is missing or null.
    pub fn take(&mut self, name: &str) -> Option<Json> {
        let field = self.0.iter_mut().find(|(key, _)| key == name);
        field.map(|(_, value)| std::mem::take(value)).filter(|value| !value.is_null())
    }

    /// Adds a field that is not there yet.
    pub(super) fn push(&mut self, name: impl Into<String>, value: Json) {
        self.0.push((name.into(), value));
    }

    /// The fields sorted by their keys.
    fn sorted(&self) -> Vec<&(String, Json)> {
        let mut fields: Vec<_> = self.0.iter().collect();
        fields.sort_by(|a, b| a.0.cmp(&b.0));
        fields
    }

    /// A key that stands twice.
    fn duplicate(&self) -> Option<&str> {
        let sorted = self.sorted();
        sorted.windows(2).find_map(|pair| match pair {
            [(key, _), (next, _)] if key == next => Some(key.as_str()),
            _ => None,
        })
    }
}

impl PartialEq for Fields {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0 || (self.0.len() == other.0.len() && self.sorted() == other.sorted())
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Number(number) => number.serialize(serializer),
            Self::String(text) => serializer.serialize_str(text),
            Self::Array(values) => serializer.collect_seq(values),
            Self::Object(fields) => fields.serialize(serializer),
        }
    }
}

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, value)))
    }
}

/// Reads any value, and refuses an object with a key twice.
pub(super) struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Json, E> {
        Ok(Json::float(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Json, E> {
        Ok(Json::String(value.to_owned()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Json, E> {
        Ok(Json::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Json, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element_seed(Self)? {
            values.push(value);
        }
        Ok(Json::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let mut fields = Fields::default();
        while let Some(key) = map.next_key::<String>()? {
            fields.0.push((key, map.next_value_seed(Self)?));
        }
        match fields.duplicate() {
            Some(key) => Err(A::Error::custom(format!("duplicate field `{key}`"))),
            None => Ok(Json::Object(fields)),
        }
    }
}
