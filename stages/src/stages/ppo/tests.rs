//! PPO's state: stopped and resumed at every iteration, whole and in parts.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::data::Message;
use crate::model::ModelConfig;
use crate::testing::{context, cpu, lively, shapes, token_store, tokenizer};
use crate::train::checkpoint::STATE;

const ITERATIONS: u64 = 5;

fn params() -> Params {
    Params {
        iterations: ITERATIONS,
        prompts_per_batch: 5,
        max_new_tokens: 6,
        epochs: 2,
        minibatches: 2,
        micro_batch: 2,
        learning_rate: 1e-3,
        kl_target: Some(0.5),
        ptx_coef: 0.5,
        pretraining_rows: 2,
        eval_every: 2,
        ..Params::default()
    }
}

/// Everything around a run of PPO with small models.
struct Stage {
    params: Params,
    tokenizer: Tokenizer,
    ctx: Context,
    stop: Arc<AtomicBool>,
}

impl Stage {
    fn new(folder: &Path) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        Self { params: params(), tokenizer: tokenizer(), ctx: context(folder, &stop), stop }
    }

    fn config(&self) -> ModelConfig {
        ModelConfig { vocab: self.tokenizer.vocab_size(), ..shapes()[2].clone() }
    }

    fn ppo(&self) -> PpoContext<'_> {
        let texts =
            ["the sun", "the birds sang", "over the hill", "and", "the hill and the sun", "rose", "birds"];
        let prompts: Vec<Prompt> =
            texts.iter().map(|text| Prompt { prompt: vec![Message::user(*text)], response: None }).collect();
        let text = "the sun rose over the hill and the birds sang ".repeat(9);
        let windows = Windows::new(token_store(&self.tokenizer.encode(&text)), 12).unwrap();
        PpoContext {
            params: &self.params,
            ctx: &self.ctx,
            tokenizer: &self.tokenizer,
            reference: lively(&self.config(), 1, &cpu()),
            reward: RewardModel(lively(&self.config(), 2, &cpu()).with_value_head(2)),
            ids: prompts.iter().map(|p| self.tokenizer.prompt_ids(&p.prompt).unwrap()).collect(),
            prompts,
            gold: None,
            pretraining: Some(Pretraining { ptx_coef: self.params.ptx_coef, text: windows, rows: 2 }),
        }
    }

    fn learners(&self) -> Learners {
        let trainer = |model: Network| Trainer::new(model, &self.params.optimizer);
        let ppo = self.ppo();
        Learners { policy: trainer(ppo.reference.clone()), value: trainer(ppo.reward.0.clone()) }
    }

    fn start(&self) -> TrainState {
        TrainState { learners: self.learners(), kl_coef: self.params.kl_coef, health: Health::default() }
    }
}

/// All that a state consists of: the bits of its tensors, and its counters.
fn contents(state: &TrainState) -> (Vec<(String, Vec<u32>)>, String) {
    let mut saved = Saved::default();
    state.save(&mut saved);
    let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect();
    let tensors = saved.tensors.iter().map(|(name, values)| (name.clone(), bits(values)));
    (tensors.collect(), serde_json::to_string(&saved.counters).unwrap())
}

/// A saved state as if it had been read from a file.
fn read_back(state: &TrainState) -> Reader {
    let mut saved = Saved::default();
    state.save(&mut saved);
    let tensors = saved.tensors.into_iter().map(|(name, values)| (name, values.into_owned()));
    Reader { tensors: tensors.collect(), counters: saved.counters }
}

/// The iterations of PPO; asked to stop in one of them, or before the first.
fn iterations(folder: &Path, stop_first: bool, stop_in: Option<u64>) -> Result<TrainState, StageError> {
    let stage = Stage::new(folder);
    let ppo = stage.ppo();
    stage.stop.store(stop_first, Ordering::Relaxed);
    state::run(&stage.ctx, stage.start(), ITERATIONS, |state, i| {
        stage.stop.store(stop_in == Some(i), Ordering::Relaxed);
        iterate(&ppo, state, i).map_err(StageError::failed)
    })
}

/// What one iteration does to the state.
fn iterate(ppo: &PpoContext, state: &mut TrainState, i: u64) -> Result<(), String> {
    let batch = ppo.rollout(state, i)?;
    let config = ppo.config(i, ppo.params.schedule.at(i, ITERATIONS));
    let stats = update(&mut state.learners, &batch, &config, ppo.pretraining.as_ref())?;
    ppo.report(i + 1, &batch, &stats, state, config.learning_rate);
    state.kl_coef = kl::adapted(state.kl_coef, batch.stats.k1, 0.5, batch.rows.len());
    Ok(())
}

