//! LayerNorm and RMSNorm over rows.
//!
//! Purpose: both norms with their gradients.
//! Invariant: a row's result depends on that row alone.
//! Must not know: models.
//! Sources: Ba 2016 (LayerNorm, biased variance); Zhang and Sennrich 2019 (RMSNorm).

use super::simd::sum;

/// How rows are normalised.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Norm {
    /// `(x - mean) / sqrt(var + eps) * weight + bias`.
    Layer {
        /// Added to the variance.
        eps: f32,
    },
    /// `x / sqrt(mean(x^2) + eps) * weight`.
    Rms {
        /// Added to the mean of the squares.
        eps: f32,
    },
}

impl Norm {
    /// What is subtracted from a row, and what it is then multiplied by.
    #[inline(always)]
    fn moments(self, x: &[f32]) -> (f32, f32) {
        let n = x.len() as f32;
        let (mean, variance, eps) = match self {
            Self::Layer { eps } => {
                let mean = sum(x.len(), |i| x[i]) / n;
                (mean, sum(x.len(), |i| (x[i] - mean) * (x[i] - mean)) / n, eps)
            }
            Self::Rms { eps } => (0.0, sum(x.len(), |i| x[i] * x[i]) / n, eps),
        };
        // Beyond the numbers of f32 the scale would be 0, and the row look well.
        (mean, if variance < f32::INFINITY { 1.0 / (variance + eps).sqrt() } else { f32::NAN })
    }
}

simd! {
    /// Shapes: x and out `[n, width]`, weight and bias `[width]`.
    pub fn forward(norm: Norm, x: &[f32], weight: &[f32], bias: Option<&[f32]>, out: &mut [f32]) {
        let width = weight.len();
        for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
            let (mean, scale) = norm.moments(x);
            for ((out, &x), &weight) in out.iter_mut().zip(x).zip(weight) {
                *out = (x - mean) * scale * weight;
            }
            if let Some(bias) = bias {
                for (out, &bias) in out.iter_mut().zip(bias) {
                    *out += bias;
                }
            }
        }
    }

    /// Adds the gradient of x to `d_x` and turns `d_out`, in place, into `d_out n` with n the normalised x, of which the
    /// sum over rows is the gradient of the weight.
    ///
    /// With h = d_out * weight: `d_x = scale (h - mean(h) - n mean(h n))`; RMSNorm has no mean of h. The moments are
    /// computed again, which costs less than to keep them.
    pub fn backward(norm: Norm, x: &[f32], weight: &[f32], d_out: &mut [f32], d_x: &mut [f32]) {
        let width = weight.len();
        let inverse = 1.0 / width as f32;
        let rows = x.chunks_exact(width).zip(d_out.chunks_exact_mut(width)).zip(d_x.chunks_exact_mut(width));
        for ((x, d_out), d_x) in rows {
            let (mean, scale) = norm.moments(x);
            let projection = inverse * sum(width, |i| d_out[i] * weight[i] * (x[i] - mean) * scale);
            let centre = match norm {
                Norm::Layer { .. } => inverse * sum(width, |i| d_out[i] * weight[i]),
                Norm::Rms { .. } => 0.0,
            };
            for i in 0..width {
                let n = (x[i] - mean) * scale;
                d_x[i] += scale * (d_out[i] * weight[i] - centre - n * projection);
                d_out[i] *= n;
            }
        }
    }
}
