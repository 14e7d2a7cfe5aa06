//! The metrics of a stage as a file that TensorBoard opens.
//!
//! Purpose: appends scalars to an event file: records of TensorFlow's format, each a protocol buffer with a checksum.
//! Invariant: every record is written whole, after the one before it.
//! Must not know: runs, stages.
//! Source: `event.proto`, `summary.proto` and `tf_record` of TensorFlow.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::time::SystemTime;

/// The file's name within a folder of its own; TensorBoard looks for `tfevents`.
const NAME: &str = "events.out.tfevents.kiln";

/// An event file.
pub struct EventFile(File);

impl EventFile {
    /// Opens the event file of a folder to append to it; makes both where they are missing.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let path = folder.join(NAME);
        let is_new = !path.exists();
        let mut file = Self(OpenOptions::new().create(true).append(true).open(path)?);
        if is_new {
            let mut event = wall_time();
            put_bytes(&mut event, 3, b"brain.Event:2");
            file.append(&event)?;
        }
        Ok(file)
    }

    /// Appends the values of a step.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn scalars(&mut self, step: u64, values: &BTreeMap<String, f64>) -> io::Result<()> {
        let mut summary = Vec::new();
        for (tag, value) in values {
            let mut scalar = Vec::new();
            put_bytes(&mut scalar, 1, tag.as_bytes());
            scalar.push(2 << 3 | 5); // field 2, 32 bits
            scalar.extend((*value as f32).to_le_bytes());
            put_bytes(&mut summary, 1, &scalar);
        }
        let mut event = wall_time();
        event.push(2 << 3); // field 2, a varint
        put_varint(&mut event, step);
        put_bytes(&mut event, 5, &summary);
        self.append(&event)
    }

    /// A record: its length and the checksum of that, the data and the checksum of those.
    fn append(&mut self, data: &[u8]) -> io::Result<()> {
        let length = (data.len() as u64).to_le_bytes();
        let checksum = |bytes: &[u8]| masked(crc32c::crc32c(bytes)).to_le_bytes();
        self.0.write_all(&[&length[..], &checksum(&length), data, &checksum(data)].concat())
    }
}

fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// The first field of an event: seconds since 1970.
fn wall_time() -> Vec<u8> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let mut event = vec![1 << 3 | 1]; // field 1, 64 bits
    event.extend(now.as_secs_f64().to_le_bytes());
    event
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_bytes(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    out.push(field << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_masked_as_tensorflow_masks_it() {
        // The CRC-32C of 32 zero bytes (RFC 3720, B.4) and its mask by hand.
        assert_eq!(crc32c::crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(masked(0x8a91_36aa), 0x6d55_1522u32.wrapping_add(0xa282_ead8));
    }

    #[test]
    fn a_file_begins_with_its_version_and_is_continued_where_it_ended() {
        let folder = tempfile::tempdir().unwrap();
        for step in [0, 300] {
            let values = BTreeMap::from([("train/loss".to_owned(), 2.5)]);
            EventFile::open(folder.path()).unwrap().scalars(step, &values).unwrap();
        }
        let bytes = fs::read(folder.path().join(NAME)).unwrap();
        let mut rest = bytes.as_slice();
        let mut records = Vec::new();
        while !rest.is_empty() {
            let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
            records.push(rest[12..12 + length].to_vec());
            rest = &rest[16 + length..];
        }
        assert_eq!(records.len(), 3);
        assert!(records[0].ends_with(b"brain.Event:2"));
        let scalar = [&b"\x0a\x0atrain/loss\x15"[..], &2.5f32.to_le_bytes()].concat();
        assert!(records[2].ends_with(&scalar) && records[2][9..12] == [0x10, 0xac, 0x02], "{:?}", records[2]);
    }
}
