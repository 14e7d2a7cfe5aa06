//! `tokenizer.json` and `tokenizer_config.json`.
//!
//! Purpose: files that Hugging Face `tokenizers` and `transformers` load as they are and encode
//! identically with; the same tokenizer always gives the same bytes.
//! Invariant: what is read is exactly a tokenizer that Kiln writes (sizes bounded, ids dense, merges
//! consistent, settings known), or an error; `load(save(x)) == x`.
//! Must not know: how text is encoded.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::chat::{ASSISTANT, END, ENDOFTEXT, PAD, SPECIALS, TEMPLATE, USER};
use super::json::{MergeText, VocabularyText, byte_chars, spell};
use super::{Pattern, Tokenizer, TokenizerError};

const TOKENIZER: &str = "tokenizer.json";
const CONFIG: &str = "tokenizer_config.json";
/// The chat template alone, as newer releases of `transformers` look for it.
const TEMPLATE_FILE: &str = "chat_template.jinja";
/// The largest file that is read.
const MAX_FILE: u64 = 128 << 20;
const AGAIN: &str = "only files that Kiln's tokenizer stage wrote can be read; run that stage again";

/// The whole of `tokenizer.json`. Objects inside `Value`s have their keys sorted, so that the bytes
/// do not depend on how serde_json keeps maps.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenizerFile {
    version: String,
    truncation: Value,
    padding: Value,
    added_tokens: Vec<AddedToken>,
    normalizer: Value,
    pre_tokenizer: Value,
    post_processor: Value,
    decoder: Value,
    model: Model,
}

#[derive(Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct AddedToken {
    id: u32,
    content: String,
    single_word: bool,
    lstrip: bool,
    rstrip: bool,
    normalized: bool,
    special: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Model {
    #[serde(rename = "type")]
    kind: String,
    dropout: Value,
    unk_token: Value,
    continuing_subword_prefix: Value,
    end_of_word_suffix: Value,
    fuse_unk: bool,
    byte_fallback: bool,
    ignore_merges: bool,
    vocab: VocabularyText,
    merges: Vec<MergeText>,
}

/// Writes the files.
pub(super) fn save(tokenizer: &Tokenizer, folder: &Path) -> Result<(), TokenizerError> {
    std::fs::create_dir_all(folder).map_err(|error| TokenizerError::io(folder, error))?;
    write(&folder.join(TOKENIZER), &describe(tokenizer))?;
    write(&folder.join(CONFIG), &config())?;
    let template = folder.join(TEMPLATE_FILE);
    std::fs::write(&template, TEMPLATE).map_err(|error| TokenizerError::io(&template, error))
}

/// The content of `tokenizer.json`.
pub(super) fn bytes(tokenizer: &Tokenizer) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&describe(tokenizer))
}

fn write(path: &Path, content: &impl Serialize) -> Result<(), TokenizerError> {
    let mut bytes =
        serde_json::to_vec_pretty(content).map_err(|error| TokenizerError::file(path, error.to_string()))?;
    bytes.push(b'\n');
    std::fs::write(path, bytes).map_err(|error| TokenizerError::io(path, error))
}

/// Reads and checks both files; the config may be missing.
pub(super) fn load(folder: &Path) -> Result<Tokenizer, TokenizerError> {
    let config = folder.join(CONFIG);
    if config.exists() {
        check_template(&read(&config)?).map_err(|what| TokenizerError::file(&config, what))?;
    }
    let path = folder.join(TOKENIZER);
    let file: TokenizerFile = read(&path)?;
    let refuse = |what: String| TokenizerError::file(&path, format!("{what}; {AGAIN}"));
    let pattern = pattern_of(&file.pre_tokenizer).map_err(refuse)?;
    let merges = merges_of(&file.model).map_err(refuse)?;
    let tokenizer = Tokenizer::from_merges(merges, pattern).map_err(|error| refuse(error.to_string()))?;
    check_settings(&file, &describe(&tokenizer)).map_err(refuse)?;
    Ok(tokenizer)
}

fn read<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T, TokenizerError> {
    let io = |error| TokenizerError::io(path, error);
    let mut bytes = Vec::new();
    File::open(path).map_err(io)?.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(TokenizerError::file(path, format!("it is larger than {} MiB", MAX_FILE >> 20)));
    }
    serde_json::from_slice(&bytes).map_err(|error| TokenizerError::file(path, error.to_string()))
}

/// The file of a tokenizer.
fn describe(tokenizer: &Tokenizer) -> TokenizerFile {
    let vocabulary = tokenizer.vocabulary();
    let chars = byte_chars();
    let spelt = |id: u32| spell(vocabulary.bytes_of(id).unwrap_or_default(), &chars);
    let merges = vocabulary.merges().iter().map(|&(left, right)| MergeText(spelt(left), spelt(right)));
    TokenizerFile {
        version: "1.0".into(),
        truncation: Value::Null,
        padding: Value::Null,
        added_tokens: SPECIALS.iter().zip(tokenizer.special(0)..).map(added_token).collect(),
        normalizer: Value::Null,
        pre_tokenizer: pre_tokenizer(tokenizer.pattern()),
        post_processor: Value::Null,
        decoder: byte_level(true),
        model: Model {
            kind: "BPE".into(),
            dropout: Value::Null,
            unk_token: Value::Null,
            continuing_subword_prefix: Value::Null,
            end_of_word_suffix: Value::Null,
            fuse_unk: false,
            byte_fallback: false,
            ignore_merges: false,
            merges: merges.collect(),
            vocab: VocabularyText((0..vocabulary.len() as u32).map(|id| (spelt(id), id)).collect()),
        },
    }
}

