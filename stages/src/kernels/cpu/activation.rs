//! The activations of the feed-forward part.
//!
//! Purpose: GELU in both its forms, ReLU, SiLU, and the gated form of the LLaMA family, with their gradients.
//! Invariant: the names are those of Hugging Face configurations (`gelu` is the exact form, `gelu_new` the tanh form).
//! Must not know: matrices.
//! Sources: Hendrycks and Gimpel 2016; Shazeer 2020 (gated forms).

pub use kiln_formats::model::Activation;

use super::simd::exp;

/// `sqrt(2 / pi)`.
const GELU_SLOPE: f32 = 0.797_884_6;
const GELU_CUBE: f32 = 0.044_715;

/// A function and its slope at a point.
trait Curve {
    fn value(x: f32) -> f32;
    fn slope(x: f32) -> f32;
}

struct Gelu;
struct GeluNew;
struct Relu;
struct Silu;

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// The normal distribution function, to 1.5e-7 (Abramowitz and Stegun 1964, 7.1.26), and `exp(-x^2 / 2)`.
#[inline(always)]
fn normal(x: f32) -> (f32, f32) {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / 0.327_591_1f32.mul_add(z, 1.0);
    let p = 1.061_405_4f32
        .mul_add(t, -1.453_152)
        .mul_add(t, 1.421_413_7)
        .mul_add(t, -0.284_496_74)
        .mul_add(t, 0.254_829_6);
    let bell = exp(-z * z);
    let tail = 0.5 * p * t * bell;
    (if x < 0.0 { tail } else { 1.0 - tail }, bell)
}

impl Curve for Gelu {
    #[inline(always)]
    fn value(x: f32) -> f32 {
        x * normal(x).0
    }
    #[inline(always)]
    fn slope(x: f32) -> f32 {
        let (phi, bell) = normal(x);
        // 1 / sqrt(2 pi)
        phi + x * bell * 0.398_942_3
    }
}

impl Curve for GeluNew {
    // (1 + tanh(u)) / 2 is sigmoid(2 u).
    #[inline(always)]
    fn value(x: f32) -> f32 {
        x * sigmoid(2.0 * GELU_SLOPE * x * (GELU_CUBE * x).mul_add(x, 1.0))
    }
    #[inline(always)]
    fn slope(x: f32) -> f32 {
        let s = sigmoid(2.0 * GELU_SLOPE * x * (GELU_CUBE * x).mul_add(x, 1.0));
        let inner = 2.0 * GELU_SLOPE * (3.0 * GELU_CUBE * x).mul_add(x, 1.0);
        s + x * s * (1.0 - s) * inner
    }
}

impl Curve for Relu {
    #[inline(always)]
    fn value(x: f32) -> f32 {
        // A value that is not a number stays one.
        if x < 0.0 { 0.0 } else { x }
    }
    #[inline(always)]
    fn slope(x: f32) -> f32 {
        if x > 0.0 { 1.0 } else { 0.0 }
    }
}

impl Curve for Silu {
    #[inline(always)]
    fn value(x: f32) -> f32 {
        x * sigmoid(x)
    }
    #[inline(always)]
    fn slope(x: f32) -> f32 {
        let s = sigmoid(x);
        s + x * s * (1.0 - s)
    }
}

#[inline(always)]
fn apply<C: Curve>(x: &[f32], out: &mut [f32]) {
    for (out, &x) in out.iter_mut().zip(x) {
        *out = C::value(x);
    }
}

#[inline(always)]
fn apply_slope<C: Curve>(x: &[f32], grad: &mut [f32]) {
    for (grad, &x) in grad.iter_mut().zip(x) {
        *grad *= C::slope(x);
    }
}

#[inline(always)]
fn apply_gated<C: Curve>(x: &[f32], width: usize, out: &mut [f32]) {
    for (x, out) in x.chunks_exact(2 * width).zip(out.chunks_exact_mut(width)) {
        let (gate, up) = x.split_at(width);
        for ((out, &gate), &up) in out.iter_mut().zip(gate).zip(up) {
            *out = C::value(gate) * up;
        }
    }
}

#[inline(always)]
fn apply_gated_slope<C: Curve>(x: &[f32], width: usize, d_out: &[f32], d_x: &mut [f32]) {
    let rows = x.chunks_exact(2 * width).zip(d_x.chunks_exact_mut(2 * width));
    for ((x, d_x), d_out) in rows.zip(d_out.chunks_exact(width)) {
        let (gate, up) = x.split_at(width);
        let (d_gate, d_up) = d_x.split_at_mut(width);
        for i in 0..width {
            d_gate[i] = d_out[i] * up[i] * C::slope(gate[i]);
            d_up[i] = d_out[i] * C::value(gate[i]);
        }
    }
}

simd! {
    /// `out = f(x)`, shapes alike.
    pub fn forward(activation: Activation, x: &[f32], out: &mut [f32]) {
        match activation {
            Activation::Gelu => apply::<Gelu>(x, out),
            Activation::GeluNew => apply::<GeluNew>(x, out),
            Activation::Relu => apply::<Relu>(x, out),
            Activation::Silu => apply::<Silu>(x, out),
        }
    }

    /// `grad *= f'(x)`, shapes alike.
    pub fn backward(activation: Activation, x: &[f32], grad: &mut [f32]) {
        match activation {
            Activation::Gelu => apply_slope::<Gelu>(x, grad),
            Activation::GeluNew => apply_slope::<GeluNew>(x, grad),
            Activation::Relu => apply_slope::<Relu>(x, grad),
            Activation::Silu => apply_slope::<Silu>(x, grad),
        }
    }

    /// `out = f(gate) up`. Shapes: x `[n, 2 width]`, each row its gate and then its up; out `[n, width]`.
    pub fn forward_gated(activation: Activation, x: &[f32], width: usize, out: &mut [f32]) {
        match activation {
            Activation::Gelu => apply_gated::<Gelu>(x, width, out),
            Activation::GeluNew => apply_gated::<GeluNew>(x, width, out),
            Activation::Relu => apply_gated::<Relu>(x, width, out),
            Activation::Silu => apply_gated::<Silu>(x, width, out),
        }
    }

    /// The gradient of [`forward_gated`]. Shapes: x and d_x `[n, 2 width]`, d_out `[n, width]`.
    pub fn backward_gated(activation: Activation, x: &[f32], width: usize, d_out: &[f32], d_x: &mut [f32]) {
        match activation {
            Activation::Gelu => apply_gated_slope::<Gelu>(x, width, d_out, d_x),
            Activation::GeluNew => apply_gated_slope::<GeluNew>(x, width, d_out, d_x),
            Activation::Relu => apply_gated_slope::<Relu>(x, width, d_out, d_x),
            Activation::Silu => apply_gated_slope::<Silu>(x, width, d_out, d_x),
        }
    }
}
