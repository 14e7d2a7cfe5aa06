//! The rows of the JSON-lines artifacts.
//!
//! Purpose: one type a line of `prompts`, `demonstrations`, `completions` and `rankings`, each with
//! the check that makes a row sensible.
//! Invariant: a row that was read has passed its check.
//! Must not know: files, models.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};

/// A line of a JSON-lines artifact.
pub trait Row: Serialize + DeserializeOwned {
    /// The artifact type; a folder holds the rows as `TYPE.jsonl`.
    const TYPE: &'static str;
    /// What a line looks like, for messages.
    const EXAMPLE: &'static str;

    /// What is wrong with this row, if anything.
    ///
    /// # Errors
    /// A few words that say what.
    fn check(&self) -> Result<(), String>;
}

/// A prompt, and what a person answered where that is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prompt {
    /// What the assistant is asked.
    pub prompt: String,
    /// What a person answered; evaluation compares with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<String>,
}

/// A prompt with an ideal response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Demonstration {
    /// What the assistant is asked.
    pub prompt: String,
    /// The answer to learn from.
    pub response: String,
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompletionSet {
    /// What was asked.
    pub prompt: String,
    /// The K answers.
    pub completions: Vec<Completion>,
}

/// A labeller's order of the K answers to a prompt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ranking {
    /// What was asked.
    pub prompt: String,
    /// The K answers.
    pub completions: Vec<Completion>,
    /// The rank of each answer: 1 is the best, the same rank twice is a tie.
    pub ranks: Vec<u32>,
    /// Who ranked: a person's name or a rule's.
    #[serde(default)]
    pub annotator: String,
    /// How long it took; 0 for a programme.
    #[serde(default)]
    pub seconds: f64,
    /// What the labeller ticked, such as `unsure`.
    #[serde(default)]
    pub flags: Vec<String>,
}

impl<'de> Deserialize<'de> for Completion {
    /// Reads `{"text","finished"}` or a bare string, which counts as finished.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a completion is a string or {\"text\", \"finished\", \"tokens\"}")]
        enum Form {
            Text(String),
            Full {
                text: String,
                #[serde(default = "finished")]
                finished: bool,
                #[serde(default)]
                tokens: Vec<u32>,
            },
        }
        fn finished() -> bool {
            true
        }
        Ok(match Form::deserialize(deserializer)? {
            Form::Text(text) => Self { text, finished: true, tokens: Vec::new() },
            Form::Full { text, finished, tokens } => Self { text, finished, tokens },
        })
    }
}

fn not_blank(name: &str, text: &str) -> Result<(), String> {
    if text.trim().is_empty() { Err(format!("`{name}` is empty")) } else { Ok(()) }
}

impl Row for Prompt {
    const TYPE: &'static str = "prompts";
    const EXAMPLE: &'static str = r#"{"prompt": ".."}"#;

    fn check(&self) -> Result<(), String> {
        not_blank("prompt", &self.prompt)?;
        self.response.as_ref().map_or(Ok(()), |response| not_blank("response", response))
    }
}

impl Row for Demonstration {
    const TYPE: &'static str = "demonstrations";
    const EXAMPLE: &'static str = r#"{"prompt": "..", "response": ".."}"#;

    fn check(&self) -> Result<(), String> {
        not_blank("prompt", &self.prompt)?;
        not_blank("response", &self.response)
    }
}

impl Row for CompletionSet {
    const TYPE: &'static str = "completions";
    const EXAMPLE: &'static str = r#"{"prompt": "..", "completions": [{"text": "..", "finished": true}]}"#;

    fn check(&self) -> Result<(), String> {
        // An empty completion is what a model may well say, so it passes.
        not_blank("prompt", &self.prompt)?;
        if self.completions.is_empty() { Err("`completions` is empty".into()) } else { Ok(()) }
    }
}

impl Row for Ranking {
    const TYPE: &'static str = "rankings";
    const EXAMPLE: &'static str = r#"{"prompt": "..", "completions": ["..", ".."], "ranks": [2, 1]}"#;

    fn check(&self) -> Result<(), String> {
        not_blank("prompt", &self.prompt)?;
        let k = self.completions.len();
        if self.ranks.len() != k {
            return Err(format!("{} `ranks` for {k} `completions`", self.ranks.len()));
        }
        if k < 2 {
            return Err("a ranking needs at least two completions".into());
        }
        match self.ranks.iter().find(|&&rank| rank == 0 || rank as usize > k) {
            Some(rank) => Err(format!("rank {rank} is not between 1 and {k}")),
            None if self.seconds.is_finite() && self.seconds >= 0.0 => Ok(()),
            None => Err(format!("`seconds` is {}", self.seconds)),
        }
    }
}
