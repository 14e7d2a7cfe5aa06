//! The token loss: which tokens it is over, and what stays out of it.

use crate::model::device::Rows;
use crate::model::{Network, Readout, TokenRow};
use crate::testing::{assert_close, cpu, host, lively, rows, shapes, tokens, wide};
use crate::train::lm::LOGPROBS;
use crate::train::{OptimizerParams, Trainer, add_lm_loss, lm_loss};

fn logprobs(model: &Network, rows: &[TokenRow], temperature: f32) -> Vec<f64> {
    wide(&model.outputs(rows, Readout::LogProbs { temperature }))
}

fn trainer(model: Network) -> Trainer {
    Trainer::new(model, &OptimizerParams::default())
}

/// The same model with each parameter changed by its name and value.
fn changed(model: Network, change: impl Fn(&str, usize, f32) -> f32) -> Network {
    let mut weights = model.weights().values().into_owned();
    for entry in model.layout().entries() {
        for (i, x) in weights[entry.range.clone()].iter_mut().enumerate() {
            *x = change(&entry.name, i, *x);
        }
    }
    model.with_weights(weights)
}

/// The log-probability of each token of a row but the first, in f64 from the logits of burn's operations.
fn by_hand(model: &Network, ids: &[u32], temperature: f64) -> Vec<f64> {
    let model = model.clone().decomposed(&cpu());
    let decoder = model.decoder();
    let hidden = decoder.hidden(Rows::right(&[ids], 0, decoder.device()), None);
    let [_, time, width] = hidden.dims();
    let logits = host(decoder.logits(hidden.reshape([time, width])));
    let rows = logits.chunks(model.config().vocab);
    rows.zip(&ids[1..])
        .map(|(row, &next)| {
            let total: f64 = row.iter().map(|l| (l / temperature).exp()).sum();
            row[next as usize] / temperature - total.ln()
        })
        .collect()
}

#[test]
fn the_mean_runs_over_tokens_and_not_over_rows() {
    let config = &shapes()[0];
    let model = lively(config, 2, &cpu());
    let rows = rows("means", &[4, 20], config.vocab);
    let loss = add_lm_loss(&mut trainer(model.clone()), &rows, 1, 1.0).unwrap();
    let parts: Vec<(f64, usize)> =
        rows.iter().map(|r| lm_loss(&model, std::slice::from_ref(r), 1).unwrap()).collect();
    let by_token = parts.iter().map(|p| p.0).sum::<f64>() / parts.iter().map(|p| p.1).sum::<usize>() as f64;
    let by_row = parts.iter().map(|p| p.0 / p.1 as f64).sum::<f64>() / 2.0;
    assert!((loss - by_token).abs() < 1e-5, "{loss} {by_token}");
    assert!((by_row - by_token).abs() > 1e-2, "the two means must differ for this to show anything");
}

#[test]
fn a_row_without_a_target_is_an_error_that_names_it() {
    let config = &shapes()[0];
    let mut trainer = trainer(lively(config, 3, &cpu()));
    let good = rows("good", &[5], config.vocab).remove(0);
    let masked = TokenRow::new(vec![1, 2, 3], 3);
    let alone = TokenRow::new(vec![1], 0);
    for bad in [masked, alone] {
        let said = add_lm_loss(&mut trainer, &[good.clone(), good.clone(), bad], 1, 1.0).unwrap_err();
        assert!(said.contains("row 2"), "{said}");
        assert_eq!(trainer.grads().norm(), 0.0, "nothing was added");
    }
}

#[test]
fn a_loss_that_is_not_finite_is_an_error_that_names_its_rows() {
    let config = &shapes()[0];
    // Position 10 alone is poisoned; only row 3 is that long.
    let place = 10 * config.hidden_size;
    let poisoned = changed(lively(config, 3, &cpu()), |name, i, x| {
        if name == "position_embedding" && i == place { f32::NAN } else { x }
    });
    let rows = rows("finite", &[5, 9, 6, 20], config.vocab);
    let said = add_lm_loss(&mut trainer(poisoned), &rows, 1, 1.0).unwrap_err();
    assert!(said.contains("rows 3 and after") && said.contains("NaN"), "{said}");
}

#[test]
fn the_loss_is_the_sum_over_response_and_stop_tokens_and_no_others() {
    for config in shapes() {
        let model = lively(&config, 4, &cpu());
        for (prompt, response) in [(1, 1), (3, 1), (6, 9), (1, 12)] {
            let ids = tokens("sft", prompt + response, config.vocab);
            let row = TokenRow::new(ids.clone(), prompt);
            assert_eq!(row.targets(), response);
            let wanted = by_hand(&model, &ids, 1.0)[prompt - 1..].to_vec();
            let got = logprobs(&model, std::slice::from_ref(&row), 1.0);
            assert_close(&got, &wanted, 1e-5, "log-probabilities");
            let (loss, count) = lm_loss(&model, &[row], 4).unwrap();
            assert_eq!(count, response);
            assert_close(&[loss], &[-wanted.iter().sum::<f64>()], 1e-5, "loss");
        }
    }
}

#[test]
fn a_prompt_token_is_a_context_and_never_a_target() {
    // With a model that sees no context at all, prompts change nothing.
    let blind = changed(lively(&shapes()[0], 5, &cpu()), |name, _, x| {
        if name.starts_with("blocks") || name == "position_embedding" { 0.0 } else { x }
    });
    let loss = |ids: [u32; 6]| lm_loss(&blind, &[TokenRow::new(ids.to_vec(), 4)], 1).unwrap().0;
    assert_eq!(loss([1, 2, 3, 9, 5, 6]), loss([30, 31, 32, 9, 5, 6]));
    assert_ne!(loss([1, 2, 3, 9, 5, 6]), loss([1, 2, 3, 9, 7, 6]));
}

#[test]
fn what_a_row_is_batched_with_never_enters_a_log_probability() {
    for config in shapes() {
        let host = lively(&config, 6, &cpu());
        let rows = rows("padding", &[17, 3, 9], config.vocab);
        // Elsewhere than on the host rows are padded; there they lie one after the other.
        for model in [host.clone(), host.decomposed(&cpu())] {
            let together = logprobs(&model, &rows, 1.0);
            let alone = |row| logprobs(&model, std::slice::from_ref(row), 1.0);
            let alone: Vec<f64> = rows.iter().flat_map(alone).collect();
            assert_close(&together, &alone, 1e-5, &format!("{:?}", config.family));
        }
    }
}

#[test]
fn the_temperature_divides_the_logits() {
    let config = &shapes()[1];
    let model = lively(config, 7, &cpu());
    let ids = tokens("temperature", 8, config.vocab);
    for temperature in [0.5, 2.0] {
        let got = logprobs(&model, &[TokenRow::new(ids.clone(), 1)], temperature as f32);
        assert_close(&got, &by_hand(&model, &ids, temperature), 1e-5, "temperature");
    }
    assert_eq!(LOGPROBS, Readout::LogProbs { temperature: 1.0 }, "language models are trained as they are");
}
