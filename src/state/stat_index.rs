//! What is known of files by their stat.
//!
//! Purpose: a file whose stat is the one recorded has the digest recorded, and need not be read.
//! One file on disk, `artifacts/cache/stat`, a record a file, under a checksum.
//! Invariant: a record is only made for bytes read when the stat was old enough (see `cas::Stat`);
//! a damaged or unreadable cache is an empty one; losing it costs time only.
//! Must not know: where blobs lie, what actions are.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::cas::disk::{Disk, make_durable_folders, replace_on};
use crate::cas::{Stat, Trust, unpoisoned};
use crate::digest::Digest;

pub(crate) const HEADER: &str = "kiln.stat/1";
/// With more records than this, those that nobody asked for are dropped when saving.
const MANY: usize = 200_000;
/// No more than this is read: far above what `MANY` records take.
const MOST_BYTES: u64 = 1 << 30;

#[derive(Debug, PartialEq)]
struct Record<V> {
    stat: Stat,
    value: V,
    used: bool,
}

/// The records of stats of a store, in one file, which is read at the first use; shared by threads.
pub struct StatIndex {
    file: PathBuf,
    table: Mutex<Option<Table>>,
}

impl StatIndex {
    /// The records in this file, which may be missing.
    pub fn new(file: &Path) -> Self {
        Self { file: file.to_owned(), table: Mutex::default() }
    }

    fn with<T>(&self, work: impl FnOnce(&mut Table) -> T) -> T {
        let mut table = unpoisoned(&self.table);
        work(table.get_or_insert_with(|| Table::load(&self.file)))
    }
}

impl Trust for StatIndex {
    fn file(&self, path: &Path, stat: &Stat) -> Option<Digest> {
        self.with(|table| table.file(path, stat))
    }

    fn record_file(&self, path: &Path, stat: Stat, digest: Digest) {
        self.with(|table| table.put_file(path, stat, digest));
    }

    fn blob(&self, digest: &Digest, stat: &Stat) -> bool {
        self.with(|table| table.blob(digest, stat))
    }

    fn record_blob(&self, digest: Digest, stat: Stat) {
        self.with(|table| table.put_blob(digest, stat));
    }

    fn forget_blob(&self, digest: &Digest) {
        self.with(|table| table.drop_blob(digest));
    }

    fn save(&self, disk: &dyn Disk) -> io::Result<()> {
        let Some(bytes) = self.with(|table| table.prepare_save(&self.file)) else { return Ok(()) };
        self.file.parent().map_or(Ok(()), |folder| make_durable_folders(disk, folder))?;
        replace_on(disk, &self.file, &bytes)?;
        self.with(|table| table.saved(&self.file));
        Ok(())
    }
}

/// Stats by path (of files outside) and by digest (of blobs).
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Table {
    /// By the path's bytes, which hash faster than a path.
    files: HashMap<Box<[u8]>, Record<Digest>>,
    blobs: HashMap<Digest, Record<()>>,
    changed: bool,
    /// The stat of the file itself when it was last read or written.
    own: Option<Stat>,
}

impl Table {
    /// Reads the file; anything wrong with it makes it empty.
    pub fn load(file: &Path) -> Self {
        let mut table = Self::default();
        table.merge(file);
        table
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
            tracing::warn!(file = %file.display(), "the stat index is damaged; files will be read again");
        }
    }

    /// The bytes of the file.
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(160 * (self.files.len() + self.blobs.len()));
        self.blobs.iter().for_each(|(digest, r)| encode(&mut body, digest, &r.stat, b""));
        self.files.iter().for_each(|(path, r)| encode(&mut body, &r.value, &r.stat, path));
        let mut out = format!("{HEADER} {}\n", Digest::of_bytes(&body)).into_bytes();
        out.append(&mut body);
        out
    }

    /// Takes in the records of a file; none when its checksum or its form is wrong.
    pub fn decode(&mut self, bytes: &[u8]) -> Option<()> {
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

    fn save(table: &mut Table, file: &Path) {
        fs::write(file, table.prepare_save(file).unwrap()).unwrap();
        table.saved(file);
    }

    #[test]
    fn records_survive_a_save_whatever_the_path() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("stat");
        let odd = Path::new(OsStr::from_bytes(b"/a b\n\xff"));
        let (d, e) = (Digest::of_bytes(b"d"), Digest::of_bytes(b"e"));
        let mut table = Table::load(&file);
        table.put_file(odd, stat(1), d);
        table.put_blob(e, stat(2));
        save(&mut table, &file);
        assert!(table.prepare_save(&file).is_none());
        let mut back = Table::load(&file);
        assert_eq!(back.file(odd, &stat(1)), Some(d));
        assert_eq!(back.file(odd, &stat(3)), None);
        assert!(back.blob(&e, &stat(2)) && !back.blob(&e, &stat(1)) && !back.blob(&d, &stat(1)));
    }

    #[test]
    fn a_cache_with_any_flipped_bit_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("stat");
        let mut table = Table::default();
        table.put_blob(Digest::of_bytes(b"e"), stat(2));
        let good = table.prepare_save(&file).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 4;
            fs::write(&file, bad).unwrap();
            assert!(Table::load(&file).blobs.is_empty(), "byte {at}");
        }
    }

    #[test]
    fn two_processes_lose_nothing_of_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("stat");
        let (mut one, mut two) = (Table::load(&file), Table::load(&file));
        one.put_file(Path::new("/one"), stat(1), Digest::of_bytes(b"1"));
        two.put_file(Path::new("/two"), stat(2), Digest::of_bytes(b"2"));
        save(&mut one, &file);
        save(&mut two, &file);
        let mut both = Table::load(&file);
        assert!(both.file(Path::new("/one"), &stat(1)).is_some());
        assert!(both.file(Path::new("/two"), &stat(2)).is_some());
    }
}
