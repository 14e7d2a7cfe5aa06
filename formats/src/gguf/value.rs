//! The metadata of a GGUF file.
//!
//! Purpose: the values that a key can have, the keys in their order, and getters that say what a key should hold.
//! Invariant: no key stands twice.
//! Must not know: what the keys mean.

use std::collections::HashMap;

use super::GgufError;

/// The shortest decimal of an f32, which is what its writer meant: 1e-5, not 9.999999747378752e-6.
pub(super) fn decimal(x: f32) -> f64 {
    x.to_string().parse().unwrap_or(f64::from(x))
}

/// The value of a key.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum MetaValue {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(String),
    Array(MetaArray),
    U64(u64),
    I64(i64),
    F64(f64),
}

/// A list of values of one type. Lists of lists are refused, as llama.cpp does.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum MetaArray {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    F32(Vec<f32>),
    Bool(Vec<bool>),
    String(Vec<String>),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F64(Vec<f64>),
}

/// The number that stands for a list in a file.
pub(super) const ARRAY: u32 = 9;

impl MetaValue {
    /// The number that stands for the type in a file.
    pub(super) fn type_id(&self) -> u32 {
        match self {
            MetaValue::U8(_) => 0,
            MetaValue::I8(_) => 1,
            MetaValue::U16(_) => 2,
            MetaValue::I16(_) => 3,
            MetaValue::U32(_) => 4,
            MetaValue::I32(_) => 5,
            MetaValue::F32(_) => 6,
            MetaValue::Bool(_) => 7,
            MetaValue::String(_) => 8,
            MetaValue::Array(_) => ARRAY,
            MetaValue::U64(_) => 10,
            MetaValue::I64(_) => 11,
            MetaValue::F64(_) => 12,
        }
    }

    /// The type, in words.
    fn type_name(&self) -> &'static str {
        match self {
            MetaValue::F32(_) | MetaValue::F64(_) => "a float",
            MetaValue::Bool(_) => "a bool",
            MetaValue::String(_) => "a string",
            MetaValue::Array(MetaArray::String(_)) => "a list of strings",
            MetaValue::Array(_) => "a list",
            _ => "an integer",
        }
    }

    fn integer(&self) -> Option<i128> {
        Some(match *self {
            MetaValue::U8(x) => x.into(),
            MetaValue::I8(x) => x.into(),
            MetaValue::U16(x) => x.into(),
            MetaValue::I16(x) => x.into(),
            MetaValue::U32(x) => x.into(),
            MetaValue::I32(x) => x.into(),
            MetaValue::U64(x) => x.into(),
            MetaValue::I64(x) => x.into(),
            _ => return None,
        })
    }
}

impl MetaArray {
    /// The number that stands for the type of the elements in a file.
    pub(super) fn type_id(&self) -> u32 {
        match self {
            MetaArray::U8(_) => 0,
            MetaArray::I8(_) => 1,
            MetaArray::U16(_) => 2,
            MetaArray::I16(_) => 3,
            MetaArray::U32(_) => 4,
            MetaArray::I32(_) => 5,
            MetaArray::F32(_) => 6,
            MetaArray::Bool(_) => 7,
            MetaArray::String(_) => 8,
            MetaArray::U64(_) => 10,
            MetaArray::I64(_) => 11,
            MetaArray::F64(_) => 12,
        }
    }

    fn integers(&self) -> Option<Vec<i128>> {
        fn wide<T: Copy + Into<i128>>(list: &[T]) -> Option<Vec<i128>> {
            Some(list.iter().map(|&x| x.into()).collect())
        }
        match self {
            MetaArray::U8(list) => wide(list),
            MetaArray::I8(list) => wide(list),
            MetaArray::U16(list) => wide(list),
            MetaArray::I16(list) => wide(list),
            MetaArray::U32(list) => wide(list),
            MetaArray::I32(list) => wide(list),
            MetaArray::U64(list) => wide(list),
            MetaArray::I64(list) => wide(list),
            _ => None,
        }
    }
}

