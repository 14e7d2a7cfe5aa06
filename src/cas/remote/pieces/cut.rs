//! Where a file is cut.
//!
//! Purpose: pieces that stay the same where two files are the same: the tensors of a safetensors file, and pieces of
//! some 64 KiB that follow from the content of any other file.
//! Invariant: the pieces follow each other and make up the whole file; the same bytes are cut in the same way.
//! Must not know: what becomes of a piece.
//!
//! Sources: the safetensors format; Xia 2016, *FastCDC*.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use fastcdc::v2020::StreamCDC;
use serde::Deserialize;

/// The sizes of pieces of files that are no safetensors, in bytes.
const LEAST: usize = 16 << 10;
const AVERAGE: usize = 64 << 10;
const MOST: usize = 256 << 10;
/// A tensor that is larger is cut into parts of this size.
const PART: u64 = 8 << 20;
/// Tensors that are smaller share a piece with their neighbours.
const SMALL: u64 = 64 << 10;
/// The most bytes of a safetensors header that are read.
const MOST_HEADER: u64 = 64 << 20;

/// A piece of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Where it begins.
    pub offset: u64,
    /// Its bytes.
    pub length: u64,
    /// The bytes of one number in it, as far as is known: 1, 2, 4 or 8.
    pub element: u8,
}

/// A tensor, as the header of a safetensors file has it.
#[derive(Deserialize)]
struct Tensor {
    dtype: String,
    data_offsets: (u64, u64),
}

/// The pieces of a file, each with its bytes when it is asked for.
pub enum Pieces {
    /// Those of a safetensors file.
    Tensors {
        /// The file, at the next piece.
        file: File,
        /// The pieces that are left.
        left: std::vec::IntoIter<Piece>,
    },
    /// Those of any other file.
    Content(Box<StreamCDC<File>>),
}

impl Pieces {
    /// Those of a file of this size.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn of(mut file: File, size: u64) -> io::Result<Self> {
        let tensors = tensors(&mut file, size)?;
        file.seek(SeekFrom::Start(0))?;
        Ok(match tensors {
            Some(pieces) => Self::Tensors { file, left: pieces.into_iter() },
            None => Self::Content(Box::new(StreamCDC::new(file, LEAST, AVERAGE, MOST))),
        })
    }

    /// All pieces of a safetensors file, before the first is asked for; none of another file.
    pub fn tensors(&self) -> &[Piece] {
        match self {
            Self::Tensors { left, .. } => left.as_slice(),
            Self::Content(_) => &[],
        }
    }

    /// The next piece, and its bytes in `bytes`. None at the end.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn next(&mut self, bytes: &mut Vec<u8>) -> io::Result<Option<Piece>> {
        match self {
            Self::Tensors { file, left } => {
                let Some(piece) = left.next() else { return Ok(None) };
                bytes.clear();
                file.take(piece.length).read_to_end(bytes)?;
                Ok(Some(piece))
            }
            Self::Content(chunks) => {
                let Some(chunk) = chunks.next().transpose().map_err(io::Error::other)? else {
                    return Ok(None);
                };
                *bytes = chunk.data;
                Ok(Some(Piece { offset: chunk.offset, length: chunk.length as u64, element: 1 }))
            }
        }
    }
}

/// The pieces of a safetensors file; none when it is something else.
fn tensors(file: &mut File, size: u64) -> io::Result<Option<Vec<Piece>>> {
    let mut length = [0; 8];
    file.seek(SeekFrom::Start(0))?;
    if size < 8 || file.read_exact(&mut length).is_err() {
        return Ok(None);
    }
    let header = u64::from_le_bytes(length);
    if header > MOST_HEADER.min(size - 8) {
        return Ok(None);
    }
    let mut text = Vec::new();
    file.by_ref().take(header).read_to_end(&mut text)?;
    Ok(pieces_of(&text, 8 + header, size))
}

