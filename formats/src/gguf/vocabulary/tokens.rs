//! The vocabulary between both sides.
//!
//! Purpose: tokens, merges and special tokens in one structure that both sides are read into and written from.
//! Invariant: after [`Vocabulary::check`] no two tokens have the same text, merges join tokens to tokens, and every special
//! id is a token: a vocabulary that `tokenizers` loads with the same ids.
//! Must not know: how either side spells it.

use std::collections::HashMap;

use super::split::Split;

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenKind {
    /// Bytes of text.
    Normal,
    /// A special token.
    Control,
    /// A text that always stays whole.
    UserDefined,
    /// A row of the embedding without a text.
    Unused,
}

impl TokenKind {
    /// Whether a text becomes the token by merges alone.
    pub(super) fn is_plain(self) -> bool {
        matches!(self, TokenKind::Normal | TokenKind::Unused)
    }
}

/// The tokens with a part of their own.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::gguf) struct SpecialIds {
    pub(in crate::gguf) bos: Option<u32>,
    /// Ends a text.
    pub(in crate::gguf) eos: Option<u32>,
    /// Ends a turn.
    pub(in crate::gguf) eot: Option<u32>,
    /// Ends a message.
    pub(in crate::gguf) eom: Option<u32>,
    pub(in crate::gguf) unk: Option<u32>,
    pub(in crate::gguf) pad: Option<u32>,
}

impl SpecialIds {
    /// The tokens that end what a model says.
    pub(super) fn stops(&self) -> Vec<u32> {
        let mut stops = Vec::new();
        for id in [self.eos, self.eot, self.eom].into_iter().flatten() {
            if !stops.contains(&id) {
                stops.push(id);
            }
        }
        stops
    }

    fn named(&self) -> [(&'static str, Option<u32>); 6] {
        [
            ("bos", self.bos),
            ("eos", self.eos),
            ("eot", self.eot),
            ("eom", self.eom),
            ("unknown", self.unk),
            ("padding", self.pad),
        ]
    }
}

/// A byte-level vocabulary.
#[derive(Debug, PartialEq)]
pub(in crate::gguf) struct Vocabulary {
    /// The texts by id: bytes in GPT-2's characters, special tokens as they are.
    pub(super) tokens: Vec<String>,
    pub(super) kinds: Vec<TokenKind>,
    /// `left right`, in their order.
    pub(super) merges: Vec<String>,
    pub(super) split: &'static Split,
    pub(in crate::gguf) special: SpecialIds,
    /// Whether a text begins with BOS.
    pub(super) adds_bos: bool,
    /// Whether a text ends with EOS.
    pub(super) adds_eos: bool,
    /// Chat templates by name, the first one `default`.
    pub(super) templates: Vec<(String, String)>,
    /// Tokens that a model never says.
    pub(super) suppressed: Vec<u32>,
}

impl Vocabulary {
    /// The number of tokens.
    pub(in crate::gguf) fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether `tokenizers` can hold it.
    pub(super) fn check(&self) -> Result<(), String> {
        let mut ids = HashMap::with_capacity(self.tokens.len());
        for (id, token) in self.tokens.iter().enumerate() {
            if let Some(other) = ids.insert(token.as_str(), id) {
                let shown = crate::gguf::error::quoted(token);
                return Err(format!("the tokens {other} and {id} are both `{shown}`"));
            }
        }
        for (place, merge) in self.merges.iter().enumerate() {
            self.check_merge(merge, &ids).map_err(|what| format!("merge {place}: {what}"))?;
        }
        let special = self.special.named().into_iter().filter_map(|(name, id)| Some((name, id?)));
        for (name, id) in special.chain(self.suppressed.iter().map(|&id| ("suppressed", id))) {
            if id as usize >= self.tokens.len() {
                return Err(format!("the {name} token {id} is none of {} tokens", self.tokens.len()));
            }
        }
        match (self.adds_bos && self.special.bos.is_none(), self.adds_eos && self.special.eos.is_none()) {
            (false, false) => Ok(()),
            (true, _) => Err("a text is to begin with BOS, and there is no such token".into()),
            (_, true) => Err("a text is to end with EOS, and there is no such token".into()),
        }
    }

    fn check_merge(&self, merge: &str, ids: &HashMap<&str, usize>) -> Result<(), String> {
        let shown = crate::gguf::error::quoted;
        let (left, right) =
            merge.split_once(' ').ok_or_else(|| format!("`{}` is not two tokens", shown(merge)))?;
        let joined = format!("{left}{right}");
        match [left, right, &joined].into_iter().find(|text| !ids.contains_key(text)) {
            Some(text) => Err(format!("`{}` is no token", shown(text))),
            None => Ok(()),
        }
    }

    /// The text of a token.
    pub(super) fn text(&self, id: Option<u32>) -> Option<&str> {
        self.tokens.get(id? as usize).map(String::as_str)
    }
}

/// Whether a text looks like a special token, as llama.cpp's converter has it: models mark some of them wrongly.
pub(super) fn looks_special(text: &str) -> bool {
    let between = |start: &str, end: &str| text.starts_with(start) && text.ends_with(end);
    between("<|", "|>") || between("<｜", "｜>") || text == "<pad>" || text == "<mask>"
}

/// The text of a token that has none.
pub(super) fn unused(id: usize) -> String {
    format!("[PAD{id}]")
}
