//! A model with its tokenizer: what checkpoint and policy artifacts hold.
//!
//! Purpose: a model folder is self-contained; loading it needs no other artifact.
//! Invariant: the tokenizer's vocabulary is the model's.
//! Must not know: training, stages.

use std::path::Path;

use burn::tensor::Device;

use crate::bpe::Tokenizer;
use crate::context::StageError;
use crate::model::{Decoder, io};

/// Loads model and tokenizer from a folder.
///
/// # Errors
/// When either is missing or malformed, or they do not belong together.
pub fn load(folder: &Path, device: &Device) -> Result<(Decoder, Tokenizer), StageError> {
    let tokenizer = Tokenizer::load(folder).map_err(StageError::failed)?;
    let model = io::load(folder, device)?;
    if model.config().vocab != tokenizer.vocab_size() {
        return Err(StageError::failed(format!(
            "{}: the model has {} tokens, its tokenizer {}",
            folder.display(),
            model.config().vocab,
            tokenizer.vocab_size()
        )));
    }
    Ok((model, tokenizer))
}

/// Writes model and tokenizer into a folder.
///
/// # Errors
/// Those of writing.
pub fn save(folder: &Path, model: &Decoder, tokenizer: &Tokenizer) -> Result<(), StageError> {
    io::save(folder, model)?;
    tokenizer.save(folder).map_err(StageError::failed)
}
