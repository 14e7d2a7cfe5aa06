//! A vocabulary in the keys of GGUF.
//!
//! Purpose: what llama.cpp's converter writes of a byte-level tokenizer, in both directions.
//! Invariant: a key of the tokenizer that is not known here is an error that names it.
//! Must not know: JSON, models.

use std::collections::HashSet;

use super::split::Split;
use super::tokens::{SpecialIds, TokenKind, Vocabulary, looks_special};
use crate::gguf::error::quoted;
use crate::gguf::{GgufError, MetaArray, MetaValue, Metadata};

const MODEL: &str = "tokenizer.ggml.model";
const SPLIT: &str = "tokenizer.ggml.pre";
const TOKENS: &str = "tokenizer.ggml.tokens";
const KINDS: &str = "tokenizer.ggml.token_type";
const MERGES: &str = "tokenizer.ggml.merges";
const ADD_BOS: &str = "tokenizer.ggml.add_bos_token";
const ADD_EOS: &str = "tokenizer.ggml.add_eos_token";
const ADDED: &str = "tokenizer.ggml.added_tokens";
const SUPPRESSED: &str = "tokenizer.ggml.suppress_tokens";
const TEMPLATE: &str = "tokenizer.chat_template";
const TEMPLATES: &str = "tokenizer.chat_templates";
/// The name of the template that is used when none is asked for.
const DEFAULT: &str = "default";

const BOS: &str = "tokenizer.ggml.bos_token_id";
const EOS: &str = "tokenizer.ggml.eos_token_id";
const EOT: &str = "tokenizer.ggml.eot_token_id";
const EOM: &str = "tokenizer.ggml.eom_token_id";
const UNKNOWN: &str = "tokenizer.ggml.unknown_token_id";
const PADDING: &str = "tokenizer.ggml.padding_token_id";

/// Keys that are read.
const READ: [&str; 17] = [
    ADDED, MODEL, SPLIT, TOKENS, KINDS, MERGES, ADD_BOS, ADD_EOS, SUPPRESSED, TEMPLATE, TEMPLATES, BOS, EOS,
    EOT, EOM, UNKNOWN, PADDING,
];

/// Keys that llama.cpp does not read for a byte-level vocabulary, or only for pairs of texts and for gaps to fill.
const IDLE: [&str; 17] = [
    "tokenizer.ggml.scores",
    "tokenizer.ggml.token_type_count",
    "tokenizer.ggml.seperator_token_id",
    "tokenizer.ggml.cls_token_id",
    "tokenizer.ggml.mask_token_id",
    "tokenizer.ggml.add_sep_token",
    "tokenizer.ggml.add_space_prefix",
    "tokenizer.ggml.prefix_token_id",
    "tokenizer.ggml.suffix_token_id",
    "tokenizer.ggml.middle_token_id",
    "tokenizer.ggml.fim_pre_token_id",
    "tokenizer.ggml.fim_suf_token_id",
    "tokenizer.ggml.fim_mid_token_id",
    "tokenizer.ggml.fim_pad_token_id",
    "tokenizer.ggml.fim_rep_token_id",
    "tokenizer.ggml.fim_sep_token_id",
    "tokenizer.huggingface.json",
];

/// Settings that no byte-level vocabulary has.
const OFF: [&str; 3] = [
    "tokenizer.ggml.remove_extra_whitespaces",
    "tokenizer.ggml.normalizer.lowercase",
    "tokenizer.ggml.normalizer.strip_accents",
];

