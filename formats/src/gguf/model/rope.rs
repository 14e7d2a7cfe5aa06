//! How RoPE is stretched beyond the context that a model was first trained with.
//!
//! Purpose: the kinds of scaling that both sides know, and the factors by which llama.cpp stores that of LLaMA 3.
//! Invariant: a scaling that is recovered from factors gives the same factors again.
//! Must not know: how either side spells it.

/// A scaling of RoPE.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::gguf) enum Scaling {
    /// None.
    None,
    /// Positions divided by a factor.
    Linear(f64),
    /// YaRN (Peng 2023).
    Yarn(Yarn),
    /// Frequencies divided by their wavelength, as of LLaMA 3.1.
    Llama3(Llama3),
}

/// The numbers of YaRN; what is absent has the default of transformers and llama.cpp.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::gguf) struct Yarn {
    pub(super) factor: f64,
    pub(super) original_context: usize,
    pub(super) attention_factor: Option<f64>,
    pub(super) beta_fast: Option<f64>,
    pub(super) beta_slow: Option<f64>,
}

/// The numbers of LLaMA 3's scaling.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::gguf) struct Llama3 {
    pub(super) factor: f64,
    pub(super) low_frequency_factor: f64,
    pub(super) high_frequency_factor: f64,
    pub(super) original_context: usize,
}

/// How far a factor may be from the one in a file, relatively: both come from f32.
const TOLERANCE: f64 = 1e-4;

impl Llama3 {
    /// What each frequency is divided by, as `rope_freqs.weight` has it.
    pub(in crate::gguf) fn divisors(&self, theta: f64, head_size: usize) -> Vec<f32> {
        (0..head_size / 2).map(|i| self.divisor(theta, head_size, i) as f32).collect()
    }

    fn divisor(&self, theta: f64, head_size: usize, i: usize) -> f64 {
        let turns = self.original_context as f64 / wavelength(theta, head_size, i);
        let (low, high) = (self.low_frequency_factor, self.high_frequency_factor);
        if turns > high {
            1.0
        } else if turns < low {
            self.factor
        } else {
            let smooth = (turns - low) / (high - low);
            1.0 / ((1.0 - smooth) / self.factor + smooth)
        }
    }

    /// The scaling with these divisors, if there is one.
    ///
    /// A multiple of all but the factor gives the same divisors. The published models have a low factor of 1, so that one is
    /// taken.
    pub(super) fn from_divisors(divisors: &[f32], theta: f64, head_size: usize) -> Option<Self> {
        let factor = f64::from(divisors.iter().copied().fold(1.0, f32::max));
        let published =
            Self { factor, low_frequency_factor: 1.0, high_frequency_factor: 4.0, original_context: 8192 };
        let fits = |scaling: &Self| {
            let expected = scaling.divisors(theta, head_size);
            let is_near = |(&a, &b): (&f32, &f32)| f64::from((a - b).abs()) <= TOLERANCE * f64::from(b);
            expected.len() == divisors.len() && expected.iter().zip(divisors).all(is_near)
        };
        if fits(&published) {
            return Some(published);
        }
        let fitted = Self::fit(divisors, factor, theta, head_size)?;
        // People write round numbers.
        let rounded = Self {
            high_frequency_factor: (fitted.high_frequency_factor * 1000.0).round() / 1000.0,
            ..fitted.clone()
        };
        [rounded, fitted].into_iter().find(fits)
    }

    /// The line through the first and the last divisor that is neither 1 nor the factor.
    fn fit(divisors: &[f32], factor: f64, theta: f64, head_size: usize) -> Option<Self> {
        let smooth = |i: usize| (1.0 / f64::from(divisors[i]) - 1.0 / factor) / (1.0 - 1.0 / factor);
        let inner = |&i: &usize| (1e-6..1.0 - 1e-6).contains(&smooth(i));
        let first = (0..divisors.len()).find(inner)?;
        let last = (0..divisors.len()).rfind(inner)?;
        let (a, b) = (1.0 / wavelength(theta, head_size, first), 1.0 / wavelength(theta, head_size, last));
        // smooth = slope / wavelength - offset, where slope = context / (high - low) and offset = low / (high - low).
        let slope = (smooth(first) - smooth(last)) / (a - b);
        let offset = slope * a - smooth(first);
        let (context, high) = (slope / offset, 1.0 + 1.0 / offset);
        let is_sound = first < last && (1.0..1e9).contains(&context) && high > 1.0;
        is_sound.then(|| Self {
            factor,
            low_frequency_factor: 1.0,
            high_frequency_factor: high,
            original_context: context.round() as usize,
        })
    }
}

/// Tokens in which the pair `i` of a head turns once.
fn wavelength(theta: f64, head_size: usize, i: usize) -> f64 {
    2.0 * std::f64::consts::PI * theta.powf(2.0 * i as f64 / head_size as f64)
}