/// All keys and their values.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metadata {
    entries: Vec<(String, MetaValue)>,
    places: HashMap<String, usize>,
}

impl Metadata {
    /// Adds a key.
    ///
    /// # Errors
    /// When it is there already.
    pub fn insert(&mut self, key: impl Into<String>, value: MetaValue) -> Result<(), GgufError> {
        let key = key.into();
        if self.places.contains_key(&key) {
            return Err(GgufError::key(&key, "it stands twice; which of both counts is not known"));
        }
        self.places.insert(key.clone(), self.entries.len());
        self.entries.push((key, value));
        Ok(())
    }

    /// The keys and values in their order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &MetaValue)> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&MetaValue> {
        self.places.get(key).map(|&place| &self.entries[place].1)
    }

    fn typed<'m, T>(
        &'m self,
        key: &str,
        wanted: &str,
        read: impl FnOnce(&'m MetaValue) -> Option<T>,
    ) -> Result<Option<T>, GgufError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match read(value) {
            Some(value) => Ok(Some(value)),
            None => Err(GgufError::key(key, format!("it is {}, not {wanted}", value.type_name()))),
        }
    }

    /// A string, if the key is there.
    ///
    /// # Errors
    /// When it is something else.
    pub fn string(&self, key: &str) -> Result<Option<&str>, GgufError> {
        self.typed(key, "a string", |value| match value {
            MetaValue::String(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// A truth value, if the key is there.
    ///
    /// # Errors
    /// When it is something else.
    pub fn boolean(&self, key: &str) -> Result<Option<bool>, GgufError> {
        self.typed(key, "a bool", |value| match value {
            MetaValue::Bool(value) => Some(*value),
            _ => None,
        })
    }

    /// An integer of any width that fits `T`, if the key is there.
    ///
    /// # Errors
    /// When it is something else, or does not fit.
    pub fn integer<T: TryFrom<i128>>(&self, key: &str) -> Result<Option<T>, GgufError> {
        let Some(value) = self.typed(key, "an integer", MetaValue::integer)? else { return Ok(None) };
        let fitting =
            T::try_from(value).map_err(|_| GgufError::key(key, format!("{value} is out of range")))?;
        Ok(Some(fitting))
    }

    /// A finite float of either width, if the key is there.
    ///
    /// # Errors
    /// When it is something else, or not finite.
    pub fn float(&self, key: &str) -> Result<Option<f64>, GgufError> {
        let value = self.typed(key, "a float", |value| match *value {
            MetaValue::F32(x) => Some(decimal(x)),
            MetaValue::F64(x) => Some(x),
            _ => None,
        })?;
        match value {
            Some(value) if !value.is_finite() => Err(GgufError::key(key, format!("{value} is not finite"))),
            value => Ok(value),
        }
    }

    /// A list of strings, if the key is there.
    ///
    /// # Errors
    /// When it is something else.
    pub fn strings(&self, key: &str) -> Result<Option<&[String]>, GgufError> {
        self.typed(key, "a list of strings", |value| match value {
            MetaValue::Array(MetaArray::String(list)) => Some(list.as_slice()),
            _ => None,
        })
    }

    /// A list of integers of any width that fit `T`, if the key is there.
    ///
    /// # Errors
    /// When it is something else, or an element does not fit.
    pub fn integers<T: TryFrom<i128>>(&self, key: &str) -> Result<Option<Vec<T>>, GgufError> {
        let list = self.typed(key, "a list of integers", |value| match value {
            MetaValue::Array(list) => list.integers(),
            _ => None,
        })?;
        let fit = |value: i128| {
            T::try_from(value)
                .map_err(|_| GgufError::key(key, format!("its element {value} is out of range")))
        };
        list.map(|list| list.into_iter().map(fit).collect()).transpose()
    }
}
