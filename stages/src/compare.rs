//! What a model computes, written to a file for comparison with other implementations.
//!
//! Purpose: `kiln-stages model …`: logits, scores and gradients of rows of tokens, and a model read and written again.
//! Invariant: what is written is what the stages compute with.
//! Must not know: the other implementations.

use std::borrow::Cow;
use std::io::Read;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use kiln_formats::model::Head;
use kiln_formats::model::safetensors::{self, Stored};
use serde::Deserialize;
use serde_json::Map;

use crate::bundle;
use crate::context::StageError;
use crate::device;
use crate::import::{self, Form};
use crate::kernels::flat::Flat;
use crate::model::{Network, Readout, TokenRow, io, stored};

/// A request is never longer.
const REQUEST_LIMIT: u64 = 256 << 20;
const USAGE: &str = "usage: kiln-stages model logits|scores|gradients|save FOLDER OUT [BYTES]";

/// Rows of tokens.
#[derive(Deserialize)]
struct Request {
    rows: Vec<Vec<u32>>,
}

/// Runs a comparison by its arguments; the rows come as JSON.
///
/// # Errors
/// When the arguments, the rows or the model cannot be read, or the file cannot be written.
pub fn run(arguments: &[String], stdin: &mut dyn Read) -> Result<(), StageError> {
    let (what, folder, out, most) = match arguments {
        [what, folder, out] => (what, folder, out, usize::MAX),
        [what, folder, out, bytes] => (what, folder, out, bytes.parse().map_err(StageError::failed)?),
        _ => return Err(StageError::failed(USAGE)),
    };
    let (folder, out) = (PathBuf::from(folder), PathBuf::from(out));
    let device = device::resolve("cpu").map_err(StageError::Failed)?;
    let model = load(&folder, &device)?;
    if what == "save" {
        return Ok(io::save_in_parts(&out, &model, &Map::new(), most)?);
    }
    let mut text = String::new();
    stdin.take(REQUEST_LIMIT).read_to_string(&mut text).map_err(StageError::failed)?;
    let Request { rows } = serde_json::from_str(&text).map_err(StageError::failed)?;
    let vocab = model.config().vocab;
    if rows.iter().any(|row| row.is_empty() || row.iter().any(|&id| id as usize >= vocab)) {
        return Err(StageError::failed(format!("a row is empty or has a token beyond {vocab}")));
    }
    let tensors = match what.as_str() {
        "logits" => logits(&model, rows),
        "scores" => scores(&model, rows),
        "gradients" => gradients(&model.merged(), rows),
        _ => return Err(StageError::failed(USAGE)),
    };
    write(&out, &tensors)
}

/// A model of any form; one of Hugging Face's layout needs no tokenizer.
fn load(path: &Path, device: &Device) -> Result<Network, StageError> {
    if import::form(path).map_err(StageError::failed)? != Form::Folder {
        return Ok(bundle::load(path, device)?.0);
    }
    let is_scorer = matches!(io::read_config(path)?.head, Head::Score { .. });
    Ok(io::load(path, is_scorer, device)?)
}

/// A tensor with a name.
struct Named {
    name: String,
    shape: Vec<usize>,
    values: Vec<f32>,
}

fn write(folder: &Path, tensors: &[Named]) -> Result<(), StageError> {
    std::fs::create_dir_all(folder).map_err(StageError::failed)?;
    let tensors = tensors.iter().map(|tensor| safetensors::Tensor {
        name: tensor.name.clone(),
        shape: tensor.shape.clone(),
        stored: Stored::F32,
        values: Box::new(|| Cow::Borrowed(tensor.values.as_slice())),
    });
    safetensors::write(folder, &tensors.collect::<Vec<_>>(), usize::MAX).map_err(StageError::failed)
}

/// `logits.N`: `[tokens of row N, vocab]`.
fn logits(model: &Network, rows: Vec<Vec<u32>>) -> Vec<Named> {
    let vocab = model.config().vocab;
    let each = rows.into_iter().enumerate().map(|(n, mut ids)| {
        let time = ids.len();
        // The last token of a row is only a target.
        ids.push(0);
        let values = model.logprobs_and_logits(&[TokenRow::new(ids, 1)], 1.0).1;
        Named { name: format!("logits.{n}"), shape: vec![time, vocab], values }
    });
    each.collect()
}

/// `scores`: one a row.
fn scores(model: &Network, rows: Vec<Vec<u32>>) -> Vec<Named> {
    let rows: Vec<TokenRow> = rows.into_iter().map(|ids| TokenRow::new(ids, 1)).collect();
    let values = model.outputs(&rows, Readout::Scores);
    vec![Named { name: "scores".to_owned(), shape: vec![values.len()], values }]
}

/// Of the mean loss over all targets, by the names of the parameters, and the loss itself.
fn gradients(model: &Network, rows: Vec<Vec<u32>>) -> Vec<Named> {
    let rows: Vec<TokenRow> = rows.into_iter().map(|ids| TokenRow::new(ids, 1)).collect();
    let (outputs, tape) = model.forward(&rows, Readout::LogProbs { temperature: 1.0 });
    let n = outputs.dims()[0];
    let d_outputs = Tensor::from_data(TensorData::new(vec![-1.0 / n as f32; n], [n]), model.device());
    let mut grads = model.weights().zeros_like();
    model.backward(tape, d_outputs, &mut grads);
    let grads: Vec<f32> = match &grads {
        Flat::Host(values) => values.to_vec(),
        device => device.values().into_owned(),
    };
    let loss = -crate::kernels::host(outputs).iter().sum::<f32>() / n as f32;
    let stored = stored::tensors(model.config(), model.layout());
    let each = stored.iter().map(|tensor| Named {
        name: tensor.name.clone(),
        shape: tensor.shape.clone(),
        values: tensor.gather(&grads).into_owned(),
    });
    each.chain([Named { name: "loss".to_owned(), shape: vec![1], values: vec![loss] }]).collect()
}
