//! GGUF: the files of llama.cpp.
//!
//! Purpose: [`GgufFile`] reads a file and its tensors as f32, [`GgufWriter`] writes one. [`Imported`] gives a model in a file
//! as the content of a Hugging Face folder, [`export`] makes a file of such a content. A file is parsed in [`parse`], its
//! values are unpacked and packed in [`tensor`]; the two sides of a model meet in [`model`] and [`vocabulary`].
//! Invariant: a file may be hostile: what it claims is compared with its size before memory is taken; a key or a tensor that
//! is not understood is an error that names it.
//! Must not know: burn, folders, stages, the runner.

mod error;
mod export;
mod fields;
mod file;
mod fuzz;
mod import;
mod model;
mod parse;
mod source;
mod tensor;
mod value;
mod vocabulary;
mod write;

pub use error::GgufError;
pub use export::{Documents, Precision, export, export_to, exported_tensors};
pub use file::{GgufFile, TensorInfo};
pub use fuzz::fuzz;
pub use import::{Imported, ImportedTensor};
pub use source::{FileSource, ReadAt};
pub use tensor::TensorKind;
pub use value::{MetaArray, MetaValue, Metadata};
pub use write::{GgufWriter, TensorPlan};

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
