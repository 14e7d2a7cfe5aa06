//! The fused kernels on libtorch, with hand-written backward passes.
//!
//! Purpose: the only file that calls libtorch directly.
//! Invariant: a tensor made here owns its memory or is built from one that burn tracks; in-place
//! work happens only on memory that nobody else holds.
//! Must not know: models, losses, stages.
//! Sources: FlashAttention-2 (Dao 2023) as libtorch implements it for CPUs; the gradients of
//! log-softmax and LayerNorm are the textbook ones, computed by libtorch's own backward ops.

// burn-tch is deprecated upstream; this is the file that names its types.
#![allow(deprecated)]

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn::backend::libtorch::{LibTorchDevice, TchTensor};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Backend, Dispatch, DispatchDevice, LibTorch, backend_extension};
use burn::tensor::{Device, Int, Tensor};

use super::AdamWRule;

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

/// Whether a device is libtorch's CPU, for which alone the fused attention is written.
pub fn owns_cpu(device: &Device) -> bool {
    libtorch(device) == Some(LibTorchDevice::Cpu)
}

#[backend_extension(LibTorch, Autodiff)]
trait Fused: Backend {
    fn fused_token_logprobs(logits: FloatTensor<Self>, targets: IntTensor<Self>) -> FloatTensor<Self>;
    fn fused_causal_attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
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

/// See [`super::attention`], with `causal` and no mask.
pub fn causal_attention(query: Tensor<4>, key: Tensor<4>, value: Tensor<4>) -> Tensor<4> {
    Tensor::from_dispatch(Dispatch::fused_causal_attention(
        query.into_dispatch(),
        key.into_dispatch(),
        value.into_dispatch(),
    ))
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

    fn fused_causal_attention(query: TchTensor, key: TchTensor, value: TchTensor) -> TchTensor {
        attention_forward(&query, &key, &value).0
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

/// The fused attention reads the last dim as if its numbers lay side by side, and does not check.
fn side_by_side(x: &TchTensor) -> tch::Tensor {
    if x.tensor.stride().last() == Some(&1) { x.tensor.shallow_clone() } else { x.tensor.contiguous() }
}

/// Returns the output and what the backward pass needs beside it, the log of the sums.
fn attention_forward(query: &TchTensor, key: &TchTensor, value: &TchTensor) -> (TchTensor, TchTensor) {
    let (out, logsumexp) = tch::Tensor::internal_scaled_dot_product_flash_attention_for_cpu::<tch::Tensor>(
        &side_by_side(query),
        &side_by_side(key),
        &side_by_side(value),
        0.0,
        true,
        None,
        None,
    );
    (TchTensor::new(out), TchTensor::new(logsumexp))
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

    fn fused_causal_attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Attention;
        impl Backward<LibTorch, 3> for Attention {
            /// query, key, value, output, log of the sums
            type State = [TchTensor; 5];
            fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
                let [q, k, v, out, logsumexp] = ops.state;
                let grad = grads.consume::<LibTorch>(&ops.node);
                let (dq, dk, dv) =
                    tch::Tensor::internal_scaled_dot_product_flash_attention_for_cpu_backward::<tch::Tensor>(
                        &side_by_side(&grad),
                        &side_by_side(&q),
                        &side_by_side(&k),
                        &side_by_side(&v),
                        &out.tensor,
                        &logsumexp.tensor,
                        0.0,
                        true,
                        None,
                        None,
                    );
                register(grads, ops.parents.map(|p| p.map(|n| n.id)), [dq, dk, dv]);
            }
        }
        let (out, logsumexp) = attention_forward(query.primitive(), key.primitive(), value.primitive());
        match Attention.prepare::<C>([query.node(), key.node(), value.node()]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let [q, k, v] = [query, key, value].map(|t| t.into_primitive());
                prep.finish([q, k, v, out.clone(), logsumexp], out)
            }
            OpsKind::UnTracked(prep) => prep.finish(out),
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

/// See [`super::adamw`].
pub fn adamw<const D: usize>(
    param: Tensor<D>,
    grad: Tensor<D>,
    (first, second): (Tensor<D>, Tensor<D>),
    rule: &AdamWRule,
) -> (Tensor<D>, (Tensor<D>, Tensor<D>)) {
    let mut param = owned(param);
    let mut first = owned(first);
    let mut second = owned(second);
    let grad = raw(grad).tensor * rule.grad_scale;
    let correction1 = 1.0 - rule.beta1.powi(rule.step as i32);
    let correction2 = 1.0 - rule.beta2.powi(rule.step as i32);
    let _ = first.tensor.lerp_(&grad, 1.0 - rule.beta1);
    let _ = second.tensor.g_mul_scalar_(rule.beta2);
    let _ = second.tensor.addcmul_(&(&grad * (1.0 - rule.beta2)), &grad);
    let mut denominator = second.tensor.sqrt();
    let _ = denominator.g_mul_scalar_(1.0 / correction2.sqrt());
    let _ = denominator.g_add_scalar_(rule.eps);
    if rule.decay != 0.0 {
        let _ = param.tensor.g_mul_scalar_(1.0 - rule.learning_rate * rule.decay);
    }
    let _ = param.tensor.addcdiv_(&(&first.tensor * (-rule.learning_rate / correction1)), &denominator);
    (wrap(param), (wrap(first), wrap(second)))
}

fn raw<const D: usize>(tensor: Tensor<D>) -> TchTensor {
    match tensor.try_into_primitive::<LibTorch>() {
        Ok(primitive) => primitive,
        Err(e) => unreachable!("the caller has seen that the device is libtorch's: {e:?}"),
    }
}

/// The tensor's memory, copied first if anybody else holds it or one place stands for many numbers.
fn owned<const D: usize>(tensor: Tensor<D>) -> TchTensor {
    let primitive = raw(tensor);
    if primitive.can_mut() { primitive } else { TchTensor::new(primitive.tensor.copy()) }
}

fn wrap<const D: usize>(tensor: TchTensor) -> Tensor<D> {
    Tensor::from_primitive::<LibTorch>(tensor)
}