#[test]
fn both_models_their_optimizers_the_kl_coefficient_and_the_signs_are_resumed_bit_for_bit() {
    let straight = tempfile::tempdir().unwrap();
    let end = iterations(straight.path(), false, None).unwrap();
    let wanted = contents(&end);
    assert_eq!(wanted.0.len(), 6, "weights and two moments of two models");
    assert_ne!(end.kl_coef, params().kl_coef, "the coefficient must move for this to show anything");
    assert!(wanted.1.contains("first_length") && !wanted.1.contains(r#""first_length":null"#));
    let stops = [(true, None)].into_iter().chain((0..ITERATIONS - 1).map(|i| (false, Some(i))));
    for (stop_first, stop_in) in stops {
        let folder = tempfile::tempdir().unwrap();
        let stopped = iterations(folder.path(), stop_first, stop_in);
        assert!(matches!(stopped, Err(StageError::Interrupted)), "{stop_in:?}");
        let resumed = iterations(folder.path(), false, None).unwrap();
        assert!(contents(&resumed) == wanted, "stopped in iteration {stop_in:?}");
    }
    let folder = tempfile::tempdir().unwrap();
    for i in 0..ITERATIONS - 1 {
        assert!(matches!(iterations(folder.path(), false, Some(i)), Err(StageError::Interrupted)));
    }
    assert!(contents(&iterations(folder.path(), false, None).unwrap()) == wanted, "stopped in each");
}

#[test]
fn a_state_of_which_a_part_is_missing_or_of_another_length_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::new(folder.path());
    let parts =
        ["policy.weights", "policy.first", "policy.second", "value.weights", "value.first", "value.second"];
    for part in parts {
        for length in [None, Some(0), Some(7)] {
            let mut reader = read_back(&stage.start());
            match length {
                Some(n) => drop(reader.tensors.insert(part.to_owned(), vec![0.0; n])),
                None => drop(reader.tensors.remove(part)),
            }
            let said = stage.start().restore(&mut reader).unwrap_err();
            assert!(said.contains(&format!("`{part}`")), "{said}");
        }
    }
    for counter in ["policy.updates", "value.updates", "kl_coef", "health"] {
        let mut reader = read_back(&stage.start());
        reader.counters.remove(counter);
        let said = stage.start().restore(&mut reader).unwrap_err();
        assert!(said.contains(&format!("`{counter}`")), "{said}");
    }
    // The value model has a head, and the policy has none.
    let mut swapped = read_back(&stage.start());
    let policy = swapped.tensors.remove("policy.first").unwrap();
    let value = swapped.tensors.insert("value.first".to_owned(), policy).unwrap();
    swapped.tensors.insert("policy.first".to_owned(), value);
    assert!(stage.start().restore(&mut swapped).is_err());
}

#[test]
fn a_checkpoint_of_which_a_part_does_not_fit_means_starting_over() {
    let straight = tempfile::tempdir().unwrap();
    let wanted = contents(&iterations(straight.path(), false, None).unwrap());
    for part in ["value.second", "kl_coef", "health"] {
        let folder = tempfile::tempdir().unwrap();
        assert!(iterations(folder.path(), false, Some(2)).is_err());
        let stage = Stage::new(folder.path());
        stage.stop.store(true, Ordering::Relaxed);
        let mut reader = read_back(&stage.start());
        if reader.tensors.remove(part).is_none() {
            reader.counters.insert(part.to_owned(), "another".into());
        }
        std::fs::remove_file(folder.path().join(STATE)).unwrap();
        let stopped = crate::train::Checkpoints::new(&stage.ctx, 1 << 20).save_if_due(&stage.ctx, || {
            let tensors = reader.tensors.iter().map(|(name, values)| (name.clone(), values.into()));
            let mut saved = Saved { tensors: tensors.collect(), counters: reader.counters.clone() };
            saved.counter("step", 3);
            saved
        });
        assert!(matches!(stopped, Err(StageError::Interrupted)));
        assert!(contents(&iterations(folder.path(), false, None).unwrap()) == wanted, "{part}");
    }
}

#[test]
fn the_whole_run_is_these_iterations() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::new(folder.path());
    let (policy, summary) = stage.ppo().train(stage.learners()).unwrap();
    let other = tempfile::tempdir().unwrap();
    let wanted = iterations(other.path(), false, None).unwrap();
    assert_eq!(policy.weights().values(), wanted.learners.policy.model.weights().values());
    assert_eq!(summary.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["score", "KL"]);
}
