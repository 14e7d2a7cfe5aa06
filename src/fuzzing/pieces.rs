//! Large blobs in pieces: coded and decoded, cut and put together.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use bytes::Bytes;
use futures_util::FutureExt;
use rustix::fs::{MemfdFlags, memfd_create};

use crate::cas::remote::pieces::{
    Broken, Here, Likeness, Near, Recipe, Stored, decode, encode, pack_up, receive,
};
use crate::digest::Digest;

/// The most bytes of a file that is cut.
const MOST: usize = 300_000;

/// Codes and decodes, receives what is hostile, and sends a file and receives it again. The first bytes say how.
pub fn pieces(bytes: &[u8]) {
    let Some((&[how, element, split, repeat], rest)) = bytes.split_first_chunk::<4>() else { return };
    let (one, other) = rest.split_at(rest.len() * usize::from(split) / 256);
    coded(one, other, element);
    let length = usize::from(repeat) * 16;
    if let Ok(piece) = decode(rest.to_vec(), how % 5, length, element, one.get(..length)) {
        assert_eq!(piece.len(), length);
    }
    hostile(rest, how);
    let times = 1 + usize::from(repeat) % 64;
    sent_and_received(&one.repeat(times), &other.repeat(times));
}

fn coded(piece: &[u8], base: &[u8], element: u8) {
    if piece.is_empty() {
        return;
    }
    for base in [None, base.get(..piece.len())] {
        let (how, stored) = encode(piece, element, base);
        assert!((1..=piece.len()).contains(&stored.len()));
        assert_eq!(decode(stored.into_owned(), how, piece.len(), element, base).as_deref(), Ok(piece));
    }
}

/// A recipe whose pieces lie anywhere in a pack of any bytes, with the digests that they turn out to have.
fn hostile(pack: &[u8], how: u8) {
    let mut recipe = Recipe::of(Digest::of_bytes(b"blob"), 0);
    recipe.packs = vec![Digest::of_bytes(pack)];
    let mut whole = Some(Vec::new());
    for place in pack.chunks_exact(4).take(16) {
        let (offset, stored, length) = (usize::from(place[0]), usize::from(place[1]), usize::from(place[2]));
        let (coding, element) = (place[3] % 3, place[3] >> 4);
        let bytes = pack.get(offset..offset + stored).map(<[u8]>::to_vec);
        let piece = bytes.and_then(|bytes| decode(bytes, coding, length, element, None).ok());
        let digest = if how & 8 == 0 { piece.as_deref().map(Digest::of_bytes) } else { None };
        whole = whole.zip(piece.filter(|_| digest.is_some())).map(|(whole, piece)| [whole, piece].concat());
        recipe.size += length as u64;
        recipe.pieces.push(Stored {
            digest: digest.unwrap_or_else(|| Digest::of_bytes(place)),
            length: length as u64,
            pack: 0,
            offset: offset as u64,
            stored: stored as u64,
            coding,
            element,
            base: None,
            depth: 0,
        });
    }
    // Such a recipe has to pass the rules first.
    let Ok(recipe) = Recipe::parse(&recipe.to_bytes().unwrap(), &recipe.digest) else { return };
    let packs = HashMap::from([(recipe.packs[0], pack.to_vec())]);
    match (received(&recipe, &packs, &[]), whole) {
        (Ok(made), Some(whole)) => assert_eq!(made, whole),
        (Ok(made), None) => assert!(recipe.pieces.is_empty() && made.is_empty()),
        (Err(_), _) => {}
    }
}

fn received(recipe: &Recipe, packs: &HashMap<Digest, Vec<u8>>, here: &[&Here]) -> Result<Vec<u8>, Broken> {
    let mut made = Vec::new();
    let get = |pack: Digest, range: std::ops::Range<u64>| {
        let range = range.start as usize..range.end as usize;
        let bytes = packs.get(&pack).and_then(|pack| pack.get(range)).map(Bytes::copy_from_slice);
        std::future::ready(bytes.ok_or_else(|| "it is cut".to_owned()))
    };
    let mut write = |bytes: &[u8]| {
        made.extend_from_slice(bytes);
        Ok(())
    };
    receive(recipe, here, get, &mut write).now_or_never().unwrap()?;
    Ok(made)
}

/// A file that is sent and received is the same, also as the difference from another one.
fn sent_and_received(base: &[u8], file: &[u8]) {
    let (base, file) = (&base[..base.len().min(MOST)], &file[..file.len().min(MOST)]);
    let (base_file, own_file) = (Memory::of(base), Memory::of(file));
    let mut packs = HashMap::new();
    let first = sent(&base_file, base, &Likeness::default(), &mut packs);
    assert_eq!(received(&first, &packs, &[]).unwrap(), base);
    let mut like = Likeness::default();
    like.add(Near { recipe: first, file: base_file.path() });
    let second = sent(&own_file, file, &like, &mut packs);
    let here = Here::in_files(&[base_file.path()]);
    assert_eq!(received(&second, &packs, &[&here]).unwrap(), file);
    match received(&second, &packs, &[]) {
        Ok(made) => assert_eq!(made, file),
        Err(why) => assert!(second.base.is_some() && matches!(why, Broken::NoBase), "{why:?}"),
    }
}

fn sent(file: &Memory, bytes: &[u8], like: &Likeness, packs: &mut HashMap<Digest, Vec<u8>>) -> Recipe {
    let (digest, size) = (Digest::of_bytes(bytes), bytes.len() as u64);
    let mut on_pack = |name, pack: Vec<u8>| {
        assert_eq!(name, Digest::of_bytes(&pack));
        packs.insert(name, pack);
        true
    };
    let recipe = pack_up(&file.path(), &digest, size, like, &mut on_pack).unwrap().unwrap();
    assert_eq!(Recipe::parse(&recipe.to_bytes().unwrap(), &digest).as_ref(), Ok(&recipe));
    recipe
}

/// A file in memory.
struct Memory(File);

impl Memory {
    fn of(bytes: &[u8]) -> Self {
        let mut file = File::from(memory());
        file.write_all(bytes).unwrap();
        Self(file)
    }

    fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }
}

fn memory() -> rustix::fd::OwnedFd {
    memfd_create("fuzzing", MemfdFlags::CLOEXEC).unwrap()
}
