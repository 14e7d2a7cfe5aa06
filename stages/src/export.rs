//! `export`: a model for other programs.
//!
//! Purpose: what `kiln export` talks to: the model as a folder of Hugging Face's layout, or as a GGUF file, and a comparison
//! of what was written with what it was made of.
//! Invariant: what is there already is never replaced; what was not verified as asked is an error that says where it stays.
//! Must not know: stores, stages.

use std::fmt::Display;
use std::path::Path;

use burn::tensor::Device;
use kiln::protocol::ExportRequest;
use kiln_formats::gguf::{self, Documents, Precision};
use kiln_formats::model::Head;
use kiln_formats::records::Message;
use kiln_formats::tokenizer::Tokenizer;
use serde_json::Value;

use crate::context::{StageError, Summary};
use crate::device;
use crate::import::{self, Form};
use crate::model::io::{self, CONFIG};
use crate::model::{Network, TokenRow, stored};
use crate::{adapter, bundle};

/// What verification asks.
const PROMPTS: [&str; 4] = [
    "What is the capital of France?",
    "Write a short poem about the sea.",
    "  1999 + 24 = ?\n\n\tThink <|first|>.  ",
    "Zoë fährt nach 東京 😀.",
];
/// How far logits may be from those of a model with its adapter, as a part of the largest.
const MERGED: f32 = 1e-5;
/// A document of a tokenizer is never longer.
const DOCUMENT_LIMIT: u64 = 128 << 20;

/// Writes the model that stdin asks for.
///
/// # Errors
/// When the request or the model cannot be read, the place is taken, or what was written says something else.
pub fn export() -> Result<Summary, StageError> {
    let request: ExportRequest = serde_json::from_reader(std::io::stdin().lock())
        .map_err(|e| StageError::failed(format!("stdin: {e}")))?;
    device::set_threads(request.threads);
    let device = device::resolve("cpu").map_err(StageError::Failed)?;
    let folder = folder(&request.model)?;
    if occupied(&request.out) {
        let out = request.out.display();
        return Err(StageError::failed(format!("{out} is there already; name another place, or remove it")));
    }
    let tolerance = match request.to.as_str() {
        "hf" => copy(folder, &request.out).map(|()| 0.0)?,
        "gguf" => {
            let (precision, tolerance) = precision(&request.precision)?;
            write_gguf(folder, &request, precision, &device)?;
            // The changes of an adapter are rounded once more where they are made to the weights.
            if adapter::is_adapter(folder) { tolerance.max(MERGED) } else { tolerance }
        }
        other => {
            return Err(StageError::failed(format!("there is no format `{other}`; there are hf and gguf")));
        }
    };
    match request.verify {
        true => verify(folder, &request.out, tolerance, &device).map_err(|error| kept(&request.out, error)),
        false => Ok(Summary::new()),
    }
}

/// What failed to be verified stays for a look at it.
fn kept(out: &Path, error: StageError) -> StageError {
    match error {
        StageError::Failed(text) => StageError::failed(format!(
            "{text}; what was written stays in {} for a look at it: remove it before the next try",
            out.display()
        )),
        other => other,
    }
}

/// The folder of a model.
fn folder(path: &Path) -> Result<&Path, StageError> {
    match import::form(path).map_err(StageError::failed)? {
        Form::Folder | Form::Adapter => Ok(path),
        Form::Gguf(_) => {
            Err(StageError::failed("this is a GGUF file already; `kiln run` a `model` stage of it first"))
        }
    }
}

/// Whether something is there that would be lost.
fn occupied(path: &Path) -> bool {
    let is_empty = std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
    path.symlink_metadata().is_ok() && !is_empty
}

/// The precision of this name, and how far logits may be from those of the model, as a part of the largest.
fn precision(name: &str) -> Result<(Precision, f32), StageError> {
    match name {
        "f32" => Ok((Precision::F32, 1e-6)),
        "f16" => Ok((Precision::F16, 1e-2)),
        "q8_0" => Ok((Precision::Q8_0, 1e-1)),
        other => {
            Err(StageError::failed(format!("there is no precision `{other}`; there are f32, f16 and q8_0")))
        }
    }
}

fn failed<E: Display>(path: &Path) -> impl FnOnce(E) -> StageError {
    let path = path.to_owned();
    move |e| StageError::failed(format!("{}: {e}", path.display()))
}

/// The folder is in Hugging Face's layout already.
fn copy(folder: &Path, out: &Path) -> Result<(), StageError> {
    std::fs::create_dir_all(out).map_err(failed(out))?;
    for entry in std::fs::read_dir(folder).map_err(failed(folder))? {
        let entry = entry.map_err(failed(folder))?;
        let from = entry.path();
        if from.is_dir() {
            // The model that an adapter changes.
            copy(&from, &out.join(entry.file_name()))?;
        } else {
            std::fs::copy(&from, out.join(entry.file_name())).map_err(failed(&from))?;
        }
    }
    Ok(())
}

