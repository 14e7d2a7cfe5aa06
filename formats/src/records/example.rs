//! What a dataset consists of, whatever its container and shape.
//!
//! Purpose: the types that the stages train on: texts, conversations, prompts, preferences, rankings.
//! Invariant: an example that was read has passed the checks of its shape; its JSON is a row of that shape.
//! Must not know: files, shapes, tokenizers.

use std::fmt;

use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};

use super::json::{Fields, Json};

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The instructions before a conversation.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
    /// What a tool answered to the model.
    Tool,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        })
    }
}

/// A turn of a conversation; its JSON is `{"role", "content"}` and what else a chat template may ask for.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said; empty where the model only calls tools.
    pub content: String,
    /// `name`, `tool_calls`, `tool_call_id`, `reasoning_content` and `weight`, where a row has them, as they stand there.
    #[serde(flatten)]
    pub more: Fields,
}

impl Message {
    /// A turn without anything but its text.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self { role, content: content.into(), more: Fields::default() }
    }

    /// What a person says.
    pub fn user(content: impl Into<String>) -> Self {
        Self::new(Role::User, content)
    }

    /// What the model says.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self::new(Role::Assistant, content)
    }
}

/// What the last turn of a prompt says.
pub fn last_said(prompt: &[Message]) -> &str {
    prompt.last().map_or("", |turn| turn.content.as_str())
}

/// A prompt as JSON: one question of a person is a string, anything else a list of messages.
fn turns<S: Serializer>(prompt: &[Message], serializer: S) -> Result<S::Ok, S::Error> {
    match prompt {
        [turn] if turn.role == Role::User && turn.more.is_empty() => serializer.serialize_str(&turn.content),
        _ => serializer.collect_seq(prompt),
    }
}

/// A row of a dataset.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Example {
    /// A document, or a part of one.
    Text(Text),
    /// A conversation that ends with the assistant's turn.
    Chat(Chat),
    /// A prompt to answer.
    Prompt(Prompt),
    /// Two answers, of which one is preferred.
    Preference(Preference),
    /// Answers with scores.
    Ranked(Ranked),
    /// Answers that a model gave: the artifact `completions`.
    Completions(CompletionSet),
    /// Answers that a person ranked: the artifact `rankings`.
    Ranking(Ranking),
}

/// A document, or a part of one where the caller said how a text may be cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Text {
    /// The text.
    pub text: String,
    /// Whether the document ends with it.
    #[serde(skip)]
    pub ends: bool,
}

/// A conversation to learn from. Its JSON is `{"messages"}`, or `{"prompt", "completion"}` where it has a prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct Chat {
    /// The turns; the last one is the assistant's.
    pub messages: Vec<Message>,
    /// How many of the turns are a prompt, which is not learnt; 0 where every turn of the assistant is learnt.
    pub prompt_turns: usize,
    /// The tools that the model was offered, as the row has them.
    pub tools: Option<Json>,
}

impl Serialize for Chat {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        let (prompt, completion) = self.messages.split_at(self.prompt_turns.min(self.messages.len()));
        if prompt.is_empty() {
            map.serialize_entry("messages", completion)?;
        } else {
            map.serialize_entry("prompt", prompt)?;
            map.serialize_entry("completion", completion)?;
        }
        if let Some(tools) = &self.tools {
            map.serialize_entry("tools", tools)?;
        }
        map.end()
    }
}

/// A prompt, and the answer that is known to be good where there is one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Prompt {
    /// The turns before the answer.
    #[serde(serialize_with = "turns")]
    pub prompt: Vec<Message>,
    /// What a person answered; evaluation compares with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response: Option<String>,
}

/// A pair of answers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Preference {
    /// The turns that both answers share.
    pub prompt: Vec<Message>,
    /// The better answer: one turn of the assistant, or several turns of which the last is the assistant's.
    pub chosen: Vec<Message>,
    /// The worse one.
    pub rejected: Vec<Message>,
    /// How good the better one is, where the row says it.
    #[serde(rename = "score_chosen", skip_serializing_if = "Option::is_none")]
    pub chosen_score: Option<f64>,
    /// How good the worse one is.
    #[serde(rename = "score_rejected", skip_serializing_if = "Option::is_none")]
    pub rejected_score: Option<f64>,
    /// The tools that the model was offered, as the row has them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tools: Option<Json>,
}

/// Answers with scores; a higher score is better.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ranked {
    /// The turns before the answers.
    pub prompt: Vec<Message>,
    /// At least two answers, each with its score, in the order of the row.
    #[serde(serialize_with = "scored")]
    pub completions: Vec<(String, f64)>,
}

fn scored<S: Serializer>(completions: &[(String, f64)], serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Scored<'a> {
        response: &'a str,
        score: f64,
    }
    let mut list = serializer.serialize_seq(Some(completions.len()))?;
    for (response, score) in completions {
        list.serialize_element(&Scored { response, score: *score })?;
    }
    list.end()
}

/// What a model answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Completion {
    /// The answer, without the stop token.
    pub text: String,
    /// True when the model ended it with its stop token.
    pub finished: bool,
    /// The tokens that were sampled, the stop token included; none where nobody sampled it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<u32>,
}

/// A prompt and K samples of a model's answers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CompletionSet {
    /// The turns before the answers.
    #[serde(serialize_with = "turns")]
    pub prompt: Vec<Message>,
    /// The K answers; at least one.
    pub completions: Vec<Completion>,
}

/// A labeller's order of the K answers to a prompt.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ranking {
    /// The turns before the answers.
    #[serde(serialize_with = "turns")]
    pub prompt: Vec<Message>,
    /// The K answers; at least two.
    pub completions: Vec<Completion>,
    /// The rank of each answer: 1 is the best, the same rank twice is a tie.
    pub ranks: Vec<u32>,
    /// Who ranked: a person's name or a rule's.
    pub annotator: String,
    /// How long it took; 0 for a programme.
    pub seconds: f64,
    /// What the labeller ticked, such as `unsure`.
    pub flags: Vec<String>,
}
