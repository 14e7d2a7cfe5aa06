//! A vocabulary from the files of Hugging Face.
//!
//! Purpose: reads `tokenizer.json` and the files beside it into what GGUF can say.
//! Invariant: a setting that llama.cpp cannot follow is an error that names it; gaps between ids become unused tokens.
//! Must not know: GGUF's keys.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::split::Split;
use super::tokens::{SpecialIds, TokenKind, Vocabulary, looks_special, unused};
use crate::gguf::GgufError;
use crate::gguf::error::quoted;
use crate::gguf::fields::Fields;

const TOKENIZER: &str = "tokenizer.json";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const GENERATION_CONFIG: &str = "generation_config.json";
const CONFIG: &str = "config.json";

/// The documents that a vocabulary is in.
pub(in crate::gguf) struct Documents<'v> {
    pub(in crate::gguf) tokenizer: &'v Value,
    pub(in crate::gguf) tokenizer_config: &'v Value,
    pub(in crate::gguf) generation_config: &'v Value,
    pub(in crate::gguf) config: &'v Value,
}

/// Reads the documents; `size` is the number of rows of the embedding, of which the checked shape has a bounded number. Each
/// of them gets a token, even where the tokenizer has none.
pub(in crate::gguf) fn read(documents: &Documents<'_>, size: usize) -> Result<Vocabulary, GgufError> {
    let tokenizer = Fields::of(TOKENIZER, documents.tokenizer)?;
    let config = Fields::of(TOKENIZER_CONFIG, documents.tokenizer_config)?;
    let model = tokenizer.object("model")?.ok_or_else(|| tokenizer.refuse("model", "it is missing"))?;
    refuse_settings(&tokenizer, &model)?;
    let ignores_merges = model.boolean("ignore_merges")?.unwrap_or(false);
    let pre_tokenizer = tokenizer.get("pre_tokenizer").unwrap_or(&Value::Null);
    let split =
        Split::of(pre_tokenizer, ignores_merges).map_err(|what| tokenizer.refuse("pre_tokenizer", what))?;
    let (tokens, kinds) = tokens(&tokenizer, &model, size)?;
    let mut ids: HashMap<&str, u32> = HashMap::with_capacity(tokens.len());
    ids.extend(tokens.iter().map(String::as_str).zip(0u32..));
    let special = special(&config, documents, &ids)?;
    let around = around(&tokenizer, &tokens, &special)?;
    let vocabulary = Vocabulary {
        merges: merges(&model)?,
        split,
        adds_bos: config.boolean("add_bos_token")?.unwrap_or(around.0),
        adds_eos: config.boolean("add_eos_token")?.unwrap_or(around.1),
        templates: templates(&config)?,
        suppressed: suppressed(documents)?,
        special,
        tokens,
        kinds,
    };
    vocabulary.check().map_err(|what| GgufError::whole(format!("{TOKENIZER}: {what}")))?;
    match vocabulary.special.eos {
        Some(_) => Ok(vocabulary),
        None => Err(config.refuse("eos_token", "it is missing, and llama.cpp would take token 11 for it")),
    }
}

/// Refuses what llama.cpp's byte-level vocabulary does not have.
fn refuse_settings(tokenizer: &Fields<'_>, model: &Fields<'_>) -> Result<(), GgufError> {
    match model.text("type")? {
        Some("BPE") => {}
        _ => return Err(tokenizer.refuse("model", "only byte-level BPE is written as GGUF")),
    }
    for name in ["byte_fallback", "fuse_unk"] {
        if model.boolean(name)? == Some(true) {
            return Err(model.refuse(name, "it is not byte-level BPE, and only that is written as GGUF"));
        }
    }
    for name in ["continuing_subword_prefix", "end_of_word_suffix"] {
        if model.text(name)?.is_some_and(|affix| !affix.is_empty()) {
            return Err(model.refuse(name, "it is not byte-level BPE, and only that is written as GGUF"));
        }
    }
    match tokenizer.get("normalizer") {
        None => Ok(()),
        // Qwen's files have it; llama.cpp and its converter leave it out.
        Some(normalizer) if normalizer["type"] == "NFC" => Ok(()),
        Some(_) => Err(tokenizer.refuse("normalizer", "llama.cpp changes no text before it splits it")),
    }
}

