//! `pretrain`: the base model, by next-token prediction on raw text.
//!
//! Purpose: tokenizer and corpus in, checkpoint out.
//! Invariant: the windows of a step depend on (seed, step, row) alone; the held-out part is never
//! trained on.
//! Must not know: what the base model will be asked.
//! Source: Radford 2019.

use burn::module::Module;
use rand::Rng;
use schemars::JsonSchema;
use serde::Deserialize;

use super::registry::{Entry, input, optional, output};
use crate::bpe::Tokenizer;
use crate::bundle;
use crate::context::{Context, StageError, Summary};
use crate::data::{Document, read_corpus};
use crate::generate::{Sampling, Stop, generate};
use crate::model::{Decoder, ModelParams};
use crate::rng::keyed;
use crate::train::run::{Plan, train};
use crate::train::{AdamWParams, Schedule, TokenRow, lm_loss};

/// The kind's params.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Params {
    /// The model's shape.
    pub model: ModelParams,
    /// Optimizer steps.
    #[schemars(range(min = 1))]
    pub steps: u64,
    /// Rows of `context` tokens a step.
    #[schemars(range(min = 1))]
    pub batch_size: usize,
    /// Rows that go through the model at once; 0 means all. Changes memory, not the result (beyond rounding).
    pub micro_batch: usize,
    /// The peak learning rate.
    #[schemars(range(min = 0.0))]
    pub learning_rate: f64,
    /// How the rate runs.
    pub schedule: Schedule,
    /// AdamW's numbers.
    pub optimizer: AdamWParams,
    /// The part of the corpus, at its end, that is held out where there is no `validation` input.
    #[schemars(range(min = 0.0, max = 0.5))]
    pub validation_fraction: f64,
    /// Steps between validations; 0 means only at the end.
    pub eval_every: u64,
    /// The seed of every draw.
    pub seed: u64,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            model: ModelParams::default(),
            steps: 1000,
            batch_size: 16,
            micro_batch: 0,
            learning_rate: 1e-3,
            schedule: Schedule { warmup: 50, ..Schedule::default() },
            optimizer: AdamWParams::default(),
            validation_fraction: 0.05,
            eval_every: 200,
            seed: 1337,
        }
    }
}

/// The kind's entry.
pub fn entry() -> Entry {
    Entry::new(
        "pretrain",
        1,
        "trains a base model on raw text by next-token prediction",
        (
            vec![
                input("tokenizer", &["tokenizer"], "how text becomes tokens"),
                input("corpus", &["corpus"], "the text to train on"),
                optional("validation", &["corpus"], "held-out text; else the end of the corpus"),
            ],
            vec![output("model", "checkpoint", "the base model")],
        ),
        run,
    )
}

