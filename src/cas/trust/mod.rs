//! Who made an action: signatures, and which of them count.
//!
//! The way through: [`key`](PublicKey) (ed25519, on disk and as text) -> `statement` (what is signed: the in-toto
//! statement of an action) -> `envelope` (DSSE) -> [`TrustPolicy`] (whose signatures count, and whether one is needed).

mod envelope;
mod key;
mod policy;
mod statement;

pub use envelope::{Signature, envelope};
pub use key::{KeyError, PrivateKey, PublicKey};
pub use policy::{OWN, TrustPolicy};
pub use statement::statement;
