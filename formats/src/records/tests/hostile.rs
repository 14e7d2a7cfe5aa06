//! Files that lie.

use std::io::Write;

use flate2::write::GzEncoder;
use proptest::prelude::*;

use super::super::{Options, fuzz, open};
use super::{file, fixture, message, wrong};

/// Many bytes in few: gzip of a part that is repeated.
fn bomb(start: &str, part: &str, times: usize) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(start.as_bytes()).unwrap();
    let block = part.repeat(1 << 16);
    for _ in 0..times.div_ceil(1 << 16) {
        packed.write_all(block.as_bytes()).unwrap();
    }
    packed.finish().unwrap()
}

#[test]
fn a_row_beyond_the_limit_is_an_error_before_it_is_in_memory() {
    const LARGE: &str = "it has more than the 200000 bytes that are read; split it";
    let cases = [
        ("rows.jsonl.gz", bomb("{\"text\": \"", "a", 1 << 20), format!("rows.jsonl.gz:1: {LARGE}")),
        ("rows.json.gz", bomb("[{\"text\": \"", "a", 1 << 20), format!("rows.json.gz[0]: {LARGE}")),
        (
            "rows.json.gz",
            bomb("{\"text\": [\"", "a", 1 << 20),
            "rows.json.gz: this JSON, which begins at line 1, has no end".into(),
        ),
        ("rows.csv.gz", bomb("text\n\"", "a\n", 1 << 19), format!("rows.csv.gz:2: {LARGE}")),
    ];
    for (name, content, expected) in cases {
        let (_folder, path) = file(name, content);
        assert_eq!(message(&path, &Options { largest_row: 200_000, ..Options::default() }), expected);
    }
}

/// A file: its name, its content around a text, and how many bytes of a row are not the text.
type Around = (&'static str, fn(&str) -> String, usize);

#[test]
fn a_row_of_one_byte_more_than_the_limit_is_an_error_and_one_of_the_limit_is_read() {
    // Each row is as long as its container counts it; all of them lie within one read of the file.
    let rows: [Around; 5] = [
        ("rows.jsonl", |text| format!("{{\"text\":\"{text}\"}}\n"), 12),
        ("rows.json", |text| format!("[{{\"text\":\"{text}\"}}]"), 11),
        ("rows.json", |text| format!("{{\"text\":[\"{text}\"]}}"), 2),
        ("rows.csv", |text| format!("text\n{text}\n"), 0),
        ("rows.tsv", |text| format!("text\n{text}\n"), 0),
    ];
    let options = Options { largest_row: 100, ..Options::default() };
    for (name, content, around) in rows {
        let (_folder, path) = file(name, content(&"a".repeat(100 - around)));
        assert_eq!(open(&path, &options).unwrap().filter(Result::is_ok).count(), 1, "{name}");
        let (_folder, path) = file(name, content(&"a".repeat(101 - around)));
        let found = message(&path, &options);
        assert!(found.ends_with(": it has more than the 100 bytes that are read; split it"), "{found}");
    }
}

#[test]
fn a_file_beyond_the_limit_is_an_error() {
    let (_folder, path) = file("rows.jsonl.gz", bomb("", "\n", 1 << 20));
    let options = Options { largest_file: 1 << 16, ..Options::default() };
    let found = message(&path, &options);
    assert_eq!(found, "cannot read rows.jsonl.gz: it has more than the 65536 bytes that are read");
}

#[test]
fn json_that_is_nested_deeper_than_it_is_read_is_an_error() {
    let deep = format!("{{\"messages\": {}", "[".repeat(100_000));
    assert!(wrong("rows.jsonl", &deep).starts_with("rows.jsonl:1: recursion limit exceeded"));
    assert!(wrong("rows.json", format!("[{deep}")).contains("JSON is nested more than 128 deep"));
    assert!(wrong("rows.json", &deep).contains("JSON is nested more than 128 deep"));
}

/// Bytes changed at some places: one after another, so that a failure repeats.
struct Mutations(u64);

impl Mutations {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % below.max(1) as u64) as usize
    }

    fn change(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.next(3) {
            let at = self.next(bytes.len());
            match self.next(6) {
                0 | 1 => bytes[at] = self.next(256) as u8,
                2 => bytes[at] ^= 1 << self.next(8),
                3 => bytes[at] = [0, 0x7f, 0x80, 0xff][self.next(4)],
                4 => bytes.insert(at, self.next(256) as u8),
                _ => drop(bytes.remove(at)),
            }
        }
    }
}

