//! Keys of builders.
//!
//! Purpose: make, store and read ed25519 keys: the private one as PKCS #8 in PEM, the public one as a line of text.
//! Invariant: a private key is written for its owner alone, and nothing here prints it.
//! Must not know: what is signed.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, EncodePrivateKey, KeypairBytes};
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};

use crate::cas::disk::{Disk, Os, beside, make_durable_folders};
use crate::digest::Digest;

/// How the text of a public key begins.
const PREFIX: &str = "ed25519:";
/// The most bytes of the file of a key.
const MOST_BYTES: u64 = 16 << 10;

/// What is wrong with a key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A text that is no public key.
    #[error(
        "`{text}` is not a public key: {why}; one looks like ed25519:BASE64, as `kiln key list` prints it"
    )]
    Public {
        /// The text.
        text: String,
        /// What is wrong.
        why: &'static str,
    },
    /// A file that holds no private key.
    #[error("{} holds no private key of ed25519 in PEM (PKCS #8)", .0.display())]
    Private(PathBuf),
    /// A key that would be overwritten.
    #[error("{} exists; a key that signed something is not replaced: name another one", .0.display())]
    Exists(PathBuf),
    /// The system refused it.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
}

/// The public key of a builder.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// A short name that follows from the key: the first 16 hex digits of the SHA-256 of its 32 bytes.
    pub fn id(&self) -> String {
        Digest::of_bytes(self.0.as_bytes()).to_string()[..16].to_owned()
    }

    /// Whether this is the signature of these bytes. Keys and signatures with several forms are refused.
    pub(super) fn verifies(&self, bytes: &[u8], signature: &[u8]) -> bool {
        ed25519_dalek::Signature::from_slice(signature)
            .is_ok_and(|signature| self.0.verify_strict(bytes, &signature).is_ok())
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", BASE64.encode(self.0.as_bytes()))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let wrong = |why| KeyError::Public { text: text.chars().take(80).collect(), why };
        let encoded = text.strip_prefix(PREFIX).ok_or_else(|| wrong("it does not begin with `ed25519:`"))?;
        let bytes = BASE64.decode(encoded).map_err(|_| wrong("it is not base64"))?;
        let bytes: [u8; 32] = bytes.try_into().map_err(|_| wrong("it does not have 32 bytes"))?;
        let key = VerifyingKey::from_bytes(&bytes).map_err(|_| wrong("it is not a point of the curve"))?;
        if key.is_weak() { Err(wrong("it is a weak key")) } else { Ok(Self(key)) }
    }
}

/// The private key of a builder.
pub struct PrivateKey(SigningKey);

