//! A model with its tokenizer: what checkpoint and policy artifacts hold.
//!
//! Purpose: a model folder is self-contained; loading it needs no other artifact.
//! Invariant: the tokenizer's vocabulary is the model's; a reward model reads the same tokens as the model that it scores.
//! Must not know: training, stages.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use kiln_formats::gguf::GgufError;
use kiln_formats::tokenizer::{Tokenizer, TokenizerError};
use serde_json::{Map, Value, json};

use crate::adapter::{self, AdapterError};
use crate::context::StageError;
use crate::import::{self, Form, FormError};
use crate::model::io::{self, ModelError};
use crate::model::{Network, TokenRow};
use crate::rl::RewardModel;

/// What other programs generate with.
const GENERATION: &str = "generation_config.json";

/// What may be wrong with a model's folder.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum BundleError {
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    #[error(transparent)]
    Form(#[from] FormError),
    #[error(transparent)]
    Gguf(#[from] GgufError),
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    #[error("{}: it is the adapter of a reward model, and a language model is needed here", .0.display())]
    Scorer(PathBuf),
    #[error("{}: it is the adapter of a language model, and a reward model is needed here", .0.display())]
    NoScorer(PathBuf),
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

impl From<BundleError> for StageError {
    fn from(e: BundleError) -> Self {
        Self::failed(e)
    }
}

/// Loads model and tokenizer from a folder, or from a GGUF file.
///
/// # Errors
/// When either is missing or malformed, or they do not belong together.
pub fn load(folder: &Path, device: &Device) -> Result<(Network, Tokenizer), BundleError> {
    let (model, tokenizer) = match import::form(folder)? {
        Form::Gguf(file) => import::gguf(&file, device)?,
        Form::Folder => (io::load(folder, false, device)?, Tokenizer::load(folder)?),
        Form::Adapter => (adapter::load(folder, device)?, Tokenizer::load(folder)?),
    };
    if model.has_value_head() {
        return Err(BundleError::Scorer(folder.to_owned()));
    }
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
) -> Result<RewardModel, BundleError> {
    let tokenizer = Tokenizer::load(folder)?;
    let model = match adapter::is_adapter(folder) {
        true => adapter::load(folder, device)?,
        false => io::load(folder, true, device)?,
    };
    if !model.has_value_head() {
        return Err(BundleError::NoScorer(folder.to_owned()));
    }
    check_vocabulary(folder, &model, &tokenizer)?;
    let (folder, reward) = (folder.to_owned(), model.config().max_position_embeddings);
    if !tokenizer.has_ids_of(of) {
        return Err(BundleError::OtherTokenizer { folder });
    }
    if reward < context {
        return Err(BundleError::ShortContext { folder, reward, model: context });
    }
    Ok(RewardModel(model))
}

fn check_vocabulary(folder: &Path, model: &Network, tokenizer: &Tokenizer) -> Result<(), BundleError> {
    let (model, tokenizer) = (model.config().vocab, tokenizer.vocab_size());
    // A head may be padded to a round number.
    match model >= tokenizer {
        true => Ok(()),
        false => Err(BundleError::Vocabulary { folder: folder.to_owned(), model, tokenizer }),
    }
}

/// Writes model and tokenizer into a folder; of a model with an adapter, the model that it changes is copied from `from`,
/// the folder of either.
///
/// # Errors
/// Those of writing; weights or logits that are not finite.
pub fn save(folder: &Path, model: &Network, tokenizer: &Tokenizer, from: &Path) -> Result<(), BundleError> {
    let row = TokenRow::new(vec![tokenizer.eot(); 2], 1);
    if !model.logprobs_and_logits(&[row], 1.0).1.iter().all(|logit| logit.is_finite()) {
        return Err(BundleError::NotFinite);
    }
    write(folder, model, from, &ids(tokenizer, tokenizer.pad()))?;
    write_generation(folder, tokenizer)?;
    // Files of an imported tokenizer say themselves what to generate with.
    Ok(tokenizer.save(folder)?)
}

fn write(folder: &Path, model: &Network, from: &Path, more: &Map<String, Value>) -> Result<(), BundleError> {
    match model.adapter() {
        Some(adapter) => Ok(adapter::save(folder, model, adapter, (&adapter::base_of(from), more))?),
        None => Ok(io::save(folder, model, more)?),
    }
}

/// Writes a reward model and its tokenizer into a folder, as [`save`] does.
///
/// # Errors
/// Those of writing; weights that are not finite.
pub fn save_reward(
    folder: &Path,
    model: &RewardModel,
    tokenizer: &Tokenizer,
    from: &Path,
) -> Result<(), BundleError> {
    write(folder, &model.0, from, &ids(tokenizer, tokenizer.pad_of_rewards()))?;
    Ok(tokenizer.save(folder)?)
}

/// The fields of a model's shape file that say its special tokens; padding is known from lengths here, and other programs
/// know it by a token.
fn ids(tokenizer: &Tokenizer, pad: Option<u32>) -> Map<String, Value> {
    let ids =
        [("bos_token_id", tokenizer.bos()), ("eos_token_id", Some(tokenizer.stop())), ("pad_token_id", pad)];
    ids.into_iter().filter_map(|(name, id)| Some((name.to_owned(), json!(id?)))).collect()
}

/// What other programs generate with: a text ends at any of these tokens.
fn write_generation(folder: &Path, tokenizer: &Tokenizer) -> Result<(), BundleError> {
    let (mut map, mut stops) = (ids(tokenizer, tokenizer.pad()), tokenizer.stops());
    if tokenizer.own().is_some() {
        stops.push(tokenizer.eot());
    }
    map.insert("eos_token_id".to_owned(), json!(stops));
    Ok(io::write_json(&folder.join(GENERATION), &Value::Object(map))?)
}
