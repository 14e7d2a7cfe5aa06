//! The fused kernels on libtorch, with hand-written backward passes.
//!
//! Purpose: the operations that call libtorch directly.
//! Invariant: a tensor made here owns its memory or is built from one that burn tracks; in-place
//! work happens only on memory that nobody else holds.
//! Must not know: models, losses, stages.
//! Sources: the gradients of log-softmax and LayerNorm are the textbook ones.

// burn-tch is deprecated upstream; this is the file that names its types.
#![allow(deprecated)]

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Backend, Dispatch, DispatchDevice, LibTorch, backend_extension};
use burn::tensor::{Device, Int, Tensor};
use burn_tch::{LibTorchDevice, TchTensor};

/// The libtorch device behind a device, with or without autodiff.
fn libtorch(device: &Device) -> Option<LibTorchDevice> {
    match device.as_dispatch() {
        DispatchDevice::LibTorch(inner) => Some(*inner),
        DispatchDevice::Autodiff(inner) => match &**inner {
            DispatchDevice::LibTorch(inner) => Some(*inner),
            _ => None,
        },
        _ => None,
    }
}

/// Whether a device is libtorch's.
pub fn owns(device: &Device) -> bool {
    libtorch(device).is_some()
}

/// Whether a device is libtorch's CPU.
pub fn owns_cpu(device: &Device) -> bool {
    libtorch(device) == Some(LibTorchDevice::Cpu)
}

