//! The tokenizer of a model that others made.
//!
//! Purpose: [`ForeignTokenizer`], the door to all of the module.
//! Invariant: it is checked when it is read, so that nothing fails later; every id it gives has a spelling. The same text
//! gets the ids that Python's `tokenizers` gives it.
//! Must not know: chat templates, models, stages.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use foldhash::fast::FixedState;
use serde::Deserialize;
use serde_json::Value;
use tokenizers::{OffsetReferential, OffsetType};

use super::added::Added;
use super::build::build;
use super::config::{Config, ModelConfigs};
use super::decode::{Decoder, Run, char_of_byte};
use super::error::ForeignError;
use super::folder::{self, Folder, NamedFile};
use super::json::TokenizerJson;
use super::model::Model;
use super::pipeline::{Around, Normalizer, PreTokenizer, Quick};
use super::protect::{Protector, unmark};
use super::regex::Fuel;

/// How many pieces each thread remembers the merges of, as the crate has it.
pub(super) const CACHE: usize = 10_000;

/// How many pieces of a text are remembered, and how long they are.
const MOST_SEEN: usize = 1 << 17;
const LONGEST_SEEN: usize = 64;

/// A byte-pair tokenizer of Hugging Face. Clones share everything.
#[derive(Clone)]
pub struct ForeignTokenizer {
    inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) model: Model,
    pub(super) added: Added,
    pub(super) normalizer: Option<Normalizer>,
    pub(super) pre_tokenizer: Option<PreTokenizer>,
    pub(super) around: Around,
    pub(super) decoder: Decoder,
    pub(super) protector: Protector,
    pub(super) stop_ids: Vec<u32>,
    pub(super) named: BTreeMap<String, String>,
    pub(super) bos: Option<u32>,
    pub(super) eos: Option<u32>,
    pub(super) pad: Option<u32>,
    pub(super) template: Option<String>,
    pub(super) files: Vec<NamedFile>,
}

impl std::fmt::Debug for ForeignTokenizer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = formatter.debug_struct("ForeignTokenizer");
        shown.field("vocab_size", &self.vocab_size()).field("stop_ids", &self.inner.stop_ids);
        shown.finish_non_exhaustive()
    }
}

/// # Reading
impl ForeignTokenizer {
    /// Reads the tokenizer in the folder of a model: `tokenizer.json` and, where they are, `tokenizer_config.json`,
    /// `special_tokens_map.json`, `generation_config.json`, `config.json` and `chat_template.jinja`.
    ///
    /// # Errors
    /// Where a file cannot be read or is too large, where the tokenizer is of another kind than BPE or has a part that is
    /// not supported, and where nothing says at which token generation stops. The error names the file and the field.
    pub fn load(folder: &Path) -> Result<Self, ForeignError> {
        let files = Folder::read(folder)?;
        Self::read(&files).map_err(|error| error.in_folder(folder))
    }

    fn read(files: &Folder) -> Result<Self, ForeignError> {
        let json: TokenizerJson = serde_json::from_slice(&files.tokenizer)
            .map_err(|source| ForeignError::Json { path: folder::TOKENIZER.into(), source })?;
        let config = folder::parse(folder::CONFIG, files.config.as_ref())?;
        let map = folder::parse(folder::SPECIALS, files.specials.as_ref())?;
        let generation = folder::parse(folder::GENERATION, files.generation.as_ref())?;
        let model = folder::parse(folder::MODEL, files.model.as_ref())?;
        let mut config = Config::read(config.as_ref(), map.as_ref())?;
        if let Some(template) = &files.template {
            config.template =
                Some(String::from_utf8(template.clone()).map_err(|_| {
                    ForeignError::field_of(folder::TEMPLATE, "the file", "this is not UTF-8")
                })?);
        }
        let configs = ModelConfigs { generation: generation.as_ref(), model: model.as_ref() };
        let mut inner = build(json, config, &configs, CACHE)?;
        inner.files = files.files();
        inner.with_stop()
    }

