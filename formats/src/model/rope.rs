//! The angles of rotary position embedding.
//!
//! Purpose: the frequencies of each kind of scaling that models are published with.
//! Invariant: the numbers are those of `transformers`, rounded to f32 where it rounds, for published weights expect them.
//! Must not know: files, tensors, positions.
//! Sources: Su 2021 (RoPE); Chen 2023 (linear); Peng 2023 (YaRN); the LLaMA 3.1 release (llama3).

use std::f64::consts::PI;

/// The frequencies of RoPE, `theta^(-2i/head)`, and how they are scaled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rope {
    /// The base of the wavelengths.
    pub theta: f64,
    /// How the frequencies are scaled for a longer context.
    pub scaling: Scaling,
}

/// How the frequencies of RoPE are scaled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scaling {
    /// Not at all.
    Default,
    /// All divided by a factor.
    Linear {
        /// Divides.
        factor: f64,
    },
    /// Scaled beyond the longest context alone, which is never reached here.
    Dynamic {
        /// How much longer contexts could be.
        factor: f64,
    },
    /// Long wavelengths divided by a factor, short ones kept, those between interpolated.
    Llama3 {
        /// Divides.
        factor: f64,
        /// Wavelengths above `original / low` are divided.
        low: f64,
        /// Wavelengths below `original / high` are kept.
        high: f64,
        /// The context before scaling, in tokens.
        original: f64,
    },
    /// As [`Yarn`] says.
    Yarn(Yarn),
}

/// The numbers of YaRN.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Yarn {
    /// Divides long wavelengths.
    pub factor: f64,
    /// The context before scaling, in tokens.
    pub original: f64,
    /// Multiplies cosines and sines; none means what the factor says.
    pub attention_factor: Option<f64>,
    /// Rotations above which a frequency is kept.
    pub beta_fast: f64,
    /// Rotations below which it is divided.
    pub beta_slow: f64,
    /// Whether the bounds of both are whole numbers.
    pub truncate: bool,
    /// Both say the attention factor in place of the factor.
    pub mscale: Option<[f64; 2]>,
}

impl Rope {
    /// Without scaling.
    pub fn new(theta: f64) -> Self {
        Self { theta, scaling: Scaling::Default }
    }

    /// Whether the numbers are within what makes sense.
    ///
    /// # Errors
    /// With the number that is not.
    pub(super) fn check(&self) -> Result<(), String> {
        // Comparisons that are false for NaN too.
        if !(self.theta >= 1.0 && self.theta <= 1e12) {
            return Err(format!("rope_theta is {:?}; it must lie between 1 and 1e12", self.theta));
        }
        let numbers: Vec<(&str, f64)> = match self.scaling {
            Scaling::Default => Vec::new(),
            Scaling::Linear { factor } | Scaling::Dynamic { factor } => vec![("factor", factor)],
            Scaling::Llama3 { factor, low, high, original } => vec![
                ("factor", factor),
                ("low_freq_factor", low),
                ("high_freq_factor", high),
                ("high_freq_factor - low_freq_factor", high - low),
                ("original_max_position_embeddings", original),
            ],
            Scaling::Yarn(yarn) => {
                let [mscale, all_dim] = yarn.mscale.unwrap_or([1.0; 2]);
                vec![
                    ("factor", yarn.factor),
                    ("original_max_position_embeddings", yarn.original),
                    ("attention_factor", yarn.attention_factor.unwrap_or(1.0)),
                    ("beta_fast", yarn.beta_fast),
                    ("beta_slow", yarn.beta_slow),
                    ("mscale", mscale),
                    ("mscale_all_dim", all_dim),
                    ("rope_theta - 1", self.theta - 1.0),
                ]
            }
        };
        match numbers.iter().find(|(_, number)| !(*number >= 1e-6 && *number <= 1e9)) {
            Some((name, number)) => {
                Err(format!("the scaling of RoPE: {name} is {number:?}; it must lie between 1e-6 and 1e9"))
            }
            None => Ok(()),
        }
    }

    /// The frequencies `[head / 2]`, in radians a position, and what multiplies cosines and sines.
    pub fn frequencies(&self, head: usize) -> (Vec<f32>, f32) {
        let plain = self.plain(head);
        match self.scaling {
            Scaling::Default | Scaling::Dynamic { .. } => (plain, 1.0),
            Scaling::Linear { factor } => (plain.iter().map(|f| f / factor as f32).collect(), 1.0),
            Scaling::Llama3 { factor, low, high, original } => {
                let scaled = |f: &f32| llama3(f64::from(*f), factor, [low, high], original) as f32;
                (plain.iter().map(scaled).collect(), 1.0)
            }
            Scaling::Yarn(yarn) => (self.yarn(&yarn, &plain, head), yarn.attention() as f32),
        }
    }

    fn plain(&self, head: usize) -> Vec<f32> {
        let power = |i: usize| self.theta.powf(f64::from((2 * i) as f32 / head as f32)) as f32;
        (0..head / 2).map(|i| 1.0 / power(i)).collect()
    }

    fn yarn(&self, yarn: &Yarn, plain: &[f32], head: usize) -> Vec<f32> {
        let dimension = |rotations: f64| {
            head as f64 * (yarn.original / (rotations * 2.0 * PI)).ln() / (2.0 * self.theta.ln())
        };
        let (mut low, mut high) = (dimension(yarn.beta_fast), dimension(yarn.beta_slow));
        if yarn.truncate {
            (low, high) = (low.floor(), high.ceil());
        }
        (low, high) = (low.max(0.0), high.min(head as f64 - 1.0));
        if low == high {
            high += 0.001;
        }
        let scaled = plain.iter().enumerate().map(|(i, &f)| {
            let divided = (((i as f64 - low) / (high - low)).clamp(0.0, 1.0)) as f32;
            let kept = 1.0 - divided;
            f / yarn.factor as f32 * (1.0 - kept) + f * kept
        });
        scaled.collect()
    }
}

impl Yarn {
    /// What `beta_fast` is where nothing is said.
    pub const BETA_FAST: f64 = 32.0;
    /// What `beta_slow` is where nothing is said.
    pub const BETA_SLOW: f64 = 1.0;

    fn attention(&self) -> f64 {
        let scale = |by: f64| if self.factor <= 1.0 { 1.0 } else { 0.1 * by * self.factor.ln() + 1.0 };
        match (self.attention_factor, self.mscale) {
            (Some(factor), _) => factor,
            (None, Some([mscale, all_dim])) => scale(mscale) / scale(all_dim),
            (None, None) => scale(1.0),
        }
    }
}

fn llama3(frequency: f64, factor: f64, [low, high]: [f64; 2], original: f64) -> f64 {
    let wavelength = 2.0 * PI / frequency;
    if wavelength > original / low {
        return frequency / factor;
    }
    if wavelength < original / high {
        return frequency;
    }
    let smooth = (original / wavelength - low) / (high - low);
    (1.0 - smooth) * frequency / factor + smooth * frequency
}
