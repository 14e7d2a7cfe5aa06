//! What is known of files by their stat.
//!
//! Purpose: a file whose stat is the one recorded has the digest recorded, and need not be read.
//! One file on disk, `artifacts/cache/stat`, a record a file, under a checksum.
//! Invariant: a record is only made for bytes read when the stat was old enough (see `stat`); a
//! damaged or unreadable cache is an empty one; losing it costs time only.
//! Must not know: where blobs lie, what actions are.

use std::collections::HashMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::stat::Stat;
use crate::digest::Digest;

const HEADER: &str = "kiln.stat/1";
/// With more records than this, those that nobody asked for are dropped when saving.
const MANY: usize = 200_000;
/// No more than this is read: far above what `MANY` records take.
const MOST_BYTES: u64 = 1 << 30;

struct Record<V> {
    stat: Stat,
    value: V,
    used: bool,
}

/// Stats by path (of files outside) and by digest (of blobs).
#[derive(Default)]
pub(super) struct StatCache {
    /// By the path's bytes, which hash faster than a path.
    files: HashMap<Box<[u8]>, Record<Digest>>,
    blobs: HashMap<Digest, Record<()>>,
    changed: bool,
    /// The stat of the cache's own file when it was last read or written.
    own: Option<Stat>,
}

impl StatCache {
    /// Reads the cache; anything wrong with it makes it empty.
    pub fn load(file: &Path) -> Self {
        let mut cache = Self::default();
        cache.merge(file);
        cache
    }

    /// The digest of the file at `path`, if its stat is the one recorded.
    pub fn file(&mut self, path: &Path, stat: &Stat) -> Option<Digest> {
        let record = self.files.get_mut(path.as_os_str().as_bytes()).filter(|r| r.stat == *stat)?;
        record.used = true;
        Some(record.value)
    }

    /// Records the digest of the file at `path`.
    pub fn put_file(&mut self, path: &Path, stat: Stat, digest: Digest) {
        self.changed = true;
        self.files.insert(path.as_os_str().as_bytes().into(), Record { stat, value: digest, used: true });
    }

    /// Whether the blob's stat is the one recorded when it was verified.
    pub fn blob(&mut self, digest: &Digest, stat: &Stat) -> bool {
        let record = self.blobs.get_mut(digest).filter(|r| r.stat == *stat);
        record.map(|r| r.used = true).is_some()
    }

    /// Records the stat of a blob that was verified.
    pub fn put_blob(&mut self, digest: Digest, stat: Stat) {
        self.changed = true;
        self.blobs.insert(digest, Record { stat, value: (), used: true });
    }

    /// Forgets a blob.
    pub fn drop_blob(&mut self, digest: &Digest) {
        self.changed |= self.blobs.remove(digest).is_some();
    }

    /// The bytes to save and what to call when they are saved, or none when nothing changed. What
    /// another process saved since is taken in first.
    pub fn prepare_save(&mut self, file: &Path) -> Option<Vec<u8>> {
        if !self.changed {
            return None;
        }
        if fs::metadata(file).ok().map(|m| Stat::of(&m)) != self.own {
            self.merge(file);
        }
        if self.files.len() + self.blobs.len() > MANY {
            self.files.retain(|_, r| r.used);
            self.blobs.retain(|_, r| r.used);
        }
        Some(self.encode())
    }

    /// Notes that what `prepare_save` gave is in `file` now.
    pub fn saved(&mut self, file: &Path) {
        self.changed = false;
        self.own = fs::metadata(file).ok().map(|m| Stat::of(&m));
    }

