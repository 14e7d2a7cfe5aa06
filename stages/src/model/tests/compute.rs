//! The decoder against itself: with and without cache, alone and in padded batches.

use burn::tensor::{Int, Tensor, TensorData};

use crate::generate::{Sampling, Stop, generate};
use crate::model::io::named_tensors;
use crate::model::{Cache, Decoder, ModelConfig, Rows};
use crate::rl::scorer::Scorer;
use crate::testing::{assert_close, cpu, host, lively, shapes, tokens};
use crate::train::TokenRow;

/// Ragged rows of tokens of a model.
fn ragged(config: &ModelConfig) -> Vec<Vec<u32>> {
    [1, 9, 4, 13, 13].iter().map(|&n| tokens("ragged", n, config.vocab)).collect()
}

/// Logits after each token of one row, from the full forward pass.
fn full_logits(model: &Decoder, row: &[u32]) -> Vec<Vec<f64>> {
    let hidden = model.hidden(Rows::right(&[row], 0, &model.device()), None);
    let [_, time, width] = hidden.dims();
    let logits = host(model.logits(hidden.reshape([time, width])));
    logits.chunks(model.config().vocab).map(<[f64]>::to_vec).collect()
}

#[test]
fn generation_with_a_cache_sees_the_logits_of_the_full_forward_pass() {
    for config in shapes() {
        let model = lively(&config, 1, &cpu());
        let prompts = ragged(&config);
        let more = tokens("more", prompts.len() * 6, config.vocab);
        let mut so_far = prompts.clone();
        let mut cache = Cache::new(config.layers, 13 + 6);
        let mut rows = Rows::left(&prompts, 0, &cpu());
        let left = rows.left.clone();
        for step in more.chunks(prompts.len()) {
            let hidden = model.hidden(rows, Some(&mut cache));
            let [count, time, width] = hidden.dims();
            let last = hidden.narrow(1, time - 1, 1).reshape([count, width]);
            let logits = host(model.logits(last));
            for (i, got) in logits.chunks(config.vocab).enumerate() {
                let wanted = full_logits(&model, &so_far[i]).pop().unwrap();
                assert_close(
                    got,
                    &wanted,
                    1e-4,
                    &format!("{:?}, row {i}, {} tokens", config.family, so_far[i].len()),
                );
            }
            let next: Vec<i64> = step.iter().map(|&t| i64::from(t)).collect();
            so_far.iter_mut().zip(step).for_each(|(row, &t)| row.push(t));
            let ids = Tensor::<2, Int>::from_data(TensorData::new(next, [count, 1]), &cpu());
            rows = Rows { ids, left: left.clone() };
        }
        assert_eq!(cache.len(), 13 + 5);
    }
}

#[test]
fn a_cache_takes_a_prompt_in_pieces() {
    for config in shapes() {
        let model = lively(&config, 2, &cpu());
        let row = tokens("pieces", 12, config.vocab);
        let mut cache = Cache::new(config.layers, 12);
        assert!(cache.is_empty());
        let mut got = Vec::new();
        for piece in [&row[..5], &row[5..6], &row[6..]] {
            got.extend(host(model.hidden(Rows::right(&[piece], 0, &cpu()), Some(&mut cache))));
        }
        let wanted = host(model.hidden(Rows::right(&[&row], 0, &cpu()), None));
        assert_close(&got, &wanted, 1e-4, &format!("{:?}", config.family));
    }
}

