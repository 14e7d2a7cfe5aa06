//! Tests of the parts of the Parquet reader, with files that the crate `parquet` writes.

use std::path::Path;
use std::sync::Arc;

use ::parquet::basic::Encoding;
use ::parquet::data_type::{ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use ::parquet::file::properties::{WriterProperties, WriterVersion};
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::schema::parser::parse_message_type;
use ::parquet::schema::types::ColumnPath;
use proptest::collection::vec;
use proptest::prelude::*;

use super::super::Options;
use super::super::containers::{Container, Rows};
use super::super::files::DataFile;
use super::super::input::{Compression, Input};
use super::super::json::Json;
use super::header::PageHeader;
use super::thrift::ThriftError;
use super::{Parquet, delta, rle};

/// A row: each value may be missing.
type Triple = (Option<String>, Option<i64>, Option<f64>);

/// Splits values from the levels that say where they are.
fn levels<T: Clone>(values: &[Option<T>]) -> (Vec<T>, Vec<i16>) {
    (
        values.iter().flatten().cloned().collect(),
        values.iter().map(|value| i16::from(value.is_some())).collect(),
    )
}

/// Writes rows with these encodings of their columns; none of them is a dictionary.
fn written(rows: &[Triple], encodings: Option<[Encoding; 3]>, version: WriterVersion) -> Vec<u8> {
    let schema =
        "message m { optional binary text (UTF8); optional int64 seconds; optional double score_chosen; }";
    let mut properties = WriterProperties::builder()
        .set_writer_version(version)
        .set_data_page_row_count_limit(7)
        .set_write_batch_size(3);
    if let Some(encodings) = encodings {
        properties = properties.set_dictionary_enabled(false);
        for (name, encoding) in ["text", "seconds", "score_chosen"].into_iter().zip(encodings) {
            properties = properties.set_column_encoding(ColumnPath::from(name), encoding);
        }
    }
    let mut out = Vec::new();
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let mut writer = SerializedFileWriter::new(&mut out, schema, Arc::new(properties.build())).unwrap();
    for rows in rows.chunks(20) {
        let mut group = writer.next_row_group().unwrap();
        let texts: Vec<_> = rows.iter().map(|row| row.0.as_deref().map(ByteArray::from)).collect();
        column::<ByteArrayType>(&mut group, &texts);
        column::<Int64Type>(&mut group, &rows.iter().map(|row| row.1).collect::<Vec<_>>());
        column::<DoubleType>(&mut group, &rows.iter().map(|row| row.2).collect::<Vec<_>>());
        group.close().unwrap();
    }
    writer.close().unwrap();
    out
}

fn column<T: DataType>(
    group: &mut ::parquet::file::writer::SerializedRowGroupWriter<'_, &mut Vec<u8>>,
    values: &[Option<T::T>],
) {
    let mut column = group.next_column().unwrap().unwrap();
    let (values, levels) = levels(values);
    column.typed::<T>().write_batch(&values, Some(&levels), None).unwrap();
    column.close().unwrap();
}

fn opened(bytes: Vec<u8>) -> Parquet {
    let input = Input::Bytes(bytes.into());
    let path: Arc<Path> = Path::new("rows.parquet").into();
    let file = DataFile { path, container: Container::Parquet, compression: Compression::None, input };
    Parquet::open(&file, Options::default().limits()).unwrap()
}

/// The message about the first row.
fn failure(bytes: Vec<u8>) -> String {
    opened(bytes).next_row(false).unwrap().unwrap_err().to_string()
}

fn read(bytes: Vec<u8>) -> Vec<Triple> {
    let mut rows = opened(bytes);
    let number = |value: Option<&Json>| match value {
        Some(Json::Number(number)) => Some(number.clone()),
        _ => None,
    };
    std::iter::from_fn(|| rows.next_row(false))
        .map(|row| {
            let row = row.unwrap().1;
            (
                row.get("text").and_then(Json::as_str).map(str::to_owned),
                number(row.get("seconds")).and_then(|number| number.as_i64()),
                number(row.get("score_chosen")).and_then(|number| number.as_f64()),
            )
        })
        .collect()
}

fn triple() -> impl Strategy<Value = Triple> {
    let integer = prop_oneof![any::<i64>(), -5_i64..5, Just(i64::MIN), Just(i64::MAX)];
    (
        proptest::option::of("[a-c]{0,4}\\PC{0,3}"),
        proptest::option::of(integer),
        proptest::option::of(-1e300..1e300),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_the_crate_writes_is_read_back_in_every_encoding(rows in vec(triple(), 0..60), is_new: bool) {
        let version = if is_new { WriterVersion::PARQUET_2_0 } else { WriterVersion::PARQUET_1_0 };
        let (plain, delta) = (Encoding::PLAIN, Encoding::DELTA_BINARY_PACKED);
        for encodings in [
            None,
            Some([plain; 3]),
            Some([Encoding::DELTA_LENGTH_BYTE_ARRAY, delta, Encoding::BYTE_STREAM_SPLIT]),
            Some([Encoding::DELTA_BYTE_ARRAY, Encoding::BYTE_STREAM_SPLIT, plain]),
        ] {
            prop_assert_eq!(&read(written(&rows, encodings, version)), &rows, "{:?}", encodings);
        }
    }

    #[test]
    fn runs_are_counted_as_their_numbers_are(
        runs in vec((0_u32..4, 1_usize..40, any::<bool>()), 0..8), wanted in 0_usize..200, number in 0_u32..4,
    ) {
        // Two bits a number: a run of equal ones, or groups of eight packed.
        let (mut bytes, mut numbers) = (Vec::new(), Vec::new());
        for (value, length, is_packed) in runs {
            if is_packed {
                let groups = length.div_ceil(8);
                bytes.push((groups << 1 | 1) as u8);
                let packed: Vec<u32> = (0..groups * 8).map(|i| (value + i as u32) % 4).collect();
                bytes.extend(packed.chunks(4).map(|four| four.iter().rev().fold(0, |byte, &two| byte << 2 | two as u8)));
                numbers.extend(packed);
            } else {
                bytes.extend([(length << 1) as u8, value as u8]);
                numbers.extend(std::iter::repeat_n(value, length));
            }
        }
        let counted = rle::walk(&bytes, 2, wanted, number, true).unwrap();
        prop_assert_eq!(counted.numbers, numbers.len());
        prop_assert_eq!(counted.matching, numbers.iter().take(wanted).filter(|&&found| found == number).count());
    }

    #[test]
    fn any_bytes_are_walked_over_without_a_panic(bytes in vec(any::<u8>(), 0..60), count in 0_usize..5000, width in 0_u32..33) {
        let _ = rle::walk(&bytes, width, count, 1, true);
        let _ = rle::packed(&bytes, width, count, 1);
        let _ = (delta::integers(&bytes, count, 64), delta::lengths(&bytes, count), delta::prefixes(&bytes, count));
        let _ = PageHeader::read(&bytes);
    }
}

/// A number as Thrift writes it.
fn varint(number: i32) -> Vec<u8> {
    let (mut number, mut bytes) = (((number << 1) ^ (number >> 31)) as u32, Vec::new());
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

/// The header of a data page, with the fields of its inner header.
fn header(kind: i32, uncompressed: i32, compressed: i32, inner: (u8, &[(u8, i32)])) -> Vec<u8> {
    let mut bytes =
        [&[0x15][..], &varint(kind), &[0x15], &varint(uncompressed), &[0x15], &varint(compressed)].concat();
    bytes.push((inner.0 - 3) << 4 | 0xc);
    for (step, value) in inner.1 {
        bytes.push(step << 4 | 5);
        bytes.extend(varint(*value));
    }
    bytes.extend([0, 0]);
    bytes
}

#[test]
fn a_page_whose_header_lies_is_refused() {
    let read = |bytes: Vec<u8>| PageHeader::read(&bytes);
    let plain: &[(u8, i32)] = &[(1, 10), (1, 0), (1, 3), (1, 3)];
    let sound = read(header(0, 100, 90, (5, plain))).unwrap();
    assert_eq!((sound.values, sound.compressed, sound.uncompressed), (10, 90, 100));
    let huge = (256 << 20) + 1;
    let broken = [
        (read(header(0, huge, 9, (5, plain))), "it is larger than 256 MiB when it is decompressed"),
        (read(header(0, 9, huge, (5, plain))), "it is larger than 256 MiB"),
        (read(header(0, -1, 9, (5, plain))), "a size is negative"),
        (read(header(0, 9, -1, (5, plain))), "a size is negative"),
        (read(header(0, 9, 9, (5, &[(1, i32::MAX)]))), "it has too many values"),
        (read(header(0, 9, 9, (5, &[(2, 0)]))), "a field is missing"),
        (read(header(0, 9, 9, (7, &[(1, 1), (1, 0)]))), "its kind and its header do not belong together"),
        (read(header(1, 9, 9, (5, plain))), "it is of a kind that is not read"),
        (read(header(3, 9, 9, (8, &[(1, 5), (1, 6)]))), "it has more nulls than values"),
        (read(header(3, 9, 9, (8, &[(1, 5), (4, -1)]))), "its levels have an impossible size"),
    ];
    for (found, expected) in broken {
        assert_eq!(found, Err(ThriftError::Broken(expected)));
    }
    let cut = header(0, 100, 90, (5, plain));
    for length in 0..cut.len() {
        assert_eq!(PageHeader::read(&cut[..length]), Err(ThriftError::Short), "{length} bytes of it");
    }
}

#[test]
fn a_header_whose_known_fields_have_other_types_is_refused() {
    // In place of an encoding or a checksum stands a list: what the crate takes for a number and what follows it, a reader
    // that goes by the types takes for elements.
    let encoding = [0x15, 0, 0x15, 18, 0x15, 18, 0x2c, 0x15, 2, 0x19, 0x15, 0, 0x15, 6, 0x15, 6, 0, 0];
    let checksum =
        [0x15, 0, 0x15, 18, 0x15, 18, 0x19, 0x15, 0, 0x1c, 0x15, 2, 0x15, 0, 0x15, 6, 0x15, 6, 0, 0];
    for bytes in [&encoding[..], &checksum] {
        assert_eq!(PageHeader::read(bytes), Err(ThriftError::Broken("a field has the wrong type")));
    }
}

#[test]
fn deltas_that_claim_more_values_than_the_page_are_refused() {
    // Blocks of 128 in 4 parts, 2^30 values, of which the first is 0.
    let claim = [0x80, 1, 4, 0x80, 0x80, 0x80, 0x80, 4, 0];
    assert_eq!(delta::integers(&claim, 1000, 64), Err("a run of deltas has more values than the page"));
    assert_eq!(delta::lengths(&claim, 1000), Err("a run of deltas has more values than the page"));
    // Two lengths of 0, the second in a part of 32 bits each that is cut off behind it.
    let mut cut = [&[0x80, 1, 4, 2, 0, 0, 32, 0, 0, 0][..], &[0; 4]].concat();
    assert_eq!(delta::lengths(&cut, 10), Err("a run of deltas ends early"));
    cut.resize(cut.len() + 31 * 4, 0);
    assert_eq!(delta::lengths(&cut, 10), Ok(2));
    // One length of -1.
    assert_eq!(delta::lengths(&[0x80, 1, 4, 1, 1], 10), Err("a length is negative"));
    assert_eq!(
        delta::lengths(&[0x80, 1, 4, 1, 6, b'a', b'b'], 10),
        Err("its values are longer than the page")
    );
    assert_eq!(delta::lengths(&[0x80, 1, 4, 1, 4, b'a', b'b'], 10), Ok(1));
}

#[test]
fn a_run_of_no_deltas_where_levels_tell_of_a_value_is_refused() {
    // Blocks of 128 in 4 parts, no value, though the "first" is 0: the decoder would take it and then count below 0.
    assert_eq!(delta::integers(&[0x80, 1, 4, 0, 0], 1, 64), Ok(0));
    let sound = written(
        &[(None, Some(7), None)],
        Some([Encoding::PLAIN, Encoding::DELTA_BINARY_PACKED, Encoding::PLAIN]),
        WriterVersion::PARQUET_1_0,
    );
    // So many parts of a block, one value, and 7.
    let at = sound.windows(3).position(|bytes| bytes == [4, 1, 14]).expect("the run of one value");
    let mut broken = sound.clone();
    broken[at + 1] = 0;
    assert_eq!(read(sound), [(None, Some(7), None)]);
    assert_eq!(
        failure(broken),
        "rows.parquet: row 1: a page is damaged: it has fewer values than its levels tell of; the file is damaged, write it again"
    );
}