fn added_token((content, id): (&&str, u32)) -> AddedToken {
    AddedToken {
        id,
        content: (*content).into(),
        single_word: false,
        lstrip: false,
        rstrip: false,
        normalized: false,
        special: true,
    }
}

fn byte_level(use_regex: bool) -> Value {
    json!({ "add_prefix_space": false, "trim_offsets": true, "type": "ByteLevel", "use_regex": use_regex })
}

/// GPT-2's pattern is built into ByteLevel; any other is a split before it.
fn pre_tokenizer(pattern: Pattern) -> Value {
    match pattern {
        Pattern::Gpt2 => byte_level(true),
        Pattern::Gpt4 => json!({
            "pretokenizers": [
                {
                    "behavior": "Isolated",
                    "invert": false,
                    "pattern": { "Regex": pattern.regex() },
                    "type": "Split"
                },
                byte_level(false)
            ],
            "type": "Sequence"
        }),
    }
}

fn config() -> Value {
    json!({
        "add_bos_token": false,
        "add_prefix_space": false,
        "additional_special_tokens": [USER, ASSISTANT],
        "bos_token": ENDOFTEXT,
        "chat_template": TEMPLATE,
        "clean_up_tokenization_spaces": false,
        "eos_token": END,
        "pad_token": PAD,
        "tokenizer_class": "PreTrainedTokenizerFast"
    })
}

fn check_template(config: &Value) -> Result<(), String> {
    match config.get("chat_template") {
        Some(template) if template != TEMPLATE => {
            Err(format!("its chat_template is not the one that models are trained with here; {AGAIN}"))
        }
        _ => Ok(()),
    }
}

fn pattern_of(value: &Value) -> Result<Pattern, String> {
    let found = Pattern::ALL.into_iter().find(|&pattern| pre_tokenizer(pattern) == *value);
    found.ok_or_else(|| "its pre_tokenizer splits in a way that is neither gpt2 nor gpt4".into())
}

/// The merges as ids, after checking that the vocabulary is the bytes and then their tokens.
fn merges_of(model: &Model) -> Result<Vec<(u32, u32)>, String> {
    let vocab = &model.vocab.0;
    if vocab.len() != 256 + model.merges.len() {
        let (tokens, merges) = (vocab.len(), model.merges.len());
        return Err(format!("{tokens} tokens and {merges} merges do not make 256 bytes and a token a merge"));
    }
    let mut ids: HashMap<&str, u32> = HashMap::with_capacity(vocab.len());
    let mut tokens: Vec<Option<&str>> = vec![None; vocab.len()];
    for (text, id) in vocab {
        let place = tokens.get_mut(*id as usize);
        let place = place.ok_or_else(|| format!("token `{text}` has id {id} out of {}", vocab.len()))?;
        if place.replace(text).is_some() {
            return Err(format!("two tokens have the id {id}"));
        }
        if ids.insert(text, *id).is_some() {
            return Err(format!("token `{text}` stands twice in the vocabulary"));
        }
    }
    for (byte, char) in byte_chars().into_iter().enumerate() {
        if ids.get(&*char.encode_utf8(&mut [0; 4])) != Some(&(byte as u32)) {
            return Err(format!("token {byte} is not the byte {byte}"));
        }
    }
    let known =
        |text: &str| ids.get(text).copied().ok_or_else(|| format!("a merge joins `{text}`, no token"));
    let mut merges = Vec::with_capacity(model.merges.len());
    for (MergeText(left, right), token) in model.merges.iter().zip(&tokens[256..]) {
        let joined = token.unwrap_or_default();
        if joined.strip_prefix(left.as_str()) != Some(right) {
            return Err(format!("`{left}` and `{right}` do not join to `{joined}`, the token of that merge"));
        }
        merges.push((known(left)?, known(right)?));
    }
    Ok(merges)
}

/// Refuses whatever would make another reader of the file encode differently.
fn check_settings(found: &TokenizerFile, expected: &TokenizerFile) -> Result<(), String> {
    let (model, ours) = (&found.model, &expected.model);
    let settings = [
        ("version", found.version == expected.version),
        ("truncation", found.truncation == expected.truncation),
        ("padding", found.padding == expected.padding),
        ("added_tokens", found.added_tokens == expected.added_tokens),
        ("normalizer", found.normalizer == expected.normalizer),
        ("post_processor", found.post_processor == expected.post_processor),
        ("decoder", found.decoder == expected.decoder),
        ("model.type", model.kind == ours.kind),
        ("model.dropout", model.dropout == ours.dropout),
        ("model.unk_token", model.unk_token == ours.unk_token),
        ("model.continuing_subword_prefix", model.continuing_subword_prefix.is_null()),
        ("model.end_of_word_suffix", model.end_of_word_suffix.is_null()),
        ("model.fuse_unk", model.fuse_unk == ours.fuse_unk),
        ("model.byte_fallback", model.byte_fallback == ours.byte_fallback),
        ("model.ignore_merges", model.ignore_merges == ours.ignore_merges),
    ];
    match settings.iter().find(|(_, same)| !same) {
        Some((name, _)) => Err(format!("its `{name}` is not what Kiln writes")),
        None => Ok(()),
    }
}