impl PrivateKey {
    /// A new key.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn generate() -> io::Result<Self> {
        let mut seed = [0; 32];
        rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty())?;
        Ok(Self(SigningKey::from_bytes(&seed)))
    }

    /// The public key.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// Writes the key to a new file, which its owner alone may read.
    ///
    /// # Errors
    /// The file exists, or the disk refuses.
    pub fn save(&self, path: &Path) -> Result<(), KeyError> {
        self.save_on(&Os::default(), path)
    }

    /// The file appears whole or not at all: a part of a key would be no key, and would be in the way of one.
    fn save_on(&self, disk: &dyn Disk, path: &Path) -> Result<(), KeyError> {
        let io = |what| move |source| KeyError::Io { what, path: path.to_owned(), source };
        // Without the public key: older programs read no other form.
        let pair = KeypairBytes { secret_key: self.0.to_bytes(), public_key: None };
        let text = pair.to_pkcs8_pem(LineEnding::LF).map_err(|_| KeyError::Private(path.to_owned()))?;
        let folder = path.parent().unwrap_or(path);
        make_durable_folders(disk, folder).map_err(io("make the folder of"))?;
        let fresh = beside(path).map_err(io("write"))?;
        let file = disk.create(&fresh).map_err(io("write"))?;
        // Its owner's alone before there is anything in it.
        let named = disk
            .set_mode(&fresh, 0o600)
            .and_then(|()| disk.append(&file, text.as_bytes()))
            .and_then(|()| disk.sync(&fresh))
            .and_then(|()| disk.rename_new(&fresh, path));
        if named.is_err() {
            let _ = disk.remove_file(&fresh);
        }
        match named {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Err(KeyError::Exists(path.to_owned())),
            named => named.and_then(|()| disk.sync_folder(folder)).map_err(io("write")),
        }
    }

    /// Reads a key.
    ///
    /// # Errors
    /// The file cannot be read, or holds no key.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let text = fs::File::open(path)
            .and_then(|file| io::read_to_string(io::Read::take(file, MOST_BYTES)))
            .map_err(|source| KeyError::Io { what: "read", path: path.to_owned(), source })?;
        Self::from_pem(&text).ok_or_else(|| KeyError::Private(path.to_owned()))
    }

    /// The key of a text in PEM; none when it holds none of ed25519.
    pub(crate) fn from_pem(text: &str) -> Option<Self> {
        SigningKey::from_pkcs8_pem(text).map(Self).ok()
    }

    pub(super) fn sign(&self, bytes: &[u8]) -> [u8; 64] {
        self.0.sign(bytes).to_bytes()
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey of {}", self.public())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cas::tests::faults::Faulty;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_is_read_back_is_its_owners_alone_and_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys/a.pem");
        let key = PrivateKey::generate().unwrap();
        key.save(&path).unwrap();
        assert_eq!(PrivateKey::load(&path).unwrap().public(), key.public());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(key.save(&path), Err(KeyError::Exists(_))));
        assert_eq!(key.public().to_string().parse::<PublicKey>().unwrap(), key.public());
        assert!(!format!("{key:?}").contains("PRIVATE"));
    }

    #[test]
    fn a_key_that_finds_no_room_on_the_disk_leaves_nothing_and_the_next_try_works() {
        let mut faults = 0;
        for step in 0.. {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("keys/a.pem");
            let disk = Faulty::at(step, rustix::io::Errno::NOSPC);
            let key = PrivateKey::generate().unwrap();
            let saved = key.save_on(&*disk, &path);
            if !disk.failed() {
                saved.unwrap();
                break;
            }
            faults += 1;
            let error = saved.unwrap_err().to_string();
            assert!(error.contains("a.pem") && error.contains("No space left"), "{error}");
            match key.save(&path) {
                // The last step syncs the name of a file that is whole.
                Err(KeyError::Exists(_)) => {}
                saved => saved.unwrap(),
            }
            assert_eq!(PrivateKey::load(&path).unwrap().public(), key.public(), "step {step}");
            assert_eq!(fs::read_dir(folder.path().join("keys")).unwrap().count(), 1, "step {step}");
        }
        assert!(faults > 5, "only {faults} steps: do keys still go through the disk?");
    }

    #[test]
    fn what_is_no_public_key_is_refused() {
        let weak = format!("{PREFIX}{}", BASE64.encode([0; 32]));
        for text in ["", "ed25519:", "rsa:AAAA", "ed25519:!", "ed25519:AAAA", &weak] {
            assert!(text.parse::<PublicKey>().is_err(), "{text}");
        }
    }

    /// RFC 8032, section 7.1, test 2.
    #[test]
    fn signatures_are_those_of_the_standard() {
        let secret = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb";
        let bytes = |hex: &str| -> Vec<u8> {
            (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
        };
        let key = PrivateKey(SigningKey::from_bytes(&bytes(secret).try_into().unwrap()));
        let expected = "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00";
        assert_eq!(key.sign(&[0x72]).to_vec(), bytes(expected));
        assert!(key.public().verifies(&[0x72], &bytes(expected)));
        assert!(!key.public().verifies(&[0x73], &bytes(expected)));
    }
}
