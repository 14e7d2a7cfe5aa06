//! Conversations.
//!
//! Purpose: prompts, answers and whole conversations as tokens, by the model's chat template; of a model that has none, the
//! prompt is the text.
//! Invariant: what is said never becomes a special token, whatever it spells; a prompt that has to be cut loses its oldest
//! turns and then the beginning of its text, never a mark.
//! Must not know: files, what is learnt.

use std::collections::BTreeMap;

use super::handle::{Foreign, Kind, Tokenizer, TokenizerError};
use crate::bpe::chat::Turn;
use crate::records::{Fields, Json, Message, Role};
use crate::template::{Data, Input, Rendered, TemplateError};

/// How often a prompt is shortened until it fits.
const ATTEMPTS: usize = 8;

/// What is rendered: turns, the tools that the model is offered, and whether the assistant is to speak next.
#[derive(Clone, Copy)]
pub(super) struct Said<'a> {
    pub(super) turns: &'a [Message],
    pub(super) tools: Option<&'a Json>,
    pub(super) asks: bool,
}

impl Foreign {
    /// The text of a conversation; what was said is marked, so that it does not spell special tokens.
    pub(super) fn render(&self, said: Said) -> Result<Option<Rendered>, TemplateError> {
        let Some(template) = &self.template else { return Ok(None) };
        let messages = said.turns.iter().map(|turn| self.message(turn)).collect::<Result<Vec<_>, _>>()?;
        let tools = said.tools.map(|tools| self.data(tools)).transpose()?;
        let rendered = template.render(&Input {
            messages: &Data::list(messages)?,
            tools: tools.as_ref(),
            documents: None,
            add_generation_prompt: said.asks,
            tokens: self.tokenizer.special_tokens(),
            more: &BTreeMap::new(),
        })?;
        Ok(Some(rendered))
    }

    fn message(&self, turn: &Message) -> Result<Data, TemplateError> {
        let content = self.tokenizer.protect(&turn.content);
        let own = [
            ("role".to_owned(), Data::from(turn.role.to_string().as_str())),
            ("content".to_owned(), Data::from(content.as_ref())),
        ];
        Data::object(own.into_iter().chain(self.fields(&turn.more)?))
    }

    fn fields(&self, fields: &Fields) -> Result<Vec<(String, Data)>, TemplateError> {
        let field = |(key, value)| Ok((self.tokenizer.protect(key).into_owned(), self.data(value)?));
        fields.iter().map(field).collect()
    }

    /// JSON for the template, its texts marked as what was said.
    fn data(&self, value: &Json) -> Result<Data, TemplateError> {
        match value {
            Json::String(text) => Ok(Data::from(self.tokenizer.protect(text).as_ref())),
            Json::Array(values) => {
                Data::list(values.iter().map(|value| self.data(value)).collect::<Result<Vec<_>, _>>()?)
            }
            Json::Object(fields) => Data::object(self.fields(fields)?),
            Json::Bool(truth) => Ok(Data::from(*truth)),
            Json::Number(number) => Data::from_json(&number.to_string()),
            Json::Null => Data::from_json("null"),
        }
    }

    fn ids(&self, said: Said) -> Result<Option<Vec<u32>>, TemplateError> {
        Ok(self.render(said)?.map(|rendered| self.tokenizer.encode_rendered(&rendered.text)))
    }

    /// The token with which the template ends what the assistant says, if the model's files name it as one that stops.
    pub(super) fn stop_of_template(&self) -> Result<Option<u32>, TemplateError> {
        let turns = [Message::user("1"), Message::assistant("2")];
        let Some(prompt) = self.ids(Said { turns: &turns[..1], tools: None, asks: true })? else {
            return Ok(None);
        };
        // A template that takes no answers yet says nothing of how they end.
        let Ok(Some(whole)) = self.ids(Said { turns: &turns, tools: None, asks: false }) else {
            return Ok(None);
        };
        let stops = self.tokenizer.stop_ids();
        let answer = whole.strip_prefix(prompt.as_slice()).unwrap_or_default();
        Ok(answer.iter().copied().find(|id| stops.contains(id)))
    }
}

impl Tokenizer {
    /// What the model answers: the template of some turns, up to where the assistant speaks.
    ///
    /// # Errors
    /// When the template cannot be rendered, or knows no such turn.
    pub fn prompt_ids(&self, turns: &[Message]) -> Result<Vec<u32>, TokenizerError> {
        self.said_ids(Said { turns, tools: None, asks: true })
    }

    /// As [`Self::prompt_ids`], in at most `room` tokens: a long conversation loses its oldest turns (never what the system
    /// says), and a long text its beginning, never a mark. Says whether it did.
    ///
    /// # Errors
    /// When the template cannot be rendered.
    pub fn prompt_ids_within(
        &self,
        turns: &[Message],
        room: usize,
    ) -> Result<(Vec<u32>, bool), TokenizerError> {
        if let (Kind::Own(own), [turn]) = (&self.0, turns)
            && turn.role == Role::User
        {
            return Ok(own.prompt_ids_within(&turn.content, room));
        }
        let mut ids = self.prompt_ids(turns)?;
        if ids.len() <= room {
            return Ok((ids, false));
        }
        let mut left = turns.to_vec();
        let first = usize::from(turns.first().is_some_and(|turn| turn.role == Role::System));
        while ids.len() > room && left.len() > first + 1 {
            left.remove(first);
            // A conversation begins with what a person says.
            if left[first].role == Role::User {
                ids = self.prompt_ids(&left)?;
            }
        }
        let mut content = left.last().map(|turn| self.encode(&turn.content)).unwrap_or_default();
        for _ in 0..ATTEMPTS {
            let too_many = ids.len().saturating_sub(room);
            let Some(last) = left.last_mut().filter(|_| too_many > 0 && !content.is_empty()) else { break };
            content.drain(..too_many.min(content.len()));
            self.decode(&content).trim_start_matches('\u{fffd}').clone_into(&mut last.content);
            ids = self.prompt_ids(&left)?;
        }
        Ok((ids, true))
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

    /// The tokens of what is said.
    pub(super) fn said_ids(&self, said: Said) -> Result<Vec<u32>, TokenizerError> {
        let foreign = match &self.0 {
            Kind::Own(own) => {
                let turns = said.turns.iter().map(own_turn).collect::<Result<Vec<_>, _>>()?;
                let mut ids = own.conversation_ids(&turns);
                if said.asks && !matches!(turns.last(), Some(Turn::User(_))) {
                    ids.push(own.assistant());
                }
                return Ok(ids);
            }
            Kind::Foreign(foreign) => foreign,
        };
        if let Some(ids) = foreign.ids(said)? {
            return if said.asks && ids.is_empty() { Err(TokenizerError::EmptyPrompt) } else { Ok(ids) };
        }
        let mut ids = foreign.tokenizer.encode_document("");
        for turn in said.turns {
            ids.extend(match turn.role {
                Role::Assistant => self.response_ids(&turn.content),
                _ => self.encode(&turn.content),
            });
        }
        Ok(ids)
    }
}

/// A turn of our own template.
fn own_turn(turn: &Message) -> Result<Turn<'_>, TokenizerError> {
    match turn.role {
        Role::User => Ok(Turn::User(&turn.content)),
        Role::Assistant => Ok(Turn::Assistant(&turn.content)),
        role => Err(TokenizerError::Role(role)),
    }
}