    /// Makes a tokenizer of JSON in memory: `tokenizer.json`, `tokenizer_config.json`, `generation_config.json` and
    /// `config.json`.
    ///
    /// # Errors
    /// As those of [`Self::load`].
    pub fn from_values(
        tokenizer: &Value,
        config: Option<&Value>,
        generation: Option<&Value>,
        model_config: Option<&Value>,
    ) -> Result<Self, ForeignError> {
        let json = TokenizerJson::deserialize(tokenizer)
            .map_err(|source| ForeignError::Json { path: folder::TOKENIZER.into(), source })?;
        let configs = ModelConfigs { generation, model: model_config };
        let mut inner = build(json, Config::read(config, None)?, &configs, CACHE)?;
        let there = [
            (folder::TOKENIZER, Some(tokenizer)),
            (folder::CONFIG, config),
            (folder::GENERATION, generation),
        ];
        inner.files = there
            .into_iter()
            .filter_map(|(name, value)| Some((name, Arc::from(value?.to_string().into_bytes()))))
            .collect();
        inner.with_stop()
    }
}

impl Inner {
    fn with_stop(self) -> Result<ForeignTokenizer, ForeignError> {
        if self.stop_ids.is_empty() {
            return Err(ForeignError::field_of(
                folder::GENERATION,
                "eos_token_id",
                "nothing says at which token generation stops; write it here, or `eos_token` in tokenizer_config.json",
            ));
        }
        Ok(self.shared())
    }

    pub(super) fn shared(self) -> ForeignTokenizer {
        ForeignTokenizer { inner: Arc::new(self) }
    }

    /// The text of a token as decoders take it.
    fn spelling(&self, id: u32) -> Option<&str> {
        match self.added.get(id) {
            Some(added) => Some(added.pattern()),
            None => self.model.spelling(id),
        }
    }

    fn is_special(&self, id: u32) -> bool {
        self.added.get(id).is_some_and(|token| token.json.special)
    }

    /// The ids of a text, in which a special token may be found at the places that `allowed` says.
    fn encode(&self, text: &str, allowed: &dyn Fn(Range<usize>) -> bool, plain: bool) -> Vec<u32> {
        let fuel = Fuel::for_text(text.len());
        if let Some(ids) = self.encode_quickly(text, &fuel, allowed, plain) {
            return ids;
        }
        let mut cut = self.added.extract(text, self.normalizer.as_ref(), &fuel, allowed);
        if let Some(pre_tokenizer) = &self.pre_tokenizer {
            pre_tokenizer.apply(&mut cut, &fuel);
        }
        let mut ids = Vec::with_capacity(text.len() / 4);
        for (piece, _, token) in cut.get_splits(OffsetReferential::Original, OffsetType::None) {
            match token {
                Some(token) => ids.extend(token.iter().map(|token| token.id)),
                None if plain => self.model.encode_plain(piece, &mut ids),
                None => self.model.encode(piece, &mut ids),
            }
        }
        ids
    }
}

impl Inner {
    /// The same ids, where the crate's aligned strings are not needed.
    fn encode_quickly(
        &self,
        text: &str,
        fuel: &Fuel,
        allowed: &dyn Fn(Range<usize>) -> bool,
        plain: bool,
    ) -> Option<Vec<u32>> {
        let quick = Quick::new(self.pre_tokenizer.as_ref()?)?;
        let mut ids = Vec::with_capacity(text.len() / 4);
        let mut pieces =
            Pieces { model: &self.model, plain, spelled: String::new(), seen: HashMap::default() };
        self.added.extract_quickly(
            text,
            self.normalizer.as_ref(),
            fuel,
            allowed,
            &mut |part| match part {
                Ok(id) => ids.push(id),
                Err(stretch) => quick.pieces(stretch, fuel, &mut |piece| pieces.encode(piece, &mut ids)),
            },
        )?;
        Some(ids)
    }
}

