//! The content of a Hugging Face folder as a GGUF file.
//!
//! Purpose: what llama.cpp's converter writes, so that llama.cpp and all that is built on it load the model.
//! Invariant: tensors are asked for one at a time, in the order of the file; the file is whole or absent.
//! Must not know: folders.

use std::fmt::Display;
use std::io::Write;
use std::path::Path;

use serde_json::Value;

use super::model::{Form, ROPE_FREQS, Slot, architecture, divisors, from_config, slots, to_metadata};
use super::write::Temporary;
use super::{GgufError, GgufWriter, MetaValue, Metadata, TensorKind, TensorPlan, vocabulary};

/// How matrices are stored. Vectors, norms and positions are always F32, as llama.cpp needs them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// 32 bits: exact.
    F32,
    /// 16 bits.
    F16,
    /// 8 bits and a scale for 32 values; a matrix whose rows are no multiple of 32 long is F16.
    Q8_0,
}

impl Precision {
    /// llama.cpp's number for a file that is mostly so.
    fn file_type(self) -> u32 {
        match self {
            Precision::F32 => 0,
            Precision::F16 => 1,
            Precision::Q8_0 => 7,
        }
    }
}

/// The documents of a Hugging Face folder. `null` stands for one that is not there.
#[derive(Debug, Clone, Copy)]
pub struct Documents<'v> {
    /// `config.json`.
    pub config: &'v Value,
    /// `tokenizer.json`.
    pub tokenizer: &'v Value,
    /// `tokenizer_config.json`, with the chat template in it, also where the folder has it in a file of its own.
    pub tokenizer_config: &'v Value,
    /// `generation_config.json`.
    pub generation_config: &'v Value,
}

/// The tensors that [`export`] will ask for, with their shapes, in Hugging Face's terms.
///
/// # Errors
/// When the `config.json` says something that llama.cpp does not compute.
pub fn exported_tensors(config: &Value) -> Result<Vec<(String, Vec<usize>)>, GgufError> {
    let config = from_config(config)?;
    Ok(slots(&config).into_iter().map(|slot| (slot.name, slot.shape)).collect())
}

/// Writes a GGUF file.
///
/// `values` is called once for each of [`exported_tensors`], in their order, with the name, the shape and a buffer to fill:
/// the values in the shape's order. At most three tensors are in memory at once.
///
/// # Errors
/// When a document says something that llama.cpp cannot follow, a value is not finite or too large for the precision, or the
/// file cannot be written; those of `values`. Nothing is left on the disk then.
pub fn export<E: Display>(
    path: &Path,
    documents: &Documents<'_>,
    name: &str,
    precision: Precision,
    values: impl FnMut(&str, &[usize], &mut Vec<f32>) -> Result<(), E>,
) -> Result<(), GgufError> {
    let plan = Plan::new(documents, name, precision)?;
    let file = Temporary::create(path)?;
    let written = plan.write(file, values).and_then(Temporary::keep);
    written.map_err(|error| error.in_file(path))
}

/// As [`export`], to anything that takes bytes.
///
/// # Errors
/// As [`export`].
pub fn export_to<W: Write, E: Display>(
    out: W,
    documents: &Documents<'_>,
    name: &str,
    precision: Precision,
    values: impl FnMut(&str, &[usize], &mut Vec<f32>) -> Result<(), E>,
) -> Result<W, GgufError> {
    Plan::new(documents, name, precision)?.write(out, values)
}

/// A file that is about to be written.
struct Plan {
    metadata: Metadata,
    slots: Vec<Slot>,
    precision: Precision,
    /// The divisors of LLaMA 3's frequencies.
    divisors: Option<Vec<f32>>,
}