fn run(params: &Params, ctx: &Context) -> Result<Summary, StageError> {
    let tokenizer = Tokenizer::load(ctx.input("tokenizer")?).map_err(StageError::failed)?;
    let config = params.model.config(tokenizer.vocab_size()).map_err(StageError::failed)?;
    let (training, held_out) = split(params, &tokenizer, ctx)?;
    let time = config.context;
    if training.len() < time + 2 {
        return Err(StageError::failed(format!(
            "the corpus has {} tokens, one row needs {}: add text or shorten model.context",
            training.len(),
            time + 2
        )));
    }
    let batch = |step: u64| -> Vec<TokenRow> {
        let row = |i| TokenRow::window(&training, time, keyed(params.seed, "pretrain", step, i).random());
        (0..params.batch_size as u64).map(row).collect()
    };
    let micro = if params.micro_batch == 0 { params.batch_size } else { params.micro_batch };
    let device = ctx.device().clone().autodiff();
    let model = Decoder::new(&config, params.seed, &device);
    ctx.log(format!(
        "{} parameters, {} tokens to train on, {} held out",
        config.parameters(),
        training.len(),
        held_out.rows.iter().map(TokenRow::targets).sum::<usize>()
    ));
    let plan = Plan {
        steps: params.steps,
        learning_rate: params.learning_rate,
        schedule: &params.schedule,
        optimizer: &params.optimizer,
        micro_batch: micro,
        eval_every: params.eval_every,
        batch: &batch,
        validate: &|model| held_out.measure(model, micro),
        show: &|model, step| show(ctx, model, &tokenizer, params.seed, step),
    };
    let (model, last) = train(ctx, model, &plan)?;
    bundle::save(ctx.output("model")?, &model, &tokenizer)?;
    Ok(last.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

/// The most tokens of held-out text that a validation looks at.
const VALIDATION_TOKENS: usize = 1 << 15;

/// Text kept away from training, as rows, with the length in bytes of their targets.
pub struct HeldOut {
    rows: Vec<TokenRow>,
    bytes: usize,
}

impl HeldOut {
    /// Cuts documents into rows of `time` targets, each token but the first a target once. Of a
    /// long text every n-th row is taken, always the same ones.
    pub fn new(tokenizer: &Tokenizer, texts: &[&str], time: usize) -> Self {
        let tokens = joined(tokenizer, texts);
        let starts = (0..tokens.len().saturating_sub(1)).step_by(time);
        let stride = starts.len().div_ceil((VALIDATION_TOKENS / time).max(1)).max(1);
        let rows: Vec<TokenRow> = starts
            .step_by(stride)
            .map(|i| TokenRow { ids: tokens[i..(i + time + 1).min(tokens.len())].to_vec(), from: 1 })
            .collect();
        let bytes = rows.iter().map(|r| tokenizer.decode_bytes(&r.ids[1..]).len()).sum();
        Self { rows, bytes }
    }

    /// Validation loss (nats a token) and bits per byte of the text.
    pub fn measure(&self, model: &Decoder, micro: usize) -> Vec<(&'static str, f64)> {
        if self.rows.is_empty() {
            return Vec::new();
        }
        let (sum, count, bytes) = self.sums(model, micro);
        let bits = sum / std::f64::consts::LN_2 / bytes.max(1) as f64;
        vec![("val/loss", sum / count as f64), ("val/bits_per_byte", bits)]
    }

    /// The summed loss in nats, the tokens it is over, and the bytes of the text.
    pub fn sums(&self, model: &Decoder, micro: usize) -> (f64, usize, usize) {
        let (sum, count) = lm_loss(model, &self.rows, micro);
        (sum, count, self.bytes)
    }
}

/// Tokens of documents, each ended by the end-of-text token.
pub fn joined(tokenizer: &Tokenizer, texts: &[&str]) -> Vec<u32> {
    let mut out = Vec::new();
    for ids in tokenizer.encode_batch(texts) {
        out.extend(ids);
        out.push(tokenizer.eot());
    }
    out
}

/// The tokens to train on, and what is held out.
fn split(params: &Params, tokenizer: &Tokenizer, ctx: &Context) -> Result<(Vec<u32>, HeldOut), StageError> {
    let corpus = read_corpus(ctx.input("corpus")?).map_err(StageError::failed)?;
    let texts: Vec<&str> = corpus.iter().map(|d| d.text.as_str()).collect();
    let context = params.model.config(tokenizer.vocab_size()).map_err(StageError::failed)?.context;
    if let Some(path) = ctx.optional_input("validation") {
        let held: Vec<Document> = read_corpus(path).map_err(StageError::failed)?;
        let held: Vec<&str> = held.iter().map(|d| d.text.as_str()).collect();
        return Ok((joined(tokenizer, &texts), HeldOut::new(tokenizer, &held, context)));
    }
    // Cut the end of the text itself, at a character, so that bits per byte are exact.
    let whole = texts.join("\n");
    let mut cut = (whole.len() as f64 * (1.0 - params.validation_fraction)) as usize;
    while !whole.is_char_boundary(cut) {
        cut += 1;
    }
    let (training, held) = whole.split_at(cut);
    let held: Vec<&str> = if held.is_empty() { Vec::new() } else { vec![held] };
    Ok((joined(tokenizer, &[training]), HeldOut::new(tokenizer, &held, context)))
}

fn show(ctx: &Context, model: &Decoder, tokenizer: &Tokenizer, seed: u64, step: u64) {
    let sampling = Sampling {
        temperature: 0.8,
        max_tokens: 40,
        stop: Stop::Token(tokenizer.eot()),
        seed,
        purpose: "show",
        step,
        banned: &[],
    };
    let made = generate(&model.valid(), &[vec![tokenizer.eot()]], &[0], 1, &sampling);
    ctx.sample(step, "", &tokenizer.decode(&made[0].tokens));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{cpu, tokenizer};

    #[test]
    fn a_window_lies_within_the_tokens_wherever_it_begins() {
        let tokens: Vec<u32> = (0..20).collect();
        let mut starts = std::collections::BTreeSet::new();
        for draw in (0..40).chain([u64::MAX]) {
            let row = TokenRow::window(&tokens, 8, draw);
            assert_eq!(row.targets(), 8);
            assert!(row.ids.windows(2).all(|pair| pair[1] == pair[0] + 1));
            starts.insert(row.ids[0]);
        }
        assert_eq!(starts, (0..12).collect(), "the first and the last window are drawn too");
    }

    #[test]
    fn every_held_out_token_but_the_first_is_a_target_once() {
        let (tokenizer, texts) = (tokenizer(), ["the sun rose over the hill", "birds sang"]);
        let tokens = joined(&tokenizer, &texts);
        for time in [1, 4, 7, 100] {
            let held_out = HeldOut::new(&tokenizer, &texts, time);
            let targets: Vec<u32> = held_out.rows.iter().flat_map(|r| r.ids[1..].to_vec()).collect();
            assert_eq!(targets, tokens[1..], "rows of {time}");
            assert!(held_out.rows.iter().all(|r| r.targets() <= time));
        }
        assert_eq!(tokens.iter().filter(|&&t| t == tokenizer.eot()).count(), 2, "each document ends");
    }

    #[test]
    fn of_a_long_text_rows_from_all_over_are_held_out_and_no_more_than_a_bound() {
        let text = "the sun rose over the hill and the birds sang ".repeat(20_000);
        let held_out = HeldOut::new(&tokenizer(), &[&text], 64);
        let targets: usize = held_out.rows.iter().map(TokenRow::targets).sum();
        assert!(targets <= VALIDATION_TOKENS && targets > VALIDATION_TOKENS / 2, "{targets}");
        let end = held_out.rows.last().unwrap();
        assert!(end.ids.len() == 65 || end.ids.last() == Some(&tokenizer().eot()));
    }

    #[test]
    fn bits_per_byte_are_the_summed_loss_over_the_bytes_of_the_text() {
        let (tokenizer, texts) = (tokenizer(), ["the sün rose over the hill"]);
        let config = crate::model::ModelConfig {
            vocab: tokenizer.vocab_size(),
            ..crate::testing::shapes()[0].clone()
        };
        let model = Decoder::new(&config, 0, &cpu());
        let held_out = HeldOut::new(&tokenizer, &texts, 8);
        let (sum, tokens, bytes) = held_out.sums(&model, 2);
        assert_eq!(bytes, texts[0].len() - tokenizer.decode_bytes(&tokenizer.encode(texts[0])[..1]).len());
        assert_eq!(tokens, joined(&tokenizer, &texts).len() - 1);
        // A fresh model guesses: about log V a token.
        assert!((sum / tokens as f64 - (config.vocab as f64).ln()).abs() < 0.1);
        let measured = held_out.measure(&model, 2);
        assert_eq!(measured[0], ("val/loss", sum / tokens as f64));
        let bits = sum / std::f64::consts::LN_2 / bytes as f64;
        assert!(measured[1].0 == "val/bits_per_byte" && (measured[1].1 - bits).abs() < 1e-12);
    }

    #[test]
    fn the_end_of_the_corpus_is_held_out_and_cut_at_a_character() {
        let folder = tempfile::tempdir().unwrap();
        let corpus = folder.path().join("corpus");
        let text = "the sün rose ö ".repeat(20);
        std::fs::write(&corpus, &text).unwrap();
        let request = kiln::protocol::StageRequest {
            kind: "pretrain".to_owned(),
            params: serde_json::Value::Null,
            inputs: [("corpus".to_owned(), corpus)].into(),
            outputs: Default::default(),
            checkpoint: folder.path().to_owned(),
            threads: 1,
            device: "cpu".to_owned(),
        };
        let (tokenizer, ctx) = (tokenizer(), Context::new(&request, cpu(), Default::default()));
        for hundredth in 0..50 {
            let validation_fraction = f64::from(hundredth) / 100.0;
            let params = Params { validation_fraction, ..Params::default() };
            let (training, held_out) = split(&params, &tokenizer, &ctx).unwrap();
            let body = &training[..training.len() - 1];
            let trained_on = tokenizer.decode(body);
            assert!(text.starts_with(&trained_on));
            let mut held: Vec<u32> = held_out.rows.first().map_or(Vec::new(), |r| vec![r.ids[0]]);
            held.extend(held_out.rows.iter().flat_map(|r| &r.ids[1..]));
            assert_eq!(trained_on + &tokenizer.decode(&held), text, "at {validation_fraction}");
        }
    }
}