/// The pieces of one text.
struct Pieces<'m> {
    model: &'m Model,
    plain: bool,
    spelled: String,
    /// Where the ids of a piece stand that has been there before.
    seen: HashMap<Box<str>, Range<usize>, FixedState>,
}

impl Pieces<'_> {
    fn encode(&mut self, piece: &str, ids: &mut Vec<u32>) {
        if let Some(place) = self.seen.get(piece) {
            return ids.extend_from_within(place.clone());
        }
        self.spelled.clear();
        self.spelled.extend(piece.bytes().map(char_of_byte));
        let start = ids.len();
        match self.plain {
            true => self.model.encode_plain(&self.spelled, ids),
            false => self.model.encode(&self.spelled, ids),
        }
        if self.seen.len() < MOST_SEEN && piece.len() <= LONGEST_SEEN {
            self.seen.insert(piece.into(), start..ids.len());
        }
    }
}

/// # Text to ids
impl ForeignTokenizer {
    /// The ids of text that is text: a special token that it spells stays text, and no BOS is added.
    ///
    /// (One thing the rule cannot reach: a special token that is a single character of the alphabet, or the token for unknown
    /// characters, for which there is no other way to write them.)
    pub fn encode(&self, text: &str) -> Vec<u32> {
        self.inner.encode(text, &|_| false, true)
    }

    /// The ids of text in which a special token that is spelled becomes that token; no BOS is added. This is what
    /// `apply_chat_template` of transformers does with what the template rendered.
    pub fn encode_with_specials(&self, text: &str) -> Vec<u32> {
        self.inner.encode(text, &|_| true, false)
    }

    /// The ids of a document: [`Self::encode`], with the tokens around it that the post-processor adds, BOS or EOS.
    pub fn encode_document(&self, text: &str) -> Vec<u32> {
        let Around { before, after } = &self.inner.around;
        [before.as_slice(), &self.encode(text), after].concat()
    }

    /// What somebody wrote, so marked that [`Self::encode_rendered`] finds no special token in it, wherever a chat template
    /// puts it. Where there is nothing to mark, it is the text itself.
    pub fn protect<'t>(&self, content: &'t str) -> Cow<'t, str> {
        self.inner.protector.protect(content, &self.inner.added, self.inner.normalizer.as_ref())
    }

    /// The ids of what a template rendered: the special tokens that the template spells become tokens, those in contents that
    /// went through [`Self::protect`] stay text. Where nothing is marked, this is [`Self::encode_with_specials`].
    pub fn encode_rendered(&self, rendered: &str) -> Vec<u32> {
        let (text, cuts) = unmark(rendered);
        let allowed = |place: Range<usize>| {
            let before = |end: usize| cuts.partition_point(|&cut| cut < end);
            before(place.start) == before(place.end)
        };
        self.inner.encode(&text, &allowed, !cuts.is_empty())
    }
}

/// # Ids to text
impl ForeignTokenizer {
    /// The text of tokens, special ones left out. Ids that no token has are left out too.
    pub fn decode(&self, ids: &[u32]) -> String {
        let special = |id: &&u32| self.inner.is_special(**id);
        self.decode_all(ids.iter().filter(|id| !special(id)).copied())
    }

    /// The text of tokens, special ones spelled out.
    pub fn decode_marked(&self, ids: &[u32]) -> String {
        self.decode_all(ids.iter().copied())
    }

    fn decode_all(&self, ids: impl Iterator<Item = u32>) -> String {
        let mut run = Run::new(&self.inner.decoder, true);
        let mut text = String::new();
        for token in ids.filter_map(|id| self.inner.spelling(id)) {
            text += &run.push(token);
        }
        text + &run.finish()
    }

    /// Decodes tokens as a model makes them, special ones left out.
    pub fn stream_decoder(&self) -> ForeignStreamDecoder {
        ForeignStreamDecoder { run: Run::new(&self.inner.decoder, true), tokenizer: self.clone() }
    }

