//! The decoder in burn's operations against itself: with and without cache, alone and in padded batches.

use burn::tensor::{Device, Int, Tensor, TensorData};

use super::{full_logits, ragged};
use crate::model::device::{Cache, Rows};
use crate::model::{ModelConfig, Network};
use crate::testing::{all_shapes, assert_close, cpu, host, lively, tokens};

/// A model as burn computes it, on each of its devices.
fn twins(config: &ModelConfig, seed: u64) -> [Network; 2] {
    [cpu(), Device::flex()].map(|device| lively(config, seed, &cpu()).decomposed(&device))
}

#[test]
fn generation_with_a_cache_sees_the_logits_of_the_full_forward_pass() {
    for (config, model) in all_shapes().into_iter().flat_map(|c| twins(&c, 1).map(|m| (c.clone(), m))) {
        let (decoder, device) = (model.decoder(), model.device());
        let prompts = ragged(&config);
        let more = tokens("more", prompts.len() * 6, config.vocab);
        let mut so_far = prompts.clone();
        let mut cache = Cache::new(config.layers, 13 + 6);
        let mut rows = Rows::left(&prompts, 0, device);
        let left = rows.left.clone();
        for step in more.chunks(prompts.len()) {
            let hidden = decoder.hidden(rows, Some(&mut cache));
            let [count, time, width] = hidden.dims();
            let last = hidden.narrow(1, time - 1, 1).reshape([count, width]);
            let logits = host(decoder.logits(last));
            for (i, got) in logits.chunks(config.vocab).enumerate() {
                let wanted = full_logits(&model, &so_far[i]).pop().unwrap();
                let what = format!("{config:?}, row {i}, {} tokens", so_far[i].len());
                assert_close(got, &wanted, 1e-4, &what);
            }
            let next: Vec<i64> = step.iter().map(|&t| i64::from(t)).collect();
            so_far.iter_mut().zip(step).for_each(|(row, &t)| row.push(t));
            let ids = Tensor::<2, Int>::from_data(TensorData::new(next, [count, 1]), device);
            rows = Rows { ids, left: left.clone() };
        }
        assert_eq!(cache.len(), 13 + 5);
    }
}

#[test]
fn a_cache_takes_a_prompt_in_pieces() {
    for (config, model) in all_shapes().into_iter().flat_map(|c| twins(&c, 2).map(|m| (c.clone(), m))) {
        let (decoder, device) = (model.decoder(), model.device());
        let row = tokens("pieces", 12, config.vocab);
        let mut cache = Cache::new(config.layers, 12);
        assert!(cache.is_empty());
        let mut got = Vec::new();
        for piece in [&row[..5], &row[5..6], &row[6..]] {
            got.extend(host(decoder.hidden(Rows::right(&[piece], 0, device), Some(&mut cache))));
        }
        let wanted = host(decoder.hidden(Rows::right(&[&row], 0, device), None));
        assert_close(&got, &wanted, 1e-4, &format!("{config:?}"));
    }
}

#[test]
fn hidden_states_of_real_tokens_are_the_same_alone_and_with_padding_on_either_side() {
    for (config, model) in all_shapes().into_iter().flat_map(|c| twins(&c, 8).map(|m| (c.clone(), m))) {
        let (decoder, device) = (model.decoder(), model.device());
        let rows = ragged(&config);
        let (longest, width) = (13, config.hidden_size);
        let right = host(decoder.hidden(Rows::right(&rows, 0, device), None));
        let left = host(decoder.hidden(Rows::left(&rows, 0, device), None));
        for (i, row) in rows.iter().enumerate() {
            let alone = host(decoder.hidden(Rows::right(&[row], 0, device), None));
            let start = i * longest * width;
            let what = format!("{config:?}, row {i}");
            assert_close(&right[start..start + row.len() * width], &alone, 1e-5, &format!("{what}, right"));
            let end = start + longest * width;
            assert_close(&left[end - row.len() * width..end], &alone, 1e-5, &format!("{what}, left"));
        }
    }
}

#[test]
fn which_token_pads_makes_no_difference_at_all() {
    for (config, model) in all_shapes().into_iter().flat_map(|c| twins(&c, 9).map(|m| (c.clone(), m))) {
        let rows = ragged(&config);
        let (longest, width) = (13, config.hidden_size);
        let hidden = |pad: u32, left: bool| {
            let make = if left { Rows::left } else { Rows::right };
            host(model.decoder().hidden(make(&rows, pad, model.device()), None))
        };
        for left in [false, true] {
            let (a, b) = (hidden(0, left), hidden(5, left));
            for (i, row) in rows.iter().enumerate() {
                let pads = if left { longest - row.len() } else { 0 };
                let from = (i * longest + pads) * width;
                let real = from..from + row.len() * width;
                assert_eq!(a[real.clone()], b[real], "{config:?}, left {left}, row {i}");
            }
            assert_ne!(a, b, "the pads themselves differ");
        }
    }
}
