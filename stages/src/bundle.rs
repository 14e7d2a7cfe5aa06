//! A model with its tokenizer: what checkpoint and policy artifacts hold.
//!
//! Purpose: a model folder is self-contained; loading it needs no other artifact.
//! Invariant: the tokenizer's vocabulary is the model's.
//! Must not know: training, stages.

use std::path::{Path, PathBuf};

use burn::tensor::Device;

use crate::bpe::{Tokenizer, TokenizerError};
use crate::model::Decoder;
use crate::model::io::{self, ModelError};

/// What may be wrong with a model's folder.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum BundleError {
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(
        "{}: the model has {model} tokens, and its tokenizer has {tokenizer}; they were not made \
         together, so name an artifact of one stage",
        folder.display()
    )]
    Vocabulary { folder: PathBuf, model: usize, tokenizer: usize },
}

/// Loads model and tokenizer from a folder.
///
/// # Errors
/// When either is missing or malformed, or they do not belong together.
pub fn load(folder: &Path, device: &Device) -> Result<(Decoder, Tokenizer), BundleError> {
    let tokenizer = Tokenizer::load(folder)?;
    let model = io::load(folder, device)?;
    if model.config().vocab != tokenizer.vocab_size() {
        return Err(BundleError::Vocabulary {
            folder: folder.to_owned(),
            model: model.config().vocab,
            tokenizer: tokenizer.vocab_size(),
        });
    }
    Ok((model, tokenizer))
}

/// Writes model and tokenizer into a folder.
///
/// # Errors
/// Those of writing.
pub fn save(folder: &Path, model: &Decoder, tokenizer: &Tokenizer) -> Result<(), BundleError> {
    io::save(folder, model)?;
    Ok(tokenizer.save(folder)?)
}
