//! Files that lie, are cut short or are of another kind. Each was a report about one reader or another.

use std::io::Write;
use std::os::unix::ffi::OsStrExt;

use super::{Parts, fixture, refused, text};
use crate::gguf::{GgufFile, MetaArray, MetaValue};

/// A header that is put together byte by byte.
struct Bytes(Vec<u8>);

impl Bytes {
    fn header(tensors: u64, keys: u64) -> Self {
        Self(b"GGUF".to_vec()).u32(3).u64(tensors).u64(keys)
    }

    fn u32(mut self, x: u32) -> Self {
        self.0.extend(x.to_le_bytes());
        self
    }

    fn u64(mut self, x: u64) -> Self {
        self.0.extend(x.to_le_bytes());
        self
    }

    fn text(mut self, text: &str) -> Self {
        self = self.u64(text.len() as u64);
        self.0.extend(text.as_bytes());
        self
    }

    /// A row of the table of tensors, the fastest dimension first.
    fn tensor(mut self, name: &str, shape: &[u64], kind: u32, offset: u64) -> Self {
        self = self.text(name).u32(shape.len() as u32);
        for &length in shape {
            self = self.u64(length);
        }
        self.u32(kind).u64(offset)
    }

    fn zeros(mut self, count: usize) -> Self {
        self.0.resize(self.0.len() + count, 0);
        self
    }

    fn refused(self) -> String {
        refused(GgufFile::new(self.0))
    }
}

#[test]
fn a_file_of_another_kind_is_an_error() {
    let zip = b"PK\x03\x04 and more than twenty-four bytes".to_vec();
    assert!(refused(GgufFile::new(zip)).contains("does not begin with `GGUF`"));
    assert!(refused(GgufFile::new(Vec::new())).contains("the file ends at byte 0"));
    let version = |version: u32| Bytes(b"GGUF".to_vec()).u32(version).u64(0).u64(0).refused();
    assert!(version(1).contains("version 1"));
    assert!(version(4).contains("version 4 of the format is not known"));
    assert!(version(3u32.swap_bytes()).contains("big-endian"));
}

#[test]
fn versions_2_and_3_are_read() {
    for version in [2u8, 3] {
        let mut bytes = fixture("llama");
        bytes[4] = version;
        assert_eq!(GgufFile::new(bytes).unwrap().version(), u32::from(version));
    }
}

#[test]
fn a_file_that_is_cut_anywhere_is_an_error() {
    let whole = fixture("qwen2");
    let end =
        GgufFile::new(whole.clone()).unwrap().tensors().iter().map(|info| info.offset + info.bytes).max();
    for size in 0..end.unwrap() as usize {
        assert!(GgufFile::new(&whole[..size]).is_err(), "{size} bytes of {} are accepted", whole.len());
    }
    // What follows the last value is padding, which some writers leave out.
    assert!(GgufFile::new(&whole[..end.unwrap() as usize]).is_ok());
}

#[test]
fn a_count_that_the_file_cannot_hold_is_an_error_before_memory_is_taken() {
    assert!(Bytes::header(u64::MAX, 0).refused().contains("tensors; the most is"));
    assert!(Bytes::header(1000, 0).refused().contains("the table of tensors of 33000 bytes"));
    assert!(Bytes::header(0, u64::MAX).refused().contains("metadata keys; the most is"));
    assert!(Bytes::header(0, 1000).refused().contains("metadata of 14000 bytes"));
}

#[test]
fn a_string_that_claims_more_than_the_file_is_an_error() {
    let key = |length: u64| Bytes::header(0, 1).u64(length).u64(0).refused();
    assert!(key(u64::MAX).contains("a metadata key claims 18446744073709551615 bytes"));
    assert!(key(60_000).contains("a metadata key of 60000 bytes, but the file ends"));
    assert!(key(0).contains("is empty"));
    let value = |length: u64| Bytes::header(0, 1).text("k").u32(8).u64(length).refused();
    assert!(value(1 << 40).contains("metadata key `k`: at byte"), "{}", value(1 << 40));
    assert!(value(1 << 20).contains("a string of 1048576 bytes"));
    let mut broken = Bytes::header(0, 1).text("k").u32(8).u64(2);
    broken.0.extend([0xff, 0xfe]);
    assert!(broken.refused().contains("is not UTF-8"));
}