/// The texts by id and what they are for.
fn tokens(
    tokenizer: &Fields<'_>,
    model: &Fields<'_>,
    size: usize,
) -> Result<(Vec<String>, Vec<TokenKind>), GgufError> {
    let mut tokens: Vec<Option<String>> = vec![None; size];
    let mut kinds = vec![TokenKind::Normal; size];
    let beyond = |id: u64| format!("token {id} is beyond the {size} rows of the embedding");
    let none = Map::new();
    let vocab = model.get("vocab").and_then(Value::as_object).unwrap_or(&none);
    for (text, id) in vocab {
        let id = id.as_u64().ok_or_else(|| model.refuse("vocab", format!("`{}` has no id", quoted(text))))?;
        let place = usize::try_from(id).ok().and_then(|id| tokens.get_mut(id));
        if place.ok_or_else(|| model.refuse("vocab", beyond(id)))?.replace(text.clone()).is_some() {
            return Err(model.refuse("vocab", format!("two tokens have the id {id}")));
        }
    }
    for token in tokenizer.list("added_tokens")?.map(Vec::as_slice).unwrap_or_default() {
        let added = Fields::of(TOKENIZER, token)?;
        let id = added.needed_size("id")?;
        let text = added.text("content")?.ok_or_else(|| added.refuse("content", "it is missing"))?;
        for name in ["single_word", "lstrip", "rstrip"] {
            if added.boolean(name)? == Some(true) {
                let what = format!("the token `{}` asks for it, and GGUF cannot say so", quoted(text));
                return Err(added.refuse(name, what));
            }
        }
        let place = tokens.get_mut(id).ok_or_else(|| tokenizer.refuse("added_tokens", beyond(id as u64)))?;
        if place.replace(text.into()).is_some_and(|before| before != text) {
            return Err(tokenizer.refuse("added_tokens", format!("two tokens have the id {id}")));
        }
        let is_control = added.boolean("special")? == Some(true) || looks_special(text);
        kinds[id] = if is_control { TokenKind::Control } else { TokenKind::UserDefined };
    }
    let filled =
        tokens.into_iter().enumerate().map(|(id, token)| token.unwrap_or_else(|| unused(id))).collect();
    let tokens: Vec<String> = filled;
    for (id, kind) in kinds.iter_mut().enumerate() {
        if *kind == TokenKind::Normal && tokens[id] == unused(id) {
            *kind = TokenKind::Unused;
        }
    }
    Ok((tokens, kinds))
}

/// `left right`, from either form.
fn merges(model: &Fields<'_>) -> Result<Vec<String>, GgufError> {
    let list = model.list("merges")?.ok_or_else(|| model.refuse("merges", "it is missing"))?;
    let merge = |(place, merge): (usize, &Value)| {
        let pair = match merge {
            Value::String(text) => text.split_once(' '),
            Value::Array(pair) => {
                pair.first().and_then(Value::as_str).zip(pair.get(1).and_then(Value::as_str))
            }
            _ => None,
        };
        let pair = pair.filter(|(left, right)| !left.contains(' ') && !right.contains(' '));
        let (left, right) = pair.ok_or_else(|| {
            model.refuse("merges", format!("merge {place} is not two tokens without a space"))
        })?;
        Ok(format!("{left} {right}"))
    };
    list.iter().enumerate().map(merge).collect()
}

/// Whether BOS and EOS are put around a text.
fn around(
    tokenizer: &Fields<'_>,
    tokens: &[String],
    special: &SpecialIds,
) -> Result<(bool, bool), GgufError> {
    let refuse = |what: &str| tokenizer.refuse("post_processor", what);
    let Some(processor) = tokenizer.get("post_processor") else { return Ok((false, false)) };
    let alone = std::slice::from_ref(processor);
    let list = match processor["processors"].as_array() {
        Some(list) if processor["type"] == "Sequence" => list.as_slice(),
        _ => alone,
    };
    let mut found = (false, false);
    for step in list {
        match step["type"].as_str() {
            Some("ByteLevel") => continue,
            Some("TemplateProcessing") => {}
            _ => return Err(refuse("llama.cpp puts only BOS and EOS around a text")),
        }
        let pieces = step["single"].as_array().map(Vec::as_slice).unwrap_or_default();
        let at = pieces.iter().position(|piece| piece.get("Sequence").is_some());
        let at = at.ok_or_else(|| refuse("it has no place for a text"))?;
        let is = |pieces: &[Value], id: Option<u32>| match pieces {
            [] => Some(false),
            [piece] => {
                let text = id.and_then(|id| tokens.get(id as usize));
                text.filter(|text| piece["SpecialToken"]["id"] == text.as_str()).map(|_| true)
            }
            _ => None,
        };
        let ends = is(&pieces[..at], special.bos).zip(is(&pieces[at + 1..], special.eos));
        found = ends.ok_or_else(|| refuse("llama.cpp puts only BOS before a text and EOS after it"))?;
    }
    Ok(found)
}

