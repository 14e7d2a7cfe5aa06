//! Anthropic's transcripts.
//!
//! Purpose: a conversation as one string, `\n\nHuman: ..\n\nAssistant: ..`, as turns; pairs of them as preferences.
//! Invariant: turns come in the order of the text, without the white space around them; what both transcripts of a pair begin
//! with is the prompt.
//! Must not know: lists of messages.

use super::super::error::Fault;
use super::super::example::{Message, Preference, Role};
use super::super::row::Row;
use super::fields::{needed, shown, string};
use super::preference::split;

const HUMAN: &str = "\n\nHuman:";
const ASSISTANT: &str = "\n\nAssistant:";

/// Whether a text begins as a transcript.
pub(super) fn begins(text: &str) -> bool {
    text.starts_with(HUMAN)
}

/// A row of two transcripts.
pub(super) fn preference(row: &mut Row) -> Result<Preference, Fault> {
    let (field, value) = needed(row, &["chosen"])?;
    let chosen = turns(&string(value, field)?, field)?;
    let (field, value) = needed(row, &["rejected"])?;
    let rejected = turns(&string(value, field)?, field)?;
    split(chosen, rejected)
}

/// A prompt as a transcript: it ends where the assistant answers.
pub(super) fn prompt(text: &str, field: &str) -> Result<Vec<Message>, Fault> {
    let mut turns = turns(text, field)?;
    if turns.last().is_some_and(|last| last.role == Role::Assistant && last.content.is_empty()) {
        turns.pop();
    }
    Ok(turns)
}

/// The turns of a transcript.
fn turns(text: &str, field: &str) -> Result<Vec<Message>, Fault> {
    if !begins(text) {
        let what = format!("it begins with {}; a transcript begins with \"\\n\\nHuman: \"", shown(text));
        return Err(Fault::new(field, what));
    }
    let (mut turns, mut rest) = (Vec::new(), text);
    while let Some((role, after)) = speaker(rest) {
        let end = next_speaker(after);
        turns.push(Message::new(role, after[..end].trim()));
        rest = &after[end..];
    }
    Ok(turns)
}

/// Who speaks at the beginning of this text, and what follows.
fn speaker(text: &str) -> Option<(Role, &str)> {
    let human = text.strip_prefix(HUMAN).map(|after| (Role::User, after));
    human.or_else(|| text.strip_prefix(ASSISTANT).map(|after| (Role::Assistant, after)))
}

/// Where the next turn begins.
fn next_speaker(text: &str) -> usize {
    let places = [text.find(HUMAN), text.find(ASSISTANT)];
    places.into_iter().flatten().min().unwrap_or(text.len())
}
