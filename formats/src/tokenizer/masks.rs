//! What of a conversation is learnt.
//!
//! Purpose: the tokens of a conversation, and which of them are targets: what the assistant says, with the token that ends it.
//! Invariant: nothing that another role says, no mark of the template and nothing of a prompt is a target.
//! Must not know: files, models.
//!
//! Where the template marks what is generated (`{% generation %}`), that is learnt. Elsewhere a turn of the assistant begins
//! where the template asks for it, as in generation, and ends with the first token that stops. The last turn is the tokens of
//! its text after those of the prompt, so that training and generation see the same.

use std::ops::Range;

use super::chat::Said;
use super::handle::{Foreign, Kind, Tokenizer, TokenizerError};
use crate::records::{Chat, Json, Message, Role};

/// The field of a turn in which the assistant calls tools.
const TOOL_CALLS: &str = "tool_calls";

/// A conversation as tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Masked {
    /// The tokens.
    pub ids: Vec<u32>,
    /// Which of them are learnt.
    pub mask: Vec<bool>,
    /// Turns that should be learnt and are not, for the template renders them otherwise once others follow.
    pub unmarked: usize,
}

impl Masked {
    fn new(ids: Vec<u32>) -> Self {
        let mask = vec![false; ids.len()];
        Self { ids, mask, unmarked: 0 }
    }

    /// Marks places as learnt.
    fn learn(&mut self, places: Range<usize>) {
        self.mask.get_mut(places).unwrap_or_default().fill(true);
    }
}

/// Whether a turn of the assistant is learnt: a `weight` of 0 says that it is not, as OpenAI's format has it.
fn is_learnt(turn: &Message) -> bool {
    let weight = turn.more.get("weight");
    turn.role == Role::Assistant
        && !matches!(weight, Some(Json::Number(number)) if number.as_f64() == Some(0.0))
}

/// Whether a turn has nothing that its text does not say.
fn is_plain(turn: &Message) -> bool {
    turn.more.iter().all(|(key, value)| key == "weight" || value.is_null())
}

impl Foreign {
    /// The places that the template marks, if it does, and if tokens begin and end where the marks do. Many templates leave the
    /// token that stops out of the marks: it is learnt all the same, for a model that never learns it never stops.
    fn marked(&self, said: Said, stops: &[u32]) -> Result<Option<Masked>, TokenizerError> {
        if !self.template.as_ref().is_some_and(|template| template.has_generation_marks()) {
            return Ok(None);
        }
        let Some(rendered) = self.render(said)?.filter(|rendered| rendered.unplaced == 0) else {
            return Ok(None);
        };
        let mut masked = Masked::new(self.tokenizer.encode_rendered(&rendered.text));
        let assistants: Vec<_> = said.turns.iter().filter(|turn| turn.role == Role::Assistant).collect();
        let each_has_one = assistants.len() == rendered.generated.len();
        for (place, range) in rendered.generated.into_iter().enumerate() {
            if each_has_one && !is_learnt(assistants[place]) {
                continue;
            }
            let [from, to] = [range.start, range.end].map(|end| {
                let before = self.tokenizer.encode_rendered(rendered.text.get(..end)?);
                masked.ids.starts_with(&before).then_some(before.len())
            });
            let (Some(from), Some(to)) = (from, to) else { return Ok(None) };
            let is_stop = |place: usize| masked.ids.get(place).is_some_and(|id| stops.contains(id));
            let has_stop = to > from && is_stop(to - 1);
            let end = if !has_stop && is_stop(to) { to + 1 } else { to };
            if !has_stop && end == masked.ids.len() && end == to {
                masked.ids.push(self.stop);
                masked.mask.push(true);
            }
            masked.learn(from..end);
        }
        Ok(Some(masked))
    }
}

impl Tokenizer {
    /// A conversation as tokens, with those that are learnt.
    ///
    /// # Errors
    /// When the template cannot be rendered, or when it does not say where the last turn begins.
    pub fn conversation(&self, chat: &Chat) -> Result<Masked, TokenizerError> {
        let said = Said { turns: &chat.messages, tools: chat.tools.as_ref(), asks: false };
        self.check_tool_calls(said)?;
        if let Kind::Foreign(foreign) = &self.0
            && let Some(mut masked) = foreign.marked(said, &self.stops())?
        {
            if chat.prompt_turns > 0 {
                let prompt = Said { turns: &said.turns[..chat.prompt_turns], asks: true, ..said };
                let prompt = self.said_ids(prompt)?.len();
                masked.mask.iter_mut().take(prompt).for_each(|is_target| *is_target = false);
            }
            return Ok(masked);
        }
        self.by_beginnings(chat, said)
    }