/// Reads the vocabulary of a file.
pub(in crate::gguf) fn read(metadata: &Metadata) -> Result<Vocabulary, GgufError> {
    let split = read_split(metadata)?;
    refuse_rest(metadata)?;
    let missing =
        |key: &str| GgufError::key(key, "it is missing; convert the model again with its tokenizer");
    let tokens = metadata.strings(TOKENS)?.ok_or_else(|| missing(TOKENS))?;
    // llama.cpp calls a token without a text so.
    let named = |(id, token): (usize, &String)| {
        if token.is_empty() { format!("[EMPTY_{id}]") } else { token.clone() }
    };
    let tokens: Vec<String> = tokens.iter().enumerate().map(named).collect();
    let kinds = read_kinds(metadata, &tokens)?;
    let special = SpecialIds {
        bos: read_id(metadata, BOS)?,
        eos: read_id(metadata, EOS)?,
        eot: read_id(metadata, EOT)?,
        eom: read_id(metadata, EOM)?,
        unk: read_id(metadata, UNKNOWN)?,
        pad: read_id(metadata, PADDING)?,
    };
    let mut vocabulary = Vocabulary {
        tokens,
        kinds,
        merges: metadata.strings(MERGES)?.ok_or_else(|| missing(MERGES))?.to_vec(),
        split,
        special,
        adds_bos: metadata.boolean(ADD_BOS)?.unwrap_or(split.adds_bos),
        adds_eos: metadata.boolean(ADD_EOS)?.unwrap_or(false),
        templates: read_templates(metadata)?,
        suppressed: metadata.integers(SUPPRESSED)?.unwrap_or_default(),
    };
    vocabulary.check().map_err(|what| GgufError::whole(format!("the tokenizer: {what}")))?;
    mark_special(&mut vocabulary);
    mark_added(&mut vocabulary, metadata)?;
    Ok(vocabulary)
}

fn read_split(metadata: &Metadata) -> Result<&'static Split, GgufError> {
    let model = metadata.string(MODEL)?;
    let what = match model {
        Some("gpt2") => None,
        Some("llama") => {
            Some("the vocabulary is SentencePiece's, which Kiln does not read; only byte-level BPE".into())
        }
        Some(model) => {
            Some(format!("`{}` is not byte-level BPE, the only kind that Kiln reads", quoted(model)))
        }
        None => Some("it is missing; convert the model again with its tokenizer".into()),
    };
    if let Some(what) = what {
        return Err(GgufError::key(MODEL, what));
    }
    let name = metadata.string(SPLIT)?.ok_or_else(|| {
        GgufError::key(
            SPLIT,
            "it is missing, so the file does not say how a text is split; convert the model again with a llama.cpp of May \
             2024 or later",
        )
    })?;
    Split::named(name).ok_or_else(|| {
        GgufError::key(SPLIT, format!("`{}` is not known; there are: {}", quoted(name), Split::names()))
    })
}

fn refuse_rest(metadata: &Metadata) -> Result<(), GgufError> {
    let is_known = |key: &str| {
        READ.contains(&key)
            || IDLE.contains(&key)
            || OFF.contains(&key)
            || key.starts_with("tokenizer.chat_template.")
    };
    for (key, _) in metadata.iter().filter(|(key, _)| key.starts_with("tokenizer.")) {
        if !is_known(key) {
            return Err(GgufError::key(key, "it may change how a text is split, and Kiln does not know it"));
        }
        if OFF.contains(&key) && metadata.boolean(key)? == Some(true) {
            return Err(GgufError::key(key, "a byte-level vocabulary changes no text, but this asks for it"));
        }
    }
    Ok(())
}

fn read_id(metadata: &Metadata, key: &str) -> Result<Option<u32>, GgufError> {
    // -1 in whatever width says that there is none.
    let id = metadata.integer::<i64>(key)?.filter(|&id| id != -1 && id != i64::from(u32::MAX));
    let narrow = |id: i64| u32::try_from(id).map_err(|_| GgufError::key(key, format!("{id} is no token")));
    id.map(narrow).transpose()
}

fn read_kinds(metadata: &Metadata, tokens: &[String]) -> Result<Vec<TokenKind>, GgufError> {
    let Some(kinds) = metadata.integers::<i32>(KINDS)? else {
        return Ok(vec![TokenKind::Normal; tokens.len()]);
    };
    if kinds.len() != tokens.len() {
        let what = format!("{} types of {} tokens", kinds.len(), tokens.len());
        return Err(GgufError::key(KINDS, what));
    }
    let kind = |(id, &kind): (usize, &i32)| match kind {
        0 | 1 => Ok(TokenKind::Normal),
        2 | 3 => Ok(TokenKind::Control),
        4 => Ok(TokenKind::UserDefined),
        5 => Ok(TokenKind::Unused),
        _ => Err(GgufError::key(
            KINDS,
            format!("the type {kind} of token {id} is not one of a byte-level vocabulary"),
        )),
    };
    kinds.iter().enumerate().map(kind).collect()
}

