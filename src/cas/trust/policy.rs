//! Whose actions count.
//!
//! Purpose: the keys that are trusted, and whether a record needs a signature by one of them.
//! Invariant: where signatures are demanded, a record without one counts as absent, wherever it lies. Who is trusted
//! is said by the user alone; a pipeline may only demand.
//! Must not know: where records lie.

use std::collections::BTreeMap;

use super::envelope::Signature;
use super::key::{PrivateKey, PublicKey};
use crate::cas::types::Action;

/// The most signatures of an action that are looked at.
const MOST_SIGNATURES: usize = 16;

/// What stands for the name of our own key.
pub const OWN: &str = "you";

/// The keys of a user.
#[derive(Debug, Default)]
pub struct TrustPolicy {
    /// The trusted keys by the names that the user gave them.
    pub keys: BTreeMap<String, PublicKey>,
    /// Whether a record counts only with a signature by a trusted key.
    pub demanded: bool,
    /// Signs what is committed here; its own signatures are trusted.
    pub signer: Option<PrivateKey>,
}

impl TrustPolicy {
    /// Signs an action that was made here, if there is a key.
    pub fn sign(&self, action: &mut Action) {
        action.signatures = self.signer.iter().map(|key| Signature::of(action, key)).collect();
    }

    /// Whether an action counts.
    pub fn accepts(&self, action: &Action) -> bool {
        !self.demanded || self.signed_by(action).is_some()
    }

    /// Whether a record that is there makes another one of the same outputs needless: it counts, and is signed by
    /// somebody who is trusted if the other one is signed.
    pub fn is_as_good(&self, known: &Action, other: &Action) -> bool {
        let signed = other.signatures.is_empty() || self.signed_by(known).is_some();
        self.accepts(known) && known.outputs == other.outputs && signed
    }

    /// The trusted key that signed an action, by name; our own is `you`.
    pub fn signed_by(&self, action: &Action) -> Option<&str> {
        self.signer_of(action).map(|(name, _)| name)
    }

    /// The trusted key that signed an action, with its name; that of our own is `you`, unless it is trusted by another
    /// name, too.
    pub fn signer_of(&self, action: &Action) -> Option<(&str, PublicKey)> {
        let own = self.signer.iter().map(|key| (OWN, key.public()));
        let named = self.keys.iter().map(|(name, key)| (name.as_str(), *key));
        let keys: Vec<_> = own.chain(named.clone()).collect();
        // The id of a key is a hint, and that of another key does not take a signature away.
        let signed = |key: &PublicKey| {
            action.signatures.iter().take(MOST_SIGNATURES).any(|signature| signature.is_of(action, key))
        };
        let (name, key) = keys.into_iter().find(|(_, key)| signed(key))?;
        let by_name = named.clone().find(|(_, known)| *known == key).map(|(name, _)| name);
        Some((by_name.unwrap_or(name), key))
    }
}
