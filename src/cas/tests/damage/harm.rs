//! Bytes of files that are changed, and put back.

use std::os::unix::fs::PermissionsExt;
use std::time::SystemTime;

use fastrand::Rng;

use super::super::*;
use super::world::{Kind, Victim, World};
use crate::cas::Stat;

/// A file with other bytes than before.
#[derive(Debug)]
pub struct Harm {
    /// Its place among the victims.
    pub victim: usize,
    what: String,
    bytes: Vec<u8>,
}

impl World {
    /// Harms one file of the store or of the remote, or two by exchanging their bytes; nothing when the bytes are the
    /// same afterwards.
    pub fn choose_harm(&self, rng: &mut Rng, is_remote: bool) -> Vec<Harm> {
        let there: Vec<usize> =
            (0..self.victims.len()).filter(|n| self.victims[*n].is_remote == is_remote).collect();
        let victim = *rng.choice(&there).unwrap();
        // Files of one kind are exchanged, as a program that mixes up names would do.
        let folder = |n: usize| std::mem::discriminant(&self.victims[n].kind);
        let alike: Vec<usize> =
            there.into_iter().filter(|n| *n != victim && folder(*n) == folder(victim)).collect();
        let other = rng.choice(&alike).copied();
        let before = fs::read(&self.victims[victim].path).unwrap();
        let (what, bytes) = match (rng.u8(..8), other) {
            (0, Some(other)) => {
                let theirs = self.victims[other].bytes.clone();
                let harm = |victim, bytes| Harm { victim, what: "exchanged".into(), bytes };
                let both = vec![harm(victim, theirs), harm(other, before)];
                return both
                    .into_iter()
                    .filter(|harm| harm.bytes != self.victims[harm.victim].bytes)
                    .collect();
            }
            (1, Some(other)) => ("replaced by another one".into(), self.victims[other].bytes.clone()),
            _ => changed(rng, before.clone()),
        };
        let is_changed = bytes != before;
        is_changed.then_some(Harm { victim, what, bytes }).into_iter().collect()
    }

    /// Writes the new bytes. With `rot` the times stay as they were, as far as the system allows it.
    pub fn apply(&self, harms: &[Harm], rot: bool) {
        for harm in harms {
            let path = &self.victims[harm.victim].path;
            let modified = fs::metadata(path).and_then(|meta| meta.modified());
            put(path, &harm.bytes, self.mode(harm.victim));
            if let (true, Ok(modified)) = (rot, modified) {
                set_modified(path, modified);
            }
        }
    }

    /// Has the store trust the files as they are now: what a disk does to bytes changes no time, and so the stat is the
    /// one that was recorded when they were good.
    pub fn record_stats(&self, store: &Store, harms: &[Harm]) {
        for harm in harms {
            let Victim { path, kind, .. } = &self.victims[harm.victim];
            if let Kind::Blob(digest) = kind {
                store.blobs.trust.record_blob(*digest, Stat::of(&fs::metadata(path).unwrap()));
            }
        }
    }

    /// Puts back what was harmed, and removes what was put aside.
    pub fn restore(&self, harms: &[Harm]) {
        for victim in harms.iter().map(|harm| harm.victim) {
            let Victim { path, kind, bytes, .. } = &self.victims[victim];
            // A damaged index is an empty one, and was written anew.
            if *kind != Kind::Index && fs::read(path).ok().as_ref() != Some(bytes) {
                put(path, bytes, self.mode(victim));
            }
        }
        let _ = fs::remove_dir_all(self.path("store/work/quarantine"));
    }

    /// For messages.
    pub fn describe(&self, harms: &[Harm]) -> String {
        let one = |harm: &Harm| {
            let name = self.victims[harm.victim].path.strip_prefix(self.dir.path()).unwrap();
            format!("{} {}", name.display(), harm.what)
        };
        harms.iter().map(one).collect::<Vec<_>>().join(", ")
    }

    fn mode(&self, victim: usize) -> u32 {
        match self.victims[victim].kind {
            Kind::Blob(_) if !self.victims[victim].is_remote => 0o444,
            _ => 0o644,
        }
    }
}

/// Bytes with one thing wrong.
fn changed(rng: &mut Rng, mut bytes: Vec<u8>) -> (String, Vec<u8>) {
    if bytes.is_empty() {
        return ("one byte more".into(), vec![rng.u8(..)]);
    }
    let (at, length) = (rng.usize(..bytes.len()), bytes.len());
    match rng.u8(..8) {
        0..=2 => {
            let bit = rng.u8(..8);
            bytes[at] ^= 1 << bit;
            (format!("bit {bit} of byte {at} of {length} flipped"), bytes)
        }
        3 | 4 => {
            bytes.truncate(at);
            (format!("cut at {at} of {length}"), bytes)
        }
        5 => {
            let end = (at + rng.usize(1..5000)).min(length);
            bytes[at..end].fill(0);
            (format!("bytes {at}..{end} of {length} zeroed"), bytes)
        }
        6 => {
            let more = rng.usize(1..200);
            bytes.extend(std::iter::repeat_with(|| rng.u8(..)).take(more));
            (format!("{more} bytes appended"), bytes)
        }
        _ => ("emptied".into(), Vec::new()),
    }
}

/// Writes a file where it is, as somebody who changes it does.
fn put(path: &Path, bytes: &[u8], mode: u32) {
    if path.exists() {
        fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    }
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn set_modified(path: &Path, time: SystemTime) {
    fs::File::open(path).unwrap().set_modified(time).unwrap();
}