/// A number, or a list of them.
fn numbers(fields: &Fields<'_>, name: &str) -> Result<Vec<u32>, GgufError> {
    let number = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    let list = match fields.get(name) {
        None => Some(Vec::new()),
        Some(Value::Array(list)) => list.iter().map(number).collect(),
        Some(value) => number(value).map(|id| vec![id]),
    };
    list.ok_or_else(|| fields.refuse(name, "it is no token id and no list of them"))
}

fn special(
    config: &Fields<'_>,
    documents: &Documents<'_>,
    ids: &HashMap<&str, u32>,
) -> Result<SpecialIds, GgufError> {
    let generation = Fields::of(GENERATION_CONFIG, documents.generation_config)?;
    let model = Fields::of(CONFIG, documents.config)?;
    // The text in the tokenizer's config counts before the ids of the model's.
    let id = |name: &str| -> Result<Option<u32>, GgufError> {
        let field = format!("{name}_token");
        let text = match config.get(&field) {
            Some(Value::Object(token)) => token.get("content").and_then(Value::as_str),
            _ => config.text(&field)?,
        };
        match text {
            Some(text) => ids.get(text).copied().map(Some).ok_or_else(|| {
                config.refuse(&field, format!("`{}` is no token of {TOKENIZER}", quoted(text)))
            }),
            None => {
                let field = format!("{field}_id");
                let found = numbers(&generation, &field)?.first().copied();
                Ok(found.or(numbers(&model, &field)?.first().copied()))
            }
        }
    };
    let eos = id("eos")?;
    let mut stops = numbers(&generation, "eos_token_id")?;
    if stops.is_empty() {
        stops = numbers(&model, "eos_token_id")?;
    }
    let mut seen: HashSet<u32> = eos.into_iter().collect();
    stops.retain(|&stop| seen.insert(stop));
    if stops.len() > 2 {
        let what = format!("{} tokens end what the model says, and GGUF holds three", stops.len() + 1);
        return Err(generation.refuse("eos_token_id", what));
    }
    Ok(SpecialIds {
        bos: id("bos")?,
        eos,
        eot: stops.first().copied(),
        eom: stops.get(1).copied(),
        unk: id("unk")?,
        pad: id("pad")?,
    })
}

fn suppressed(documents: &Documents<'_>) -> Result<Vec<u32>, GgufError> {
    numbers(&Fields::of(GENERATION_CONFIG, documents.generation_config)?, "suppress_tokens")
}

/// The chat templates by name, the default first.
fn templates(config: &Fields<'_>) -> Result<Vec<(String, String)>, GgufError> {
    let list = match config.get("chat_template") {
        None => return Ok(Vec::new()),
        Some(Value::String(template)) => return Ok(vec![("default".into(), template.clone())]),
        Some(Value::Array(list)) => list,
        Some(_) => return Err(config.refuse("chat_template", "it is neither a template nor a list of them")),
    };
    let mut templates = Vec::new();
    for entry in list {
        let entry = Fields::of(TOKENIZER_CONFIG, entry)?;
        let (name, template) = (entry.text("name")?, entry.text("template")?);
        let found =
            name.zip(template).ok_or_else(|| entry.refuse("name", "a template has no name or no text"))?;
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if found.0.is_empty() || !found.0.chars().all(is_plain) {
            let what =
                format!("`{}` is no name of small letters, digits and `_`, as GGUF needs", quoted(found.0));
            return Err(entry.refuse("name", what));
        }
        templates.push((found.0.to_owned(), found.1.to_owned()));
    }
    templates.sort_by_key(|(name, _)| name != "default");
    Ok(templates)
}