/// Makes a token with a part of its own a special one where a file forgot to, as llama.cpp does.
fn mark_special(vocabulary: &mut Vocabulary) {
    let special = &vocabulary.special;
    for id in
        [special.bos, special.eos, special.eot, special.eom, special.unk, special.pad].into_iter().flatten()
    {
        let place = id as usize;
        if vocabulary.kinds[place].is_plain() && looks_special(&vocabulary.tokens[place]) {
            vocabulary.kinds[place] = TokenKind::Control;
        }
    }
}

/// Some files list the tokens that always stay whole once more, by their texts.
fn mark_added(vocabulary: &mut Vocabulary, metadata: &Metadata) -> Result<(), GgufError> {
    let added = metadata.strings(ADDED)?.unwrap_or_default();
    let mut left: HashSet<&str> = added.iter().map(String::as_str).collect();
    for (text, kind) in vocabulary.tokens.iter().zip(&mut vocabulary.kinds) {
        if left.remove(text.as_str()) && kind.is_plain() {
            *kind = TokenKind::UserDefined;
        }
    }
    match left.iter().min() {
        Some(text) => Err(GgufError::key(ADDED, format!("`{}` has no id among the tokens", quoted(text)))),
        None => Ok(()),
    }
}

fn read_templates(metadata: &Metadata) -> Result<Vec<(String, String)>, GgufError> {
    let mut templates = Vec::new();
    if let Some(template) = metadata.string(TEMPLATE)? {
        templates.push((DEFAULT.into(), template.into()));
    }
    for (key, _) in metadata.iter() {
        if let Some(name) = key.strip_prefix("tokenizer.chat_template.") {
            templates.push((name.into(), metadata.string(key)?.unwrap_or_default().into()));
        }
    }
    Ok(templates)
}

/// Writes the vocabulary as llama.cpp's converter does.
pub(in crate::gguf) fn write(vocabulary: &Vocabulary, metadata: &mut Metadata) -> Result<(), GgufError> {
    let kind = |kind: &TokenKind| match kind {
        TokenKind::Normal => 1,
        TokenKind::Control => 3,
        TokenKind::UserDefined => 4,
        TokenKind::Unused => 5,
    };
    let text = |text: &str| MetaValue::String(text.into());
    metadata.insert(MODEL, text("gpt2"))?;
    metadata.insert(SPLIT, text(vocabulary.split.names[0]))?;
    metadata.insert(TOKENS, MetaValue::Array(MetaArray::String(vocabulary.tokens.clone())))?;
    metadata.insert(KINDS, MetaValue::Array(MetaArray::I32(vocabulary.kinds.iter().map(kind).collect())))?;
    metadata.insert(MERGES, MetaValue::Array(MetaArray::String(vocabulary.merges.clone())))?;
    let special = &vocabulary.special;
    for (key, id) in [
        (BOS, special.bos),
        (EOS, special.eos),
        (EOT, special.eot),
        (EOM, special.eom),
        (UNKNOWN, special.unk),
        (PADDING, special.pad),
    ] {
        id.map_or(Ok(()), |id| metadata.insert(key, MetaValue::U32(id)))?;
    }
    // llama.cpp has another default for each split.
    metadata.insert(ADD_BOS, MetaValue::Bool(vocabulary.adds_bos))?;
    metadata.insert(ADD_EOS, MetaValue::Bool(vocabulary.adds_eos))?;
    if !vocabulary.suppressed.is_empty() {
        let list = vocabulary.suppressed.iter().map(|&id| id as i32).collect();
        metadata.insert(SUPPRESSED, MetaValue::Array(MetaArray::I32(list)))?;
    }
    write_templates(vocabulary, metadata)
}

fn write_templates(vocabulary: &Vocabulary, metadata: &mut Metadata) -> Result<(), GgufError> {
    let mut names = Vec::new();
    for (name, template) in &vocabulary.templates {
        let value = MetaValue::String(template.clone());
        if name == DEFAULT {
            metadata.insert(TEMPLATE, value)?;
        } else {
            metadata.insert(format!("{TEMPLATE}.{name}"), value)?;
            names.push(name.clone());
        }
    }
    match names.is_empty() {
        true => Ok(()),
        false => metadata.insert(TEMPLATES, MetaValue::Array(MetaArray::String(names))),
    }
}
