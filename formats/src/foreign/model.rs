//! The vocabulary and the merges.
//!
//! Purpose: checks what a file says and builds the crate's BPE of it.
//! Invariant: ids and spellings are one to one; every merge makes a token that there is, as the crate takes for granted. A
//! special token that no merge knows is kept from the crate's model, which else might find it where text spells it.
//! Must not know: how text is cut into pieces.

use std::collections::{HashMap, HashSet};

use foldhash::fast::FixedState;
use tokenizers::Model as _;
use tokenizers::models::bpe::{BPE, Vocab};

use super::error::ForeignError;
use super::json::{AddedJson, MOST_TOKENS, ModelJson};

/// Bytes of a prefix or a suffix of tokens.
const LONGEST_AFFIX: usize = 64;

/// A model with its vocabulary.
pub(super) struct Model {
    bpe: BPE,
    /// The spelling of each id; holes are possible.
    spellings: Vec<Option<Box<str>>>,
    /// What the special tokens were merged from that merging can make.
    halves: HashMap<u32, (u32, u32), FixedState>,
}

/// Two are the same if they merge alike.
impl PartialEq for Model {
    fn eq(&self, other: &Self) -> bool {
        self.spellings == other.spellings && self.bpe == other.bpe
    }
}

impl std::fmt::Debug for Model {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.bpe.fmt(formatter)
    }
}

/// The ids of the spellings of a vocabulary.
pub(super) type Ids = HashMap<String, u32, FixedState>;

/// The vocabulary of a file, whose spellings and ids are one to one.
pub(super) fn ids_of(vocabulary: Vec<(String, u32)>) -> Result<Ids, ForeignError> {
    let mut ids = Ids::with_capacity_and_hasher(vocabulary.len(), FixedState::default());
    let mut taken = HashSet::with_capacity_and_hasher(vocabulary.len(), FixedState::default());
    for (token, id) in vocabulary {
        if !taken.insert(id) {
            let what = format!("two tokens have the id {id}, one of them `{token}`; give each its own");
            return Err(ForeignError::field("model.vocab", what));
        }
        if ids.contains_key(&token) {
            let what = format!("the token `{token}` is there twice; remove one of them");
            return Err(ForeignError::field("model.vocab", what));
        }
        ids.insert(token, id);
    }
    Ok(ids)
}

/// Refuses other models than BPE, and BPE that is random.
pub(super) fn check_kind(json: &ModelJson) -> Result<(), ForeignError> {
    let why = match json.kind.as_deref() {
        Some("BPE") => return check_dropout(json),
        // Files of before the field was there.
        None if json.merges.is_some() => return check_dropout(json),
        Some("WordPiece") => "WordPiece splits words by the longest match, as BERT does",
        Some("Unigram") => "Unigram chooses the most probable split, as T5 does",
        Some("WordLevel") => "WordLevel knows whole words alone",
        Some(other) => return refuse(format!("the model `{other}` is not known; BPE is")),
        None => return refuse("there is no type and there are no merges; only BPE is read".into()),
    };
    refuse(format!("{why}; only BPE is read, as GPT-2, Llama, Mistral, Qwen and SmolLM have it"))
}

fn refuse(what: String) -> Result<(), ForeignError> {
    Err(ForeignError::field("model.type", what))
}

fn check_dropout(json: &ModelJson) -> Result<(), ForeignError> {
    match json.dropout {
        Some(dropout) if dropout != 0.0 => Err(ForeignError::field(
            "model.dropout",
            format!("with a dropout of {dropout} the ids are random; set it to null"),
        )),
        _ => Ok(()),
    }
}

impl Model {
    /// Builds the model. `specials` are the contents of the special tokens.
    pub(super) fn new(
        mut json: ModelJson,
        mut ids: Ids,
        specials: &HashSet<&str>,
        cache: usize,
    ) -> Result<Self, ForeignError> {
        let merges = json.merges.take().unwrap_or_default().0;
        check_merges(&json, &ids, &merges)?;
        let unknown = unknown_token(&json, &ids)?;
        let spellings = spellings(&ids);
        let mut halves = HashMap::with_hasher(FixedState::default());
        for (left, right) in &merges {
            let whole = merged(&json, left, right);
            if specials.contains(whole.as_str()) {
                halves.entry(ids[&whole]).or_insert((ids[left], ids[right]));
            }
        }
        hide(&json, &mut ids, specials, &merges, unknown.as_deref());
        let vocabulary: Vocab = ids.into_iter().collect();
        let mut builder = BPE::builder()
            .vocab_and_merges(vocabulary, merges)
            .cache_capacity(cache)
            .fuse_unk(json.fuse_unk.unwrap_or(false))
            .byte_fallback(json.byte_fallback.unwrap_or(false))
            .ignore_merges(json.ignore_merges.unwrap_or(false));
        if let Some(unknown) = unknown {
            builder = builder.unk_token(unknown);
        }
        // Files have empty ones as well, for each of which the crate would make a copy of each character.
        if let Some(prefix) = json.continuing_subword_prefix.filter(|prefix| !prefix.is_empty()) {
            builder = builder.continuing_subword_prefix(prefix);
        }
        if let Some(suffix) = json.end_of_word_suffix.filter(|suffix| !suffix.is_empty()) {
            builder = builder.end_of_word_suffix(suffix);
        }
        let bpe = builder.build().map_err(|error| ForeignError::field("model", error.to_string()))?;
        Ok(Self { bpe, spellings, halves })
    }

    /// The spelling of an id.
    pub(super) fn spelling(&self, id: u32) -> Option<&str> {
        self.spellings.get(id as usize)?.as_deref()
    }

    /// One more than the largest id.
    pub(super) fn size(&self) -> usize {
        self.spellings.len()
    }

