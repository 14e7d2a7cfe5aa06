//! What stands beside the tokenizer: the names of special tokens, where generation stops, the chat template.
//!
//! Purpose: `tokenizer_config.json`, `special_tokens_map.json`, `generation_config.json` and `config.json`, as transformers
//! reads them: the old map counts only where the configuration does not list the added tokens itself.
//! Invariant: a token that is named but that no vocabulary has gets no id: the model would have no row for it. (transformers
//! gives it a new one.)
//! Must not know: how text becomes tokens.

use std::collections::BTreeMap;

use serde_json::Value;

use super::added::LONGEST;
use super::error::ForeignError;
use super::folder::{CONFIG, GENERATION, MODEL, SPECIALS};
use super::json::{AddedJson, MOST_TOKENS};
use super::model::Ids;

/// The names that a special token can have for every model; others end with `_token` as well.
const NAMES: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];
/// Keys of lists of further special tokens.
const LISTS: [&str; 2] = ["additional_special_tokens", "extra_special_tokens"];
/// Tokens in such a list, or named.
const MOST: usize = 1 << 16;

/// The configuration of a tokenizer.
#[derive(Debug, Default)]
pub(super) struct Config {
    /// `bos_token`, `eos_token`, .. with their spelling.
    pub(super) named: BTreeMap<String, String>,
    /// Those and all further special tokens.
    specials: Vec<String>,
    /// `added_tokens_decoder`, in the order of the ids.
    added: Vec<AddedJson>,
    /// `chat_template`, the default one.
    pub(super) template: Option<String>,
}

impl Config {
    /// Reads `tokenizer_config.json` and `special_tokens_map.json`.
    pub(super) fn read(config: Option<&Value>, map: Option<&Value>) -> Result<Self, ForeignError> {
        let mut read = Self::default();
        if let Some(config) = config {
            read.names(config, CONFIG)?;
            read.added_tokens(config)?;
            read.template = template(config)?;
        }
        let lists_added = config.is_some_and(|config| config.get("added_tokens_decoder").is_some());
        if let Some(map) = map.filter(|_| !lists_added) {
            read.names(map, SPECIALS)?;
        }
        read.specials.extend(read.named.values().cloned());
        read.specials.sort();
        read.specials.dedup();
        Ok(read)
    }