#[backend_extension(LibTorch, Autodiff)]
trait Fused: Backend {
    fn fused_token_logprobs(logits: FloatTensor<Self>, targets: IntTensor<Self>) -> FloatTensor<Self>;
    fn fused_layer_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        eps: f64,
    ) -> FloatTensor<Self>;
    fn fused_gelu(x: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// See [`super::token_logprobs`].
pub fn token_logprobs(logits: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
    Tensor::from_dispatch(Dispatch::fused_token_logprobs(logits.into_dispatch(), targets.into_dispatch()))
}

/// See [`super::layer_norm`].
pub fn layer_norm(x: Tensor<3>, weight: Tensor<1>, bias: Tensor<1>, eps: f64) -> Tensor<3> {
    Tensor::from_dispatch(Dispatch::fused_layer_norm(
        x.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
        eps,
    ))
}

/// See [`super::gelu`].
pub fn gelu(x: Tensor<3>) -> Tensor<3> {
    Tensor::from_dispatch(Dispatch::fused_gelu(x.into_dispatch()))
}

impl Fused for LibTorch {
    fn fused_token_logprobs(logits: TchTensor, targets: TchTensor) -> TchTensor {
        logprobs_forward(&logits, &targets).0
    }

    fn fused_layer_norm(x: TchTensor, weight: TchTensor, bias: TchTensor, eps: f64) -> TchTensor {
        norm_forward(&x, &weight, &bias, eps).0
    }

    fn fused_gelu(x: TchTensor) -> TchTensor {
        TchTensor::new(x.tensor.gelu("tanh"))
    }
}

/// Returns the targets' log-probabilities `[n]` and all of them `[n, vocab]`.
fn logprobs_forward(logits: &TchTensor, targets: &TchTensor) -> (TchTensor, TchTensor) {
    let all = logits.tensor.internal_log_softmax(1, false);
    let picked = all.gather(1, &targets.tensor.unsqueeze(1), false).squeeze_dim(1);
    (TchTensor::new(picked), TchTensor::new(all))
}

/// d logits = (onehot(target) - softmax) * grad, row by row.
fn logprobs_backward(all: &TchTensor, targets: &TchTensor, grad: &TchTensor) -> TchTensor {
    let grad = grad.tensor.unsqueeze(1);
    let mut out = all.tensor.exp();
    let _ = out.g_mul_(&grad.neg());
    let _ = out.scatter_add_(1, &targets.tensor.unsqueeze(1), &grad);
    TchTensor::new(out)
}

/// Returns the output, the mean and the reciprocal deviation.
fn norm_forward(
    x: &TchTensor,
    weight: &TchTensor,
    bias: &TchTensor,
    eps: f64,
) -> (TchTensor, [TchTensor; 2]) {
    let width = *x.tensor.size().last().unwrap_or(&0);
    let (out, mean, deviation) =
        x.tensor.native_layer_norm([width], Some(&weight.tensor), Some(&bias.tensor), eps);
    (TchTensor::new(out), [TchTensor::new(mean), TchTensor::new(deviation)])
}

/// The gradients of x, weight and bias, with n the normalised x and h = grad * weight:
/// dx = (h - mean(h) - n mean(h n)) / deviation, dw = sum(grad n), db = sum(grad).
fn norm_backward(
    x: &TchTensor,
    weight: &TchTensor,
    mean: &TchTensor,
    deviation: &TchTensor,
    grad: &TchTensor,
) -> [tch::Tensor; 3] {
    let grad = &grad.tensor;
    let mut normalised = &x.tensor - &mean.tensor;
    let _ = normalised.g_mul_(&deviation.tensor);
    let scaled = grad * &normalised;
    let over_rows: Vec<i64> = (0..grad.dim() as i64 - 1).collect();
    let dw = scaled.sum_dim_intlist(&over_rows[..], false, None);
    let db = grad.sum_dim_intlist(&over_rows[..], false, None);
    let mut dx = grad * &weight.tensor;
    let projection = (&scaled * &weight.tensor).mean_dim(-1i64, true, None);
    let centre = dx.mean_dim(-1i64, true, None);
    let _ = dx.g_sub_(&centre);
    let _ = dx.g_sub_(&normalised.g_mul_(&projection));
    let _ = dx.g_mul_(&deviation.tensor);
    [dx, dw, db]
}

impl<C: CheckpointStrategy> Fused for Autodiff<LibTorch, C> {
    fn fused_token_logprobs(logits: FloatTensor<Self>, targets: IntTensor<Self>) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Logprobs;
        impl Backward<LibTorch, 1> for Logprobs {
            type State = (TchTensor, TchTensor);
            fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
                let (all, targets) = ops.state;
                unary::<LibTorch, _>(ops.parents, ops.node, grads, |g| logprobs_backward(&all, &targets, &g));
            }
        }
        let (picked, all) = logprobs_forward(logits.primitive(), &targets);
        match Logprobs.prepare::<C>([logits.node()]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((all, targets), picked),
            OpsKind::UnTracked(prep) => prep.finish(picked),
        }
    }

    fn fused_layer_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        eps: f64,
    ) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Norm;
        impl Backward<LibTorch, 3> for Norm {
            /// x, weight, mean, reciprocal deviation
            type State = [TchTensor; 4];
            fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
                let [x, weight, mean, deviation] = ops.state;
                let grad = grads.consume::<LibTorch>(&ops.node);
                register(
                    grads,
                    ops.parents.map(|p| p.map(|n| n.id)),
                    norm_backward(&x, &weight, &mean, &deviation, &grad),
                );
            }
        }
        let (out, [mean, deviation]) = norm_forward(x.primitive(), weight.primitive(), bias.primitive(), eps);
        match Norm.prepare::<C>([x.node(), weight.node(), bias.node()]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                prep.finish([x.into_primitive(), weight.into_primitive(), mean, deviation], out)
            }
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }

    fn fused_gelu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Gelu;
        impl Backward<LibTorch, 1> for Gelu {
            type State = TchTensor;
            fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
                let x = ops.state;
                unary::<LibTorch, _>(ops.parents, ops.node, grads, |g| {
                    TchTensor::new(x.tensor.gelu_backward(&g.tensor, "tanh"))
                });
            }
        }
        let out = TchTensor::new(x.primitive().tensor.gelu("tanh"));
        match Gelu.prepare::<C>([x.node()]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(x.into_primitive(), out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }
}

/// Hands each parent that wants one its gradient.
fn register(grads: &mut Gradients, parents: [Option<NodeId>; 3], values: [tch::Tensor; 3]) {
    for (parent, value) in parents.into_iter().zip(values) {
        if let Some(id) = parent {
            grads.register::<LibTorch>(id, TchTensor::new(value));
        }
    }
}
