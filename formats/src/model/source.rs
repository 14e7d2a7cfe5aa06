//! Where the tensors of a model come from.
//!
//! Purpose: one way to read tensors, whatever file holds them.
//! Invariant: names, shapes and orientation are those of `transformers`.
//! Must not know: formats of files.

use super::safetensors::{Weights, WeightsError};

/// Tensors that are read one by one.
pub trait TensorSource {
    /// Their names.
    fn names(&self) -> Vec<&str>;

    /// The shape of a tensor.
    fn shape(&self, name: &str) -> Option<&[usize]>;

    /// Reads the values of a tensor of this shape, row by row.
    ///
    /// # Errors
    /// When it is missing, of another type or shape, or has a value that is not finite.
    fn read(&self, name: &str, shape: &[usize], into: &mut [f32]) -> Result<(), WeightsError>;

    /// A complaint about the file in which a tensor is, or should be.
    fn malformed(&self, tensor: &str, reason: String) -> WeightsError;
}

impl TensorSource for Weights {
    fn names(&self) -> Vec<&str> {
        self.names().collect()
    }

    fn shape(&self, name: &str) -> Option<&[usize]> {
        self.shape(name)
    }

    fn read(&self, name: &str, shape: &[usize], into: &mut [f32]) -> Result<(), WeightsError> {
        self.read(name, shape, into)
    }

    fn malformed(&self, tensor: &str, reason: String) -> WeightsError {
        self.malformed(tensor, reason)
    }
}
