//! Where a state of training comes from: request, program, numerics.
//!
//! Purpose: what must be the same for a state to be resumed. A stage's action key says nothing of
//! the worker's build, of libtorch or of the device, so the checkpoint says it itself.
//! Invariant: two origins are equal only if the same program, asked for the same work, computes the
//! same bits from the same state.
//! Must not know: what the state is, files of checkpoints.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::context::Context;
use crate::device;

/// The origin of a state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// SHA-256 of kind and params. The digests of the inputs are unknown here; they are in the
    /// stage's action key, and each key has a checkpoint folder of its own.
    pub request: String,
    /// SHA-256 of the worker's executable.
    pub program: String,
    /// What the bits depend on beside the program: backend, version, device.
    pub numerics: BTreeMap<String, String>,
}

impl Origin {
    /// The origin of the states that this process makes.
    pub fn new(ctx: &Context) -> Self {
        Self {
            request: fingerprint(ctx.kind(), ctx.params()),
            program: program().to_owned(),
            numerics: device::exact_numerics(ctx.device()),
        }
    }

    /// Why a state of this origin must not be resumed by a process of the origin `now`.
    pub fn conflict(&self, now: &Self) -> Option<String> {
        if self.request != now.request {
            return Some("it belongs to a stage of another kind or with other params".to_owned());
        }
        if self.program != now.program {
            return Some("it was written by another build of the worker".to_owned());
        }
        let names = self.numerics.keys().chain(now.numerics.keys());
        let value = |of: &Self, name: &str| of.numerics.get(name).cloned().unwrap_or("none".to_owned());
        names.map(|name| (name, value(self, name), value(now, name))).find(|(_, was, is)| was != is).map(
            |(name, was, is)| {
                format!("it was written with another `{name}`: {was}, and this attempt has {is}")
            },
        )
    }
}

/// SHA-256 of a kind and its params; the order of the params and the spelling of the JSON do not matter.
fn fingerprint(kind: &str, params: &Value) -> String {
    let mut text = Value::from(kind).to_string();
    write_canonical(params, &mut text);
    hex(&Sha256::digest(text))
}

/// Appends JSON without spaces and with sorted keys.
fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let sorted: BTreeMap<&String, &Value> = map.iter().collect();
            for (i, (key, value)) in sorted.into_iter().enumerate() {
                out.push(if i == 0 { '{' } else { ',' });
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                write_canonical(value, out);
            }
            out.push_str(if map.is_empty() { "{}" } else { "}" });
        }
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                out.push_str(if i == 0 { "" } else { "," });
                write_canonical(item, out);
            }
            out.push(']');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

/// SHA-256 of the program that is running, read once. A program that cannot be read gets a name
/// that no other process has, so that nothing that it writes is ever resumed.
fn program() -> &'static str {
    static PROGRAM: OnceLock<String> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        digest_of_program().unwrap_or_else(|_| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            format!("unknown {} {}", std::process::id(), now.unwrap_or_default().as_nanos())
        })
    })
}

fn digest_of_program() -> io::Result<String> {
    // This is the file that runs, even if a newer build has meanwhile replaced it at its path.
    let file = File::open("/proc/self/exe").or_else(|_| File::open(std::env::current_exe()?))?;
    let mut hasher = Sha256::new();
    io::copy(&mut io::BufReader::with_capacity(1 << 20, file), &mut hasher)?;
    Ok(hex(&hasher.finalize()))
}

/// Bytes as lowercase hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_fingerprint_ignores_the_order_of_params_and_nothing_else() {
        let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        let wanted = fingerprint("sft", &parse(r#"{"a": 1, "b": [true, {"d": "x", "c": null}]}"#));
        assert_eq!(fingerprint("sft", &parse(r#"{"b":[true,{"c":null,"d":"x"}],"a":1}"#)), wanted);
        for other in [
            json!({"a": 2, "b": [true, {"d": "x", "c": null}]}),
            json!({"a": 1, "b": [{"d": "x", "c": null}, true]}),
            json!({"a": 1, "b": [true, {"d": "y", "c": null}]}),
            json!({"a": 1, "b": [true, {"d": "x"}]}),
            json!({"a": 1, "b": "[true,{\"c\":null,\"d\":\"x\"}]"}),
            json!({}),
            json!([]),
        ] {
            assert_ne!(fingerprint("sft", &other), wanted, "{other}");
        }
        assert_ne!(fingerprint("sft2", &parse(r#"{"a": 1, "b": [true, {"d": "x", "c": null}]}"#)), wanted);
    }

    #[test]
    fn the_program_has_one_digest_which_is_that_of_its_file() {
        let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(program(), hex(&Sha256::digest(bytes)));
        assert_eq!(program(), program());
    }
}
