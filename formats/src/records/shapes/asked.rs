//! What is asked.
//!
//! Purpose: the turns before an answer, out of `prompt`, `question` or `instruction`, with what the system says before them.
//! Invariant: there is at least one turn, and one of them says something.
//! Must not know: the answers.
//!
//! Alpaca: the turn of the user is the instruction, and after a blank line the input where there is one. `history` holds
//! earlier turns as pairs, `[["question", "answer"], ..]`.

use super::super::error::Fault;
use super::super::example::{Message, Role};
use super::super::json::Json;
use super::super::row::Row;
use super::fields::{first, list, optional, said};
use super::transcript;
use super::turns::{is_messages, messages, with_system};

/// The turns before the answer; none where the row asks nothing.
pub(super) fn asked(row: &mut Row) -> Result<Option<Vec<Message>>, Fault> {
    let system = optional(row, &["system", "system_prompt"])?;
    let Some((field, value)) = first(row, &["prompt", "question", "instruction"]) else { return Ok(None) };
    let turns = if is_messages(&value) {
        messages(value, field)?
    } else {
        let text = said(value, field)?;
        match field {
            "instruction" => instructed(row, text)?,
            _ if transcript::begins(&text) => transcript::prompt(&text, field)?,
            _ => vec![Message::new(Role::User, text)],
        }
    };
    // A transcript may hold nothing but the names of those who speak.
    if turns.iter().all(|turn| turn.content.trim().is_empty()) {
        return Err(Fault::new(field, "it is empty"));
    }
    Ok(Some(with_system(system, turns)))
}

/// The turns before the answer, of which there must be some.
pub(super) fn needed(row: &mut Row, field: &'static str) -> Result<Vec<Message>, Fault> {
    asked(row)?.ok_or_else(|| Fault::new(field, "it is missing"))
}

/// Alpaca's instruction with its input, after what was said before.
fn instructed(row: &mut Row, instruction: String) -> Result<Vec<Message>, Fault> {
    let mut turns = Vec::new();
    if let Some(history) = row.take("history") {
        for (place, pair) in list(history, "history")?.into_iter().enumerate() {
            let field = format!("history[{place}]");
            let [question, answer] = <[Json; 2]>::try_from(list(pair, &field)?)
                .map_err(|_| Fault::new(&field, "expected a pair of a question and an answer"))?;
            turns.push(Message::new(Role::User, said(question, &format!("{field}[0]"))?));
            turns.push(Message::new(Role::Assistant, said(answer, &format!("{field}[1]"))?));
        }
    }
    let input = optional(row, &["input", "context"])?;
    let text = input.map_or_else(|| instruction.clone(), |input| format!("{instruction}\n\n{input}"));
    turns.push(Message::new(Role::User, text));
    Ok(turns)
}
