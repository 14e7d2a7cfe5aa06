//! Content digests and canonical JSON.
//!
//! Purpose: one way to name bytes (SHA-256) and one way to spell a JSON value, so that equal
//! content always has equal names.
//! Invariant: the digest of a file is what `sha256sum` prints. Canonical JSON is RFC 8785: keys sorted by
//! UTF-16 code units, no white space, one spelling a number (`1.0` is `1`, `1e-3` is `0.001`). Two JSON
//! values have the same text if and only if they are equal, numbers by their value.
//! Must not know: anything else of Kiln (a leaf).
//!
//! RFC 8785 takes every number for a double, so that 2^53 and 2^53 + 1 would be one number. What is hashed
//! therefore goes through [`tag_integers`] first, which gives plain RFC 8785: any program with a library for
//! it can check a key. The crates that there are round such integers (`serde_json_canonicalizer`,
//! `serde_jcs`) or refuse them (`json-canon`), and none keeps two of them apart; only the numbers of
//! ECMAScript come from a crate (`ryu-js`).

pub mod sealed;

use std::fmt;
use std::io::{self, Read};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Map, Number, Value};
use sha2::{Digest as _, Sha256};

/// A SHA-256 digest; prints and parses as 64 lowercase hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of a byte string.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The digest of a JSON value in canonical form.
    pub fn of_json(value: &Value) -> Self {
        Self::of_bytes(canonical_json(value).as_bytes())
    }

    /// The digest and length of all that a reader gives.
    ///
    /// # Errors
    /// Those of the reader.
    pub fn of_reader(mut reader: impl Read) -> io::Result<(Self, u64)> {
        let mut hasher = Hasher::default();
        // Small enough to come from the heap, not from fresh pages, for each of many small files.
        let mut buffer = vec![0u8; 64 * 1024];
        loop {
            let n = match reader.read(&mut buffer) {
                Ok(0) => return Ok(hasher.finish()),
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            hasher.update(&buffer[..n]);
        }
    }

    /// The digest and length of a file's bytes.
    ///
    /// # Errors
    /// Those of opening and reading it.
    pub fn of_file(path: &Path) -> io::Result<(Self, u64)> {
        Self::of_reader(std::fs::File::open(path)?)
    }

    /// The digest whose 32 bytes these are.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first eight hex digits, for people.
    pub fn short(&self) -> String {
        self.to_string()[..8].to_owned()
    }
}

/// Digests bytes as they pass by.
#[derive(Default)]
pub struct Hasher {
    inner: Sha256,
    length: u64,
}

impl Hasher {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.inner.update(bytes);
        self.length += bytes.len() as u64;
    }

    /// The digest and length of all bytes taken.
    pub fn finish(self) -> (Digest, u64) {
        (Digest(self.inner.finalize().into()), self.length)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // By a table: digests are spelt by the thousand.
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut hex = [0; 64];
        for (pair, byte) in hex.chunks_exact_mut(2).zip(self.0) {
            pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
        f.write_str(std::str::from_utf8(&hex).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// Why a text is no digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a SHA-256 digest: 64 lowercase hex digits are wanted")]
pub struct NotADigest(pub String);

impl FromStr for Digest {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Self, NotADigest> {
        let bad = || NotADigest(text.chars().take(80).collect());
        let bytes = text.as_bytes();
        if bytes.len() != 64 {
            return Err(bad());
        }
        let nibble = |b: u8| match b {
            b'0'..=b'9' => Ok(b - b'0'),
            b'a'..=b'f' => Ok(b - b'a' + 10),
            _ => Err(bad()),
        };
        let mut out = [0u8; 32];
        for (i, pair) in bytes.chunks_exact(2).enumerate() {
            out[i] = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Ok(Self(out))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Up to here every integer is a double of its own, in both directions.
const LARGEST_EXACT: i128 = 1 << 53;
/// The key that marks an integer which no double can be trusted with.
const INTEGER: &str = "$int";

/// A JSON value in its one canonical spelling, by RFC 8785. The RFC has no spelling for an integer beyond
/// 2^53; one that was not tagged keeps all its digits.
pub fn canonical_json(value: &Value) -> String {
    let mut out = String::new();
    write_canonical(value, &mut out);
    out
}

/// A JSON value as its canonical text, which is cheap to share and to digest; read only where a value is wanted.
#[derive(Clone, PartialEq, Eq)]
pub struct CanonicalJson(Arc<str>);

impl CanonicalJson {
    /// The canonical text of a value.
    pub fn of(value: &Value) -> Self {
        Self(canonical_json(value).into())
    }

    /// The digest of the text.
    pub fn digest(&self) -> Digest {
        Digest::of_bytes(self.0.as_bytes())
    }

    /// The value.
    pub fn value(&self) -> Value {
        // It is JSON by construction: a text that was read was parsed once.
        serde_json::from_str(&self.0).unwrap_or_default()
    }
}

impl fmt::Debug for CanonicalJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for CanonicalJson {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        <&RawValue>::deserialize(&mut serde_json::Deserializer::from_str(&self.0))
            .map_err(serde::ser::Error::custom)?
            .serialize(serializer)
    }
}

/// Takes the text as it stands: who reads it compares its digest with the one that is known, so that another
/// spelling is found out.
impl<'de> Deserialize<'de> for CanonicalJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(|text| Self(Box::<str>::from(text).into()))
    }
}

fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<_> = map.keys().map(String::as_str).collect();
            sort_by_utf16(&mut keys);
            out.push('{');
            for (i, key) in keys.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(key).to_string());
                out.push(':');
                write_canonical(&map[key], out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_canonical(item, out);
            }
            out.push(']');
        }
        Value::Number(number) => write_number(number, out),
        other => out.push_str(&other.to_string()),
    }
}

