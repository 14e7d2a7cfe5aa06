//! Files that are written and read again.

use proptest::prelude::*;

use super::{Parts, refused};
use crate::gguf::write::Temporary;
use crate::gguf::{GgufFile, GgufWriter, MetaArray, MetaValue, Metadata, TensorKind, TensorPlan};

fn plan(name: &str, shape: &[usize]) -> TensorPlan {
    TensorPlan { name: name.into(), shape: shape.to_vec(), kind: TensorKind::F32 }
}

fn writer(plans: Vec<TensorPlan>) -> Result<GgufWriter<Vec<u8>>, crate::gguf::GgufError> {
    GgufWriter::new(Vec::new(), &Metadata::default(), plans)
}

fn array() -> impl Strategy<Value = MetaArray> {
    use prop::collection::vec;
    prop_oneof![
        vec(any::<u8>(), 0..5).prop_map(MetaArray::U8),
        vec(any::<i8>(), 0..5).prop_map(MetaArray::I8),
        vec(any::<u16>(), 0..5).prop_map(MetaArray::U16),
        vec(any::<i16>(), 0..5).prop_map(MetaArray::I16),
        vec(any::<u32>(), 0..5).prop_map(MetaArray::U32),
        vec(any::<i32>(), 0..5).prop_map(MetaArray::I32),
        vec(any::<u64>(), 0..5).prop_map(MetaArray::U64),
        vec(any::<i64>(), 0..5).prop_map(MetaArray::I64),
        vec(-1e30f32..1e30, 0..5).prop_map(MetaArray::F32),
        vec(-1e300f64..1e300, 0..5).prop_map(MetaArray::F64),
        vec(any::<bool>(), 0..5).prop_map(MetaArray::Bool),
        vec(".{0,9}", 0..5).prop_map(MetaArray::String),
    ]
}

fn value() -> impl Strategy<Value = MetaValue> {
    prop_oneof![
        any::<u8>().prop_map(MetaValue::U8),
        any::<i8>().prop_map(MetaValue::I8),
        any::<u16>().prop_map(MetaValue::U16),
        any::<i16>().prop_map(MetaValue::I16),
        any::<u32>().prop_map(MetaValue::U32),
        any::<i32>().prop_map(MetaValue::I32),
        any::<u64>().prop_map(MetaValue::U64),
        any::<i64>().prop_map(MetaValue::I64),
        (-1e30f32..1e30).prop_map(MetaValue::F32),
        (-1e300f64..1e300).prop_map(MetaValue::F64),
        any::<bool>().prop_map(MetaValue::Bool),
        ".{0,30}".prop_map(MetaValue::String),
        array().prop_map(MetaValue::Array),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_is_written_is_read_again(
        entries in prop::collection::btree_map("[a-z.]{1,12}", value(), 0..8),
        shapes in prop::collection::vec(prop::collection::vec(1usize..6, 1..5), 0..6),
    ) {
        let mut parts = Parts { entries: entries.into_iter().collect(), tensors: Vec::new() };
        for (i, shape) in shapes.iter().enumerate() {
            let values = (0..shape.iter().product()).map(|value: usize| (value * 31 + i) as f32).collect();
            parts = parts.tensor(&format!("t{i}"), shape, values);
        }
        let file = parts.file();
        let found: Vec<(String, MetaValue)> =
            file.metadata().iter().map(|(key, value)| (key.to_owned(), value.clone())).collect();
        prop_assert_eq!(&found, &parts.entries);
        for ((plan, values), info) in parts.tensors.iter().zip(file.tensors()) {
            prop_assert_eq!(&info.shape, &plan.shape);
            let mut read = Vec::new();
            file.read_tensor(&plan.name, &mut read).unwrap();
            prop_assert_eq!(&read, values);
        }
    }
}

#[test]
fn exactly_the_tensors_of_the_table_are_written() {
    let mut short = writer(vec![plan("a", &[2]), plan("b", &[2])]).unwrap();
    assert_eq!(short.next().unwrap().name, "a");
    short.write_values(&[1.0, 2.0]).unwrap();
    assert!(refused(short.finish()).contains("tensor `b`: its values were not given"));
    let mut long = writer(vec![plan("a", &[1])]).unwrap();
    long.write_values(&[1.0]).unwrap();
    assert!(refused(long.write_values(&[1.0])).contains("all tensors of the table are written"));
    let mut other = writer(vec![plan("a", &[2, 2])]).unwrap();
    assert!(refused(other.write_values(&[1.0])).contains("1 values do not make the shape [2, 2]"));
    let mut bytes = writer(vec![plan("a", &[2])]).unwrap();
    assert!(refused(bytes.write_bytes(&[0; 7])).contains("7 bytes do not make the shape [2]"));
}

#[test]
fn a_shape_that_no_file_holds_is_not_written() {
    assert!(refused(writer(vec![plan("a", &[])])).contains("not 1 to 4 dimensions"));
    assert!(refused(writer(vec![plan("a", &[2, 0])])).contains("has no values"));
    assert!(refused(writer(vec![plan("a", &[1 << 40, 1 << 40])])).contains("too large for any file"));
    let uneven = TensorPlan { kind: TensorKind::Q8_0, ..plan("a", &[33]) };
    assert!(refused(writer(vec![uneven])).contains("no whole blocks"));
    let mut metadata = Metadata::default();
    metadata.insert("k", MetaValue::U8(1)).unwrap();
    assert!(refused(metadata.insert("k", MetaValue::U8(2))).contains("metadata key `k`: it stands twice"));
}

#[test]
fn a_file_is_whole_or_absent() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("model.gguf");
    let names = || std::fs::read_dir(folder.path()).unwrap().count();
    drop(
        GgufWriter::new(Temporary::create(&target).unwrap(), &Metadata::default(), vec![plan("a", &[1])])
            .unwrap(),
    );
    assert_eq!(names(), 0);
    std::fs::write(&target, "before").unwrap();
    let file = Temporary::create(&target).unwrap();
    let mut writer = GgufWriter::new(file, &Metadata::default(), vec![plan("a", &[1])]).unwrap();
    assert_eq!((names(), std::fs::read(&target).unwrap()), (2, b"before".to_vec()));
    writer.write_values(&[5.0]).unwrap();
    writer.finish().unwrap().keep().unwrap();
    assert_eq!(names(), 1);
    let mut values = Vec::new();
    GgufFile::open(&target).unwrap().read_tensor("a", &mut values).unwrap();
    assert_eq!(values, [5.0]);
}