    fn names(&mut self, object: &Value, file: &str) -> Result<(), ForeignError> {
        let Some(object) = object.as_object() else {
            return Err(ForeignError::field_of(file, "the file", "this has to be an object"));
        };
        for (key, value) in object {
            let known = NAMES.contains(&key.as_str());
            let token = token(value).filter(|_| known || key.ends_with("_token"));
            if let Some(token) = token {
                // An empty text is how some say that there is none.
                if !token.is_empty() {
                    self.named.insert(key.clone(), token.into());
                }
            } else if known && !value.is_null() {
                return Err(ForeignError::field_of(
                    file,
                    key,
                    "this has to be a token: its text, or an object with it",
                ));
            }
        }
        for key in LISTS {
            match object.get(key) {
                Some(Value::Array(list)) if list.len() <= MOST => {
                    self.specials.extend(list.iter().filter_map(token).map(String::from));
                }
                Some(Value::Object(names)) if names.len() <= MOST => {
                    let named =
                        names.iter().filter_map(|(name, value)| Some((name.clone(), token(value)?.into())));
                    self.named.extend(named);
                }
                Some(Value::Array(_) | Value::Object(_)) => {
                    return Err(ForeignError::field_of(
                        file,
                        key,
                        format!("there are more than {MOST} tokens"),
                    ));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn added_tokens(&mut self, config: &Value) -> Result<(), ForeignError> {
        let Some(Value::Object(tokens)) = config.get("added_tokens_decoder") else { return Ok(()) };
        for (id, token) in tokens {
            let fail =
                |what: String| ForeignError::field_of(CONFIG, format!("added_tokens_decoder.{id}"), what);
            let number = id.parse::<u32>().ok().filter(|&id| (id as usize) < MOST_TOKENS);
            let number = number.ok_or_else(|| fail("this is not an id".into()))?;
            let mut token = token.clone();
            if let Value::Object(token) = &mut token {
                token.insert("id".into(), number.into());
            }
            self.added.push(serde_json::from_value(token).map_err(|error| fail(error.to_string()))?);
        }
        self.added.sort_by_key(|token| token.id);
        Ok(())
    }

    /// The added tokens of `tokenizer.json`, changed and joined by what the configuration says of them.
    pub(super) fn joined(&self, list: Vec<AddedJson>, ids: &Ids) -> Result<Vec<AddedJson>, ForeignError> {
        let first_new = u32::try_from(ids.len()).unwrap_or(u32::MAX);
        check(&list, "tokenizer.json", "added_tokens")?;
        let mut next = super::model::check_added(&list, ids, first_new, "added_tokens")?;
        let mut joined = list;
        let mut places: BTreeMap<String, usize> =
            joined.iter().enumerate().map(|(place, token)| (token.content.clone(), place)).collect();
        check(&self.added, CONFIG, "added_tokens_decoder")?;
        for token in &self.added {
            if let Some(&place) = places.get(&token.content) {
                let known = &mut joined[place];
                // Its flags count, but not its id; and what is special somewhere stays so.
                *known = AddedJson { id: known.id, special: known.special || token.special, ..token.clone() };
                continue;
            }
            let expected = ids.get(&token.content).copied().unwrap_or(next);
            if expected != token.id {
                let what = format!(
                    "`{}` is not among the added tokens of tokenizer.json, whose next id is {expected}; save the \
                     tokenizer again so that both agree",
                    token.content
                );
                let field = format!("added_tokens_decoder.{}", token.id);
                return Err(ForeignError::field_of(CONFIG, field, what));
            }
            next += u32::from(!ids.contains_key(&token.content));
            places.insert(token.content.clone(), joined.len());
            joined.push(token.clone());
        }
        for content in &self.specials {
            match (places.get(content), ids.get(content)) {
                (Some(&place), _) => joined[place].special = true,
                (None, Some(&id)) if (1..=LONGEST).contains(&content.len()) => joined.push(AddedJson {
                    id,
                    content: content.clone(),
                    single_word: false,
                    lstrip: false,
                    rstrip: false,
                    normalized: false,
                    special: true,
                }),
                _ => {}
            }
        }
        Ok(joined)
    }
}

/// Refuses added tokens that cannot be: empty or long ones, and the same one twice.
fn check(list: &[AddedJson], file: &str, field: &str) -> Result<(), ForeignError> {
    let mut seen = std::collections::HashSet::new();
    for (index, token) in list.iter().enumerate() {
        let fail = |what: String| Err(ForeignError::field_of(file, format!("{field}[{index}]"), what));
        if !(1..=LONGEST).contains(&token.content.len()) {
            return fail(format!("a token has 1 to {LONGEST} bytes, this one {}", token.content.len()));
        }
        if token.id as usize >= MOST_TOKENS {
            return fail(format!(
                "`{}` has the id {}; ids go up to {}",
                token.content,
                token.id,
                MOST_TOKENS - 1
            ));
        }
        if !seen.insert(&token.content) {
            return fail(format!("`{}` is there twice; remove one of them", token.content));
        }
    }
    Ok(())
}

/// The spelling of a token that is given as text or as an object.
fn token(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("content")?.as_str())
}

/// The default chat template.
fn template(config: &Value) -> Result<Option<String>, ForeignError> {
    match config.get("chat_template") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(template)) => Ok(Some(template.clone())),
        Some(Value::Array(list)) => {
            let default =
                list.iter().find(|entry| entry.get("name").and_then(Value::as_str) == Some("default"));
            Ok(default.and_then(|entry| entry.get("template")?.as_str()).map(String::from))
        }
        Some(Value::Object(named)) => Ok(named.get("default").and_then(Value::as_str).map(String::from)),
        Some(_) => Err(ForeignError::field_of(
            CONFIG,
            "chat_template",
            "this has to be a template, or a list of {\"name\": .., \"template\": ..}",
        )),
    }
}

/// The files that may name special tokens by their ids, the first one counting.
pub(super) struct ModelConfigs<'v> {
    pub(super) generation: Option<&'v Value>,
    pub(super) model: Option<&'v Value>,
}

impl ModelConfigs<'_> {
    /// The ids of `key` in the first of the files that has it, each of which has to be known.
    pub(super) fn ids(&self, key: &str, is_known: &dyn Fn(u32) -> bool) -> Result<Vec<u32>, ForeignError> {
        let text = self.model.and_then(|model| model.get("text_config"));
        let files = [(GENERATION, self.generation), (MODEL, self.model), (MODEL, text)];
        for (file, object) in files {
            let ids = match object.and_then(|object| object.get(key)) {
                None | Some(Value::Null) => continue,
                Some(Value::Array(list)) if list.is_empty() => continue,
                Some(Value::Array(list)) => list.as_slice(),
                Some(one) => std::slice::from_ref(one),
            };
            let known = |value: &Value| {
                let id = value.as_u64().and_then(|id| u32::try_from(id).ok()).filter(|&id| is_known(id));
                let what = format!("{value} is not an id of {}; correct it", super::folder::TOKENIZER);
                id.ok_or_else(|| ForeignError::field_of(file, key, what))
            };
            return ids.iter().take(MOST).map(known).collect();
        }
        Ok(Vec::new())
    }
}
