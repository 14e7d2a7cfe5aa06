//! A model with its tokenizer: what checkpoint and policy artifacts hold.
//!
//! Purpose: a model folder is self-contained; loading it needs no other artifact.
//! Invariant: the tokenizer's vocabulary is the model's; a reward model reads the same tokens as the model that it scores.
//! Must not know: training, stages.

use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::Device;

use crate::bpe::{Tokenizer, TokenizerError};
use crate::generate::host;
use crate::model::io::{self, ModelError};
use crate::model::{Decoder, Rows};
use crate::rl::scorer::{self, Scorer};

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
    #[error(
        "the logits of the model are not finite, so nothing is written: its weights have grown without bound; try a \
         smaller learning rate"
    )]
    NotFinite,
    #[error(
        "{}: the reward model has another tokenizer than the model whose answers it would score, so it would score \
         other words; train it from that model",
        folder.display()
    )]
    OtherTokenizer { folder: PathBuf },
    #[error(
        "{}: the reward model has a context of {reward} tokens, and the model whose answers it would score has \
         {model}; train it from that model",
        folder.display()
    )]
    ShortContext { folder: PathBuf, reward: usize, model: usize },
}

/// Loads model and tokenizer from a folder.
///
/// # Errors
/// When either is missing or malformed, or they do not belong together.
pub fn load(folder: &Path, device: &Device) -> Result<(Decoder, Tokenizer), BundleError> {
    let tokenizer = Tokenizer::load(folder)?;
    let model = io::load(folder, device)?;
    check_vocabulary(folder, &model, &tokenizer)?;
    Ok((model, tokenizer))
}

/// Loads a reward model that is to score the answers of a model, which has this tokenizer and context.
///
/// # Errors
/// When it is missing or malformed, or the two do not fit together.
pub fn load_reward(
    folder: &Path,
    (of, context): (&Tokenizer, usize),
    device: &Device,
) -> Result<Scorer, BundleError> {
    let tokenizer = Tokenizer::load(folder)?;
    let scorer = scorer::load(folder, device)?;
    check_vocabulary(folder, scorer.decoder(), &tokenizer)?;
    let (folder, reward) = (folder.to_owned(), scorer.decoder().config().context);
    if !tokenizer.has_ids_of(of) {
        return Err(BundleError::OtherTokenizer { folder });
    }
    if reward < context {
        return Err(BundleError::ShortContext { folder, reward, model: context });
    }
    Ok(scorer)
}

fn check_vocabulary(folder: &Path, model: &Decoder, tokenizer: &Tokenizer) -> Result<(), BundleError> {
    let (model, tokenizer) = (model.config().vocab, tokenizer.vocab_size());
    match model == tokenizer {
        true => Ok(()),
        false => Err(BundleError::Vocabulary { folder: folder.to_owned(), model, tokenizer }),
    }
}

/// Writes model and tokenizer into a folder.
///
/// # Errors
/// Those of writing; weights or logits that are not finite.
pub fn save(folder: &Path, model: &Decoder, tokenizer: &Tokenizer) -> Result<(), BundleError> {
    let plain = model.valid();
    let hidden = plain.hidden(Rows::right(&[[tokenizer.eot()]], 0, &plain.device()), None);
    let [_, _, width] = hidden.dims();
    if !host(plain.logits(hidden.reshape([1, width]))).iter().all(|logit| logit.is_finite()) {
        return Err(BundleError::NotFinite);
    }
    io::save(folder, model)?;
    Ok(tokenizer.save(folder)?)
}
