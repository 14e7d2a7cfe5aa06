//! Text and tokens.
//!
//! Purpose: loads the tokenizer of a folder, ours or another's, and turns text into tokens and back.
//! Invariant: what is written into another folder is what was read.
//! Must not know: conversations.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::stream::StreamDecoder;
use crate::bpe;
use crate::foreign::{ForeignError, ForeignTokenizer};
use crate::records::Role;
use crate::template::{ChatTemplate, TemplateError};

/// The token that ends a document in the vocabularies of many models whose stop token is another.
const ENDOFTEXT: &str = "<|endoftext|>";

/// The vocabulary and how a text is cut.
const TOKENIZER: &str = "tokenizer.json";
/// The chat template alone.
const TEMPLATE: &str = "chat_template.jinja";
/// The settings of a tokenizer, the chat template among them.
const CONFIG: &str = "tokenizer_config.json";

/// A tokenizer; clones share it, threads may too.
#[derive(Debug, Clone)]
pub struct Tokenizer(pub(super) Kind);

/// Whose tokenizer it is.
#[derive(Debug, Clone)]
pub(super) enum Kind {
    Own(bpe::Tokenizer),
    Foreign(Arc<Foreign>),
}

/// Somebody else's tokenizer, and how a conversation becomes a text there.
#[derive(Debug)]
pub(super) struct Foreign {
    pub(super) tokenizer: ForeignTokenizer,
    pub(super) template: Option<ChatTemplate>,
    /// Ends what the assistant says.
    pub(super) stop: u32,
    /// Ends a document.
    pub(super) eot: u32,
}

/// A tokenizer could not be read, written or used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum TokenizerError {
    #[error(transparent)]
    Own(#[from] bpe::TokenizerError),
    #[error(transparent)]
    Foreign(#[from] ForeignError),
    #[error("the chat template of the model: {0}")]
    Template(#[from] TemplateError),
    #[error(
        "a conversation has a turn of the role `{0}`, and the chat template of this tokenizer knows `user` and `assistant` \
         alone: put what it says into a turn of the user"
    )]
    Role(Role),
    #[error(
        "the chat template of the model renders the last turn in such a way that what the model is to learn cannot be told \
         from the prompt; mark it with {{% generation %}} in the template"
    )]
    Unmarked,
    #[error(
        "a turn of the assistant has `tool_calls`, which the chat template of the model does not render, so that a model would \
         learn to say nothing in their place; take a model whose template renders them, or write them into `content`"
    )]
    ToolCalls,
    #[error(
        "the chat template of the model renders nothing for a prompt, and a model goes on only from some token"
    )]
    EmptyPrompt,
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
}

impl From<bpe::Tokenizer> for Tokenizer {
    fn from(tokenizer: bpe::Tokenizer) -> Self {
        Self(Kind::Own(tokenizer))
    }
}

impl Tokenizer {
    /// Reads the tokenizer's files in `folder`, which may come from anywhere: those of our own tokenizer, or any BPE of
    /// Hugging Face's.
    ///
    /// # Errors
    /// When they are missing, malformed, or of another kind.
    pub fn load(folder: &Path) -> Result<Self, TokenizerError> {
        match bpe::Tokenizer::load(folder) {
            Ok(own) => Ok(own.into()),
            Err(bpe::TokenizerError::Io { path, source }) => Err(TokenizerError::Io { path, source }),
            Err(_) => Self::foreign(ForeignTokenizer::load(folder)?),
        }
    }