fn pieces_of(header: &[u8], start: u64, size: u64) -> Option<Vec<Piece>> {
    let mut entries: BTreeMap<String, serde_json::Value> = serde_json::from_slice(header).ok()?;
    entries.remove("__metadata__");
    let tensors = entries.into_values().map(|value| serde_json::from_value::<Tensor>(value).ok());
    let mut tensors = tensors.collect::<Option<Vec<_>>>()?;
    tensors.sort_by_key(|tensor| tensor.data_offsets);
    let mut pieces = vec![Piece { offset: 0, length: start, element: 1 }];
    let mut end = start;
    for Tensor { dtype, data_offsets: (from, to) } in tensors {
        // A file with gaps or overlaps is cut like any other.
        if start.checked_add(from)? != end || to < from {
            return None;
        }
        end = start.checked_add(to)?;
        if end > size {
            return None;
        }
        let element = width(&dtype);
        if let Some(last) = pieces.last_mut().filter(|last| last.offset > 0 && last.element == element)
            && last.length + (to - from) <= SMALL
        {
            last.length += to - from;
            continue;
        }
        let parts = (from..to).step_by(PART as usize);
        pieces.extend(parts.map(|at| Piece { offset: start + at, length: PART.min(to - at), element }));
    }
    (end == size).then_some(pieces)
}

/// The bytes of one number of a type.
fn width(dtype: &str) -> u8 {
    match dtype {
        "F64" | "I64" | "U64" => 8,
        "F32" | "I32" | "U32" => 4,
        "F16" | "BF16" | "I16" | "U16" => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn cut_bytes(bytes: &[u8]) -> Vec<Piece> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        let mut pieces = Pieces::of(file, bytes.len() as u64).unwrap();
        let (mut cut, mut put_together, mut piece_bytes) = (Vec::new(), Vec::new(), Vec::new());
        while let Some(piece) = pieces.next(&mut piece_bytes).unwrap() {
            assert_eq!(piece.offset, put_together.len() as u64);
            assert!(piece.length > 0 && piece.length == piece_bytes.len() as u64);
            put_together.extend_from_slice(&piece_bytes);
            cut.push(piece);
        }
        assert!(put_together == bytes);
        cut
    }

    fn safetensors(tensors: &[(&str, &str, usize)]) -> Vec<u8> {
        let (mut header, mut at) = (serde_json::Map::new(), 0);
        for (name, dtype, bytes) in tensors {
            let entry =
                serde_json::json!({ "dtype": dtype, "shape": [bytes], "data_offsets": [at, at + bytes] });
            header.insert((*name).to_owned(), entry);
            at += bytes;
        }
        let header = serde_json::Value::Object(header).to_string();
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend(header.bytes());
        file.extend((0..at).map(|n| (n * 31 % 251) as u8));
        file
    }

    #[test]
    fn a_safetensors_file_is_cut_at_its_tensors() {
        let file = safetensors(&[
            ("a", "F32", 400_000),
            ("b", "BF16", 100),
            ("c", "BF16", 200),
            ("d", "F32", 20 << 20),
        ]);
        let pieces = cut_bytes(&file);
        let shape: Vec<_> = pieces[1..].iter().map(|piece| (piece.length, piece.element)).collect();
        assert_eq!(shape, [(400_000, 4), (300, 2), (8 << 20, 4), (8 << 20, 4), (4 << 20, 4)]);
    }

    #[test]
    fn what_only_looks_like_safetensors_is_cut_like_any_other_file() {
        let file = safetensors(&[("a", "F32", 400_000)]);
        for broken in [&file[..file.len() - 1], &[file.as_slice(), b"more"].concat(), &[0xff; 3_000_000]] {
            assert!(cut_bytes(broken).iter().all(|piece| piece.element == 1));
        }
    }

    #[test]
    fn a_header_that_promises_more_than_the_file_has_takes_no_memory() {
        let header = br#"{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,9000000000000000000]}}"#;
        let file = [&(header.len() as u64).to_le_bytes()[..], header, &[0; 100_000]].concat();
        assert!(cut_bytes(&file).iter().all(|piece| piece.element == 1));
    }

    #[test]
    fn an_insertion_moves_few_cuts() {
        let mut state = 1_u64;
        let mut noise = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        };
        let bytes: Vec<u8> = (0..4_000_000).map(|_| noise()).collect();
        let changed = [&bytes[..1_000_000], b"inserted", &bytes[1_000_000..]].concat();
        let contents = |bytes: &[u8]| -> std::collections::BTreeSet<Vec<u8>> {
            let piece = |piece: Piece| bytes[piece.offset as usize..][..piece.length as usize].to_vec();
            cut_bytes(bytes).into_iter().map(piece).collect()
        };
        let (before, after) = (contents(&bytes), contents(&changed));
        assert!(
            after.difference(&before).count() <= 3,
            "{} of {}",
            after.difference(&before).count(),
            after.len()
        );
    }
}
