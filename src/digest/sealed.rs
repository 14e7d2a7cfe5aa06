//! JSON with a checksum.
//!
//! Purpose: a record in a file or in a remote that no flipped, cut or added byte survives unseen.
//! Invariant: `{"record":…,"sha256":"…"}`, where the digest is that of the text of the record as it stands. It finds
//! damage, not malice: whoever can write a record can write its checksum.
//! Must not know: what is in a record.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Digest;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed<'a> {
    #[serde(borrow)]
    record: &'a RawValue,
    sha256: Digest,
}

/// A JSON text with its checksum.
pub fn seal(json: &str) -> String {
    format!("{{\"record\":{json},\"sha256\":\"{}\"}}", Digest::of_bytes(json.as_bytes()))
}

/// The JSON text of a record whose checksum is right.
///
/// # Errors
/// What is wrong, as a fragment.
pub fn open(bytes: &[u8]) -> Result<&str, String> {
    let sealed: Sealed<'_> = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    let text = sealed.record.get();
    match Digest::of_bytes(text.as_bytes()) == sealed.sha256 && bytes.len() == seal(text).len() {
        true => Ok(text),
        false => Err("its checksum is wrong".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_flipped_cut_or_added_byte_is_unseen() {
        let sealed = seal(r#"{"a":[1,"x y"],"b":null}"#).into_bytes();
        assert_eq!(open(&sealed), Ok(r#"{"a":[1,"x y"],"b":null}"#));
        for n in 0..sealed.len() {
            for bit in 0..8 {
                let mut flipped = sealed.clone();
                flipped[n] ^= 1 << bit;
                assert!(open(&flipped).is_err(), "byte {n}, bit {bit}");
            }
            assert!(open(&sealed[..n]).is_err(), "cut at {n}");
            assert!(open(&sealed[n + 1..]).is_err(), "without the first {n}");
            for added in [b' ', b'0', b'\n'] {
                let mut more = sealed.clone();
                more.insert(n, added);
                assert!(open(&more).is_err(), "{added} added at {n}");
            }
        }
    }
}
