//! `model`: somebody else's model as a checkpoint.
//!
//! Purpose: a folder of Hugging Face's layout, or a GGUF file, in; the checkpoint that every other stage reads, out.
//! Invariant: what is written was read whole: shape, every tensor, tokenizer and chat template; a folder is copied as it
//! is.
//! Must not know: what the model is for.

use std::path::{Path, PathBuf};

use kiln_formats::tokenizer::Tokenizer;
use schemars::JsonSchema;
use serde::Deserialize;

use super::registry::{Entry, input, output};
use crate::bundle;
use crate::context::{Context, StageError, Summary};
use crate::import::{self, Form};

/// The kind's params.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Params {}

/// The kind's entry.
pub fn entry() -> Entry {
    Entry::new(
        "model",
        1,
        "reads a model of Hugging Face's layout or a GGUF file as a checkpoint",
        (
            vec![input("files", &["any"], "the folder or the file")],
            vec![output("model", "checkpoint", "the model")],
        ),
        run,
    )
}

fn run(_: &Params, ctx: &Context) -> Result<Summary, StageError> {
    let (path, out) = (ctx.input("files")?, ctx.output("model")?);
    let form = import::form(path).map_err(StageError::failed)?;
    let (model, tokenizer) = bundle::load(path, ctx.device())?;
    match &form {
        Form::Folder => copy(path, out, &tokenizer)?,
        Form::Adapter | Form::Gguf(_) => bundle::save(out, &model, &tokenizer, path)?,
    }
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

/// Copies the files of a model's folder; what else lies there is left out.
fn copy(folder: &Path, out: &Path, tokenizer: &Tokenizer) -> Result<(), StageError> {
    let failed = |path: &Path| {
        let path: PathBuf = path.to_owned();
        move |e: std::io::Error| StageError::failed(format!("{}: {e}", path.display()))
    };
    std::fs::create_dir_all(out).map_err(failed(out))?;
    for name in import::files(folder).map_err(StageError::failed)? {
        let (from, to) = (folder.join(&name), out.join(&name));
        std::fs::copy(&from, &to).map_err(failed(&from))?;
    }
    Ok(tokenizer.save(out)?)
}