fn write_gguf(
    folder: &Path,
    request: &ExportRequest,
    precision: Precision,
    device: &Device,
) -> Result<(), StageError> {
    if io::read_config(folder)?.head != Head::Vocabulary {
        return Err(StageError::failed(
            "this is a reward model, which llama.cpp does not know; export it to hf",
        ));
    }
    // The changes of an adapter are made to its model.
    let model = bundle::load(folder, device)?.0.merged();
    let (stored, weights) = (stored::tensors(model.config(), model.layout()), model.weights().values());
    let [config, tokenizer, tokenizer_config, generation_config] =
        [CONFIG, "tokenizer.json", "tokenizer_config.json", "generation_config.json"]
            .map(|name| document(&folder.join(name)));
    let documents = Documents {
        config: &config?,
        tokenizer: &tokenizer?,
        tokenizer_config: &tokenizer_config?,
        generation_config: &generation_config?,
    };
    gguf::export(&request.out, &documents, &request.name, precision, |name, shape, out| {
        let found = stored.iter().find(|tensor| tensor.name == name && tensor.shape == shape);
        let tensor = found.ok_or_else(|| format!("the model has no tensor `{name}` of shape {shape:?}"))?;
        out.extend_from_slice(&tensor.gather(&weights));
        Ok::<(), String>(())
    })
    .map_err(StageError::failed)
}

/// A JSON file; `null` where there is none.
fn document(path: &Path) -> Result<Value, StageError> {
    match std::fs::metadata(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Value::Null),
        Err(e) => return Err(failed(path)(e)),
        Ok(found) if found.len() > DOCUMENT_LIMIT => return Err(failed(path)("too long")),
        Ok(_) => {}
    }
    let bytes = std::fs::read(path).map_err(failed(path))?;
    serde_json::from_slice(&bytes).map_err(failed(path))
}

/// Reads what was written, and compares prompts and logits, or scores, with those of the model.
fn verify(folder: &Path, out: &Path, tolerance: f32, device: &Device) -> Result<Summary, StageError> {
    let described = io::read_config(folder)?;
    if described.head != Head::Vocabulary {
        return verify_scores([folder, out], device);
    }
    let [(ours, tokenizer), (theirs, other)] = [bundle::load(folder, device)?, bundle::load(out, device)?];
    let mut worst = 0f32;
    for prompt in PROMPTS {
        let turns = [Message::user(prompt)];
        let (ids, again) = (tokenizer.prompt_ids(&turns)?, other.prompt_ids(&turns)?);
        if ids != again {
            let [ids, again] = [(&tokenizer, &ids), (&other, &again)].map(|(t, ids)| t.decode_marked(ids));
            return Err(StageError::failed(format!(
                "the prompt {prompt:?} has other tokens in {}: {again:?} in place of {ids:?}",
                out.display()
            )));
        }
        let context = ours.config().max_position_embeddings;
        worst = worst.max(difference([&ours, &theirs], &ids[..ids.len().min(context)]));
    }
    if worst > tolerance {
        return Err(StageError::failed(format!(
            "the logits of {} are off by {worst:.1e} of the largest, more than {tolerance:.0e}",
            out.display()
        )));
    }
    Ok(vec![("prompts".to_owned(), PROMPTS.len() as f64), ("logits".to_owned(), f64::from(worst))])
}

/// The largest difference of two models' logits, as a part of the largest logit.
fn difference(models: [&Network; 2], ids: &[u32]) -> f32 {
    // The last token of a row is only a target.
    let row = TokenRow::new([ids, &[0]].concat(), 1);
    let [ours, theirs] = models.map(|model| model.logprobs_and_logits(std::slice::from_ref(&row), 1.0).1);
    let off = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs());
    // A number that is not finite is no small difference.
    let off = off.fold(0f32, |worst, x| if x <= worst { worst } else { x });
    off / ours.iter().fold(f32::MIN_POSITIVE, |largest, x| largest.max(x.abs()))
}

fn verify_scores(folders: [&Path; 2], device: &Device) -> Result<Summary, StageError> {
    let tokenizer = Tokenizer::load(folders[0])?;
    let rows = PROMPTS.map(|prompt| Ok(TokenRow::new(tokenizer.prompt_ids(&[Message::user(prompt)])?, 1)));
    let rows = rows.into_iter().collect::<Result<Vec<TokenRow>, StageError>>()?;
    let scores = |folder| -> Result<Vec<f32>, StageError> {
        let model = bundle::load_reward(folder, (&tokenizer, 0), device)?;
        Ok(model.score_all(&rows)?)
    };
    match scores(folders[0])? == scores(folders[1])? {
        true => Ok(vec![("prompts".to_owned(), PROMPTS.len() as f64)]),
        false => Err(StageError::failed(format!("the scores of {} are others", folders[1].display()))),
    }
}
