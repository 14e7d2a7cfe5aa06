//! The params of a programme that ranks.
//!
//! Purpose: the labeller's noise, as the kind `rank` asks for it.
//! Invariant: none beyond the types.
//! Must not know: how ranks are drawn.

/// How a programme labels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RankOptions {
    /// The scale of the labeller's noise, in units of gold; left out, it is chosen so that
    /// `agreement` holds. 0 means no noise.
    pub tau: Option<f64>,
    /// The share of pairs that the labeller is to order as gold does, above .5 and up to 1.
    pub agreement: f64,
    /// A negative control: the ranks of every prompt are dealt out at random.
    pub shuffle: bool,
    /// The seed of the noise.
    pub seed: u64,
}

impl Default for RankOptions {
    fn default() -> Self {
        Self { tau: None, agreement: 0.75, shuffle: false, seed: 1337 }
    }
}
