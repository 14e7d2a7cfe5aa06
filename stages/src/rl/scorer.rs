//! A decoder with a scalar head: the reward model, and the value model that starts from it.
//!
//! Purpose: scores at chosen positions, and the scorer on disk.
//! Invariant: a response's score is read at its last real token, found from its length; nothing
//! else of the row matters, nor does padding.
//! Must not know: losses, stages.
//! Source: Ziegler 2019 (head initialisation).

use std::path::Path;

use burn::module::{Module, Param};
use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::generate::host;
use crate::model::io::{self, ModelError, NamedTensors};
use crate::model::layers::normal_param;
use crate::model::{Decoder, Rows};
use crate::rng::keyed;
use crate::train::TokenRow;

/// A score is not finite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the scores of the reward model are not finite: its weights have grown without bound; train it with a smaller \
     learning rate"
)]
pub struct ScoreError;

impl ScoreError {
    /// The scores, if all are finite.
    ///
    /// # Errors
    /// When one is not.
    pub fn check(scores: Vec<f32>) -> Result<Vec<f32>, Self> {
        if scores.iter().all(|score| score.is_finite()) { Ok(scores) } else { Err(Self) }
    }
}

/// A decoder with a scalar head.
#[derive(Module, Debug)]
pub struct Scorer {
    decoder: Decoder,
    /// `[width, 1]`.
    weight: Param<Tensor<2>>,
    /// `[1]`.
    bias: Param<Tensor<1>>,
}

impl Scorer {
    /// A scorer on a decoder: head weights N(0, 1/sqrt(d+1)), bias 0.
    pub fn new(decoder: Decoder, seed: u64) -> Self {
        let width = decoder.config().width;
        let device = decoder.device();
        let mut rng = keyed(seed, "head", 0, 0);
        Self {
            weight: normal_param([width, 1], 1.0 / ((width + 1) as f64).sqrt(), &mut rng, &device),
            bias: Param::from_tensor(Tensor::from_data(TensorData::new(vec![0f32], [1]), &device)),
            decoder,
        }
    }

    /// The decoder within.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// The score of each row at its last token, `[rows]`.
    pub fn scores(&self, rows: &[TokenRow]) -> Tensor<1> {
        let last = |i: usize, time: usize| (i * time + rows[i].ids.len() - 1) as i64;
        self.at(rows, &|time| (0..rows.len()).map(|i| last(i, time)).collect())
    }

    /// The scores of any number of rows.
    ///
    /// # Errors
    /// When one is not finite.
    pub fn score_all(&self, rows: &[TokenRow]) -> Result<Vec<f32>, ScoreError> {
        let scores = rows.chunks(64).flat_map(|part| host(self.scores(part))).collect();
        ScoreError::check(scores)
    }

    /// The value before each target token of rows, in order: `[sum of targets]`. It is read where
    /// the token's logits are, one position earlier.
    pub fn values(&self, rows: &[TokenRow]) -> Tensor<1> {
        self.at(rows, &|time| {
            let before = |(i, r): (usize, &TokenRow)| {
                (r.from.max(1)..r.ids.len()).map(move |t| (i * time + t - 1) as i64)
            };
            rows.iter().enumerate().flat_map(before).collect()
        })
    }

    fn at(&self, rows: &[TokenRow], positions: &dyn Fn(usize) -> Vec<i64>) -> Tensor<1> {
        let device = self.decoder.device();
        let ids: Vec<&[u32]> = rows.iter().map(|r| r.ids.as_slice()).collect();
        let hidden = self.decoder.hidden(Rows::right(&ids, 0, &device), None);
        self.read(hidden, positions)
    }

    /// The head at flat positions of hidden states `[batch, time, width]`.
    pub fn read(&self, hidden: Tensor<3>, positions: &dyn Fn(usize) -> Vec<i64>) -> Tensor<1> {
        let [batch, time, width] = hidden.dims();
        let positions = positions(time);
        let n = positions.len();
        let index = Tensor::<1, Int>::from_data(TensorData::new(positions, [n]), &hidden.device());
        let picked = hidden.reshape([batch * time, width]).select(0, index);
        picked.matmul(self.weight.val()).reshape([n]) + self.bias.val()
    }

    /// Adds to the bias.
    pub fn shifted(mut self, by: f64) -> Self {
        self.bias = self.bias.map(|bias| fresh(bias, |x| x + by));
        self
    }

    /// Multiplies every score.
    pub fn scaled(mut self, by: f64) -> Self {
        self.weight = self.weight.map(|weight| fresh(weight, |x| x * by));
        self.bias = self.bias.map(|bias| fresh(bias, |x| x * by));
        self
    }
}

/// A fresh leaf with other values, so that training may go on from there.
fn fresh<const D: usize>(tensor: Tensor<D>, to: impl Fn(f64) -> f64) -> Tensor<D> {
    let (shape, device) = (tensor.dims(), tensor.device());
    let values: Vec<f32> =
        host(tensor.flatten::<1>(0, D - 1)).into_iter().map(|x| to(f64::from(x)) as f32).collect();
    io::leaf(Tensor::from_data(TensorData::new(values, shape), &device))
}

/// Writes the decoder's shape and all weights into a folder.
///
/// # Errors
/// Those of writing.
pub fn save(folder: &Path, scorer: &Scorer) -> Result<(), ModelError> {
    std::fs::create_dir_all(folder).map_err(|source| ModelError::Io { path: folder.to_owned(), source })?;
    io::write_config(folder, scorer.decoder.config())?;
    io::write_tensors(&folder.join(io::WEIGHTS), &io::named_tensors(scorer))
}

/// Reads a scorer from a folder.
///
/// # Errors
/// When shape or weights are missing, malformed or do not fit each other.
pub fn load(folder: &Path, device: &Device) -> Result<Scorer, ModelError> {
    let config = io::read_config(folder)?;
    let path = folder.join(io::WEIGHTS);
    let head = config.width as u64 + 1;
    let tensors: NamedTensors = io::read_tensors(&path, config.parameters() + head)?;
    let fresh = Scorer::new(Decoder::new(&config, 0, device), 0);
    io::with_tensors(fresh, tensors).map_err(|reason| ModelError::Malformed { path, reason })
}
