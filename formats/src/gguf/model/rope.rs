//! The divisors by which llama.cpp stores the RoPE scaling of LLaMA 3.
//!
//! Purpose: the divisors of a scaling, and the scaling of divisors.
//! Invariant: a scaling that is recovered from divisors gives the same divisors again.
//! Must not know: keys, fields.

use crate::model::{Rope, Scaling};

/// How far a divisor may be from the one in a file, relatively: both come from f32.
const TOLERANCE: f64 = 1e-4;

/// What each frequency of LLaMA 3's scaling is divided by, as `rope_freqs.weight` has it; nothing for another scaling.
///
/// These are not quotients of [`Rope::frequencies`], which are rounded as transformers does and not as llama.cpp's converter.
pub(in crate::gguf) fn divisors(rope: &Rope, head_dim: usize) -> Option<Vec<f32>> {
    let Scaling::Llama3 { factor, low, high, original } = rope.scaling else { return None };
    let divisor = |i: usize| {
        let turns = original / wavelength(rope.theta, head_dim, i);
        if turns > high {
            1.0
        } else if turns < low {
            factor
        } else {
            let smooth = (turns - low) / (high - low);
            1.0 / ((1.0 - smooth) / factor + smooth)
        }
    };
    Some((0..head_dim / 2).map(|i| divisor(i) as f32).collect())
}

/// RoPE with these divisors, if there is one.
///
/// A multiple of all numbers but the factor gives the same divisors. The published models have a low factor of 1, so that one
/// is preferred.
pub(super) fn from_divisors(divisors: &[f32], theta: f64, head_dim: usize) -> Option<Rope> {
    if divisors.iter().all(|&divisor| divisor == 1.0) {
        return Some(Rope::new(theta));
    }
    let factor = f64::from(divisors.iter().copied().fold(1.0, f32::max));
    let rope = |low: f64, high: f64, original: f64| {
        let original = original.round();
        Rope { theta, scaling: Scaling::Llama3 { factor, low, high, original } }
    };
    let fits = |rope: &Rope| {
        let expected = self::divisors(rope, head_dim).unwrap_or_default();
        let is_near = |(&a, &b): (&f32, &f32)| f64::from((a - b).abs()) <= TOLERANCE * f64::from(b);
        expected.len() == divisors.len() && expected.iter().zip(divisors).all(is_near)
    };
    // People write round numbers.
    let round = |number: f64| (number * 1000.0).round() / 1000.0;
    let on_the_line = fit(divisors, factor, theta, head_dim).into_iter().flat_map(|(high, original)| {
        let multiples = (2..=16u8).map(f64::from).chain((2..=15u8).map(|quarters| f64::from(quarters) / 4.0));
        [rope(1.0, round(high), original), rope(1.0, high, original)]
            .into_iter()
            .chain(multiples.map(move |low| rope(low, round(low * high), low * original)))
    });
    // The divisors of short heads leave several scalings open.
    let usual = (0..=24u8).map(|power| rope(1.0, 4.0, f64::from(power).exp2()));
    [rope(1.0, 4.0, 8192.0)].into_iter().chain(on_the_line).chain(usual).find(fits)
}

/// The high factor and the original context with a low factor of 1, by the line through the first and the last divisor that
/// is neither 1 nor the factor.
fn fit(divisors: &[f32], factor: f64, theta: f64, head_dim: usize) -> Option<(f64, f64)> {
    let smooth = |i: usize| (1.0 / f64::from(divisors[i]) - 1.0 / factor) / (1.0 - 1.0 / factor);
    let inner = |&i: &usize| (1e-6..1.0 - 1e-6).contains(&smooth(i));
    let first = (0..divisors.len()).find(inner)?;
    let last = (0..divisors.len()).rfind(inner)?;
    let (a, b) = (1.0 / wavelength(theta, head_dim, first), 1.0 / wavelength(theta, head_dim, last));
    // smooth = slope / wavelength - offset, where slope = original / (high - low) and offset = low / (high - low).
    let slope = (smooth(first) - smooth(last)) / (a - b);
    let offset = slope * a - smooth(first);
    let (original, high) = (slope / offset, 1.0 + 1.0 / offset);
    let is_sound = first < last && (1.0..1e9).contains(&original) && high > 1.0;
    is_sound.then_some((high, original))
}

/// Tokens in which the pair `i` of a head turns once.
fn wavelength(theta: f64, head_dim: usize, i: usize) -> f64 {
    2.0 * std::f64::consts::PI * theta.powf(2.0 * i as f64 / head_dim as f64)
}