#[test]
fn a_parquet_file_with_changed_bytes_is_rows_or_an_error_and_never_a_panic() {
    let mut mutations = Mutations(1);
    let names = [
        "messages.parquet",
        "preference-delta.parquet",
        "preference-lengths.parquet",
        "text-none.parquet",
        "text-snappy.parquet",
        "text-gzip.parquet",
        "text-brotli.parquet",
        "text-lz4.parquet",
        "text-zstd.parquet",
    ];
    let mut kept = 0;
    for name in names {
        let whole = std::fs::read(fixture(name)).unwrap();
        fuzz::parquet(&whole);
        for _ in 0..400 {
            let mut bytes = whole.clone();
            mutations.change(&mut bytes);
            kept += usize::from(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"));
            fuzz::parquet(&bytes);
        }
    }
    assert!(kept > 2000, "most of them are still read: {kept}");
}

#[test]
fn rows_with_changed_bytes_are_rows_or_errors_and_never_a_panic() {
    let mut mutations = Mutations(2);
    let names = [
        "text.jsonl",
        "text-columns.json",
        "text.csv",
        "text.tsv",
        "text-records.json",
        "text.jsonl.gz",
        "text.jsonl.zst",
    ];
    for (choice, name) in [0, 1, 2, 3, 5, 0, 0].into_iter().zip(names) {
        let whole = [&[choice][..], &std::fs::read(fixture(name)).unwrap()].concat();
        for _ in 0..300 {
            let mut bytes = whole.clone();
            mutations.change(&mut bytes);
            fuzz::rows(&bytes);
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_rows_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        fuzz::rows(&bytes);
        fuzz::parquet(&bytes);
    }
}

/// A footer of Parquet around this metadata, with some bytes before it.
fn parquet(metadata: &[u8]) -> Vec<u8> {
    let size = (metadata.len() as u32).to_le_bytes();
    [b"PAR1", &[0; 64][..], metadata, &size, b"PAR1"].concat()
}

/// A schema of groups that hold each other, `depth` deep; each says that it has `children`.
fn nested(depth: usize, children: u8) -> Vec<u8> {
    let mut bytes = vec![0x15, 2, 0x19, 0xfc];
    let mut count = depth;
    while count >= 0x80 {
        bytes.push(count as u8 | 0x80);
        count >>= 7;
    }
    bytes.push(count as u8);
    for _ in 0..depth {
        bytes.extend([0x48, 1, b'a', 0x15, children * 2, 0]);
    }
    bytes.push(0);
    bytes
}

#[test]
fn metadata_of_parquet_that_lies_is_an_error_before_it_is_believed() {
    // A list of the schema with 2^31 - 1 elements, in six bytes.
    let many = [&[0x15, 2, 0x19, 0xfc, 0xff, 0xff, 0xff, 0xff, 7][..], &[0]].concat();
    // A list of 2^18 elements that are true or false, of which the crate would read no byte.
    let bools = [0x15, 2, 0x99, 0xf2, 0x80, 0x80, 0x10, 0, 0];
    // A name with 2^31 bytes.
    let long = [0x15, 2, 0x19, 0x1c, 0x48, 0x80, 0x80, 0x80, 0x80, 8];
    let cases = [
        (parquet(&nested(1000, 1)), "its metadata is damaged: its schema is nested too deep"),
        (parquet(&nested(10, 60)), "its metadata is damaged: a group of its schema lacks fields"),
        (parquet(&nested(10, 0)), "its metadata is damaged: its schema has fields that belong to no group"),
        (parquet(&many), "its metadata is damaged: a list has too many elements"),
        (parquet(&bools), "its metadata is damaged: a list has elements of an unknown type"),
        (parquet(&long), "its metadata is damaged: it ends early"),
        (parquet(&[0xff; 40]), "its metadata is damaged: a field has an unknown type"),
    ];
    for (content, expected) in cases {
        assert_eq!(wrong("rows.parquet", content), format!("rows.parquet: {expected}"));
    }
}

#[test]
fn a_page_that_grows_beyond_what_it_says_is_an_error() {
    use parquet::basic::{BrotliLevel, Compression, GzipLevel};
    use parquet::data_type::{ByteArray, ByteArrayType};
    use parquet::file::{properties::WriterProperties, writer::SerializedFileWriter};

    let varint = |mut value: u32| {
        let mut bytes = Vec::new();
        value <<= 1;
        while value >= 0x80 {
            bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        bytes.push(value as u8);
        bytes
    };
    let text = 3_000_000;
    for codec in [Compression::GZIP(GzipLevel::default()), Compression::BROTLI(BrotliLevel::default())] {
        let schema =
            parquet::schema::parser::parse_message_type("message m { required binary text (UTF8); }")
                .unwrap();
        let properties = WriterProperties::builder().set_compression(codec).set_dictionary_enabled(false);
        let mut out = Vec::new();
        let properties = std::sync::Arc::new(properties.build());
        let mut writer =
            SerializedFileWriter::new(&mut out, std::sync::Arc::new(schema), properties).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let value = ByteArray::from(vec![b'a'; text as usize]);
        column.typed::<ByteArrayType>().write_batch(&[value], None, None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
        writer.close().unwrap();
        let (_folder, path) = file("rows.parquet", &out);
        assert_eq!(super::examples(&path).len(), 1, "as it was written");
        let (said, lie) = (varint(text + 4), varint(2_000_000));
        let at =
            out.windows(said.len()).position(|bytes| bytes == said).expect("the size stands in the header");
        out[at..at + lie.len()].copy_from_slice(&lie);
        let expected = "a page is damaged: it has another size when it is decompressed than its header says; the file is damaged, write it again";
        assert_eq!(wrong("rows.parquet", &out), format!("rows.parquet: row 1: {expected}"));
    }
}

#[test]
fn a_row_of_parquet_beyond_the_limit_is_an_error() {
    let options = Options { largest_row: 20, ..Options::default() };
    let rows = open(&fixture("text-zstd.parquet"), &options).unwrap();
    let found: Vec<bool> = rows.map(|row| row.is_ok()).collect();
    assert_eq!(found, [true, true, false], "the third text has 32 bytes");
}

#[test]
fn a_row_that_says_what_is_said_of_a_panic_is_no_panic() {
    let row = r#"0{"messages": [{"role": "the decoder of Parquet failed on it; the file is damaged, write it again"}]}"#;
    fuzz::rows(row.as_bytes());
}

#[test]
fn inputs_that_other_readers_failed_at_are_errors_or_rows() {
    // A frame of zstd of 13 bytes that tells of a window of many gigabytes.
    let frame = b"\x28\xb5\x2f\xfd\xe0\x6c\x06\x06\x06\x63\x63\x63\x63";
    assert_eq!(
        wrong("rows.jsonl.zst", frame),
        "cannot read rows.jsonl.zst: Frame requires too much memory for decoding"
    );
    // A frame that is to be skipped, of which there is less than it says.
    let skipped = b"\x50\x2a\x4d\x18\xff\xff\xff\xff";
    let early = "the compressed data end early; copy the file again";
    assert_eq!(wrong("rows.jsonl.zst", skipped), format!("cannot read rows.jsonl.zst: {early}"));
    assert_eq!(wrong("rows.csv", "\"\"\""), "rows.csv:1: a quote in this record is never closed");
    assert_eq!(wrong("rows.csv", "text"), "rows.csv is empty or blank: it needs at least one row");
    assert_eq!(super::read("rows.csv", "text\na\0b\n"), [serde_json::json!({"text": "a\0b"})]);
}
