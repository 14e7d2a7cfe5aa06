//! The fields of a JSON object, of which none is overlooked.
//!
//! Purpose: typed reading of fields, and the list of those that nobody asked for.
//! Invariant: a field of another type than is asked for is an error that names it; `null` counts as missing.
//! Must not know: what the fields mean.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// An object that is read field by field.
pub(super) struct Fields<'a> {
    map: &'a Map<String, Value>,
    asked: RefCell<BTreeSet<&'static str>>,
}

impl<'a> Fields<'a> {
    pub(super) fn new(map: &'a Map<String, Value>) -> Self {
        Self { map, asked: RefCell::default() }
    }

    /// The value of a field, unless it is missing or `null`.
    pub(super) fn get(&self, name: &'static str) -> Option<&'a Value> {
        self.asked.borrow_mut().insert(name);
        self.map.get(name).filter(|value| !value.is_null())
    }

    /// Whether the field is there, be it `null`.
    pub(super) fn has(&self, name: &str) -> bool {
        self.map.contains_key(name)
    }

    fn typed<T>(
        &self,
        name: &'static str,
        wanted: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, String> {
        let Some(value) = self.get(name) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| format!("`{name}` is {}, and must be {wanted}", short(value)))
    }

    pub(super) fn size(&self, name: &'static str) -> Result<Option<usize>, String> {
        self.typed(name, "a whole number", |value| value.as_u64().and_then(|n| usize::try_from(n).ok()))
    }

    pub(super) fn required(&self, name: &'static str) -> Result<usize, String> {
        self.size(name)?.ok_or_else(|| format!("`{name}` is missing"))
    }

    /// A size that has two names; the first counts.
    pub(super) fn required_as(&self, names: [&'static str; 2]) -> Result<usize, String> {
        let [first, second] = names.map(|name| self.size(name));
        first?.or(second?).ok_or_else(|| format!("`{}` is missing", names[0]))
    }

    pub(super) fn number(&self, name: &'static str) -> Result<Option<f64>, String> {
        self.typed(name, "a number", Value::as_f64)
    }

    pub(super) fn flag(&self, name: &'static str) -> Result<Option<bool>, String> {
        self.typed(name, "true or false", Value::as_bool)
    }

    pub(super) fn text(&self, name: &'static str) -> Result<Option<&'a str>, String> {
        self.typed(name, "a string", Value::as_str)
    }

    pub(super) fn list(&self, name: &'static str) -> Result<Option<&'a [Value]>, String> {
        self.typed(name, "a list", |value| value.as_array().map(Vec::as_slice))
    }

    pub(super) fn object(&self, name: &'static str) -> Result<Option<&'a Map<String, Value>>, String> {
        self.typed(name, "an object", Value::as_object)
    }

    /// A flag that must have this value, or be missing.
    pub(super) fn must_be(&self, name: &'static str, wanted: bool) -> Result<(), String> {
        match self.flag(name)? {
            Some(value) if value != wanted => Err(format!("`{name}: {value}` is not supported")),
            _ => Ok(()),
        }
    }

    /// The first field that nobody asked for, unless it is `null` or `is_harmless`.
    pub(super) fn unknown(&self, is_harmless: impl Fn(&str) -> bool) -> Option<&'a str> {
        let asked = self.asked.borrow();
        let open = self.map.iter().filter(|(name, value)| !value.is_null() && !asked.contains(name.as_str()));
        open.map(|(name, _)| name.as_str()).find(|name| !is_harmless(name))
    }
}

/// A text of a file for a message: escaped and cut, so that it cannot fill or control a terminal.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(SHOWN).flat_map(char::escape_debug).chain(cut(text).chars()).collect()
}

/// A value for a message. JSON is escaped already.
fn short(value: &Value) -> String {
    let text = value.to_string();
    text.chars().take(SHOWN).chain(cut(&text).chars()).collect()
}

/// Characters of a text that a message shows.
const SHOWN: usize = 40;

fn cut(text: &str) -> &'static str {
    if text.chars().nth(SHOWN).is_some() { "..." } else { "" }
}
