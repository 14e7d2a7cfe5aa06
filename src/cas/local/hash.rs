//! Hashing a file that somebody may write to.
//!
//! Purpose: give a file's digest together with the stat that it had all the while.
//! Invariant: a digest given is that of the bytes the file had while its stat was the one given.
//! Must not know: blobs, records of stats.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

use crate::cas::error::{During, StoreError};
use crate::cas::stat::{self, Stat};
use crate::digest::{Digest, Hasher};

/// From this size on it is quicker to wait until the times of a fresh file can be trusted than to hash it again
/// later.
pub(in crate::cas) const LARGE: u64 = 1 << 20;
/// The longest such wait.
const LONGEST_WAIT: Duration = Duration::from_millis(20);
/// How much of a file is read at once.
const BUFFER: usize = 256 * 1024;

/// A file's digest and the stat that it had all the while it was read.
#[derive(Debug, Clone)]
pub(in crate::cas) struct Hashed {
    pub digest: Digest,
    pub stat: Stat,
    /// When reading began.
    pub at: i64,
}

/// Whether a file has the bytes of a digest.
pub(in crate::cas) enum Checked {
    /// It has, and had this stat all the while.
    Still(Hashed),
    /// It has, and got or lost a name meanwhile, or another mode: the stat says nothing of the bytes.
    Relinked(u64),
    /// It has others.
    Other,
}

/// Hashes a file that nobody writes to meanwhile. `last_change` says which of its times count.
pub(in crate::cas) fn hash(path: &Path, last_change: fn(&Stat) -> i64) -> Result<Hashed, StoreError> {
    hash_to(path, last_change, &mut |_| Ok(()))
}

/// As `hash`, and gives each piece to `sink` as well; when the file changed meanwhile and is read again, an empty
/// piece comes first.
pub(in crate::cas) fn hash_to(
    path: &Path,
    last_change: fn(&Stat) -> i64,
    sink: &mut dyn FnMut(&[u8]) -> Result<(), StoreError>,
) -> Result<Hashed, StoreError> {
    for attempt in 0..3 {
        if attempt > 0 {
            sink(&[])?;
        }
        let (hashed, after) = hash_once(path, last_change, sink)?;
        if after == hashed.stat {
            return Ok(hashed);
        }
    }
    Err(StoreError::Moving(path.to_owned()))
}

/// Compares the bytes of a file with a digest. Unlike [`hash`] it needs no stat that stays: somebody else may give
/// a blob another name while it is read, which changes its ctime alone.
pub(in crate::cas) fn check(path: &Path, digest: &Digest) -> Result<Checked, StoreError> {
    for _ in 0..3 {
        let (hashed, after) = hash_once(path, Stat::last_change, &mut |_| Ok(()))?;
        let right = hashed.digest == *digest;
        if after == hashed.stat {
            return Ok(if right { Checked::Still(hashed) } else { Checked::Other });
        }
        if right && after.same_but_ctime(&hashed.stat) {
            return Ok(Checked::Relinked(after.size));
        }
    }
    Err(StoreError::Moving(path.to_owned()))
}

/// Reads a file once; gives its digest with the stat before, and the stat after.
fn hash_once(
    path: &Path,
    last_change: fn(&Stat) -> i64,
    sink: &mut dyn FnMut(&[u8]) -> Result<(), StoreError>,
) -> Result<(Hashed, Stat), StoreError> {
    let file = File::open(path).during("read", path)?;
    let stat_now = || file.metadata().map(|meta| Stat::of(&meta)).during("look at", path);
    let stat = stat_now()?;
    let wait = stat.racily_clean_for(last_change(&stat), stat::now());
    if let Some(wait) = wait.filter(|wait| stat.size >= LARGE && *wait <= LONGEST_WAIT) {
        std::thread::sleep(wait);
    }
    let at = stat::now();
    let (digest, length) = digest_of(&file, stat.size, path, sink)?;
    let after = stat_now()?;
    // What had another length when it was read has changed, whatever its times say.
    let after = if length == stat.size { after } else { Stat { size: length, ..after } };
    Ok((Hashed { digest, stat, at }, after))
}

/// The digest and length of a file of about `size` bytes, with no larger buffer than it needs.
fn digest_of(
    mut file: &File,
    size: u64,
    path: &Path,
    sink: &mut dyn FnMut(&[u8]) -> Result<(), StoreError>,
) -> Result<(Digest, u64), StoreError> {
    let mut hasher = Hasher::default();
    // One byte more than a small file has, so that a second read sees its end at once.
    let mut buffer = vec![0; usize::try_from(size.saturating_add(1)).unwrap_or(BUFFER).min(BUFFER)];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(n) => {
                hasher.update(&buffer[..n]);
                sink(&buffer[..n])?;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e).during("read", path),
        }
    }
}