    /// The bytes that an ordinary token stands for, in the middle of a text; `None` for special tokens and ids that no token
    /// has.
    pub fn token_bytes(&self, id: u32) -> Option<Vec<u8>> {
        if self.inner.is_special(id) {
            return None;
        }
        let bytes_are_chars = self.inner.pre_tokenizer.as_ref().is_some_and(PreTokenizer::is_byte_level)
            || self.inner.normalizer.as_ref().is_some_and(Normalizer::is_byte_level);
        Some(self.inner.decoder.bytes(self.inner.spelling(id)?, bytes_are_chars))
    }
}

/// # What it knows
impl ForeignTokenizer {
    /// Whether merging alone makes a special token out of some text.
    pub(super) fn merges_specials(&self) -> bool {
        self.inner.model.merges_specials()
    }

    /// One more than the largest id. A model may have more rows than that.
    pub fn vocab_size(&self) -> usize {
        let added = self.inner.added.tokens().iter().map(|token| token.json.id as usize + 1).max();
        self.inner.model.size().max(added.unwrap_or(0))
    }

    /// Whether this is the id of a special token, which no text has.
    pub fn is_special(&self, id: u32) -> bool {
        self.inner.is_special(id)
    }

    /// The ids at which generation stops, sorted, each once; at least one. They are those of `eos_token_id` in
    /// `generation_config.json`, else in `config.json`, else that of `eos_token` in `tokenizer_config.json`.
    pub fn stop_ids(&self) -> &[u32] {
        &self.inner.stop_ids
    }

    /// What ends a document: `eos_token`, else the first stop token that the model's configuration names.
    pub fn eos_id(&self) -> Option<u32> {
        self.inner.eos
    }

    /// What begins a text: `bos_token`, else what the model's configuration names.
    pub fn bos_id(&self) -> Option<u32> {
        self.inner.bos
    }

    /// What fills rows: `pad_token`, else what the model's configuration names.
    pub fn pad_id(&self) -> Option<u32> {
        self.inner.pad
    }

    /// `bos_token`, `eos_token` and the other names with the texts of their tokens, for chat templates.
    pub fn special_tokens(&self) -> &BTreeMap<String, String> {
        &self.inner.named
    }

    /// The chat template: `chat_template.jinja`, else the default one of `tokenizer_config.json`.
    pub fn chat_template(&self) -> Option<&str> {
        self.inner.template.as_deref()
    }

    /// The files of the tokenizer as they were read, to be written into another folder; of JSON in memory, as written now.
    pub fn files(&self) -> &[NamedFile] {
        &self.inner.files
    }

    /// Whether every text gets the same ids from both. They are compared part by part; two that say the same in other ways
    /// may be taken for different.
    pub fn same_ids(&self, other: &Self) -> bool {
        let (one, other) = (&*self.inner, &*other.inner);
        std::ptr::eq(one, other)
            || (one.added == other.added
                && one.around == other.around
                && one.normalizer == other.normalizer
                && one.pre_tokenizer == other.pre_tokenizer
                && one.model == other.model)
    }
}

/// Decodes tokens one by one: a piece of text is given out when no later token can change it.
#[derive(Debug, Clone)]
pub struct ForeignStreamDecoder {
    tokenizer: ForeignTokenizer,
    run: Run,
}

impl ForeignStreamDecoder {
    /// The text that this token completes; often empty in the middle of a character.
    pub fn push(&mut self, token: u32) -> String {
        match self.tokenizer.inner.spelling(token) {
            Some(spelling) if !self.tokenizer.is_special(token) => self.run.push(spelling),
            _ => String::new(),
        }
    }

    /// The rest when no more tokens come. Together with all pieces before it is [`ForeignTokenizer::decode`] of the tokens.
    pub fn finish(self) -> String {
        self.run.finish()
    }
}
