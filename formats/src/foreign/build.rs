//! The parts of a tokenizer put together.
//!
//! Purpose: from the JSON of the files to what encodes and decodes.
//! Invariant: ids are one to one with spellings, across the vocabulary and the added tokens; ids that files name have one.
//! Must not know: where the JSON comes from.

use std::collections::HashSet;

use super::added::Added;
use super::config::{Config, ModelConfigs};
use super::decode::Decoder;
use super::error::ForeignError;
use super::json::{AddedJson, TokenizerJson};
use super::model::{Ids, Model, check_kind, ids_of};
use super::pipeline::{Around, Normalizer, PreTokenizer};
use super::protect::Protector;
use super::tokenizer::Inner;

/// Builds a tokenizer; its stop ids may be none.
pub(super) fn build(
    json: TokenizerJson,
    config: Config,
    configs: &ModelConfigs<'_>,
    cache: usize,
) -> Result<Inner, ForeignError> {
    let mut model = json.model;
    check_kind(&model)?;
    let ids = ids_of(std::mem::take(&mut model.vocab).0)?;
    let list = config.joined(json.added_tokens.0, &ids)?;
    let known = known_ids(&list, &ids)?;
    let is_known = |id: u32| known.contains(&id);
    let normalizer = Normalizer::read(&json.normalizer.0)?;
    let pre_tokenizer = PreTokenizer::read(&json.pre_tokenizer.0)?;
    let around = Around::read(&json.post_processor.0)?;
    if let Some(id) = around.before.iter().chain(&around.after).find(|&&id| !is_known(id)) {
        return Err(ForeignError::field(
            "post_processor",
            format!("{id} is not the id of a token; correct it"),
        ));
    }
    let decoder = Decoder::read(&json.decoder.0)?;

    let id_of = |content: &String| {
        let added = list.iter().find(|token| token.content == *content).map(|token| token.id);
        added.or_else(|| ids.get(content).copied())
    };
    let named = |name: &str| config.named.get(name).and_then(id_of);
    let first = |name: &str, key: &str| -> Result<Option<u32>, ForeignError> {
        Ok(named(name).or(configs.ids(key, &is_known)?.first().copied()))
    };
    let bos = first("bos_token", "bos_token_id")?;
    let eos = first("eos_token", "eos_token_id")?;
    let pad = first("pad_token", "pad_token_id")?;
    let mut stop_ids = configs.ids("eos_token_id", &is_known)?;
    if stop_ids.is_empty() {
        stop_ids.extend(named("eos_token"));
    }
    stop_ids.sort_unstable();
    stop_ids.dedup();

    let specials = list.iter().filter(|token| token.special).map(|token| token.content.as_str()).collect();
    let model = Model::new(model, ids, &specials, cache)?;
    let added = Added::new(list.clone(), normalizer.as_ref())?;
    let protector = Protector::new(added.tokens());
    Ok(Inner {
        model,
        added,
        normalizer,
        pre_tokenizer,
        around,
        decoder,
        protector,
        stop_ids,
        named: config.named,
        bos,
        eos,
        pad,
        template: config.template,
        files: Vec::new(),
    })
}

/// All ids. An added token that is not in the vocabulary may have no id of it.
fn known_ids(list: &[AddedJson], ids: &Ids) -> Result<HashSet<u32>, ForeignError> {
    let mut known: HashSet<u32> = ids.values().copied().collect();
    for (index, token) in list.iter().enumerate() {
        if !ids.contains_key(&token.content) && !known.insert(token.id) {
            let what =
                format!("`{}` has the id {} of another token; give each its own", token.content, token.id);
            return Err(ForeignError::field(format!("added_tokens[{index}]"), what));
        }
    }
    Ok(known)
}
