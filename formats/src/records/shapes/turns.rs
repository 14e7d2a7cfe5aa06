//! Conversations.
//!
//! Purpose: lists of messages as OpenAI, TRL and ShareGPT write them.
//! Invariant: every turn has a role; those of a conversation to learn say something, or call a tool.
//! Must not know: which turns are learnt.
//!
//! Roles: `system` (and `developer`, its newer name), `user`, `assistant`, `tool` (and `function`, its older name). ShareGPT
//! has `human` and `user`; `gpt`, `assistant`, `chatgpt`, `bing`, `bard`, `model`; `system`; `tool`, `observation`,
//! `function_response`.

use super::super::error::Fault;
use super::super::example::{Chat, Message, Role};
use super::super::json::{Fields, Json};
use super::super::row::Row;
use super::fields::{kind, list, needed, optional, shown, string};

/// What else a message may have that chat templates ask for.
const MORE: [&str; 5] = ["name", "tool_calls", "tool_call_id", "reasoning_content", "weight"];

/// A row of `messages`.
pub(super) fn messages_row(row: &mut Row) -> Result<Chat, Fault> {
    let tools = tools(row);
    let (field, value) = needed(row, &["messages"])?;
    let messages = messages(value, field)?;
    learnable(&messages, field)?;
    Ok(Chat { messages, prompt_turns: 0, tools })
}

/// A row of `conversations`.
pub(super) fn conversations_row(row: &mut Row) -> Result<Chat, Fault> {
    let tools = tools(row);
    let system = optional(row, &["system", "system_prompt"])?;
    let (field, value) = needed(row, &["conversations", "conversation"])?;
    let turns = list(value, field)?.into_iter().enumerate();
    let messages: Result<Vec<Message>, Fault> =
        turns.map(|(place, turn)| share_gpt(turn, &format!("{field}[{place}]"))).collect();
    let messages = with_system(system, messages?);
    learnable(&messages, field)?;
    Ok(Chat { messages, prompt_turns: 0, tools })
}

/// The tools that the model was offered; a list without any is none.
pub(super) fn tools(row: &mut Row) -> Option<Json> {
    row.take("tools").filter(|tools| tools.as_array().is_none_or(|tools| !tools.is_empty()))
}

/// The turns with what the system says before them, unless they begin with it already.
pub(super) fn with_system(system: Option<String>, mut messages: Vec<Message>) -> Vec<Message> {
    let has_one = messages.first().is_some_and(|first| first.role == Role::System);
    if let Some(system) = system.filter(|_| !has_one) {
        messages.insert(0, Message::new(Role::System, system));
    }
    messages
}

/// Whether a value is a list of messages and not one of anything else.
pub(super) fn is_messages(value: &Json) -> bool {
    value.as_array().is_some()
}

/// A list of messages with `role` and `content`.
pub(super) fn messages(value: Json, field: &str) -> Result<Vec<Message>, Fault> {
    let turns = list(value, field)?;
    if turns.is_empty() {
        return Err(Fault::new(
            field,
            "it is an empty list; expected messages, each {\"role\", \"content\"}",
        ));
    }
    turns.into_iter().enumerate().map(|(place, turn)| message(turn, &format!("{field}[{place}]"))).collect()
}

/// A conversation that can be learnt: it ends with the assistant, and nobody in it is silent.
pub(super) fn learnable(messages: &[Message], field: &str) -> Result<(), Fault> {
    let is_silent = |turn: &Message| {
        let may_be = matches!(turn.role, Role::System | Role::Tool) || turn.more.get("tool_calls").is_some();
        turn.content.trim().is_empty() && !may_be
    };
    if let Some(place) = messages.iter().position(is_silent) {
        return Err(Fault::new(
            format!("{field}[{place}]"),
            format!("the turn of the {} is empty", messages[place].role),
        ));
    }
    answered(messages, field)
}

