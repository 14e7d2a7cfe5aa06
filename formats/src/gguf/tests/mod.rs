//! Tests of the reader and the writer of GGUF.
//!
//! The files of `fuzz/corpus/gguf` come from `formats/tests/gguf_fixtures.py`: the package `gguf` wrote them, not Kiln.

mod config;
mod corpus;
mod export;
mod hostile;
mod model;
mod values;
mod vocabulary;
mod write;

use std::path::PathBuf;

use serde_json::Value;

use super::{
    Documents, GgufError, GgufFile, GgufWriter, Imported, MetaValue, Metadata, Precision, TensorKind,
    TensorPlan, export_to,
};

/// A file of the corpus.
fn fixture(name: &str) -> Vec<u8> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/gguf");
    std::fs::read(folder.join(name)).unwrap()
}

/// A file in parts that tests change.
struct Parts {
    entries: Vec<(String, MetaValue)>,
    tensors: Vec<(TensorPlan, Vec<f32>)>,
}

impl Parts {
    /// The parts of a file of the corpus.
    fn of(name: &str) -> Self {
        let file = GgufFile::new(fixture(name)).unwrap();
        let entries = file.metadata().iter().map(|(key, value)| (key.to_owned(), value.clone())).collect();
        let tensors = file.tensors().iter().map(|info| {
            let mut values = Vec::new();
            file.read_tensor(&info.name, &mut values).unwrap();
            let kind = TensorKind::F32;
            (TensorPlan { name: info.name.clone(), shape: info.shape.clone(), kind }, values)
        });
        Self { entries, tensors: tensors.collect() }
    }

    fn set(mut self, key: &str, value: MetaValue) -> Self {
        self = self.without(key);
        self.entries.push((key.into(), value));
        self
    }

    fn without(mut self, key: &str) -> Self {
        self.entries.retain(|(known, _)| known != key);
        self
    }

    fn tensor(mut self, name: &str, shape: &[usize], values: Vec<f32>) -> Self {
        self.tensors.retain(|(plan, _)| plan.name != name);
        let plan = TensorPlan { name: name.into(), shape: shape.to_vec(), kind: TensorKind::F32 };
        self.tensors.push((plan, values));
        self
    }

    fn without_tensor(mut self, name: &str) -> Self {
        self.tensors.retain(|(plan, _)| plan.name != name);
        self
    }

    fn values(&self, name: &str) -> &[f32] {
        &self.tensors.iter().find(|(plan, _)| plan.name == name).unwrap().1
    }

    fn bytes(&self) -> Vec<u8> {
        let mut metadata = Metadata::default();
        for (key, value) in &self.entries {
            metadata.insert(key, value.clone()).unwrap();
        }
        let plans = self.tensors.iter().map(|(plan, _)| plan.clone()).collect();
        let mut writer = GgufWriter::new(Vec::new(), &metadata, plans).unwrap();
        for (_, values) in &self.tensors {
            writer.write_values(values).unwrap();
        }
        writer.finish().unwrap()
    }

    fn file(&self) -> GgufFile<Vec<u8>> {
        GgufFile::new(self.bytes()).unwrap()
    }
}

/// The documents of a folder.
struct Folder {
    config: Value,
    tokenizer: Value,
    tokenizer_config: Value,
    generation_config: Value,
}

impl Folder {
    fn of(name: &str) -> Self {
        let model = Imported::new(Parts::of(name).file()).unwrap();
        Self {
            config: model.config,
            tokenizer: model.tokenizer,
            tokenizer_config: model.tokenizer_config,
            generation_config: model.generation_config,
        }
    }

    fn documents(&self) -> Documents<'_> {
        Documents {
            config: &self.config,
            tokenizer: &self.tokenizer,
            tokenizer_config: &self.tokenizer_config,
            generation_config: &self.generation_config,
        }
    }

    /// Writes the folder with values that count up, and reads the file.
    fn written(&self, precision: Precision) -> Result<GgufFile<Vec<u8>>, GgufError> {
        let values = |_: &str, shape: &[usize], out: &mut Vec<f32>| {
            out.extend((0..shape.iter().product()).map(|i: usize| i as f32));
            Ok::<(), String>(())
        };
        export_to(Vec::new(), &self.documents(), "tiny", precision, values).and_then(GgufFile::new)
    }
}

fn text(text: &str) -> MetaValue {
    MetaValue::String(text.into())
}

/// The message of an error.
fn refused<T: std::fmt::Debug>(result: Result<T, super::GgufError>) -> String {
    result.unwrap_err().to_string()
}
