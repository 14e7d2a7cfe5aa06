//! Values of tensors, against those of `gguf.quants`, and against themselves.

use proptest::prelude::*;

use super::{Parts, fixture, refused};
use crate::gguf::{GgufFile, GgufWriter, Metadata, TensorKind, TensorPlan};

/// What `formats/tests/gguf_fixtures.py` prints: a type, the number of its values, and FNV-1a of their bytes.
const KNOWN: [(&str, usize, u64); 13] = [
    ("F32", 8, 0xccafd8d380e0dfcc),
    ("F16", 8, 0x8465dd051b656166),
    ("BF16", 8, 0x823a34f30ca7f4d0),
    ("Q4_0", 32, 0xbd903f35fdb292be),
    ("Q4_1", 32, 0x7b0d1f9492b53c1c),
    ("Q5_0", 32, 0xbec832406f8fe136),
    ("Q5_1", 32, 0x30776e010c11bff3),
    ("Q8_0", 32, 0x30c2bc91b8392065),
    ("Q2_K", 256, 0xf5079f2bf66c8236),
    ("Q3_K", 256, 0x4d08e02ee79502cd),
    ("Q4_K", 256, 0x2fb50dc79a43f35d),
    ("Q5_K", 256, 0xe9625d66554dc414),
    ("Q6_K", 256, 0x5f8253d40c2e6f01),
];

fn fnv(values: &[f32]) -> u64 {
    let bytes = values.iter().flat_map(|x| x.to_le_bytes());
    bytes.fold(0xcbf29ce484222325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100000001b3))
}

/// A file of one tensor.
fn one(kind: TensorKind, shape: &[usize], values: &[f32]) -> Result<Vec<u8>, crate::gguf::GgufError> {
    let plan = TensorPlan { name: "t".into(), shape: shape.to_vec(), kind };
    let mut writer = GgufWriter::new(Vec::new(), &Metadata::default(), vec![plan])?;
    writer.write_values(values)?;
    writer.finish()
}

fn read(bytes: Vec<u8>) -> Vec<f32> {
    let mut values = Vec::new();
    GgufFile::new(bytes).unwrap().read_tensor("t", &mut values).unwrap();
    values
}

#[test]
fn every_type_gives_the_bits_that_llama_cpp_gives() {
    let file = GgufFile::new(fixture("types")).unwrap();
    assert_eq!(file.tensors().len(), KNOWN.len());
    for ((name, count, hash), info) in KNOWN.into_iter().zip(file.tensors()) {
        assert_eq!((info.name.as_str(), info.kind.name(), info.len()), (name, name, count));
        let mut values = vec![7.0; 3];
        file.read_tensor(name, &mut values).unwrap();
        assert_eq!(values.len(), count, "{name}");
        assert_eq!(fnv(&values), hash, "{name}: {:?}", &values[..8]);
    }
}

#[test]
fn every_readable_type_is_among_those_compared() {
    let readable: Vec<&str> =
        TensorKind::all().filter(|kind| kind.is_readable()).map(TensorKind::name).collect();
    let compared: Vec<&str> = KNOWN.iter().map(|known| known.0).collect();
    assert_eq!(readable.len(), compared.len());
    assert!(readable.iter().all(|name| compared.contains(name)));
}

#[test]
fn the_number_of_a_type_is_its_own() {
    let mut ids: Vec<u32> = TensorKind::all().map(TensorKind::id).collect();
    assert!(TensorKind::all().all(|kind| TensorKind::from_id(kind.id()) == Some(kind)));
    ids.dedup();
    assert_eq!(ids.len(), TensorKind::all().count());
}

#[test]
fn a_type_that_is_not_read_is_an_error_that_names_it() {
    let blocks = TensorPlan { name: "t".into(), shape: vec![256], kind: TensorKind::Iq2Xxs };
    let mut writer = GgufWriter::new(Vec::new(), &Metadata::default(), vec![blocks]).unwrap();
    writer.write_bytes(&[0; 66]).unwrap();
    let file = GgufFile::new(writer.finish().unwrap()).unwrap();
    let message = refused(file.read_tensor("t", &mut Vec::new()));
    assert!(message.contains("tensor `t`: its type IQ2_XXS is not read"), "{message}");
    assert!(refused(file.read_tensor("u", &mut Vec::new())).contains("no such tensor"));
}

