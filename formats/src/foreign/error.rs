//! What can be wrong with somebody else's tokenizer.
//!
//! Invariant: every message names the file and the field in it, and says what to do next.
//! Must not know: how the errors are shown.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// A tokenizer could not be read, or is of a kind that is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum ForeignError {
    /// The file system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is larger than any such file has to be.
    #[error("{}: {size} bytes are more than the {limit} that such a file may have", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// How many bytes it has.
        size: u64,
        /// How many it may have.
        limit: u64,
    },
    /// A file is not the JSON that it should be; the source says where.
    #[error("{}: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column.
        source: serde_json::Error,
    },
    /// A field of a file has a value that cannot be used.
    #[error("{}: {field}: {what}", path.display())]
    Field {
        /// The file.
        path: PathBuf,
        /// The field, as a path of keys and indices.
        field: String,
        /// What is wrong with it, and what to do.
        what: String,
    },
}

impl ForeignError {
    /// A field of `tokenizer.json` that cannot be used.
    pub(super) fn field(field: impl Into<String>, what: impl Into<String>) -> Self {
        Self::field_of(super::folder::TOKENIZER, field, what)
    }

    /// A field of a file that cannot be used.
    pub(super) fn field_of(file: &str, field: impl Into<String>, what: impl Into<String>) -> Self {
        Self::Field { path: file.into(), field: field.into(), what: what.into() }
    }

    /// The same error, with the folder before the name of the file.
    pub(super) fn in_folder(mut self, folder: &Path) -> Self {
        let (Self::Io { path, .. }
        | Self::TooLarge { path, .. }
        | Self::Json { path, .. }
        | Self::Field { path, .. }) = &mut self;
        *path = folder.join(&*path);
        self
    }
}

/// An object of `tokenizer.json` and where it stands, to read its fields from.
#[derive(Debug, Clone)]
pub(super) struct Object<'v> {
    value: &'v Value,
    place: String,
}

impl<'v> Object<'v> {
    /// The object at `place`.
    pub(super) fn new(value: &'v Value, place: impl Into<String>) -> Self {
        Self { value, place: place.into() }
    }

    /// An error about this object.
    pub(super) fn error(&self, what: impl Into<String>) -> ForeignError {
        ForeignError::field(&self.place, what)
    }

    /// An error about a field of it.
    pub(super) fn field_error(&self, key: &str, what: impl Into<String>) -> ForeignError {
        ForeignError::field(format!("{}.{key}", self.place), what)
    }

    /// Its `type`.
    pub(super) fn kind(&self) -> Result<&'v str, ForeignError> {
        let kind = self.value.get("type").and_then(Value::as_str);
        kind.ok_or_else(|| {
            self.field_error("type", "there is none; save the tokenizer again with a newer `tokenizers`")
        })
    }

    /// The JSON itself.
    pub(super) fn value(&self) -> &'v Value {
        self.value
    }

    /// A field that may be absent or null.
    pub(super) fn get(&self, key: &str) -> Option<&'v Value> {
        self.value.get(key).filter(|value| !value.is_null())
    }

    /// A string of at most `limit` bytes.
    pub(super) fn string(&self, key: &str, limit: usize) -> Result<&'v str, ForeignError> {
        match self.get(key).and_then(Value::as_str) {
            Some(text) if text.len() <= limit => Ok(text),
            Some(text) => {
                Err(self.field_error(key, format!("{} bytes are more than the {limit} allowed", text.len())))
            }
            None => Err(self.field_error(key, "this has to be a string")),
        }
    }

    /// A truth value, or `default` where there is none.
    pub(super) fn bool_or(&self, key: &str, default: bool) -> Result<bool, ForeignError> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => {
                value.as_bool().ok_or_else(|| self.field_error(key, "this has to be true or false"))
            }
        }
    }

    /// A truth value.
    pub(super) fn bool(&self, key: &str) -> Result<bool, ForeignError> {
        match self.get(key).and_then(Value::as_bool) {
            Some(value) => Ok(value),
            None => Err(self.field_error(key, "this has to be true or false")),
        }
    }

    /// A list of at most `limit` objects, each with its place.
    pub(super) fn objects(&self, key: &str, limit: usize) -> Result<Vec<Object<'v>>, ForeignError> {
        let Some(list) = self.get(key).and_then(Value::as_array) else {
            return Err(self.field_error(key, "this has to be a list"));
        };
        if list.len() > limit {
            return Err(
                self.field_error(key, format!("{} parts are more than the {limit} allowed", list.len()))
            );
        }
        let place = |index: usize| format!("{}.{key}[{index}]", self.place);
        Ok(list.iter().enumerate().map(|(index, value)| Object::new(value, place(index))).collect())
    }
}
