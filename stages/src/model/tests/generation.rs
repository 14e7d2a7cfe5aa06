//! Generation: greedy and sampled, on the CPU and on a device.

use burn::tensor::Device;

use super::{full_logits, ragged};
use crate::generate::{Generator, Sampling, Stop, generate};
use crate::model::{ModelConfig, Network};
use crate::testing::{all_shapes, changed, cpu, lively, shapes, tokens};

fn greedy(stop: Stop<'_>) -> Sampling<'_> {
    Sampling { temperature: 0.0, max_new_tokens: 12, stop, seed: 1, purpose: "test", step: 0 }
}

/// A model on the CPU, and its twin as a GPU would have it.
fn both(config: &ModelConfig, seed: u64) -> [Network; 2] {
    let model = lively(config, seed, &cpu());
    [model.clone(), model.decomposed(&cpu())]
}

#[test]
fn greedy_generation_with_a_cache_takes_the_tokens_of_generation_without() {
    for config in all_shapes() {
        for model in both(&config, 3) {
            let prompts = ragged(&config);
            let keys: Vec<u64> = (0..prompts.len() as u64).collect();
            let never = |_: &[u32]| false;
            let made = generate(&model, &prompts, &keys, 5, &greedy(Stop::When(&never))).unwrap();
            for (prompt, made) in prompts.iter().zip(&made) {
                let mut row = prompt.clone();
                for _ in 0..12 {
                    let logits = full_logits(&model, &row).pop().unwrap();
                    row.push(
                        (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap() as u32
                    );
                }
                assert_eq!(made.tokens, row[prompt.len()..], "{config:?}");
                assert!(!made.finished);
            }
        }
    }
}

#[test]
fn a_completion_does_not_depend_on_what_it_was_batched_with() {
    let config = &shapes()[1];
    for model in both(config, 4) {
        let prompts = ragged(config);
        let keys: Vec<u64> = (10..10 + prompts.len() as u64).collect();
        let sampling = Sampling { temperature: 1.0, ..greedy(Stop::Tokens(vec![3])) };
        let together = generate(&model, &prompts, &keys, 8, &sampling).unwrap();
        let in_twos = generate(&model, &prompts, &keys, 2, &sampling).unwrap();
        let alone = generate(&model, &prompts[3..4], &keys[3..4], 1, &sampling).unwrap();
        assert_eq!(together, in_twos);
        assert_eq!(together[3], alone[0]);
        assert!(together.iter().any(|c| c.tokens != together[0].tokens), "the draws differ by key");
    }
}

#[test]
fn the_cpu_and_a_device_sample_the_same_tokens_even_where_rows_run_out_of_room() {
    for config in all_shapes() {
        let config = ModelConfig { max_position_embeddings: 14, ..config };
        // The last prompt leaves no room, the one before it one token.
        let prompts = [1, 9, 4, 13, 14].map(|n| tokens("room", n, config.vocab));
        let sampling = Sampling { temperature: 1.0, ..greedy(Stop::Tokens(vec![u32::MAX])) };
        for device in [cpu(), Device::flex()] {
            let model = lively(&config, 5, &cpu());
            let of_twin =
                generate(&model.clone().decomposed(&device), &prompts, &[0, 1, 2, 3, 4], 5, &sampling);
            let made = generate(&model, &prompts, &[0, 1, 2, 3, 4], 5, &sampling).unwrap();
            assert_eq!(of_twin.unwrap(), made, "{config:?}");
            let lengths: Vec<usize> = made.iter().map(|c| c.tokens.len()).collect();
            assert_eq!(lengths, [12, 5, 10, 1, 0]);
        }
    }
}

#[test]
fn a_completion_ends_with_its_stop_token_and_never_runs_past_the_context() {
    let config = &shapes()[0];
    for model in both(config, 5) {
        let prompts = ragged(config);
        let keys: Vec<u64> = (0..prompts.len() as u64).collect();
        let free = generate(&model, &prompts, &keys, 5, &greedy(Stop::Tokens(vec![u32::MAX]))).unwrap();
        let stop = free[1].tokens[2];
        let stopped = generate(&model, &prompts, &keys, 5, &greedy(Stop::Tokens(vec![stop]))).unwrap();
        for (free, stopped) in free.iter().zip(&stopped) {
            let end = free.tokens.iter().position(|&t| t == stop);
            assert_eq!(stopped.finished, end.is_some());
            assert_eq!(stopped.tokens, free.tokens[..end.map_or(12, |e| e + 1)]);
        }
        let long = tokens("long", config.max_position_embeddings - 3, config.vocab);
        let made = generate(&model, &[long], &[0], 1, &greedy(Stop::Tokens(vec![u32::MAX]))).unwrap();
        assert_eq!((made[0].tokens.len(), made[0].finished), (3, false));
    }
}

#[test]
fn a_stream_tells_each_token_of_the_completion_as_it_comes() {
    let config = &shapes()[2];
    for model in both(config, 6) {
        let sampling = Sampling { temperature: 1.0, ..greedy(Stop::Tokens(vec![3])) };
        let mut told = Vec::new();
        let made =
            Generator::new(&model).stream(&[1, 2, 3], &sampling, &mut |token| told.push(token)).unwrap();
        assert_eq!(told, made.tokens);
        assert_eq!(made, generate(&model, &[vec![1, 2, 3]], &[0], 1, &sampling).unwrap()[0]);
    }
}

#[test]
fn sampling_follows_the_softmax_of_the_logits_over_the_temperature() {
    let config = &shapes()[0];
    let model = lively(config, 7, &cpu());
    let prompt = vec![1u32, 2, 3];
    let temperature = 3.0;
    let logits = full_logits(&model, &prompt).pop().unwrap();
    let weights: Vec<f64> = logits.iter().map(|l| (l / temperature).exp()).collect();
    let total: f64 = weights.iter().sum();
    let n = 4000;
    let keys: Vec<u64> = (0..n).collect();
    let sampling = Sampling { temperature, max_new_tokens: 1, ..greedy(Stop::Tokens(vec![u32::MAX])) };
    let made = generate(&model, &vec![prompt; n as usize], &keys, 1000, &sampling).unwrap();
    for (token, weight) in weights.iter().enumerate() {
        let p = weight / total;
        let seen = made.iter().filter(|c| c.tokens[0] as usize == token).count() as f64 / n as f64;
        // Five deviations of a binomial share; keyed draws make this the same on every run.
        let bound = 5.0 * (p * (1.0 - p) / n as f64).sqrt() + 1e-9;
        assert!((seen - p).abs() < bound, "token {token}: {seen} instead of {p}");
    }
}

#[test]
fn logits_that_are_not_finite_are_an_error_that_says_where() {
    let config = &shapes()[0];
    // Position 9 alone is poisoned: the second prompt reaches it with its third token.
    let poisoned = |model: Network| {
        changed(model, "position_embedding", |table| table[9 * config.hidden_size] = f32::NAN)
    };
    let model = poisoned(lively(config, 8, &cpu()));
    let prompts = [vec![1], vec![1; 7], vec![2]];
    for (batch, device) in [(3, None), (1, None), (2, Some(cpu())), (2, Some(Device::flex()))] {
        let model = match &device {
            Some(device) => model.clone().decomposed(device),
            None => model.clone(),
        };
        let sampling = Sampling { max_new_tokens: 4, ..greedy(Stop::Tokens(vec![u32::MAX])) };
        let said = generate(&model, &prompts, &[0, 1, 2], batch, &sampling).unwrap_err();
        assert_eq!((said.completion, said.token), (2, 4), "{device:?}");
    }
}