    /// Somebody else's tokenizer.
    ///
    /// # Errors
    /// When its chat template cannot be parsed, or not even render a question.
    pub fn foreign(tokenizer: ForeignTokenizer) -> Result<Self, TokenizerError> {
        let template = tokenizer.chat_template().map(ChatTemplate::new).transpose()?;
        let stops = tokenizer.stop_ids();
        let first = stops.first().copied().unwrap_or_default();
        let eos = tokenizer.eos_id().unwrap_or(first);
        let eot = match tokenizer.encode_with_specials(ENDOFTEXT)[..] {
            [id] if tokenizer.is_special(id) => id,
            _ => eos,
        };
        let stop = if stops.contains(&eos) { eos } else { first };
        let mut foreign = Foreign { tokenizer, template, stop, eot };
        if let Some(stop) = foreign.stop_of_template()? {
            foreign.stop = stop;
        }
        Ok(Self(Kind::Foreign(Arc::new(foreign))))
    }

    /// Writes the tokenizer's files into `folder`, which is made if missing.
    ///
    /// # Errors
    /// Those of writing.
    pub fn save(&self, folder: &Path) -> Result<(), TokenizerError> {
        let foreign = match &self.0 {
            Kind::Own(own) => return Ok(own.save(folder)?),
            Kind::Foreign(foreign) => foreign,
        };
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| TokenizerError::Io { path, source }
        };
        std::fs::create_dir_all(folder).map_err(io(folder))?;
        for (name, bytes) in foreign.tokenizer.files() {
            let path = folder.join(name);
            std::fs::write(&path, bytes).map_err(io(&path))?;
        }
        // Some programs look for the template in a file of its own, some in the settings: it is in both.
        let Some(template) = foreign.tokenizer.chat_template() else { return Ok(()) };
        let path = folder.join(TEMPLATE);
        std::fs::write(&path, template).map_err(io(&path))?;
        let path = folder.join(CONFIG);
        let read = foreign.tokenizer.files().iter().find(|(name, _)| *name == CONFIG);
        let config =
            read.map_or(Ok(Map::new()), |(_, bytes)| serde_json::from_slice::<Map<String, Value>>(bytes));
        let text = config.and_then(|mut config| {
            config.insert("chat_template".to_owned(), template.into());
            serde_json::to_string_pretty(&config)
        });
        let text = text.map_err(|e| io(&path)(e.into()))? + "\n";
        std::fs::write(&path, text).map_err(io(&path))
    }

    /// Our own tokenizer, if it is one.
    pub fn own(&self) -> Option<&bpe::Tokenizer> {
        match &self.0 {
            Kind::Own(own) => Some(own),
            Kind::Foreign(_) => None,
        }
    }

    /// The tokens of a text; never a special one.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        match &self.0 {
            Kind::Own(own) => own.encode(text),
            Kind::Foreign(foreign) => foreign.tokenizer.encode(text),
        }
    }

    /// The tokens of many texts, in parallel.
    pub fn encode_batch(&self, texts: &[&str]) -> Vec<Vec<u32>> {
        texts.par_iter().map(|text| self.encode(text)).collect()
    }

    /// The text of tokens, with a replacement character for bytes that are not UTF-8. Special tokens are marks, not text:
    /// they are left out.
    pub fn decode(&self, ids: &[u32]) -> String {
        match &self.0 {
            Kind::Own(own) => own.decode(ids),
            Kind::Foreign(foreign) => foreign.tokenizer.decode(ids),
        }
    }

    /// The text of tokens with special tokens spelt out, for people to look at.
    pub fn decode_marked(&self, ids: &[u32]) -> String {
        match &self.0 {
            Kind::Own(own) => own.decode_marked(ids),
            Kind::Foreign(foreign) => foreign.tokenizer.decode_marked(ids),
        }
    }

    /// How many bytes of text tokens stand for.
    pub fn bytes_of(&self, ids: &[u32]) -> usize {
        match &self.0 {
            Kind::Own(own) => own.decode_bytes(ids).len(),
            Kind::Foreign(foreign) => {
                let bytes = |&id: &u32| foreign.tokenizer.token_bytes(id).map_or(0, |bytes| bytes.len());
                ids.iter().map(bytes).sum()
            }
        }
    }

    /// A decoder for tokens that come one by one.
    pub fn stream_decoder(&self) -> StreamDecoder {
        match &self.0 {
            Kind::Own(own) => StreamDecoder::Own(own.stream_decoder()),
            Kind::Foreign(foreign) => StreamDecoder::Foreign(foreign.tokenizer.stream_decoder()),
        }
    }

    /// The number of ids; a model may have more rows, for a head may be padded.
    pub fn vocab_size(&self) -> usize {
        match &self.0 {
            Kind::Own(own) => own.vocab_size(),
            Kind::Foreign(foreign) => foreign.tokenizer.vocab_size(),
        }
    }

    /// The SHA-256, in hexadecimal, of all that tokens of texts and conversations depend on.
    ///
    /// # Errors
    /// Those of writing JSON.
    pub fn digest(&self) -> Result<String, serde_json::Error> {
        let (file, template) = match &self.0 {
            Kind::Own(own) => (own.file()?, bpe::chat::TEMPLATE),
            Kind::Foreign(foreign) => {
                let files = foreign.tokenizer.files();
                let file = files.iter().find(|(name, _)| *name == TOKENIZER);
                let file = file.map(|(_, bytes)| bytes.to_vec()).unwrap_or_default();
                (file, foreign.tokenizer.chat_template().unwrap_or_default())
            }
        };
        let mut hash = Sha256::new_with_prefix((file.len() as u64).to_le_bytes());
        hash.update(file);
        hash.update(template);
        Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Whether another tokenizer gives every text the same ids.
    pub fn has_ids_of(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Kind::Own(ours), Kind::Own(theirs)) => ours.has_ids_of(theirs),
            (Kind::Foreign(ours), Kind::Foreign(theirs)) => ours.tokenizer.same_ids(&theirs.tokenizer),
            _ => false,
        }
    }

    /// Whether it came with somebody else's chat template.
    pub fn has_template_of_its_own(&self) -> bool {
        matches!(&self.0, Kind::Foreign(foreign) if foreign.template.is_some())
    }

    /// Ends a document.
    pub fn eot(&self) -> u32 {
        match &self.0 {
            Kind::Own(own) => own.eot(),
            Kind::Foreign(foreign) => foreign.eot,
        }
    }

    /// Ends what the assistant says, in training too.
    pub fn stop(&self) -> u32 {
        match &self.0 {
            Kind::Own(own) => own.stop(),
            Kind::Foreign(foreign) => foreign.stop,
        }
    }

    /// All tokens that end an answer: the stop token, and those that an imported model's own files name.
    pub fn stops(&self) -> Vec<u32> {
        let mut stops = vec![self.stop()];
        if let Kind::Foreign(foreign) = &self.0 {
            stops.extend(foreign.tokenizer.stop_ids().iter().filter(|id| **id != foreign.stop));
        }
        stops
    }

    /// The token that begins a text, for other programs.
    pub fn bos(&self) -> Option<u32> {
        match &self.0 {
            Kind::Own(own) => Some(own.eot()),
            Kind::Foreign(foreign) => foreign.tokenizer.bos_id(),
        }
    }

    /// The token that other programs fill rows with; here padding is known from lengths.
    pub fn pad(&self) -> Option<u32> {
        match &self.0 {
            Kind::Own(own) => Some(own.pad()),
            Kind::Foreign(foreign) => foreign.tokenizer.pad_id(),
        }
    }

    /// A token that other programs can fill the rows of a reward model with, for they look for the last token that is
    /// another: never one that ends an answer.
    pub fn pad_of_rewards(&self) -> Option<u32> {
        let stops = self.stops();
        let candidates = match &self.0 {
            Kind::Own(own) => vec![own.pad()],
            Kind::Foreign(foreign) => {
                let known = [foreign.tokenizer.pad_id(), foreign.tokenizer.bos_id()];
                let special = (0..self.vocab_size() as u32).filter(|id| foreign.tokenizer.is_special(*id));
                known.into_iter().flatten().chain(special).collect()
            }
        };
        candidates.into_iter().find(|id| !stops.contains(id))
    }
}
