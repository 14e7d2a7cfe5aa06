//! How a text is split before the merges.
//!
//! Purpose: the splits that llama.cpp knows by name, as the regular expressions that the models were trained with; each one
//! takes the pieces of the one before it and makes matches and the rest between them pieces.
//! Invariant: two splits differ in their expressions or in what is taken from the vocabulary whole.
//! Must not know: tokens.

use serde_json::{Value, json};

/// A split.
#[derive(Debug, PartialEq)]
pub(super) struct Split {
    /// Its names in `tokenizer.ggml.pre`; the first is written.
    pub(super) names: &'static [&'static str],
    /// The expressions, applied one after the other.
    pub(super) expressions: &'static [&'static str],
    /// Whether a piece that is a token becomes it whatever the merges say.
    pub(super) ignores_merges: bool,
    /// Whether llama.cpp begins a text with BOS when the file does not say.
    pub(super) adds_bos: bool,
}

/// GPT-2's expression, which ByteLevel has built in.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
/// Each digit alone, for which `tokenizers` has a step.
const DIGITS: &str = r"\p{N}";
const CL100K: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const DEEPSEEK: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##;
const SEED: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+";

const fn split(names: &'static [&'static str], expressions: &'static [&'static str]) -> Split {
    Split { names, expressions, ignores_merges: false, adds_bos: false }
}

const fn whole(names: &'static [&'static str], expressions: &'static [&'static str]) -> Split {
    Split { names, expressions, ignores_merges: true, adds_bos: true }
}

/// All of them.
static SPLITS: [Split; 13] = [
    split(
        &[
            "gpt-2",
            "phi-2",
            "mpt",
            "olmo",
            "jais",
            "trillion",
            "granite-docling",
            "exaone4",
            "gigachat",
            "a.x-4.0",
            "mellum",
        ],
        &[GPT2],
    ),
    split(
        &["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2"],
        &[DIGITS, GPT2],
    ),
    split(&["default"], &[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"]),
    whole(
        &["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"],
        &[CL100K],
    ),
    split(&["dbrx", "smaug-bpe"], &[CL100K]),
    split(
        &[
            "qwen2",
            "deepseek-r1-qwen",
            "kormo",
            "f2llmv2",
            "megrez",
            "stablelm2",
            "hunyuan",
            "solar-open",
            "grok-2",
        ],
        &[QWEN2],
    ),
    split(&["qwen35"], &[QWEN35]),
    whole(&["tekken"], &[TEKKEN]),
    split(&["gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"], &[GPT4O]),
    split(&["deepseek-v3", "hunyuan-dense", "joyai-llm"], &[r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+", DEEPSEEK]),
    split(&["deepseek-coder"], &["[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+", DIGITS]),
    split(&["seed-coder"], &[SEED]),
    split(&["falcon"], &[r"[\p{P}\$\+<=>\^~\|`]+", GPT2, "[0-9][0-9][0-9]"]),
];

impl Split {
    /// The split of this name in `tokenizer.ggml.pre`.
    pub(super) fn named(name: &str) -> Option<&'static Split> {
        SPLITS.iter().find(|split| split.names.contains(&name))
    }

    /// The first name of each split, for messages.
    pub(super) fn names() -> String {
        SPLITS.iter().map(|split| split.names[0]).collect::<Vec<_>>().join(", ")
    }

    /// The split in the terms of `tokenizers`.
    pub(super) fn pre_tokenizer(&self) -> Value {
        let byte_level = |use_regex: bool| json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex });
        let (before, last) = match self.expressions.split_last() {
            Some((&GPT2, before)) => (before, byte_level(true)),
            _ => (self.expressions, byte_level(false)),
        };
        if before.is_empty() {
            return last;
        }
        let step = |expression: &&str| match *expression {
            DIGITS => json!({ "type": "Digits", "individual_digits": true }),
            expression => json!({
                "type": "Split", "pattern": { "Regex": expression }, "behavior": "Isolated", "invert": false
            }),
        };
        let steps: Vec<Value> = before.iter().map(step).chain([last]).collect();
        json!({ "type": "Sequence", "pretokenizers": steps })
    }

    /// The split that a `pre_tokenizer` is.
    ///
    /// # Errors
    /// What keeps it from being one that llama.cpp knows.
    pub(super) fn of(pre_tokenizer: &Value, ignores_merges: bool) -> Result<&'static Split, String> {
        let mut expressions = Vec::new();
        let is_byte_level = steps(pre_tokenizer, &mut expressions, 0)?;
        if !is_byte_level {
            return Err("it does not end with ByteLevel, and only byte-level vocabularies are written".into());
        }
        let alike = |split: &&Split| split.expressions.iter().eq(expressions.iter());
        let found: Vec<&'static Split> = SPLITS.iter().filter(alike).collect();
        match found.iter().find(|split| split.ignores_merges == ignores_merges) {
            Some(split) => Ok(split),
            None if found.is_empty() => Err("llama.cpp has no name for this way to split a text".into()),
            None => Err(format!("llama.cpp has this split only with `ignore_merges` {}", !ignores_merges)),
        }
    }
}

/// Collects the expressions of a `pre_tokenizer`, and says whether ByteLevel ended it.
fn steps(value: &Value, expressions: &mut Vec<String>, depth: usize) -> Result<bool, String> {
    match value["type"].as_str().unwrap_or_default() {
        "Sequence" if depth < 4 => {
            let list = value["pretokenizers"].as_array().map(Vec::as_slice).unwrap_or_default();
            let mut is_ended = false;
            for step in list {
                if is_ended {
                    return Err("a step follows ByteLevel".into());
                }
                is_ended = steps(step, expressions, depth + 1)?;
            }
            Ok(is_ended)
        }
        "ByteLevel" if value["add_prefix_space"] == false => {
            if value["use_regex"] != false {
                expressions.push(GPT2.into());
            }
            Ok(true)
        }
        "ByteLevel" => Err("llama.cpp puts no space before a text, as `add_prefix_space` asks".into()),
        "Digits" if value["individual_digits"] == true => {
            expressions.push(DIGITS.into());
            Ok(false)
        }
        "Split" if value["behavior"] == "Isolated" && value["invert"] != true => {
            let expression = value["pattern"]["Regex"].as_str();
            expressions.push(expression.ok_or("a Split has no `Regex`")?.into());
            Ok(false)
        }
        kind => Err(format!("its step `{}` is not one of llama.cpp's", crate::gguf::error::quoted(kind))),
    }
}