#[test]
fn values_are_read_from_the_middle_on() {
    let values: Vec<f32> = (0..128).map(|i| i as f32 - 64.0).collect();
    let file = GgufFile::new(one(TensorKind::Q8_0, &[4, 32], &values).unwrap()).unwrap();
    let info = file.tensor("t").unwrap();
    let (mut whole, mut part) = (Vec::new(), vec![0.0; 64]);
    file.read_tensor("t", &mut whole).unwrap();
    file.read_values(info, 32, &mut part).unwrap();
    assert_eq!(part, whole[32..96]);
    assert!(file.read_values(info, 16, &mut part).is_err());
    assert!(file.read_values(info, 96, &mut part).is_err());
    assert!(file.read_values(info, usize::MAX - 31, &mut part).is_err());
}

#[test]
fn a_tensor_of_several_chunks_is_read_whole() {
    let values: Vec<f32> = (0..700_000).map(|i| (i % 1000) as f32).collect();
    assert_eq!(read(one(TensorKind::F32, &[700, 1000], &values).unwrap()), values);
}

#[test]
fn a_value_that_a_type_cannot_hold_is_an_error() {
    for bad in [f32::NAN, f32::INFINITY] {
        for kind in [TensorKind::F32, TensorKind::F16] {
            let message = refused(one(kind, &[2], &[1.0, bad]));
            assert!(message.contains("tensor `t`: its value 1 is"), "{message}");
        }
    }
    assert!(refused(one(TensorKind::F16, &[1], &[70_000.0])).contains("too large for F16"));
    let mut large = vec![0.0; 32];
    large[3] = 1e9;
    assert!(refused(one(TensorKind::Q8_0, &[32], &large)).contains("too large for F16"));
    assert!(
        refused(one(TensorKind::Q4_0, &[32], &large)).contains("Kiln writes F32, F16 and Q8_0, not Q4_0")
    );
}

#[test]
fn zeros_and_the_smallest_numbers_survive_eight_bits() {
    assert_eq!(read(one(TensorKind::Q8_0, &[32], &[0.0; 32]).unwrap()), [0.0; 32]);
    let tiny = [f32::MIN_POSITIVE / 8.0; 32];
    assert_eq!(read(one(TensorKind::Q8_0, &[32], &tiny).unwrap()), [0.0; 32]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn f32_comes_back_and_eight_bits_come_near(values in prop::collection::vec(-1000f32..1000.0, 64)) {
        prop_assert_eq!(&read(one(TensorKind::F32, &[64], &values).unwrap()), &values);
        let near = read(one(TensorKind::Q8_0, &[2, 32], &values).unwrap());
        for (block, near) in values.chunks(32).zip(near.chunks(32)) {
            let most = block.iter().fold(0f32, |most, x| most.max(x.abs()));
            // Half a step, and the scale in half precision: 11 bits.
            let error = most / 254.0 + most / 2000.0;
            prop_assert!(block.iter().zip(near).all(|(x, y)| (x - y).abs() <= error), "{:?} {:?}", block, near);
        }
        let half = read(one(TensorKind::F16, &[64], &values).unwrap());
        prop_assert!(values.iter().zip(&half).all(|(x, y)| (x - y).abs() <= x.abs() / 2048.0 + 1e-7));
    }

    #[test]
    fn eight_bits_written_twice_are_the_same(values in prop::collection::vec(-3f32..3.0, 32)) {
        let once = read(one(TensorKind::Q8_0, &[32], &values).unwrap());
        let twice = read(one(TensorKind::Q8_0, &[32], &once).unwrap());
        let most = once.iter().fold(0f32, |most, x| most.max(x.abs()));
        prop_assert!(once.iter().zip(&twice).all(|(x, y)| (x - y).abs() <= most / 1000.0));
    }
}

#[test]
fn the_fixtures_of_models_are_read_as_they_were_written() {
    let parts = Parts::of("qwen2");
    let rewritten = parts.file();
    let whole = GgufFile::new(fixture("qwen2")).unwrap();
    assert_eq!(rewritten.metadata(), whole.metadata());
    assert_eq!(rewritten.tensors().len(), 14);
}
