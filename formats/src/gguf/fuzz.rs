//! The reader of GGUF, as a function of any bytes.
//!
//! Purpose: panics when a rule is broken: what is accepted lies in the bytes and can be read wholly; what is written again
//! says the same; the configuration of a model that is imported can be read, and the model can be exported, and is the same
//! when it is imported again; its tokenizer loads, and every token has its id.
//! Invariant: nothing outside memory is touched; large tensors are left alone.
//! Must not know: who makes the bytes.

// A panic is how a target fails.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::str::FromStr;

use serde_json::Value;

use super::{Documents, GgufFile, GgufWriter, Imported, Precision, TensorPlan, export_to, exported_tensors};
use crate::model::hugging_face;

/// The most values that are read of one file.
const MOST_VALUES: usize = 1 << 20;

/// Parses the bytes and checks what comes of it. Bytes that are JSON are the documents of a folder that is to be exported.
pub fn fuzz(bytes: &[u8]) {
    if let Ok(documents) = serde_json::from_slice(bytes) {
        return export_any(&documents);
    }
    let Ok(file) = GgufFile::new(bytes) else { return };
    read_all(&file, bytes.len() as u64);
    write_again(&file);
    if let Ok(model) = Imported::new(file) {
        hugging_face::read(&model.config).unwrap();
        export_again(&model);
        load_tokenizer(&model);
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

fn load_tokenizer(model: &Imported<&[u8]>) {
    let tokenizer = tokenizers::Tokenizer::from_str(&model.tokenizer.to_string()).unwrap();
    let tokens = model.tokenizer["model"]["vocab"].as_object().unwrap();
    assert_eq!(tokenizer.get_vocab_size(true), tokens.len());
    for (text, id) in tokens {
        assert_eq!(tokenizer.token_to_id(text).map(u64::from), id.as_u64(), "{text:?}");
    }
    let ids = tokenizer.encode("ab <|stop|>a1\n", true).unwrap();
    assert!(ids.get_ids().iter().all(|&id| (id as usize) < tokens.len()));
}

fn export_any(documents: &Value) {
    let Ok(tensors) = exported_tensors(&documents["config"]) else { return };
    let sizes = tensors.iter().map(|(_, shape)| shape.iter().product::<usize>());
    if sizes.sum::<usize>() > MOST_VALUES {
        return;
    }
    let documents = Documents {
        config: &documents["config"],
        tokenizer: &documents["tokenizer"],
        tokenizer_config: &documents["tokenizer_config"],
        generation_config: &documents["generation_config"],
    };
    let values = |_: &str, shape: &[usize], out: &mut Vec<f32>| {
        out.resize(shape.iter().product(), 1.0);
        Ok::<(), String>(())
    };
    for precision in [Precision::F32, Precision::F16, Precision::Q8_0] {
        if let Ok(bytes) = export_to(Vec::new(), &documents, "fuzz", precision, values) {
            let model = Imported::new(GgufFile::new(bytes.as_slice()).unwrap()).unwrap();
            assert_eq!(model.tensors.len(), tensors.len());
            load_tokenizer(&model);
        }
    }
}
