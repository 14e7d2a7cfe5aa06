//! `merge`: an adapter and its model as one checkpoint.
//!
//! Purpose: makes the changes of an adapter to the parameters of the model.
//! Invariant: the checkpoint says what the model with its adapter says, within rounding.
//! Must not know: how the adapter was trained.

use schemars::JsonSchema;
use serde::Deserialize;

use super::registry::{Entry, input, output};
use crate::bundle;
use crate::context::{Context, StageError, Summary};

/// The kind's params.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Params {}

/// The kind's entry.
pub fn entry() -> Entry {
    let inputs = vec![input("model", &["checkpoint", "policy"], "a model that was trained with `lora`")];
    let outputs = vec![output("model", "checkpoint", "the model with the adapter's changes")];
    Entry::new("merge", 1, "makes the changes of an adapter to its model", (inputs, outputs), run)
}

fn run(_: &Params, ctx: &Context) -> Result<Summary, StageError> {
    let path = ctx.input("model")?;
    let (model, tokenizer) = bundle::load(path, ctx.device())?;
    if model.adapter().is_none() {
        return Err(StageError::failed(
            "the model has no adapter, so there is nothing to merge; a stage trains one with `lora`",
        ));
    }
    bundle::save(ctx.output("model")?, &model.merged(), &tokenizer, path)?;
    Ok(Summary::new())
}