    /// Whether merging makes some special token.
    pub(super) fn merges_specials(&self) -> bool {
        !self.halves.is_empty()
    }

    /// Appends the ids of a piece.
    pub(super) fn encode(&self, piece: &str, ids: &mut Vec<u32>) {
        // It fails where the unknown token is unknown itself, which is checked when it is built.
        if let Ok(tokens) = self.bpe.tokenize(piece) {
            ids.extend(tokens.iter().map(|token| token.id));
        }
    }

    /// As [`Self::encode`], but a special token that merging made is given as what it was merged from.
    pub(super) fn encode_plain(&self, piece: &str, ids: &mut Vec<u32>) {
        let start = ids.len();
        self.encode(piece, ids);
        if self.halves.is_empty() || !ids[start..].iter().any(|id| self.halves.contains_key(id)) {
            return;
        }
        let mut todo: Vec<u32> = ids.drain(start..).rev().collect();
        while let Some(id) = todo.pop() {
            match self.halves.get(&id) {
                // Each half is shorter, so this ends.
                Some(&(left, right)) => todo.extend([right, left]),
                None => ids.push(id),
            }
        }
    }
}

fn affix_len(affix: Option<&String>) -> usize {
    affix.map_or(0, String::len)
}

/// The spelling of a merge: without the prefix of the right half.
fn merged(json: &ModelJson, left: &str, right: &str) -> String {
    let rest = right.get(affix_len(json.continuing_subword_prefix.as_ref())..).unwrap_or_default();
    [left, rest].concat()
}

fn check_merges(json: &ModelJson, ids: &Ids, merges: &[(String, String)]) -> Result<(), ForeignError> {
    let prefix = json.continuing_subword_prefix.as_deref().unwrap_or_default();
    for affix in [&json.continuing_subword_prefix, &json.end_of_word_suffix] {
        if affix_len(affix.as_ref()) > LONGEST_AFFIX {
            let what = format!("a prefix or suffix of tokens has more than {LONGEST_AFFIX} bytes");
            return Err(ForeignError::field("model", what));
        }
    }
    for (index, (left, right)) in merges.iter().enumerate() {
        let fail = |what: String| Err(ForeignError::field(format!("model.merges[{index}]"), what));
        if left.is_empty() || right.len() <= prefix.len() || !right.starts_with(prefix) {
            return fail(format!("`{left}` and `{right}` cannot be merged; each has to add something"));
        }
        let whole = merged(json, left, right);
        for token in [left, right, &whole] {
            if !ids.contains_key(token) {
                return fail(format!("`{token}` is not in the vocabulary; add it or remove the merge"));
            }
        }
    }
    Ok(())
}

/// The token for characters that no token has.
fn unknown_token(json: &ModelJson, ids: &Ids) -> Result<Option<String>, ForeignError> {
    let Some(unknown) = &json.unk_token else { return Ok(None) };
    if ids.contains_key(unknown) {
        return Ok(Some(unknown.clone()));
    }
    // It is never needed where each byte has a token.
    if (0..=255).all(|byte| ids.contains_key(super::decode::char_of_byte(byte).to_string().as_str())) {
        return Ok(None);
    }
    let what = format!("`{unknown}` is not in the vocabulary; add it there, or set this to null");
    Err(ForeignError::field("model.unk_token", what))
}

fn spellings(ids: &Ids) -> Vec<Option<Box<str>>> {
    let size = ids.values().max().map_or(0, |&largest| largest as usize + 1).min(MOST_TOKENS);
    let mut spellings = vec![None; size];
    for (token, &id) in ids {
        if let Some(place) = spellings.get_mut(id as usize) {
            *place = Some(token.as_str().into());
        }
    }
    spellings
}

/// Removes the special tokens that merging does not need.
fn hide(
    json: &ModelJson,
    ids: &mut Ids,
    specials: &HashSet<&str>,
    merges: &[(String, String)],
    unknown: Option<&str>,
) {
    let mut needed: HashSet<&str, FixedState> = HashSet::with_hasher(FixedState::default());
    let wholes: Vec<String> = merges.iter().map(|(left, right)| merged(json, left, right)).collect();
    needed.extend(merges.iter().flat_map(|(left, right)| [left.as_str(), right]));
    needed.extend(wholes.iter().map(String::as_str));
    let prefix = json.continuing_subword_prefix.as_deref().unwrap_or_default();
    let suffix = json.end_of_word_suffix.as_deref().unwrap_or_default();
    let is_symbol = |token: &str| {
        let core = token.strip_prefix(prefix).unwrap_or(token);
        let core = core.strip_suffix(suffix).unwrap_or(core);
        core.chars().count() <= 1 || token.chars().count() <= 1
    };
    for special in specials {
        let byte = super::decode::byte_of_token(special).is_some();
        if !needed.contains(special) && !is_symbol(special) && !byte && unknown != Some(special) {
            ids.remove(*special);
        }
    }
}

/// Checks the ids of added tokens against the vocabulary, as the crate gives them out: a token of the vocabulary keeps its
/// id, the others follow each other behind it.
pub(super) fn check_added(
    list: &[AddedJson],
    ids: &Ids,
    first_new: u32,
    place: &str,
) -> Result<u32, ForeignError> {
    let mut next = first_new;
    for (index, token) in list.iter().enumerate() {
        let expected = ids.get(&token.content).copied().unwrap_or(next);
        if expected != token.id {
            let what = format!(
                "`{}` has the id {}, but the library would give it {expected}, so the model's embeddings may not fit; \
                 correct the id, or save the tokenizer again",
                token.content, token.id
            );
            return Err(ForeignError::field(format!("{place}[{index}]"), what));
        }
        if !ids.contains_key(&token.content) {
            next += 1;
        }
    }
    Ok(next)
}
