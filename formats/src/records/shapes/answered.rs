//! Prompts with an answer, prompts alone, and texts.
//!
//! Purpose: the shapes `prompt-completion`, `instruction`, `prompts` and `text`.
//! Invariant: prompts and answers say something.
//! Must not know: lists of answers.

use super::super::error::Fault;
use super::super::example::{Chat, Message, Prompt, Role, Text};
use super::super::row::Row;
use super::asked;
use super::fields::{first, needed, said, string};
use super::turns::{is_messages, learnable, messages, tools};

/// A row of `prompt` and `completion`: the completion alone is learnt.
pub(super) fn prompt_completion(row: &mut Row) -> Result<Chat, Fault> {
    let tools = tools(row);
    let mut turns = asked::needed(row, "prompt")?;
    let prompt_turns = turns.len();
    let (field, value) = needed(row, &["completion", "response", "answer"])?;
    if is_messages(&value) {
        turns.extend(messages(value, field)?);
    } else {
        turns.push(Message::new(Role::Assistant, said(value, field)?));
    }
    learnable(&turns, field)?;
    Ok(Chat { messages: turns, prompt_turns, tools })
}

/// A row of `instruction`, `input` and `output`.
pub(super) fn instruction(row: &mut Row) -> Result<Chat, Fault> {
    let mut turns = asked::needed(row, "instruction")?;
    let prompt_turns = turns.len();
    let (field, value) = needed(row, &["output", "response"])?;
    turns.push(Message::new(Role::Assistant, said(value, field)?));
    Ok(Chat { messages: turns, prompt_turns, tools: None })
}

/// A row of `prompt` alone, or with a known `response`.
pub(super) fn prompt(row: &mut Row) -> Result<Prompt, Fault> {
    let prompt = asked::needed(row, "prompt")?;
    let response = first(row, &["response"]).map(|(field, value)| said(value, field)).transpose()?;
    Ok(Prompt { prompt, response })
}

/// A row of `text`.
pub(super) fn text(row: &mut Row) -> Result<Text, Fault> {
    let ends = !row.goes_on;
    let (field, value) = needed(row, &["text", "content"])?;
    Ok(Text { text: string(value, field)?, ends })
}
