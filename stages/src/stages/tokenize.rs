//! `tokenize`: data as tokens on disk.
//!
//! Purpose: texts or conversations in, tokens out, once: every stage that trains on them reads them from there, and they may be
//! larger than the memory.
//! Invariant: the tokens and their masks are those that the stages would make of the data themselves.
//! Must not know: models, losses.

use kiln_formats::records::{self, Example, Options, Place, RecordError, Shape};
use kiln_formats::shards::{Spec, Writer};
use kiln_formats::tokenizer::{Tokenizer, TokenizerError};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::Deserialize;

use super::registry::{Entry, input, output};
use crate::context::{Context, StageError, Summary};
use crate::data::{Corpus, DataError, Demonstration, Row};
use crate::dialogue::demonstrated;
use crate::import;
use crate::model::TokenRow;
use crate::train::corpus::encode;

/// Conversations that are tokenized at a time, on all threads.
const BATCH: usize = 1024;

/// The kind's params.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Params {
    /// A new file begins with the document before which the last one has so many tokens.
    #[schemars(range(min = 1))]
    pub shard_tokens: u64,
}

impl Default for Params {
    fn default() -> Self {
        Self { shard_tokens: 1 << 28 }
    }
}

/// The kind's entry.
pub fn entry() -> Entry {
    Entry::new(
        "tokenize",
        2,
        "writes texts or conversations as tokens, for data that is larger than the memory",
        (
            vec![
                input("tokenizer", &["tokenizer", "checkpoint", "policy"], "how text becomes tokens"),
                input("data", &["corpus", "demonstrations"], "texts, or conversations"),
            ],
            vec![output("tokens", "tokens", "token ids, with bits for those that are learnt")],
        ),
        run,
    )
}

fn run(params: &Params, ctx: &Context) -> Result<Summary, StageError> {
    let tokenizer = import::tokenizer(ctx.input("tokenizer")?).map_err(StageError::failed)?;
    let data = ctx.input("data")?;
    let cut = Some(kiln_formats::bpe::last_cut as records::Cut);
    let options = Options { cut, wanted: Demonstration::SHAPES, ..Options::default() };
    let reader = records::open(data, &options).map_err(DataError::from)?;
    let masked = reader.shape() != Shape::Text;
    let spec = Spec {
        masked,
        shard_tokens: params.shard_tokens,
        ..Spec::new(tokenizer.vocab_size() as u32, tokenizer.digest().map_err(StageError::failed)?)
    };
    let mut writer = Writer::create(ctx.output("tokens")?, &spec).map_err(DataError::from)?;
    match masked {
        true => conversations(ctx, &tokenizer, reader, &mut writer)?,
        false => texts(&tokenizer, &Corpus::open(data)?, &mut writer)?,
    }
    let made = writer.finish().map_err(DataError::from)?;
    ctx.log(format!("{} documents, {} tokens, {} files", made.documents, made.tokens, made.shards));
    Ok(vec![("tokens".to_owned(), made.tokens as f64), ("documents".to_owned(), made.documents as f64)])
}

/// Every text is a document that ends with the end-of-text token.
fn texts(tokenizer: &Tokenizer, corpus: &Corpus, writer: &mut Writer) -> Result<(), DataError> {
    encode(tokenizer, corpus, |part, ids| {
        writer.tokens(ids, None)?;
        if part.ends {
            writer.tokens(&[tokenizer.eot()], None)?;
            writer.end_document()?;
        }
        Ok(())
    })
}

/// Every conversation is a document of which the assistant's turns are learnt.
fn conversations(
    ctx: &Context,
    tokenizer: &Tokenizer,
    reader: impl Iterator<Item = Result<(Place, Example), RecordError>>,
    writer: &mut Writer,
) -> Result<(), StageError> {
    let (mut left_out, mut unmarked) = (0_u64, 0);
    let mut rows = reader.map(read).peekable();
    while rows.peek().is_some() {
        if ctx.should_stop() {
            return Err(StageError::Interrupted);
        }
        let batch = rows.by_ref().take(BATCH).collect::<Result<Vec<Demonstration>, DataError>>()?;
        let made = batch.par_iter().map(|row| demonstrated(tokenizer, row));
        for (row, turns) in made.collect::<Result<Vec<(TokenRow, usize)>, TokenizerError>>()? {
            unmarked += turns;
            if row.targets() == 0 {
                left_out += 1;
                continue;
            }
            let mut mask = vec![false; row.ids.len()];
            row.places().for_each(|place| mask[place] = true);
            writer.document(&row.ids, Some(&mask)).map_err(DataError::from)?;
        }
    }
    for (count, what) in [
        (left_out, "conversations have nothing to learn: left out"),
        (
            unmarked as u64,
            "turns of the assistant are not learnt: the chat template renders them otherwise once others follow",
        ),
    ] {
        if count > 0 {
            ctx.warn(format!("{count} {what}"));
        }
    }
    Ok(())
}

fn read(example: Result<(Place, Example), RecordError>) -> Result<Demonstration, DataError> {
    let (place, example) = example?;
    match Demonstration::of(example) {
        Ok(Some(demonstration)) => Ok(demonstration),
        Ok(None) => Err(DataError::Row {
            place: place.to_string(),
            message: "this is neither a text nor a conversation; preferences and prompts are not tokenized ahead",
        }),
        Err(message) => Err(DataError::Row { place: place.to_string(), message }),
    }
}
