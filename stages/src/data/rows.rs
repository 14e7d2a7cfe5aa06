//! The rows of the artifacts that hold examples.
//!
//! Purpose: what a dataset of any shape means as `prompts`, `demonstrations`, `completions` or `rankings`.
//! Invariant: a row that was read has passed the checks of its shape; nothing of it is left out.
//! Must not know: files, tokenizers, models.

pub use kiln_formats::records::{
    Chat, Completion, CompletionSet, Json, Message, Prompt, Ranking, Role, last_said,
};
use kiln_formats::records::{Example, Shape};

/// A row of an artifact.
pub trait Row: Sized {
    /// The artifact type; a folder may hold the rows as `TYPE.jsonl`.
    const TYPE: &'static str;
    /// The shapes of datasets that have such rows, the usual one first.
    const SHAPES: &'static [Shape];

    /// What an example means as a row; none for one of another shape.
    ///
    /// # Errors
    /// A few words about what the example lacks.
    fn of(example: Example) -> Result<Option<Self>, &'static str>;
}

/// What a model is to learn to say.
#[derive(Debug, Clone, PartialEq)]
pub enum Demonstration {
    /// A conversation, of which the assistant's turns are learnt.
    Chat(Chat),
    /// A text, which is learnt as a whole.
    Text(String),
}

/// An answer that was judged.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// One turn, maybe sampled, maybe without an end.
    Completion(Completion),
    /// The turns after the prompt, of which the last is the assistant's.
    Turns(Vec<Message>),
}

/// Answers to one prompt, and their order.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// The turns before the answers.
    pub prompt: Vec<Message>,
    /// The tools that the model was offered.
    pub tools: Option<Json>,
    /// At least two answers.
    pub answers: Vec<Answer>,
    /// The rank of each answer: 1 is the best, the same rank twice is a tie.
    pub ranks: Vec<u32>,
}

/// What is said in a prompt, for people: the question alone where there is nothing else, else every turn with its role.
pub fn spoken(prompt: &[Message]) -> String {
    match prompt {
        [turn] if turn.role == Role::User => turn.content.clone(),
        turns => {
            turns.iter().map(|turn| format!("{}: {}", turn.role, turn.content)).collect::<Vec<_>>().join("\n")
        }
    }
}

impl Row for Prompt {
    const TYPE: &'static str = "prompts";
    const SHAPES: &'static [Shape] =
        &[Shape::Prompts, Shape::PromptCompletion, Shape::Messages, Shape::Conversations, Shape::Instruction];

    fn of(example: Example) -> Result<Option<Self>, &'static str> {
        Ok(match example {
            Example::Prompt(prompt) => Some(prompt),
            Example::Preference(pair) => Some(Self { prompt: pair.prompt, response: None }),
            Example::Chat(mut chat) => {
                let answer = chat.messages.pop();
                if chat.messages.is_empty() {
                    return Err("the assistant speaks first, so nothing is asked");
                }
                Some(Self { prompt: chat.messages, response: answer.map(|turn| turn.content) })
            }
            _ => None,
        })
    }
}

impl Row for Demonstration {
    const TYPE: &'static str = "demonstrations";
    const SHAPES: &'static [Shape] =
        &[Shape::PromptCompletion, Shape::Messages, Shape::Conversations, Shape::Instruction, Shape::Text];

    fn of(example: Example) -> Result<Option<Self>, &'static str> {
        Ok(match example {
            Example::Chat(chat) => Some(Self::Chat(chat)),
            Example::Text(text) => Some(Self::Text(text.text)),
            _ => None,
        })
    }
}

impl Row for CompletionSet {
    const TYPE: &'static str = "completions";
    const SHAPES: &'static [Shape] = &[Shape::Completions];

    fn of(example: Example) -> Result<Option<Self>, &'static str> {
        Ok(match example {
            Example::Completions(set) => Some(set),
            _ => None,
        })
    }
}

impl Row for Ranking {
    const TYPE: &'static str = "rankings";
    const SHAPES: &'static [Shape] = &[Shape::Rankings];

    fn of(example: Example) -> Result<Option<Self>, &'static str> {
        Ok(match example {
            Example::Ranking(ranking) => Some(ranking),
            _ => None,
        })
    }
}

impl Row for Judged {
    const TYPE: &'static str = "rankings";
    const SHAPES: &'static [Shape] =
        &[Shape::Rankings, Shape::Preference, Shape::HhTranscripts, Shape::UltraFeedback];

    fn of(example: Example) -> Result<Option<Self>, &'static str> {
        Ok(match example {
            Example::Ranking(ranking) => Some(ranking.into()),
            Example::Preference(pair) => Some(Self {
                prompt: pair.prompt,
                tools: pair.tools,
                answers: vec![Answer::Turns(pair.chosen), Answer::Turns(pair.rejected)],
                ranks: vec![1, 2],
            }),
            Example::Ranked(ranked) => {
                let scores: Vec<f64> = ranked.completions.iter().map(|(_, score)| *score).collect();
                let rank = |score: &f64| 1 + scores.iter().filter(|other| *other > score).count() as u32;
                let answer = |(text, _)| Answer::Turns(vec![Message::assistant(text)]);
                Some(Self {
                    prompt: ranked.prompt,
                    tools: None,
                    ranks: scores.iter().map(rank).collect(),
                    answers: ranked.completions.into_iter().map(answer).collect(),
                })
            }
            _ => None,
        })
    }
}

impl From<Ranking> for Judged {
    fn from(ranking: Ranking) -> Self {
        let answers = ranking.completions.into_iter().map(Answer::Completion).collect();
        Self { prompt: ranking.prompt, tools: None, answers, ranks: ranking.ranks }
    }
}
