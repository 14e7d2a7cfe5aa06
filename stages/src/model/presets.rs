//! Published shapes of decoders, and three small ones of our own.
//!
//! Purpose: the shapes that a pipeline can name.
//! Invariant: parameter counts equal the published ones (the tests hold each).
//! Must not know: tensors, training.
//! Sources: GPT-2 (Radford 2019), GPT-3 (Brown 2020, table 2.1), LLaMA (Touvron 2023, table 2),
//! SmolLM2. GPT-3's table prints 24 heads for 1.3B and a width of 5140 for 13B; heads times head
//! size must equal the width, so 16 and 5120 stand here.

use kiln_formats::model::{Biases, Rope};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::config::{Activation, Family, ModelConfig};

/// A named shape. The vocabulary comes from the tokenizer at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)]
pub enum Preset {
    /// 2 layers, width 64: for tests.
    #[serde(rename = "nano")]
    Nano,
    /// 4 layers, width 128, GPT-2 family: trains in minutes on two cores.
    #[serde(rename = "tiny")]
    Tiny,
    /// As `tiny`, LLaMA family.
    #[serde(rename = "tiny-llama")]
    TinyLlama,
    #[serde(rename = "gpt2-124m")]
    Gpt2_124M,
    #[serde(rename = "gpt2-355m")]
    Gpt2_355M,
    #[serde(rename = "gpt2-774m")]
    Gpt2_774M,
    #[serde(rename = "gpt2-1558m")]
    Gpt2_1558M,
    #[serde(rename = "gpt3-125m")]
    Gpt3_125M,
    #[serde(rename = "gpt3-350m")]
    Gpt3_350M,
    #[serde(rename = "gpt3-760m")]
    Gpt3_760M,
    #[serde(rename = "gpt3-1.3b")]
    Gpt3_1_3B,
    #[serde(rename = "gpt3-2.7b")]
    Gpt3_2_7B,
    #[serde(rename = "gpt3-6.7b")]
    Gpt3_6_7B,
    #[serde(rename = "gpt3-13b")]
    Gpt3_13B,
    #[serde(rename = "gpt3-175b")]
    Gpt3_175B,
    #[serde(rename = "llama-7b")]
    Llama7B,
    #[serde(rename = "llama-13b")]
    Llama13B,
    #[serde(rename = "llama-33b")]
    Llama33B,
    #[serde(rename = "llama-65b")]
    Llama65B,
    #[serde(rename = "smollm2-135m")]
    SmolLm2_135M,
}

/// A preset's shape, with the vocabulary it was published with.
pub fn preset(preset: Preset) -> ModelConfig {
    match preset {
        Preset::Nano => gpt2(512, 128, 2, 64, 2),
        Preset::Tiny => gpt2(2048, 128, 4, 128, 4),
        Preset::TinyLlama => ModelConfig { tied: true, ..llama(2048, 128, 4, 128, 4, 344) },
        Preset::Gpt2_124M => gpt2(50257, 1024, 12, 768, 12),
        Preset::Gpt2_355M => gpt2(50257, 1024, 24, 1024, 16),
        Preset::Gpt2_774M => gpt2(50257, 1024, 36, 1280, 20),
        Preset::Gpt2_1558M => gpt2(50257, 1024, 48, 1600, 25),
        Preset::Gpt3_125M => gpt2(50257, 2048, 12, 768, 12),
        Preset::Gpt3_350M => gpt2(50257, 2048, 24, 1024, 16),
        Preset::Gpt3_760M => gpt2(50257, 2048, 24, 1536, 16),
        Preset::Gpt3_1_3B => gpt2(50257, 2048, 24, 2048, 16),
        Preset::Gpt3_2_7B => gpt2(50257, 2048, 32, 2560, 32),
        Preset::Gpt3_6_7B => gpt2(50257, 2048, 32, 4096, 32),
        Preset::Gpt3_13B => gpt2(50257, 2048, 40, 5120, 40),
        Preset::Gpt3_175B => gpt2(50257, 2048, 96, 12288, 96),
        Preset::Llama7B => llama(32000, 2048, 32, 4096, 32, 11008),
        Preset::Llama13B => llama(32000, 2048, 40, 5120, 40, 13824),
        Preset::Llama33B => llama(32000, 2048, 60, 6656, 52, 17920),
        Preset::Llama65B => llama(32000, 2048, 80, 8192, 64, 22016),
        Preset::SmolLm2_135M => ModelConfig {
            kv_heads: 3,
            tied: true,
            norm_eps: 1e-5,
            rope: Rope::new(1e5),
            ..llama(49152, 8192, 30, 576, 9, 1536)
        },
    }
}

fn gpt2(vocab: usize, context: usize, layers: usize, width: usize, heads: usize) -> ModelConfig {
    ModelConfig {
        family: Family::Gpt2,
        vocab,
        layers,
        hidden_size: width,
        heads,
        kv_heads: heads,
        head_dim: width / heads,
        intermediate_size: 4 * width,
        max_position_embeddings: context,
        activation: Activation::GeluNew,
        biases: Biases::all(Family::Gpt2, true),
        qk_norm: false,
        tied: true,
        norm_eps: 1e-5,
        rope: Rope::new(1e4),
        window: None,
    }
}

fn llama(vocab: usize, context: usize, layers: usize, width: usize, heads: usize, ffn: usize) -> ModelConfig {
    ModelConfig {
        family: Family::Llama,
        vocab,
        layers,
        hidden_size: width,
        heads,
        kv_heads: heads,
        head_dim: width / heads,
        intermediate_size: ffn,
        max_position_embeddings: context,
        activation: Activation::Silu,
        biases: Biases::all(Family::Llama, false),
        qk_norm: false,
        tied: false,
        norm_eps: 1e-6,
        rope: Rope::new(1e4),
        window: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::ModelParams;

    #[test]
    fn parameter_counts_are_the_published_ones() {
        for (name, count) in [
            (Preset::Gpt2_124M, 124_439_808),
            (Preset::Gpt2_355M, 354_823_168),
            (Preset::Gpt2_774M, 774_030_080),
            (Preset::Gpt2_1558M, 1_557_611_200),
            (Preset::Llama7B, 6_738_415_616),
            (Preset::Llama13B, 13_015_864_320),
            (Preset::Llama33B, 32_528_943_616),
            (Preset::Llama65B, 65_285_660_672),
            (Preset::SmolLm2_135M, 134_515_008),
        ] {
            assert_eq!(preset(name).parameters(), count, "{name:?}");
        }
    }

    #[test]
    fn every_preset_fits_together_and_gpt3_has_the_size_in_its_name() {
        use Preset::*;
        for (name, millions) in [
            (Gpt3_125M, 125.0),
            (Gpt3_350M, 356.0),
            (Gpt3_760M, 760.0),
            (Gpt3_1_3B, 1316.0),
            (Gpt3_2_7B, 2652.0),
            (Gpt3_6_7B, 6658.0),
            (Gpt3_13B, 12853.0),
            (Gpt3_175B, 174_600.0),
        ] {
            let ratio = preset(name).parameters() as f64 / (millions * 1e6);
            assert!((ratio - 1.0).abs() < 0.01, "{name:?}: {ratio}");
            preset(name).check().unwrap();
        }
    }

    #[test]
    fn an_impossible_shape_says_what_does_not_fit() {
        let params = ModelParams { heads: Some(3), ..ModelParams::default() };
        assert_eq!(
            params.config(100).unwrap_err().to_string(),
            "model shape: hidden_size 128 is no multiple of heads 3"
        );
    }
}
