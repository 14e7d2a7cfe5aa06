//! Preferences.
//!
//! Purpose: `chosen` and `rejected`, as answers to a prompt or as whole conversations.
//! Invariant: both answers end with the assistant, and share the prompt.
//! Must not know: transcripts.
//!
//! Lists that both begin with the same turn of the user or the system are whole conversations: what they begin with together
//! is the prompt, as TRL's `extract_prompt` has it, and the column `prompt` (UltraFeedback binarized has one) says the same
//! again. Where the two conversations are equal, their last turns are the answers. Other lists are answers to `prompt`.

use super::super::error::Fault;
use super::super::example::{Message, Preference, Role};
use super::super::row::Row;
use super::asked;
use super::fields::{kind, needed, optional, optional_number, string};
use super::turns::{answered, is_messages, messages, tools, with_system};

/// A row of `chosen` and `rejected`.
pub(super) fn parse(row: &mut Row) -> Result<Preference, Fault> {
    let tools = tools(row);
    let (_, chosen) = needed(row, &["chosen"])?;
    let (_, rejected) = needed(row, &["rejected"])?;
    if is_messages(&chosen) != is_messages(&rejected) {
        let what = format!(
            "it is {}, and `chosen` is {}; expected two strings or two lists",
            kind(&rejected),
            kind(&chosen)
        );
        return Err(Fault::new("rejected", what));
    }
    let mut preference = if is_messages(&chosen) {
        of_messages(row, messages(chosen, "chosen")?, messages(rejected, "rejected")?)?
    } else {
        // An empty answer is what a model may well say, so it passes.
        let answer = |value, field| Ok(vec![Message::new(Role::Assistant, string(value, field)?)]);
        let (chosen, rejected) = (answer(chosen, "chosen")?, answer(rejected, "rejected")?);
        let prompt = asked::asked(row)?.ok_or_else(|| {
            Fault::new(
                "prompt",
                "it is missing; answers that are strings need one, or give both as lists of messages",
            )
        })?;
        Preference { prompt, ..pair(chosen, rejected) }
    };
    preference.chosen_score = optional_number(row, "score_chosen")?;
    preference.rejected_score = optional_number(row, "score_rejected")?;
    preference.tools = tools;
    Ok(preference)
}

fn pair(chosen: Vec<Message>, rejected: Vec<Message>) -> Preference {
    Preference { prompt: Vec::new(), chosen, rejected, chosen_score: None, rejected_score: None, tools: None }
}

fn of_messages(row: &mut Row, chosen: Vec<Message>, rejected: Vec<Message>) -> Result<Preference, Fault> {
    answered(&chosen, "chosen")?;
    answered(&rejected, "rejected")?;
    let is_whole = |turns: &[Message]| {
        turns.first().is_some_and(|first| matches!(first.role, Role::User | Role::System))
    };
    let are_whole = is_whole(&chosen) && is_whole(&rejected) && chosen.first() == rejected.first();
    if are_whole || row.get("prompt").is_none() {
        let preference = split(chosen, rejected)?;
        let system = optional(row, &["system", "system_prompt"])?;
        return Ok(Preference { prompt: with_system(system, preference.prompt), ..preference });
    }
    let prompt = asked::needed(row, "prompt")?;
    Ok(Preference { prompt, ..pair(chosen, rejected) })
}

/// Two conversations as the turns that they begin with together, and what follows.
pub(super) fn split(mut chosen: Vec<Message>, mut rejected: Vec<Message>) -> Result<Preference, Fault> {
    answered(&chosen, "chosen")?;
    answered(&rejected, "rejected")?;
    let together = chosen.iter().zip(&rejected).take_while(|(chosen, rejected)| chosen == rejected).count();
    // Neither answer is left without a turn, however much is the same.
    let together = together.min(chosen.len() - 1).min(rejected.len() - 1);
    if together == 0 {
        let what = "it begins otherwise than `chosen`, so the two share no prompt; give the turns before them as `prompt`";
        return Err(Fault::new("rejected[0]", what));
    }
    rejected.drain(..together);
    let answer = chosen.split_off(together);
    if chosen.iter().all(|turn| turn.content.trim().is_empty()) {
        return Err(Fault::new("chosen[0]", "the prompt is empty"));
    }
    Ok(Preference { prompt: chosen, ..pair(answer, rejected) })
}