/// Sorts keys by UTF-16 code units: by their bytes, unless characters above the surrogates are there.
fn sort_by_utf16(keys: &mut [&str]) {
    if keys.iter().any(|key| key.bytes().any(|byte| byte >= 0xee)) {
        keys.sort_unstable_by(|a, b| a.encode_utf16().cmp(b.encode_utf16()));
    } else {
        keys.sort_unstable();
    }
}

fn write_number(number: &Number, out: &mut String) {
    if let Some(integer) = integer(number) {
        out.push_str(&integer.to_string());
    } else if let Some(float) = number.as_f64() {
        out.push_str(ryu_js::Buffer::new().format_finite(float));
    }
}

/// The integer that a number is, however it was spelled, if it fits 64 bits.
fn integer(number: &Number) -> Option<i128> {
    if let Some(small) = number.as_i64() {
        return Some(small.into());
    }
    if let Some(large) = number.as_u64() {
        return Some(large.into());
    }
    let float = number.as_f64().filter(|float| float.fract() == 0.0)?;
    let integer = float as i128;
    (i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(&integer).then_some(integer)
}

/// The value with every integer beyond 2^53 as `{"$int": "DIGITS"}`, so that no reader can round it, and
/// with a `$` more before every key that begins with one, so that no other value looks like that.
pub fn tag_integers(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let escaped = |key: &str| if key.starts_with('$') { format!("${key}") } else { key.to_owned() };
            map.iter().map(|(key, value)| (escaped(key), tag_integers(value))).collect()
        }
        Value::Array(items) => items.iter().map(tag_integers).collect(),
        Value::Number(number) => match integer(number) {
            Some(large) if large.abs() > LARGEST_EXACT => {
                Value::Object(Map::from_iter([(INTEGER.to_owned(), Value::from(large.to_string()))]))
            }
            _ => value.clone(),
        },
        other => other.clone(),
    }
}

/// The value that [`tag_integers`] was given.
pub fn untag_integers(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            if let Some(number) = map.get(INTEGER).and_then(Value::as_str).and_then(parse_integer) {
                return Value::Number(number);
            }
            let unescaped = |key: &str| key.strip_prefix('$').unwrap_or(key).to_owned();
            map.iter().map(|(key, value)| (unescaped(key), untag_integers(value))).collect()
        }
        Value::Array(items) => items.iter().map(untag_integers).collect(),
        other => other.clone(),
    }
}

fn parse_integer(digits: &str) -> Option<Number> {
    digits.parse::<i64>().map(Number::from).or_else(|_| digits.parse::<u64>().map(Number::from)).ok()
}

#[cfg(test)]
mod tests;
