//! `tokenizer`: byte-level BPE learnt from a corpus, or bytes alone.
//!
//! Purpose: corpus in, tokenizer folder out (`tokenizer.json`, chat template).
//! Invariant: the same corpus and params give the same bytes, whatever the number of threads.
//! Must not know: models.

use kiln_formats::bpe::{LEAST_VOCAB, Pattern, Tokenizer, TrainOptions, last_cut};
use schemars::JsonSchema;
use serde::Deserialize;

use super::registry::{Entry, input, output};
use crate::context::{Context, StageError, Summary};
use crate::data::Corpus;
use crate::train::corpus::encode;

/// The kind's params.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Params {
    /// Which tokens there are beside the special ones.
    pub algorithm: Algorithm,
    /// Tokens in all: 256 bytes, merges, and the special tokens. Without merges there are 261, whatever stands here.
    #[schemars(range(min = 261, max = 1048576))]
    pub vocab_size: usize,
    /// How text is split before merging.
    pub pattern: SplitPattern,
    /// Pairs that occur less often are not merged.
    #[schemars(range(min = 1))]
    pub min_count: u64,
}

/// Which tokens there are.
#[derive(Debug, Clone, Copy, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// Bytes, and merges learnt from the corpus (Sennrich 2016).
    Bpe,
    /// The 256 bytes, for models of characters.
    Bytes,
}

/// The published split patterns.
#[derive(Debug, Clone, Copy, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SplitPattern {
    /// GPT-2's.
    Gpt2,
    /// GPT-4's (cl100k).
    Gpt4,
}

impl Default for Params {
    fn default() -> Self {
        Self { algorithm: Algorithm::Bpe, vocab_size: 2048, pattern: SplitPattern::Gpt4, min_count: 2 }
    }
}

/// The kind's entry.
pub fn entry() -> Entry {
    Entry::new(
        "tokenizer",
        4,
        "learns a byte-level BPE vocabulary from a corpus, or takes bytes alone",
        (
            vec![input("corpus", &["corpus"], "the text to learn from")],
            vec![output("tokenizer", "tokenizer", "tokenizer.json and the chat template")],
        ),
        run,
    )
}

fn run(params: &Params, ctx: &Context) -> Result<Summary, StageError> {
    let corpus = Corpus::open(ctx.input("corpus")?)?;
    let options = TrainOptions {
        vocab_size: match params.algorithm {
            Algorithm::Bpe => params.vocab_size,
            Algorithm::Bytes => LEAST_VOCAB,
        },
        pattern: match params.pattern {
            SplitPattern::Gpt2 => Pattern::Gpt2,
            SplitPattern::Gpt4 => Pattern::Gpt4,
        },
        min_count: params.min_count,
    };
    let mut unreadable = None;
    let texts = corpus.parts(last_cut).map_while(|part| part.map_err(|e| unreadable = Some(e)).ok());
    let trained = Tokenizer::train(texts.map(|part| part.text), &options);
    if let Some(error) = unreadable {
        return Err(error.into());
    }
    let trained = trained.map_err(StageError::failed)?;
    if let Some(note) = &trained.note {
        ctx.warn(note.clone());
    }
    let out = ctx.output("tokenizer")?;
    std::fs::create_dir_all(out).map_err(|e| StageError::failed(format!("{}: {e}", out.display())))?;
    trained.tokenizer.save(out).map_err(StageError::failed)?;
    let mut tokens = 0;
    encode(&trained.tokenizer.clone().into(), &corpus, |_, ids| {
        tokens += ids.len();
        Ok(())
    })?;
    let ratio = corpus.bytes() as f64 / tokens.max(1) as f64;
    let size = trained.tokenizer.vocab_size() as f64;
    ctx.metric(0, &[("tokenizer/bytes_per_token", ratio), ("tokenizer/vocab", size)]);
    Ok(vec![("bytes/token".to_owned(), ratio), ("vocab".to_owned(), size)])
}
