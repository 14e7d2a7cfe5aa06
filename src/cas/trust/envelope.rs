//! Signatures of statements.
//!
//! Purpose: sign an action, verify a signature, and write the envelope that usual tools check.
//! Invariant: what is signed is the pre-authentication encoding of DSSE, which names the type of the payload.
//! Must not know: whose signature counts.
//!
//! Source: Dead Simple Signing Envelope, protocol v1.0.2.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::key::{PrivateKey, PublicKey};
use super::statement::statement;
use crate::cas::types::Action;
use crate::digest::canonical_json;

/// The type of the payload.
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

/// A signature of the statement of an action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// The id of the key: a hint.
    pub keyid: String,
    /// The signature, in base64.
    pub sig: String,
}

impl Signature {
    /// Signs an action.
    pub fn of(action: &Action, key: &PrivateKey) -> Self {
        let sig = key.sign(&signed_bytes(action));
        Self { keyid: key.public().id(), sig: BASE64.encode(sig) }
    }

    /// Whether it is that of this action by this key.
    pub fn is_of(&self, action: &Action, key: &PublicKey) -> bool {
        BASE64.decode(&self.sig).is_ok_and(|sig| key.verifies(&signed_bytes(action), &sig))
    }
}

/// The envelope of an action, with its statement and its signatures.
pub fn envelope(action: &Action) -> Value {
    let payload = BASE64.encode(canonical_json(&statement(action)));
    json!({ "payload": payload, "payloadType": PAYLOAD_TYPE, "signatures": action.signatures })
}

fn signed_bytes(action: &Action) -> Vec<u8> {
    let payload = canonical_json(&statement(action));
    format!("DSSEv1 {} {PAYLOAD_TYPE} {} {payload}", PAYLOAD_TYPE.len(), payload.len()).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cas::tests::action;
    use crate::cas::types::ArtifactRef;
    use crate::digest::Digest;

    fn sample() -> Action {
        let artifact =
            |tree| ArtifactRef { digest: Digest::of_bytes(b"x"), tree, executable: false, size: 1 };
        let mut action = action(
            json!({ "inputs": { "i": "ab".repeat(32) + "/" }, "params": { "rate": 1e-3 }, "uses": { "a.py": "cd".repeat(32) + "*" } }),
            &[("file", artifact(false)), ("folder", artifact(true))],
        );
        action.provenance.summary = vec![("loss".into(), 2.5)];
        action
    }

    #[test]
    fn a_signature_holds_for_one_action_and_one_key() {
        let (key, other) = (PrivateKey::generate().unwrap(), PrivateKey::generate().unwrap());
        let action = sample();
        let signature = Signature::of(&action, &key);
        assert!(signature.is_of(&action, &key.public()));
        assert!(!signature.is_of(&action, &other.public()));
        let changes: [fn(&mut Action); 9] = [
            |a| a.key = Digest::of_bytes(b"other"),
            |a| a.key_inputs = crate::digest::CanonicalJson::of(&json!({ "params": { "rate": 2e-3 } })),
            |a| a.outputs.values_mut().for_each(|o| o.digest = Digest::of_bytes(b"y")),
            |a| a.outputs.values_mut().for_each(|o| o.size = 2),
            |a| a.outputs.values_mut().for_each(|o| o.executable = !o.tree),
            |a| _ = a.outputs.remove("file"),
            |a| a.provenance.seconds = 9.0,
            |a| a.provenance.provider = Some(Digest::of_bytes(b"p")),
            |a| a.provenance.summary.clear(),
        ];
        for (n, change) in changes.into_iter().enumerate() {
            let mut changed = action.clone();
            change(&mut changed);
            assert!(!signature.is_of(&changed, &key.public()), "change {n}");
        }
        let broken = Signature { sig: signature.sig.replace('A', "B"), ..signature };
        assert!(broken.sig == signature_text(&action, &key) || !broken.is_of(&action, &key.public()));
    }

    fn signature_text(action: &Action, key: &PrivateKey) -> String {
        Signature::of(action, key).sig
    }

    /// Signatures that were made stay valid: the text must not change under this format of actions.
    #[test]
    fn the_signed_text_stays_as_it_is() {
        let digest = Digest::of_bytes(&signed_bytes(&sample()));
        assert_eq!(digest.to_string(), GOLDEN);
    }

    const GOLDEN: &str = "7b3ad2850656719cf69a72cb4659ac5405600173ca428fd6da5e3e8606fc8746";
}