    fn by_beginnings(&self, chat: &Chat, said: Said) -> Result<Masked, TokenizerError> {
        let Some((last, before)) = said.turns.split_last() else { return Ok(Masked::default()) };
        let prompt = self.said_ids(Said { turns: before, asks: true, ..said })?;
        let whole = match is_plain(last) {
            true => [prompt.as_slice(), &self.response_ids(self.trimmed(last, before, said)?)].concat(),
            false => self.said_ids(said)?,
        };
        let mut masked = Masked::new(whole);
        let end = match is_plain(last) {
            true => masked.ids.len(),
            false if masked.ids.starts_with(&prompt) => self.end_of_turn(&masked.ids, prompt.len()),
            false => return Err(TokenizerError::Unmarked),
        };
        if is_learnt(last) {
            masked.learn(prompt.len()..end);
        }
        for (place, turn) in before.iter().enumerate().skip(chat.prompt_turns) {
            if !is_learnt(turn) {
                continue;
            }
            // A template may well refuse a conversation that the assistant begins.
            let begun = match place {
                0 => None,
                _ => Some(self.said_ids(Said { turns: &before[..place], asks: true, ..said })?),
            };
            match begun.filter(|begun| masked.ids.starts_with(begun)) {
                Some(begun) => masked.learn(begun.len()..self.end_of_turn(&masked.ids, begun.len())),
                None => masked.unmarked += 1,
            }
        }
        Ok(masked)
    }

    /// The text of the last turn without the white space around it that the template takes away, as it does in other turns.
    fn trimmed<'t>(
        &self,
        last: &'t Message,
        before: &[Message],
        said: Said,
    ) -> Result<&'t str, TokenizerError> {
        let text = last.content.as_str();
        let Kind::Foreign(foreign) = &self.0 else { return Ok(text) };
        if text == text.trim() {
            return Ok(text);
        }
        let prompt = foreign.render(Said { turns: before, asks: true, ..said })?;
        let (Some(prompt), Some(whole)) = (prompt, foreign.render(said)?) else { return Ok(text) };
        let Some(rest) = whole.text.strip_prefix(prompt.text.as_str()) else { return Ok(text) };
        let is_said = |part: &&str| rest.starts_with(foreign.tokenizer.protect(part).as_ref());
        let parts = [text, text.trim_start(), text.trim_end(), text.trim()];
        Ok(parts.into_iter().find(is_said).unwrap_or(text))
    }

    /// Refuses calls of tools that the template leaves out.
    fn check_tool_calls(&self, said: Said) -> Result<(), TokenizerError> {
        let has_calls = |turn: &Message| {
            turn.more
                .get(TOOL_CALLS)
                .is_some_and(|calls| calls.as_array().is_none_or(|calls| !calls.is_empty()))
        };
        if !said.turns.iter().any(|turn| turn.role == Role::Assistant && has_calls(turn)) {
            return Ok(());
        }
        let Kind::Foreign(foreign) = &self.0 else { return Err(TokenizerError::ToolCalls) };
        let Some(whole) = foreign.render(said)? else { return Err(TokenizerError::ToolCalls) };
        let mut turns = said.turns.to_vec();
        turns.iter_mut().for_each(|turn| _ = turn.more.take(TOOL_CALLS));
        // A template may refuse a turn that says nothing at all.
        match foreign.render(Said { turns: &turns, ..said }) {
            Ok(Some(without)) if without.text == whole.text => Err(TokenizerError::ToolCalls),
            _ => Ok(()),
        }
    }

    /// The place after the first token that stops.
    fn end_of_turn(&self, ids: &[u32], from: usize) -> usize {
        let stops = self.stops();
        let said = ids.get(from..).unwrap_or_default();
        said.iter().position(|id| stops.contains(id)).map_or(ids.len(), |place| from + place + 1)
    }
}
