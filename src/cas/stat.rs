//! What a file system says of a file, and when that may stand for its bytes.
//!
//! Purpose: the test by which a file need not be read again.
//! Invariant: a file that is changed after it was hashed never has a stat that was trusted.
//! Must not know: blobs, or how records of stats are kept.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::disk::Disk;
use crate::digest::Digest;

const SECOND: i64 = 1_000_000_000;
/// File times come from the kernel's tick, at most 10 ms long; twice that is safe.
const TICK: i64 = SECOND / 50;
/// File systems that keep whole seconds keep them to two at worst.
const COARSE: i64 = 2 * SECOND;

/// The identity and times of a file; times in nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stat {
    /// The device.
    pub dev: u64,
    /// The inode.
    pub ino: u64,
    /// Bytes.
    pub size: u64,
    /// When its bytes last changed.
    pub mtime: i64,
    /// When its bytes or anything of its inode last changed.
    pub ctime: i64,
}

impl Stat {
    /// What `meta` says.
    pub fn of(meta: &Metadata) -> Self {
        let nanos = |s: i64, n: i64| s.saturating_mul(SECOND).saturating_add(n);
        Self {
            dev: meta.dev(),
            ino: meta.ino(),
            size: meta.len(),
            mtime: nanos(meta.mtime(), meta.mtime_nsec()),
            ctime: nanos(meta.ctime(), meta.ctime_nsec()),
        }
    }

    /// How long after `now` it takes until a change would surely show in the stat, judged by the time
    /// of the last change; none when it would show already.
    ///
    /// A write within the clock's grain of the last one may leave every time as it is, so bytes
    /// that were read so early say nothing of what is there later.
    pub fn racily_clean_for(&self, last_change: i64, now: i64) -> Option<Duration> {
        let whole_seconds = self.mtime % SECOND == 0 && self.ctime % SECOND == 0;
        let grain = if whole_seconds { COARSE } else { TICK };
        let old_at = last_change.saturating_add(grain);
        (old_at > now).then(|| Duration::from_nanos(old_at.saturating_sub(now).unsigned_abs()))
    }

    /// Whether nothing but the ctime differs, as after a rename, a link or a change of mode.
    pub fn same_but_ctime(&self, other: &Self) -> bool {
        Self { ctime: other.ctime, ..*self } == *other
    }

    /// The later of its two times.
    pub fn last_change(&self) -> i64 {
        self.mtime.max(self.ctime)
    }
}

/// The records of stats: which digest the bytes of a file had when it had this stat. A record is made only for
/// a stat that was not racily clean when the bytes were read.
pub trait Trust: Send + Sync {
    /// The digest of the file at an absolute path, if its stat is the one recorded.
    fn file(&self, path: &Path, stat: &Stat) -> Option<Digest>;
    /// Records the digest of the file at an absolute path.
    fn record_file(&self, path: &Path, stat: Stat, digest: Digest);
    /// Whether the stat of a blob is the one recorded when its bytes were verified.
    fn blob(&self, digest: &Digest, stat: &Stat) -> bool;
    /// Records the stat of a blob that was verified.
    fn record_blob(&self, digest: Digest, stat: Stat);
    /// Forgets a blob.
    fn forget_blob(&self, digest: &Digest);
    /// Saves the records, if they changed.
    ///
    /// # Errors
    /// The disk refuses; nothing but time is lost then.
    fn save(&self, disk: &dyn Disk) -> io::Result<()>;
}

/// The clock that file times are compared with, in nanoseconds since 1970.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed_at(time: i64) -> Stat {
        Stat { dev: 1, ino: 2, size: 3, mtime: time, ctime: time }
    }

    #[test]
    fn a_file_changed_within_the_clocks_grain_is_racily_clean() {
        let stat = changed_at(5 * SECOND + 1);
        let racily_clean = |after| stat.racily_clean_for(stat.last_change(), stat.mtime + after).is_some();
        assert!(racily_clean(0) && racily_clean(TICK - 1));
        assert!(!racily_clean(TICK));
    }

    #[test]
    fn whole_seconds_tell_of_a_coarse_clock() {
        let stat = changed_at(5 * SECOND);
        assert_eq!(stat.racily_clean_for(stat.mtime, stat.mtime + SECOND), Some(Duration::from_secs(1)));
        assert_eq!(stat.racily_clean_for(stat.mtime, stat.mtime + COARSE), None);
    }

    #[test]
    fn a_file_from_the_future_is_racily_clean() {
        let stat = changed_at(i64::MAX - 5);
        assert!(stat.racily_clean_for(stat.mtime, now()).is_some());
    }
}
