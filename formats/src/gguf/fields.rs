//! The fields of a JSON document that others wrote.
//!
//! Purpose: getters whose errors name the document and the field.
//! Invariant: `null` is as good as absent.
//! Must not know: what the fields mean.

use serde_json::{Map, Value};

use super::GgufError;
use super::error::quoted;

/// A value, as a message may show it.
pub(super) fn shown(value: &Value) -> String {
    quoted(&value.to_string())
}

/// An object of a document, say `config.json`.
#[derive(Clone, Copy)]
pub(super) struct Fields<'v> {
    document: &'static str,
    /// Nothing for `null`.
    map: Option<&'v Map<String, Value>>,
}

impl<'v> Fields<'v> {
    /// The fields of a document; none if it is `null`, which stands for a file that is not there.
    pub(super) fn of(document: &'static str, value: &'v Value) -> Result<Self, GgufError> {
        match value {
            Value::Object(map) => Ok(Self { document, map: Some(map) }),
            Value::Null => Ok(Self { document, map: None }),
            _ => Err(GgufError::whole(format!(
                "{document}: an object is expected, and there is `{}`",
                shown(value)
            ))),
        }
    }

    pub(super) fn refuse(&self, name: &str, what: impl Into<String>) -> GgufError {
        GgufError::field(self.document, name, what)
    }

    pub(super) fn get(&self, name: &str) -> Option<&'v Value> {
        self.map?.get(name).filter(|value| !value.is_null())
    }

    fn typed<T>(
        &self,
        name: &str,
        wanted: &str,
        read: impl FnOnce(&'v Value) -> Option<T>,
    ) -> Result<Option<T>, GgufError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| self.refuse(name, format!("it is not {wanted}")))
    }

    pub(super) fn size(&self, name: &str) -> Result<Option<usize>, GgufError> {
        self.typed(name, "an integer from 0 on", |value| value.as_u64().and_then(|size| size.try_into().ok()))
    }

    pub(super) fn needed_size(&self, name: &str) -> Result<usize, GgufError> {
        self.size(name)?.ok_or_else(|| self.refuse(name, "it is missing"))
    }

    pub(super) fn boolean(&self, name: &str) -> Result<Option<bool>, GgufError> {
        self.typed(name, "true or false", Value::as_bool)
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<&'v str>, GgufError> {
        self.typed(name, "a string", Value::as_str)
    }

    pub(super) fn object(&self, name: &str) -> Result<Option<Fields<'v>>, GgufError> {
        let document = self.document;
        let map = self.typed(name, "an object", Value::as_object)?;
        Ok(map.map(|map| Fields { document, map: Some(map) }))
    }

    pub(super) fn list(&self, name: &str) -> Result<Option<&'v Vec<Value>>, GgufError> {
        self.typed(name, "a list", Value::as_array)
    }
}
