//! `model`: somebody else's model as a checkpoint.
//!
//! Purpose: a folder of Hugging Face's layout, or a GGUF file, in; the checkpoint that every other stage reads, out. An
//! adapter as PEFT saves it, without its model, is put beside a model.
//! Invariant: what is written was read whole: shape, every tensor, tokenizer and chat template; a folder is copied as it
//! is.
//! Must not know: what the model is for.

use std::path::{Path, PathBuf};

use kiln_formats::model::peft::{ADAPTER_CONFIG, ADAPTER_WEIGHTS};
use kiln_formats::tokenizer::Tokenizer;
use schemars::JsonSchema;
use serde::Deserialize;

use super::registry::{Entry, input, optional, output};
use crate::adapter::BASE;
use crate::bundle;
use crate::context::{Context, StageError, Summary};
use crate::import::{self, Form};
use crate::model::Network;

/// A tokenizer's file.
const TOKENIZER: &str = "tokenizer.json";

/// The kind's params.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Params {}

/// The kind's entry.
pub fn entry() -> Entry {
    Entry::new(
        "model",
        2,
        "reads a model of Hugging Face's layout or a GGUF file as a checkpoint",
        (
            vec![
                input("files", &["any"], "the folder or the file"),
                optional(
                    "base",
                    &["any"],
                    "the model that an adapter changes, when it is not in its folder `base`",
                ),
            ],
            vec![output("model", "checkpoint", "the model")],
        ),
        run,
    )
}

fn run(_: &Params, ctx: &Context) -> Result<Summary, StageError> {
    let (path, out) = (ctx.input("files")?, ctx.output("model")?);
    let form = import::form(path).map_err(StageError::failed)?;
    let (model, tokenizer) = match ctx.optional_input("base") {
        Some(base) if form == Form::Adapter => attach(ctx, path, base, out)?,
        Some(_) => {
            let message =
                "the input `base` is for an adapter, and `files` is a whole model; leave `base` out";
            return Err(StageError::failed(message));
        }
        None => read(ctx, path, out)?,
    };
    let (config, name) = (model.config(), form.name());
    ctx.log(format!(
        "{name}: {} parameters, {} layers of width {}, {} tokens, a context of {}",
        config.parameters(),
        config.layers,
        config.hidden_size,
        tokenizer.vocab_size(),
        config.max_position_embeddings
    ));
    Ok(vec![("parameters".to_owned(), config.parameters() as f64)])
}

/// Reads a model, and writes it as a checkpoint.
fn read(ctx: &Context, path: &Path, out: &Path) -> Result<(Network, Tokenizer), StageError> {
    let (model, tokenizer) = bundle::load(path, ctx.device())?;
    match import::form(path).map_err(StageError::failed)? {
        Form::Folder => copy(path, out, &tokenizer)?,
        Form::Adapter | Form::Gguf(_) => bundle::save(out, &model, &tokenizer, path)?,
    }
    Ok((model, tokenizer))
}

/// Puts an adapter and the model that it changes into one folder, and reads that.
fn attach(
    ctx: &Context,
    adapter: &Path,
    base: &Path,
    out: &Path,
) -> Result<(Network, Tokenizer), StageError> {
    if adapter.join(BASE).is_dir() {
        return Err(StageError::failed(format!(
            "{}: the adapter has its model beside it, in `{BASE}`; leave the input `base` out",
            adapter.display()
        )));
    }
    if import::form(base).map_err(StageError::failed)? == Form::Adapter {
        return Err(StageError::failed(format!(
            "{}: an adapter changes a whole model, and this is another adapter; merge it first with a stage of the kind \
             `merge`",
            base.display()
        )));
    }
    let (_, tokenizer) = read(ctx, base, &out.join(BASE))?;
    for name in [ADAPTER_CONFIG, ADAPTER_WEIGHTS] {
        let from = adapter.join(name);
        std::fs::copy(&from, out.join(name)).map_err(failed(&from))?;
    }
    // PEFT saves a tokenizer with an adapter that brought tokens of its own.
    match adapter.join(TOKENIZER).exists() {
        true => Tokenizer::load(adapter)?.save(out)?,
        false => tokenizer.save(out)?,
    }
    let (model, tokenizer) = bundle::load(out, ctx.device())?;
    // Its shape, and settings that name the model beside it.
    bundle::save(out, &model, &tokenizer, out)?;
    Ok((model, tokenizer))
}

fn failed(path: &Path) -> impl Fn(std::io::Error) -> StageError {
    let path: PathBuf = path.to_owned();
    move |e| StageError::failed(format!("{}: {e}", path.display()))
}

/// Copies the files of a model's folder; what else lies there is left out.
fn copy(folder: &Path, out: &Path, tokenizer: &Tokenizer) -> Result<(), StageError> {
    std::fs::create_dir_all(out).map_err(failed(out))?;
    for name in import::files(folder).map_err(StageError::failed)? {
        let (from, to) = (folder.join(&name), out.join(&name));
        std::fs::copy(&from, &to).map_err(failed(&from))?;
    }
    Ok(tokenizer.save(out)?)
}