#[test]
fn a_list_that_claims_more_than_the_file_is_an_error() {
    let list = |kind: u32, count: u64| Bytes::header(0, 1).text("k").u32(9).u32(kind).u64(count).refused();
    for kind in [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12] {
        assert!(list(kind, u64::MAX).contains("elements; the most is"), "{kind}");
        assert!(list(kind, 1 << 24).contains("metadata key `k`: at byte"), "{kind}: {}", list(kind, 1 << 24));
    }
    assert!(list(9, 1).contains("a list of lists"));
    assert!(list(13, 1).contains("the type 13 of its list is not known"));
    assert!(Bytes::header(0, 1).text("k").u32(13).u64(0).refused().contains("its type 13 is not known"));
    let mut two = Bytes::header(0, 1).text("k").u32(7);
    two.0.push(2);
    assert!(two.refused().contains("a bool is 0 or 1, not 2"));
}

#[test]
fn a_key_or_a_tensor_that_stands_twice_is_an_error() {
    let keys = Bytes::header(0, 2).text("k").u32(4).u32(1).text("k").u32(4).u32(2);
    assert!(keys.refused().contains("metadata key `k`: it stands twice"));
    let tensors = Bytes::header(2, 0).tensor("t", &[8], 0, 0).tensor("t", &[8], 0, 32).zeros(96);
    assert!(tensors.refused().contains("tensor `t`: it stands twice"));
}

#[test]
fn a_shape_that_overflows_is_an_error() {
    let shape = |shape: &[u64], kind| Bytes::header(1, 0).tensor("t", shape, kind, 0).zeros(64).refused();
    // 2^42 + 1 rows of 2^22 bytes are 4 MiB when the product wraps.
    assert!(shape(&[1 << 20, (1 << 42) + 1], 0).contains("too large for any file"));
    assert!(shape(&[u64::MAX, 2], 0).contains("too large for any file"));
    assert!(shape(&[1 << 62, 1 << 62, 1 << 62, 1 << 62], 0).contains("too large"));
    assert!(shape(&[u64::MAX], 24).contains("too large"));
    assert!(shape(&[8, 0], 0).contains("a dimension of [8, 0] is 0"));
    assert!(shape(&[], 0).contains("0 dimensions"));
    assert!(shape(&[1, 1, 1, 1, 1], 0).contains("5 dimensions"));
    assert!(shape(&[33], 8).contains("no whole blocks of 32, as Q8_0 needs"));
    assert!(shape(&[8], 31).contains("type 31 was removed"));
    assert!(shape(&[8], 999).contains("type 999 is not known"));
    let dimensions = Bytes::header(1, 0).text("t").u32(u32::MAX).zeros(64);
    assert!(dimensions.refused().contains("4294967295 dimensions"));
}

#[test]
fn a_tensor_outside_of_the_file_or_over_another_is_an_error() {
    let at = |offset: u64| Bytes::header(1, 0).tensor("t", &[8], 0, offset).zeros(64).refused();
    assert!(at(1 << 20).contains("beyond the end of the file"));
    assert!(at(u64::MAX - 31).contains("beyond the end of the file"));
    assert!(at(4).contains("no multiple of the alignment 32"));
    let over = Bytes::header(2, 0).tensor("a", &[16], 0, 0).tensor("b", &[8], 0, 32).zeros(256);
    assert_eq!(over.refused(), "tensor `b`: it begins before the end of `a`");
}