fn greedy(stop: Stop<'_>) -> Sampling<'_> {
    Sampling { temperature: 0.0, max_tokens: 12, stop, seed: 1, purpose: "test", step: 0, banned: &[] }
}

#[test]
fn greedy_generation_with_a_cache_takes_the_tokens_of_generation_without() {
    for config in shapes() {
        let model = lively(&config, 3, &cpu());
        let prompts = ragged(&config);
        let keys: Vec<u64> = (0..prompts.len() as u64).collect();
        let never = |_: &[u32]| false;
        let made = generate(&model, &prompts, &keys, 5, &greedy(Stop::When(&never))).unwrap();
        for (prompt, made) in prompts.iter().zip(&made) {
            let mut row = prompt.clone();
            for _ in 0..12 {
                let logits = full_logits(&model, &row).pop().unwrap();
                row.push((0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap() as u32);
            }
            assert_eq!(made.tokens, row[prompt.len()..], "{:?}", config.family);
            assert!(!made.finished);
        }
    }
}

#[test]
fn a_completion_does_not_depend_on_what_it_was_batched_with() {
    let config = &shapes()[1];
    let model = lively(config, 4, &cpu());
    let prompts = ragged(config);
    let keys: Vec<u64> = (10..10 + prompts.len() as u64).collect();
    let sampling = Sampling { temperature: 1.0, ..greedy(Stop::Token(3)) };
    let together = generate(&model, &prompts, &keys, 8, &sampling).unwrap();
    let in_twos = generate(&model, &prompts, &keys, 2, &sampling).unwrap();
    let alone = generate(&model, &prompts[3..4], &keys[3..4], 1, &sampling).unwrap();
    assert_eq!(together, in_twos);
    assert_eq!(together[3], alone[0]);
    assert!(together.iter().any(|c| c.tokens != together[0].tokens), "the draws differ by key");
}

#[test]
fn a_completion_ends_with_its_stop_token_and_never_runs_past_the_context() {
    let config = &shapes()[0];
    let model = lively(config, 5, &cpu());
    let prompts = ragged(config);
    let keys: Vec<u64> = (0..prompts.len() as u64).collect();
    let free = generate(&model, &prompts, &keys, 5, &greedy(Stop::Token(u32::MAX))).unwrap();
    let stop = free[1].tokens[2];
    let stopped = generate(&model, &prompts, &keys, 5, &greedy(Stop::Token(stop))).unwrap();
    for (free, stopped) in free.iter().zip(&stopped) {
        let end = free.tokens.iter().position(|&t| t == stop);
        assert_eq!(stopped.finished, end.is_some());
        assert_eq!(stopped.tokens, free.tokens[..end.map_or(12, |e| e + 1)]);
    }
    let long = tokens("long", config.context - 3, config.vocab);
    let made = generate(&model, &[long], &[0], 1, &greedy(Stop::Token(u32::MAX))).unwrap();
    assert_eq!((made[0].tokens.len(), made[0].finished), (3, false));
}

#[test]
fn banned_tokens_are_never_taken() {
    let config = &shapes()[0];
    let model = lively(config, 6, &cpu());
    let banned: Vec<u32> = (0..config.vocab as u32).filter(|t| t % 5 != 0).collect();
    for temperature in [0.0, 1.0] {
        let sampling = Sampling { temperature, banned: &banned, ..greedy(Stop::Token(u32::MAX)) };
        let made = generate(&model, &[vec![1, 2]], &[0], 1, &sampling).unwrap();
        assert!(made[0].tokens.iter().all(|t| t % 5 == 0), "{:?}", made[0].tokens);
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
    let sampling = Sampling { temperature, max_tokens: 1, ..greedy(Stop::Token(u32::MAX)) };
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
fn hidden_states_of_real_tokens_are_the_same_alone_and_with_padding_on_either_side() {
    for config in shapes() {
        let model = lively(&config, 8, &cpu());
        let rows = ragged(&config);
        let (longest, width) = (13, config.width);
        let right = host(model.hidden(Rows::right(&rows, 0, &cpu()), None));
        let left = host(model.hidden(Rows::left(&rows, 0, &cpu()), None));
        for (i, row) in rows.iter().enumerate() {
            let alone = host(model.hidden(Rows::right(&[row], 0, &cpu()), None));
            let start = i * longest * width;
            let what = format!("{:?}, row {i}", config.family);
            assert_close(&right[start..start + row.len() * width], &alone, 1e-5, &format!("{what}, right"));
            let end = start + longest * width;
            assert_close(&left[end - row.len() * width..end], &alone, 1e-5, &format!("{what}, left"));
        }
    }
}

#[test]
fn which_token_pads_makes_no_difference_at_all() {
    for config in shapes() {
        let model = lively(&config, 9, &cpu());
        let rows = ragged(&config);
        let (longest, width) = (13, config.width);
        let hidden = |pad: u32, left: bool| {
            let rows = if left { Rows::left(&rows, pad, &cpu()) } else { Rows::right(&rows, pad, &cpu()) };
            host(model.hidden(rows, None))
        };
        for left in [false, true] {
            let (a, b) = (hidden(0, left), hidden(5, left));
            for (i, row) in rows.iter().enumerate() {
                let pads = if left { longest - row.len() } else { 0 };
                let from = (i * longest + pads) * width;
                let real = from..from + row.len() * width;
                assert_eq!(a[real.clone()], b[real], "{:?}, left {left}, row {i}", config.family);
            }
            assert_ne!(a, b, "the pads themselves differ");
        }
    }
}

#[test]
fn a_score_is_the_same_alone_and_with_padding_on_either_side() {
    for config in shapes() {
        let scorer = Scorer::new(lively(&config, 10, &cpu()), 3);
        let ids = ragged(&config);
        let rows: Vec<TokenRow> = ids.iter().map(|r| TokenRow { ids: r.clone(), from: 1 }).collect();
        let alone: Vec<f64> = rows.chunks(1).flat_map(|r| host(scorer.scores(r))).collect();
        assert_close(&host(scorer.scores(&rows)), &alone, 1e-5, "right");
        let hidden = scorer.decoder().hidden(Rows::left(&ids, 0, &cpu()), None);
        let last = |time: usize| (1..=rows.len()).map(|i| (i * time) as i64 - 1).collect();
        assert_close(&host(scorer.read(hidden, &last)), &alone, 1e-5, "left");
        let spread = alone.iter().fold(0.0, |m: f64, x| m.max((x - alone[0]).abs()));
        assert!(spread > 0.1, "scores that are all alike show nothing: {alone:?}");
    }
}

#[test]
fn a_module_has_exactly_the_parameters_that_its_shape_counts() {
    let [gpt2, llama, grouped] = shapes();
    let odd = ModelConfig { ffn: 4 * gpt2.width + 3, layers: 3, context: 7, ..gpt2.clone() };
    let untied = ModelConfig { tied: false, ..llama.clone() };
    let one_kv_head = ModelConfig { kv_heads: 1, tied: true, ..grouped.clone() };
    for config in [gpt2, llama, grouped, odd, untied, one_kv_head] {
        let model = Decoder::new(&config, 0, &cpu());
        let count = |tensors: crate::model::io::NamedTensors| -> u64 {
            tensors.values().map(|d| d.num_elements() as u64).sum()
        };
        assert_eq!(count(named_tensors(&model)), config.parameters(), "{config:?}");
        let scorer = Scorer::new(model, 0);
        assert_eq!(
            count(named_tensors(&scorer)),
            config.parameters() + config.width as u64 + 1,
            "{config:?}"
        );
    }
}

#[test]
fn a_fresh_model_depends_on_its_seed_alone_and_begins_as_gpt2_does() {
    let config = ModelConfig { width: 96, ffn: 384, layers: 4, ..shapes()[0].clone() };
    let tensors = |seed| named_tensors(&Decoder::new(&config, seed, &cpu()));
    assert_eq!(tensors(1), tensors(1));
    assert_ne!(tensors(1)["token_embedding"], tensors(2)["token_embedding"]);
    let deviation = |name: &str| {
        let values: Vec<f64> = tensors(1)[name].iter::<f64>().collect();
        (values.iter().map(|x| x * x).sum::<f64>() / values.len() as f64).sqrt()
    };
    for (name, wanted) in [
        ("token_embedding", 0.02),
        ("blocks.0.attention.qkv.weight", 0.02),
        ("blocks.3.feed_forward.up.weight", 0.02),
        ("blocks.0.attention.out.weight", 0.02 / 8f64.sqrt()),
        ("blocks.3.feed_forward.down.weight", 0.02 / 8f64.sqrt()),
    ] {
        let got = deviation(name);
        assert!((got / wanted - 1.0).abs() < 0.05, "{name}: {got} instead of {wanted}");
    }
}