/// Turns that end with the assistant; an empty answer is what a model may well say, so it passes.
pub(super) fn answered(messages: &[Message], field: &str) -> Result<(), Fault> {
    match messages.last() {
        None => Err(Fault::new(field, "it is an empty list; expected messages")),
        Some(last) if last.role != Role::Assistant => {
            let place = messages.len() - 1;
            let what = format!(
                "the conversation ends at [{place}] with a turn of the {}; it should end with one of the assistant",
                last.role
            );
            Err(Fault::new(field, what))
        }
        Some(_) => Ok(()),
    }
}

/// A turn as OpenAI and TRL have it.
fn message(turn: Json, field: &str) -> Result<Message, Fault> {
    let mut turn = object(turn, field, "{\"role\": \"user\", \"content\": \"..\"}")?;
    let role = text_of(&mut turn, "role", field)?;
    let role = match role.as_str() {
        "system" | "developer" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" | "function" => Role::Tool,
        other => {
            let what = format!("{} is no role; the roles are system, user, assistant, tool", shown(other));
            return Err(Fault::new(format!("{field}.role"), what));
        }
    };
    let content = turn.take("content").unwrap_or_default();
    turn_of(role, content, turn, &format!("{field}.content"))
}

/// A turn as ShareGPT has it, or as OpenAI does.
fn share_gpt(turn: Json, field: &str) -> Result<Message, Fault> {
    if turn.get("from").is_none() && turn.get("role").is_some() {
        return message(turn, field);
    }
    let mut turn = object(turn, field, "{\"from\": \"human\", \"value\": \"..\"}")?;
    let from = text_of(&mut turn, "from", field)?;
    let role = match from.as_str() {
        "system" => Role::System,
        "human" | "user" => Role::User,
        "gpt" | "assistant" | "chatgpt" | "bing" | "bard" | "model" => Role::Assistant,
        "tool" | "observation" | "function_response" => Role::Tool,
        other => {
            let what = format!("{} is nobody; expected human, gpt, system or tool", shown(other));
            return Err(Fault::new(format!("{field}.from"), what));
        }
    };
    let content = turn.take("value").unwrap_or_default();
    turn_of(role, content, turn, &format!("{field}.value"))
}

fn object(turn: Json, field: &str, example: &str) -> Result<Fields, Fault> {
    match turn {
        Json::Object(turn) => Ok(turn),
        other => {
            Err(Fault::new(field, format!("expected a message such as {example}, found {}", kind(&other))))
        }
    }
}

fn text_of(turn: &mut Fields, name: &str, field: &str) -> Result<String, Fault> {
    let field = format!("{field}.{name}");
    match turn.take(name) {
        Some(value) => string(value, &field),
        None => Err(Fault::new(field, "it is missing")),
    }
}

/// A turn out of its parts; `rest` is what else the row has of it.
fn turn_of(role: Role, content: Json, mut rest: Fields, field: &str) -> Result<Message, Fault> {
    let mut more = Fields::default();
    for name in MORE {
        let value = rest.take(name);
        // Lists without elements stand where another row has tool calls: a column of Parquet is in every row.
        if let Some(value) = value.filter(|value| value.as_array().is_none_or(|list| !list.is_empty())) {
            more.push(name, value);
        }
    }
    let calls = more.get("tool_calls").is_some();
    let content = match content {
        Json::Null if calls => String::new(),
        Json::Null => return Err(Fault::new(field, "it is missing")),
        Json::Array(parts) => parts_of(parts, field)?,
        other => string(other, field)?,
    };
    Ok(Message { role, content, more })
}

/// Content as a list of parts: the texts, joined.
fn parts_of(parts: Vec<Json>, field: &str) -> Result<String, Fault> {
    let mut text = String::new();
    for (place, part) in parts.into_iter().enumerate() {
        let field = format!("{field}[{place}]");
        match part {
            Json::String(part) => text.push_str(&part),
            Json::Object(mut part) => match part.get("type").and_then(Json::as_str) {
                None | Some("text") => text.push_str(&text_of(&mut part, "text", &field)?),
                Some(other) => {
                    let what = format!("a part of the type {} is no text; only text is read", shown(other));
                    return Err(Fault::new(field, what));
                }
            },
            other => {
                return Err(Fault::new(field, format!("expected a part of text, found {}", kind(&other))));
            }
        }
    }
    Ok(text)
}
