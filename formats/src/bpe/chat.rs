//! The special tokens and the one chat template.
//!
//! Purpose: how a conversation becomes tokens, the same for SFT, rollouts, serving and export.
//! Each user turn is `<|user|>` text, each answer `<|assistant|>` text `<|end|>`; a prompt ends with
//! `<|assistant|>`, the response is text and `<|end|>`. `<|endoftext|>` separates documents and
//! begins a text, `<|pad|>` fills batches.
//! Invariant: [`TEMPLATE`], rendered by Hugging Face `apply_chat_template` and encoded with the same
//! file, gives the ids of [`Tokenizer::prompt_ids`], as long as no turn spells a special token: here
//! such a spelling is plain text, there it becomes the token.
//! Must not know: how text is merged.

use super::Tokenizer;

/// Separates documents; also the beginning of a text (BOS).
pub const ENDOFTEXT: &str = "<|endoftext|>";
/// Fills the short rows of a batch; never a target.
pub const PAD: &str = "<|pad|>";
/// Before what the user says.
pub const USER: &str = "<|user|>";
/// Before what the assistant says.
pub const ASSISTANT: &str = "<|assistant|>";
/// After what the assistant says: the stop token (EOS).
pub const END: &str = "<|end|>";

/// The special tokens in the order of their ids, which follow the merges.
pub const SPECIALS: [&str; 5] = [ENDOFTEXT, PAD, USER, ASSISTANT, END];

/// The template as Jinja, for `tokenizer_config.json`.
pub const TEMPLATE: &str = "\
{%- for message in messages -%}\
{%- if message['role'] == 'user' -%}{{ '<|user|>' + message['content'] }}\
{%- elif message['role'] == 'assistant' -%}{{ '<|assistant|>' + message['content'] + '<|end|>' }}\
{%- else -%}{{ raise_exception('only the roles user and assistant are known') }}\
{%- endif -%}\
{%- endfor -%}\
{%- if add_generation_prompt -%}{{ '<|assistant|>' }}{%- endif -%}";

/// A turn of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn<'a> {
    /// What the user says.
    User(&'a str),
    /// What the assistant says.
    Assistant(&'a str),
}

impl Tokenizer {
    /// Ends a document, begins a text: `<|endoftext|>`.
    pub fn eot(&self) -> u32 {
        self.special(0)
    }

    /// Fills rows: `<|pad|>`.
    pub fn pad(&self) -> u32 {
        self.special(1)
    }

    /// Before a user's turn: `<|user|>`.
    pub fn user(&self) -> u32 {
        self.special(2)
    }

    /// Before the assistant's turn: `<|assistant|>`.
    pub fn assistant(&self) -> u32 {
        self.special(3)
    }

    /// Ends the assistant's turn: `<|end|>`.
    pub fn stop(&self) -> u32 {
        self.special(4)
    }

    /// `<|user|>` text `<|assistant|>`: what the model answers.
    pub fn prompt_ids(&self, text: &str) -> Vec<u32> {
        self.conversation_ids(&[Turn::User(text)])
    }

    /// As [`Self::prompt_ids`], in at most `room` tokens: a long text loses its beginning, never a mark. Says whether it
    /// did.
    pub fn prompt_ids_within(&self, text: &str, room: usize) -> (Vec<u32>, bool) {
        let mut ids = self.prompt_ids(text);
        let too_many = ids.len().saturating_sub(room).min(ids.len() - 2);
        ids.drain(1..1 + too_many);
        (ids, too_many > 0)
    }

    /// The end of a text, in at most `room` tokens; `<|endoftext|>` where there is no text. Says whether the text was cut.
    ///
    /// No mark stands before a text: rows of pretraining begin anywhere, and where a corpus has few documents, hardly ever
    /// with the mark that ends them.
    pub fn page_ids_within(&self, text: &str, room: usize) -> (Vec<u32>, bool) {
        let mut ids = self.encode(text);
        let too_many = ids.len().saturating_sub(room.max(1));
        ids.drain(..too_many);
        if ids.is_empty() {
            ids.push(self.eot());
        }
        (ids, too_many > 0)
    }

    /// text `<|end|>`: an answer, with the stop token.
    pub fn response_ids(&self, text: &str) -> Vec<u32> {
        let mut ids = self.encode(text);
        ids.push(self.stop());
        ids
    }

    /// Whether tokens are a way to spell an answer: they give its text, and the stop token ends them if it is finished.
    pub fn spells(&self, tokens: &[u32], text: &str, finished: bool) -> bool {
        let body = if finished { tokens.strip_suffix(&[self.stop()]) } else { Some(tokens) };
        let size = self.vocab_size() as u32;
        body.is_some_and(|body| body.iter().all(|&id| id < size) && self.decode(body) == text)
    }

    /// Several turns, and `<|assistant|>` when the last is the user's.
    pub fn conversation_ids(&self, turns: &[Turn<'_>]) -> Vec<u32> {
        let mut ids = Vec::new();
        for turn in turns {
            match turn {
                Turn::User(text) => {
                    ids.push(self.user());
                    ids.extend(self.encode(text));
                }
                Turn::Assistant(text) => {
                    ids.push(self.assistant());
                    ids.extend(self.response_ids(text));
                }
            }
        }
        if matches!(turns.last(), Some(Turn::User(_))) {
            ids.push(self.assistant());
        }
        ids
    }
}
