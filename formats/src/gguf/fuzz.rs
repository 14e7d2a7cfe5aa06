//! The reader of GGUF, as a function of any bytes.
//!
//! Purpose: panics when a rule is broken: what is accepted lies in the bytes and can be read wholly; what is written again
//! says the same; a model that is imported can be exported, and is the same when it is imported again.
//! Invariant: nothing outside memory is touched; large tensors are left alone.
//! Must not know: who makes the bytes.

// A panic is how a target fails.
#![allow(clippy::unwrap_used, clippy::panic)]

use super::{Documents, GgufFile, GgufWriter, Imported, Precision, TensorPlan, export_to};

/// The most values that are read of one file.
const MOST_VALUES: usize = 1 << 20;

/// Parses the bytes and checks what comes of it.
pub fn fuzz(bytes: &[u8]) {
    let Ok(file) = GgufFile::new(bytes) else { return };
    read_all(&file, bytes.len() as u64);
    write_again(&file);
    if let Ok(model) = Imported::new(file) {
        export_again(&model);
    }
}

fn read_all(file: &GgufFile<&[u8]>, size: u64) {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    let mut left = MOST_VALUES;
    let mut values = Vec::new();
    for info in file.tensors() {
        let end = info.offset + info.bytes;
        assert!(end <= size, "`{}` ends at {end} of {size} bytes", info.name);
        let blocks = (info.len() / info.kind.block()) as u64;
        assert_eq!(blocks * info.kind.block_bytes() as u64, info.bytes, "{info:?}");
        ranges.push((info.offset, end));
        if info.len() <= left {
            left -= info.len();
            let read = file.read_tensor(&info.name, &mut values);
            assert_eq!(read.is_ok(), info.kind.is_readable(), "{info:?}: {read:?}");
            assert!(read.is_err() || values.len() == info.len(), "{info:?}");
        }
    }
    ranges.sort_unstable();
    assert!(ranges.windows(2).all(|pair| pair[0].1 <= pair[1].0), "tensors overlap: {ranges:?}");
}

fn write_again(file: &GgufFile<&[u8]>) {
    let plan = |info: &super::TensorInfo| TensorPlan {
        name: info.name.clone(),
        shape: info.shape.clone(),
        kind: info.kind,
    };
    // A large alignment would make a large file of a small one.
    if file.tensors().len() > 64 || file.metadata().get("general.alignment").is_some() {
        return;
    }
    let plans: Vec<TensorPlan> = file.tensors().iter().map(plan).collect();
    let mut writer = GgufWriter::new(Vec::new(), file.metadata(), plans.clone()).unwrap();
    for info in file.tensors() {
        writer.write_bytes(&file.read_bytes(info).unwrap()).unwrap();
    }
    let written = writer.finish().unwrap();
    let again = GgufFile::new(written).unwrap();
    // Debug, because a NaN is not equal to itself.
    let shown = |metadata: &super::Metadata| format!("{:?}", metadata.iter().collect::<Vec<_>>());
    assert_eq!(shown(again.metadata()), shown(file.metadata()));
    assert_eq!(again.tensors().iter().map(plan).collect::<Vec<_>>(), plans);
    for (ours, theirs) in again.tensors().iter().zip(file.tensors()) {
        assert_eq!(again.read_bytes(ours).unwrap(), file.read_bytes(theirs).unwrap());
    }
}

fn export_again(model: &Imported<&[u8]>) {
    let size: usize = model.tensors.iter().map(|tensor| tensor.shape.iter().product::<usize>()).sum();
    if size > MOST_VALUES {
        return;
    }
    let documents = Documents {
        config: &model.config,
        tokenizer: &model.tokenizer,
        tokenizer_config: &model.tokenizer_config,
        generation_config: &model.generation_config,
    };
    let read = |name: &str, _: &[usize], out: &mut Vec<f32>| model.read(name, out);
    // Some files say what ours do not, and then the writer says so: a model without EOS, values that are not finite.
    let Ok(bytes) = export_to(Vec::new(), &documents, "fuzz", Precision::F32, read) else { return };
    let again = Imported::new(GgufFile::new(bytes).unwrap()).unwrap();
    assert_eq!(again.tokenizer, model.tokenizer);
    assert_eq!(again.generation_config, model.generation_config);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for tensor in &model.tensors {
        again.read(&tensor.name, &mut ours).unwrap();
        model.read(&tensor.name, &mut theirs).unwrap();
        assert_eq!(ours, theirs, "{}", tensor.name);
    }
}