#[test]
fn an_alignment_that_is_no_power_of_two_is_an_error() {
    let key = "general.alignment";
    for value in [0, 3, 48, 1 << 30] {
        let message = Bytes::header(0, 1).text(key).u32(4).u32(value).refused();
        assert!(message.contains("is no power of two"), "{value}: {message}");
    }
    let parts = Parts { entries: vec![(key.into(), MetaValue::U64(64))], tensors: Vec::new() };
    let mut writable = Parts { entries: Vec::new(), ..parts };
    writable.entries.push((key.into(), MetaValue::U32(256)));
    let parts = writable.tensor("t", &[3], vec![1.0, 2.0, 3.0]).tensor("u", &[1], vec![4.0]);
    let file = parts.file();
    assert!(file.tensors().iter().all(|info| info.offset % 256 == 0));
    let mut values = Vec::new();
    file.read_tensor("u", &mut values).unwrap();
    assert_eq!(values, [4.0]);
    let other = Bytes::header(0, 1).text(key).u32(10).u64(64);
    assert!(other.refused().contains("not of the type U32"));
}

#[test]
fn a_part_of_a_split_file_is_an_error_that_says_how_to_join_it() {
    let parts = Parts::of("llama").set("split.no", MetaValue::U16(0)).set("split.count", MetaValue::U16(3));
    let message = refused(GgufFile::new(parts.bytes()));
    assert!(message.contains("part 1 of 3") && message.contains("llama-gguf-split --merge"), "{message}");
    assert!(GgufFile::new(Parts::of("llama").set("split.count", MetaValue::U16(1)).bytes()).is_ok());
}

#[test]
fn a_name_from_a_file_does_not_reach_the_terminal_as_it_is() {
    let long = format!("\x1b[2J{}", "x".repeat(900));
    let message = Bytes::header(1, 0).tensor(&long, &[8], 999, 0).refused();
    assert!(message.len() < 250 && !message.contains('\x1b'), "{message}");
}

#[test]
fn getters_say_what_a_key_is_and_what_it_should_be() {
    let parts = Parts { entries: Vec::new(), tensors: Vec::new() }
        .set("text", text("x"))
        .set("small", MetaValue::I8(-1))
        .set("float", MetaValue::F32(1e-5))
        .set("nan", MetaValue::F64(f64::NAN))
        .set("list", MetaValue::Array(MetaArray::U16(vec![1, 300])));
    let file = parts.file();
    let metadata = file.metadata();
    assert_eq!(metadata.integer::<u32>("none").unwrap(), None);
    assert_eq!(metadata.integer::<i32>("small").unwrap(), Some(-1));
    assert!(refused(metadata.integer::<u32>("small")).contains("`small`: -1 is out of range"));
    assert!(refused(metadata.integer::<u32>("text")).contains("it is a string, not an integer"));
    assert_eq!(metadata.float("float").unwrap(), Some(1e-5));
    assert!(refused(metadata.float("nan")).contains("not finite"));
    assert_eq!(metadata.integers::<u32>("list").unwrap(), Some(vec![1, 300]));
    assert!(refused(metadata.integers::<u8>("list")).contains("its element 300"));
    assert!(refused(metadata.strings("list")).contains("it is a list, not a list of strings"));
    assert!(refused(metadata.boolean("small")).contains("it is an integer, not a bool"));
}

#[test]
fn a_folder_or_a_pipe_is_no_file_and_a_missing_one_is_named() {
    let folder = tempfile::tempdir().unwrap();
    assert!(refused(GgufFile::open(folder.path())).contains("no regular file"));
    let missing = folder.path().join("none.gguf");
    let message = refused(GgufFile::open(&missing));
    assert!(message.contains("none.gguf") && message.contains("No such file"), "{message}");
    let short = folder.path().join(std::ffi::OsStr::from_bytes(b"short.gguf"));
    std::fs::File::create(&short).unwrap().write_all(b"GGUF").unwrap();
    assert!(refused(GgufFile::open(&short)).contains("short.gguf: at byte 4"));
}
