//! Gradients by parameter path.
//!
//! Purpose: takes gradients out of burn's container, adds those of micro-batches, measures them.
//! Invariant: paths are those of `model::io::named_tensors`, so optimizer state can be kept by path.
//! Must not know: optimizers, losses.

use std::collections::BTreeMap;

use burn::backend::DispatchTensor;
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Gradients, Tensor};

/// The gradient of each parameter that has one; tensors of any rank, so rank-erased.
#[derive(Default)]
pub struct Grads {
    found: BTreeMap<String, (DispatchTensor, usize)>,
}

impl Grads {
    /// Takes the gradients of a module's parameters.
    pub fn take<M: Module>(module: &M, gradients: &mut Gradients) -> Self {
        struct Taker<'a> {
            path: Vec<String>,
            gradients: &'a mut Gradients,
            found: BTreeMap<String, (DispatchTensor, usize)>,
        }
        impl ModuleVisitor for Taker<'_> {
            fn enter_module(&mut self, name: &str, _: &str) {
                self.path.push(name.to_owned());
            }
            fn exit_module(&mut self, _: &str, _: &str) {
                self.path.pop();
            }
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                if let Some(grad) = param.val().grad_remove(self.gradients) {
                    self.found.insert(self.path.join("."), (grad.into_dispatch(), D));
                }
            }
        }
        let mut taker = Taker { path: Vec::new(), gradients, found: BTreeMap::new() };
        module.visit(&mut taker);
        Self { found: taker.found }
    }

    /// Adds another micro-batch's gradients.
    pub fn add(&mut self, other: Self) {
        for (path, (grad, rank)) in other.found {
            let sum = match self.found.remove(&path) {
                None => grad,
                Some((mine, _)) if rank == 1 => sum::<1>(mine, grad),
                Some((mine, _)) => sum::<2>(mine, grad),
            };
            self.found.insert(path, (sum, rank));
        }
    }

    /// Multiplies every gradient.
    pub fn scaled(mut self, by: f64) -> Self {
        for (grad, rank) in self.found.values_mut() {
            *grad = match rank {
                1 => (Tensor::<1>::from_dispatch(grad.clone()) * by).into_dispatch(),
                _ => (Tensor::<2>::from_dispatch(grad.clone()) * by).into_dispatch(),
            };
        }
        self
    }

    /// The Euclidean norm over all gradients together.
    pub fn norm(&self) -> f64 {
        let squares: Vec<Tensor<1>> = self
            .found
            .values()
            .map(|(grad, rank)| match rank {
                1 => Tensor::<1>::from_dispatch(grad.clone()).square().sum(),
                _ => Tensor::<2>::from_dispatch(grad.clone()).square().sum(),
            })
            .collect();
        if squares.is_empty() {
            return 0.0;
        }
        let total: f32 = Tensor::cat(squares, 0).sum().into_scalar();
        f64::from(total).sqrt()
    }

    /// Removes and returns the gradient of a path.
    pub fn remove<const D: usize>(&mut self, path: &str) -> Option<Tensor<D>> {
        self.found.remove(path).map(|(grad, _)| Tensor::from_dispatch(grad))
    }
}

fn sum<const D: usize>(a: DispatchTensor, b: DispatchTensor) -> DispatchTensor {
    (Tensor::<D>::from_dispatch(a) + Tensor::<D>::from_dispatch(b)).into_dispatch()
}