    /// Takes in the records of `file` that are not known here.
    fn merge(&mut self, file: &Path) {
        let Ok(meta) = fs::metadata(file) else { return };
        let sane = meta.is_file() && meta.len() <= MOST_BYTES;
        let Some(bytes) = sane.then(|| fs::read(file).ok()).flatten() else { return };
        self.own = Some(Stat::of(&meta));
        if self.decode(&bytes).is_none() {
            tracing::warn!(file = %file.display(), "the stat cache is damaged; files will be read again");
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(160 * (self.files.len() + self.blobs.len()));
        self.blobs.iter().for_each(|(digest, r)| encode(&mut body, digest, &r.stat, b""));
        self.files.iter().for_each(|(path, r)| encode(&mut body, &r.value, &r.stat, path));
        let mut out = format!("{HEADER} {}\n", Digest::of_bytes(&body)).into_bytes();
        out.append(&mut body);
        out
    }

    fn decode(&mut self, bytes: &[u8]) -> Option<()> {
        let end = bytes.iter().position(|b| *b == b'\n')?;
        let (header, mut body) = (std::str::from_utf8(&bytes[..end]).ok()?, &bytes[end + 1..]);
        let sum: Digest = header.strip_prefix(HEADER)?.strip_prefix(' ')?.parse().ok()?;
        if Digest::of_bytes(body) != sum {
            return None;
        }
        self.files.reserve(body.len() / 160);
        self.blobs.reserve(body.len() / 160);
        while !body.is_empty() {
            let (digest, stat, path) = decode(&mut body)?;
            if path.is_empty() {
                self.blobs.entry(digest).or_insert(Record { stat, value: (), used: false });
            } else {
                self.files.entry(path.into()).or_insert(Record { stat, value: digest, used: false });
            }
        }
        Some(())
    }
}

/// A record: digest, five numbers, the path's length, the path (none of a blob); little-endian.
fn encode(body: &mut Vec<u8>, digest: &Digest, s: &Stat, path: &[u8]) {
    body.extend_from_slice(digest.as_bytes());
    for number in [s.dev, s.ino, s.size, s.mtime.cast_unsigned(), s.ctime.cast_unsigned(), path.len() as u64]
    {
        body.extend_from_slice(&number.to_le_bytes());
    }
    body.extend_from_slice(path);
}

/// Takes a record off the front of `body`.
fn decode<'a>(body: &mut &'a [u8]) -> Option<(Digest, Stat, &'a [u8])> {
    let digest = Digest::from_bytes(take(body)?);
    let mut number = || take(body).map(u64::from_le_bytes);
    let (dev, ino, size) = (number()?, number()?, number()?);
    let (mtime, ctime) = (number()?.cast_signed(), number()?.cast_signed());
    let length = usize::try_from(number()?).ok()?;
    let (path, rest) = body.split_at_checked(length)?;
    *body = rest;
    Some((digest, Stat { dev, ino, size, mtime, ctime }, path))
}

fn take<const N: usize>(body: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = body.split_first_chunk()?;
    *body = rest;
    Some(*first)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    fn stat(n: u64) -> Stat {
        Stat { dev: 1, ino: n, size: n * 7, mtime: -5, ctime: i64::MAX - n as i64 }
    }

    fn save(cache: &mut StatCache, file: &Path) {
        fs::write(file, cache.prepare_save(file).unwrap()).unwrap();
        cache.saved(file);
    }

    #[test]
    fn records_survive_a_save_whatever_the_path() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("stat");
        let odd = Path::new(OsStr::from_bytes(b"/a b\n\xff"));
        let (d, e) = (Digest::of_bytes(b"d"), Digest::of_bytes(b"e"));
        let mut cache = StatCache::load(&file);
        cache.put_file(odd, stat(1), d);
        cache.put_blob(e, stat(2));
        save(&mut cache, &file);
        assert!(cache.prepare_save(&file).is_none());
        let mut back = StatCache::load(&file);
        assert_eq!(back.file(odd, &stat(1)), Some(d));
        assert_eq!(back.file(odd, &stat(3)), None);
        assert!(back.blob(&e, &stat(2)) && !back.blob(&e, &stat(1)) && !back.blob(&d, &stat(1)));
    }

    #[test]
    fn a_cache_with_any_flipped_bit_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("stat");
        let mut cache = StatCache::default();
        cache.put_blob(Digest::of_bytes(b"e"), stat(2));
        let good = cache.prepare_save(&file).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 4;
            fs::write(&file, bad).unwrap();
            assert!(StatCache::load(&file).blobs.is_empty(), "byte {at}");
        }
    }

    #[test]
    fn two_processes_lose_nothing_of_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("stat");
        let (mut one, mut two) = (StatCache::load(&file), StatCache::load(&file));
        one.put_file(Path::new("/one"), stat(1), Digest::of_bytes(b"1"));
        two.put_file(Path::new("/two"), stat(2), Digest::of_bytes(b"2"));
        save(&mut one, &file);
        save(&mut two, &file);
        let mut both = StatCache::load(&file);
        assert!(both.file(Path::new("/one"), &stat(1)).is_some());
        assert!(both.file(Path::new("/two"), &stat(2)).is_some());
    }
}
