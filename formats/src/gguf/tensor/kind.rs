//! The types of tensors.
//!
//! Purpose: the number, the name and the size of each type that a file can hold, also of those whose values are not read.
//! Invariant: a row of a tensor is a whole number of blocks.
//! Must not know: how the values are packed.

/// How the values of a tensor are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum TensorKind {
    F32,
    F16,
    Bf16,
    F64,
    I8,
    I16,
    I32,
    I64,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2K,
    Q3K,
    Q4K,
    Q5K,
    Q6K,
    Iq1S,
    Iq1M,
    Iq2Xxs,
    Iq2Xs,
    Iq2S,
    Iq3Xxs,
    Iq3S,
    Iq4Nl,
    Iq4Xs,
    Tq1_0,
    Tq2_0,
    Mxfp4,
    Nvfp4,
    Q1_0,
}

use TensorKind as K;

/// Each type with its number in a file, its name, the values of a block and the bytes of a block.
const KINDS: [(TensorKind, u32, &str, usize, usize); 32] = [
    (K::F32, 0, "F32", 1, 4),
    (K::F16, 1, "F16", 1, 2),
    (K::Q4_0, 2, "Q4_0", 32, 18),
    (K::Q4_1, 3, "Q4_1", 32, 20),
    (K::Q5_0, 6, "Q5_0", 32, 22),
    (K::Q5_1, 7, "Q5_1", 32, 24),
    (K::Q8_0, 8, "Q8_0", 32, 34),
    (K::Q2K, 10, "Q2_K", 256, 84),
    (K::Q3K, 11, "Q3_K", 256, 110),
    (K::Q4K, 12, "Q4_K", 256, 144),
    (K::Q5K, 13, "Q5_K", 256, 176),
    (K::Q6K, 14, "Q6_K", 256, 210),
    (K::Iq2Xxs, 16, "IQ2_XXS", 256, 66),
    (K::Iq2Xs, 17, "IQ2_XS", 256, 74),
    (K::Iq3Xxs, 18, "IQ3_XXS", 256, 98),
    (K::Iq1S, 19, "IQ1_S", 256, 50),
    (K::Iq4Nl, 20, "IQ4_NL", 32, 18),
    (K::Iq3S, 21, "IQ3_S", 256, 110),
    (K::Iq2S, 22, "IQ2_S", 256, 82),
    (K::Iq4Xs, 23, "IQ4_XS", 256, 136),
    (K::I8, 24, "I8", 1, 1),
    (K::I16, 25, "I16", 1, 2),
    (K::I32, 26, "I32", 1, 4),
    (K::I64, 27, "I64", 1, 8),
    (K::F64, 28, "F64", 1, 8),
    (K::Iq1M, 29, "IQ1_M", 256, 56),
    (K::Bf16, 30, "BF16", 1, 2),
    (K::Tq1_0, 34, "TQ1_0", 256, 54),
    (K::Tq2_0, 35, "TQ2_0", 256, 66),
    (K::Mxfp4, 39, "MXFP4", 32, 17),
    (K::Nvfp4, 40, "NVFP4", 64, 36),
    (K::Q1_0, 41, "Q1_0", 128, 18),
];

impl TensorKind {
    /// All types.
    pub fn all() -> impl Iterator<Item = TensorKind> {
        KINDS.iter().map(|row| row.0)
    }

    /// The type with this number in a file.
    pub fn from_id(id: u32) -> Option<Self> {
        KINDS.iter().find(|row| row.1 == id).map(|row| row.0)
    }

    fn row(self) -> &'static (TensorKind, u32, &'static str, usize, usize) {
        // The table has every type, so that the first row is never taken for another.
        KINDS.iter().find(|row| row.0 == self).unwrap_or(&KINDS[0])
    }

    /// Its number in a file.
    pub fn id(self) -> u32 {
        self.row().1
    }

    /// Its name, as llama.cpp spells it.
    pub fn name(self) -> &'static str {
        self.row().2
    }

    /// Values of a block.
    pub fn block(self) -> usize {
        self.row().3
    }

    /// Bytes of a block.
    pub fn block_bytes(self) -> usize {
        self.row().4
    }

    /// Whether the values can be read as f32.
    pub fn is_readable(self) -> bool {
        matches!(self, K::F32 | K::F16 | K::Bf16 | K::Q4_0 | K::Q4_1 | K::Q5_0 | K::Q5_1 | K::Q8_0)
            || matches!(self, K::Q2K | K::Q3K | K::Q4K | K::Q5K | K::Q6K)
    }

    /// Whether blocks of several values share a scale.
    pub fn is_quantized(self) -> bool {
        self.block() > 1
    }
}
