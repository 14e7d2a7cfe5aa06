//! Conversations.
//!
//! Purpose: prompts, answers and whole conversations as tokens, by the model's chat template; of a model that has none, the
//! prompt is the text.
//! Invariant: what is said never becomes a special token, whatever it spells; a prompt that has to be cut loses the beginning
//! of its text, never a mark.
//! Must not know: files.

use std::collections::BTreeMap;

use super::handle::{Foreign, Kind, Tokenizer, TokenizerError};
use crate::bpe::chat::Turn;
use crate::template::{Data, Input, TemplateError};

/// How often a prompt is shortened until it fits.
const ATTEMPTS: usize = 8;

impl Foreign {
    /// The text of a conversation, and a question for the assistant if `asks`; what was said is marked, so that it does not
    /// spell special tokens.
    fn render(&self, turns: &[Turn], asks: bool) -> Result<Option<String>, TemplateError> {
        let Some(template) = &self.template else { return Ok(None) };
        let message = |turn: &Turn| {
            let (role, text) = match turn {
                Turn::User(text) => ("user", text),
                Turn::Assistant(text) => ("assistant", text),
            };
            let content = self.tokenizer.protect(text);
            Data::object([("role", Data::from(role)), ("content", Data::from(content.as_ref()))])
        };
        let messages = Data::list(turns.iter().map(message).collect::<Result<Vec<_>, _>>()?)?;
        let rendered = template.render(&Input {
            messages: &messages,
            tools: None,
            documents: None,
            add_generation_prompt: asks,
            tokens: self.tokenizer.special_tokens(),
            more: &BTreeMap::new(),
        })?;
        Ok(Some(rendered.text))
    }

    fn ids(&self, turns: &[Turn], asks: bool) -> Result<Option<Vec<u32>>, TemplateError> {
        Ok(self.render(turns, asks)?.map(|text| self.tokenizer.encode_rendered(&text)))
    }

    /// The token with which the template ends what the assistant says, if the model's files name it as one that stops.
    pub(super) fn stop_of_template(&self) -> Result<Option<u32>, TemplateError> {
        let question = Turn::User("1");
        let Some(prompt) = self.ids(&[question], true)? else { return Ok(None) };
        // A template that takes no answers yet says nothing of how they end.
        let Ok(Some(whole)) = self.ids(&[question, Turn::Assistant("2")], false) else { return Ok(None) };
        let stops = self.tokenizer.stop_ids();
        let answer = whole.strip_prefix(prompt.as_slice()).unwrap_or_default();
        Ok(answer.iter().copied().find(|id| stops.contains(id)))
    }
}

impl Tokenizer {
    /// What the model answers: the template of a user's turn, up to where the assistant speaks.
    ///
    /// # Errors
    /// When the template cannot be rendered.
    pub fn prompt_ids(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        self.conversation_ids(&[Turn::User(text)])
    }

    /// As [`Self::prompt_ids`], in at most `room` tokens: a long text loses its beginning, never a mark. Says whether it
    /// did.
    ///
    /// # Errors
    /// When the template cannot be rendered.
    pub fn prompt_ids_within(&self, text: &str, room: usize) -> Result<(Vec<u32>, bool), TokenizerError> {
        if let Kind::Own(own) = &self.0 {
            return Ok(own.prompt_ids_within(text, room));
        }
        let mut ids = self.prompt_ids(text)?;
        let (mut content, is_cut) = (self.encode(text), ids.len() > room);
        for _ in 0..ATTEMPTS {
            let too_many = ids.len().saturating_sub(room);
            if too_many == 0 || content.is_empty() {
                break;
            }
            content.drain(..too_many.min(content.len()));
            ids = self.prompt_ids(self.decode(&content).trim_start_matches('\u{fffd}'))?;
        }
        Ok((ids, is_cut))
    }

    /// The end of a text, in at most `room` tokens; the end of a document where there is no text. Says whether the text was
    /// cut.
    ///
    /// Nothing of ours stands before a text: rows of pretraining begin anywhere. An imported tokenizer begins a text as its
    /// files say.
    pub fn page_ids_within(&self, text: &str, room: usize) -> (Vec<u32>, bool) {
        let foreign = match &self.0 {
            Kind::Own(own) => return own.page_ids_within(text, room),
            Kind::Foreign(foreign) => foreign,
        };
        let mut ids = foreign.tokenizer.encode_document(text);
        let too_many = ids.len().saturating_sub(room.max(1));
        // A mark of the beginning stays one.
        let first = usize::from(too_many > 0 && foreign.tokenizer.is_special(ids[0]) && room > 1);
        ids.drain(first..first + too_many);
        if ids.is_empty() {
            ids.push(foreign.eot);
        }
        (ids, too_many > 0)
    }

    /// An answer, with the stop token.
    pub fn response_ids(&self, text: &str) -> Vec<u32> {
        let mut ids = self.encode(text);
        ids.push(self.stop());
        ids
    }

    /// Whether tokens are a way to spell an answer: they give its text, and a stop token ends them if it is finished.
    pub fn spells(&self, tokens: &[u32], text: &str, finished: bool) -> bool {
        let body = match tokens {
            [body @ .., last] if finished && self.stops().contains(last) => Some(body),
            _ if finished => None,
            body => Some(body),
        };
        let size = self.vocab_size() as u32;
        body.is_some_and(|body| body.iter().all(|&id| id < size) && self.decode(body) == text)
    }

    /// Several turns; when the last is the user's, up to where the assistant speaks.
    ///
    /// # Errors
    /// When the template cannot be rendered.
    pub fn conversation_ids(&self, turns: &[Turn<'_>]) -> Result<Vec<u32>, TokenizerError> {
        let foreign = match &self.0 {
            Kind::Own(own) => return Ok(own.conversation_ids(turns)),
            Kind::Foreign(foreign) => foreign,
        };
        let asks = matches!(turns.last(), Some(Turn::User(_)));
        if let Some(ids) = foreign.ids(turns, asks)? {
            return Ok(ids);
        }
        let mut ids = foreign.tokenizer.encode_document("");
        for turn in turns {
            match turn {
                Turn::User(text) => ids.extend(self.encode(text)),
                Turn::Assistant(text) => ids.extend(self.response_ids(text)),
            }
        }
        Ok(ids)
    }
}
