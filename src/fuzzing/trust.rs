//! Keys, signatures and statements.

use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;

use crate::cas::trust::{PrivateKey, PublicKey, Signature, TrustPolicy, envelope, statement};
use crate::cas::types::{ACTION_FORMAT, Action, Provenance};
use crate::digest::{CanonicalJson, Digest, canonical_json};

/// A text as a public key, as a private one, as a signature, and as the key inputs of an action that is signed.
pub fn trust(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(key) = text.parse::<PublicKey>() {
        assert_eq!(key.to_string().parse::<PublicKey>().ok(), Some(key));
        assert_eq!(key.id().len(), 16);
    }
    if let Some(key) = PrivateKey::from_pem(text) {
        let signed = action(&Value::Null);
        assert!(Signature::of(&signed, &key).is_of(&signed, &key.public()));
    }
    let known = known();
    if let Ok(signature) = serde_json::from_str::<Signature>(text) {
        let again = serde_json::to_string(&signature).unwrap();
        assert_eq!(serde_json::from_str::<Signature>(&again).ok(), Some(signature));
    }
    forged(text, known);
    if let Ok(key_inputs) = serde_json::from_str::<Value>(text) {
        signed(&key_inputs, known);
    }
}

/// Nobody without the key makes a signature that counts.
fn forged(text: &str, known: &PrivateKey) {
    let mut action = action(&Value::Null);
    action.signatures = vec![Signature { keyid: known.public().id(), sig: text.to_owned() }];
    let policy =
        TrustPolicy { keys: [("known".into(), known.public())].into(), demanded: true, signer: None };
    assert!(!policy.accepts(&action));
}

/// An envelope holds the statement, and a signature holds for one action.
fn signed(key_inputs: &Value, known: &PrivateKey) {
    let mut action = action(key_inputs);
    let signature = Signature::of(&action, known);
    assert!(signature.is_of(&action, &known.public()));
    action.signatures = vec![signature.clone()];
    let envelope = envelope(&action);
    let payload = BASE64.decode(envelope["payload"].as_str().unwrap()).unwrap();
    assert_eq!(payload, canonical_json(&statement(&action)).into_bytes());
    action.provenance.seconds += 1.0;
    assert!(!signature.is_of(&action, &known.public()));
}

fn action(key_inputs: &Value) -> Action {
    Action {
        format: ACTION_FORMAT.into(),
        key: Digest::of_json(key_inputs),
        key_inputs: CanonicalJson::of(key_inputs),
        outputs: [].into(),
        provenance: Provenance {
            run: "r-0001".into(),
            started: String::new(),
            seconds: 1.0,
            kiln: String::new(),
            provider: None,
            summary: Vec::new(),
        },
        signatures: Vec::new(),
    }
}

fn known() -> &'static PrivateKey {
    static KNOWN: OnceLock<PrivateKey> = OnceLock::new();
    KNOWN.get_or_init(|| PrivateKey::generate().unwrap())
}