impl Plan {
    fn new(documents: &Documents<'_>, name: &str, precision: Precision) -> Result<Self, GgufError> {
        let config = from_config(documents.config)?;
        let parsed = vocabulary::Documents {
            tokenizer: documents.tokenizer,
            tokenizer_config: documents.tokenizer_config,
            generation_config: documents.generation_config,
            config: documents.config,
        };
        let vocabulary = vocabulary::from_documents(&parsed, config.vocab)?;
        let mut metadata = Metadata::default();
        let text = |text: &str| MetaValue::String(text.into());
        metadata.insert("general.architecture", text(architecture(config.family)))?;
        metadata.insert("general.type", text("model"))?;
        metadata.insert("general.name", text(name))?;
        to_metadata(&config, &mut metadata)?;
        metadata.insert("general.file_type", MetaValue::U32(precision.file_type()))?;
        vocabulary::to_metadata(&vocabulary, &mut metadata)?;
        metadata.insert("general.quantization_version", MetaValue::U32(2))?;
        let divisors = divisors(&config.rope, config.head_dim);
        Ok(Self { metadata, slots: slots(&config), precision, divisors })
    }

    fn write<W: Write, E: Display>(
        self,
        out: W,
        mut values: impl FnMut(&str, &[usize], &mut Vec<f32>) -> Result<(), E>,
    ) -> Result<W, GgufError> {
        let rope = self.divisors.as_ref().map(|divisors| TensorPlan {
            name: ROPE_FREQS.into(),
            shape: vec![divisors.len()],
            kind: TensorKind::F32,
        });
        let plans = rope.into_iter().chain(self.slots.iter().map(|slot| self.plan(slot))).collect();
        let mut writer = GgufWriter::new(out, &self.metadata, plans)?;
        if let Some(divisors) = &self.divisors {
            writer.write_values(divisors)?;
        }
        let mut given = Vec::new();
        for slot in &self.slots {
            given.clear();
            let called = values(&slot.name, &slot.shape, &mut given);
            called.map_err(|error| GgufError::tensor(&slot.name, error.to_string()))?;
            if given.len() != slot.shape.iter().product::<usize>() {
                let what = format!("{} values do not make the shape {:?}", given.len(), slot.shape);
                return Err(GgufError::tensor(&slot.name, what));
            }
            match turned(slot, &given) {
                Some(turned) => writer.write_values(&turned)?,
                None => writer.write_values(&given)?,
            }
        }
        writer.finish()
    }

    fn plan(&self, slot: &Slot) -> TensorPlan {
        let shape = slot.gguf_shape();
        let is_exact = shape.len() == 1 || slot.gguf.starts_with("position_embd");
        let kind = match self.precision {
            _ if is_exact => TensorKind::F32,
            Precision::F32 => TensorKind::F32,
            Precision::Q8_0 if shape.last().is_some_and(|row| row % TensorKind::Q8_0.block() == 0) => {
                TensorKind::Q8_0
            }
            Precision::F16 | Precision::Q8_0 => TensorKind::F16,
        };
        TensorPlan { name: slot.gguf.clone(), shape, kind }
    }
}

/// The values as GGUF has them, where that is another order.
fn turned(slot: &Slot, values: &[f32]) -> Option<Vec<f32>> {
    let row: usize = slot.shape[1..].iter().product();
    let mut out = match slot.form {
        Form::Same => return None,
        _ => vec![0.0; values.len()],
    };
    match slot.form {
        Form::Paired(heads) => {
            let head = values.len() / heads;
            let pairs = out.chunks_exact_mut(head).zip(values.chunks_exact(head));
            pairs.for_each(|(out, values)| pair(values, row, out));
        }
        _ => {
            let rows = slot.shape[0];
            for (i, x) in values.iter().enumerate() {
                out[i % row * rows + i / row] = *x;
            }
        }
    }
    Some(out)
}

/// The rows of a head, from halves to pairs.
fn pair(halves: &[f32], row: usize, paired: &mut [f32]) {
    let half = halves.len() / row / 2;
    for (i, out) in paired.chunks_exact_mut(row).enumerate() {
        let place = i % 2 * half + i / 2;
        out.copy_from_slice(&halves[place * row..][..row]);
    }
}
