//! The decoder on the CPU against the same decoder in burn's operations, and that one's gradients against differences.

use std::panic::AssertUnwindSafe;

use burn::tensor::Device;

use super::{READOUTS, assert_gradient, exact_twin, moved_twin};
use crate::model::{Dtype, Execution, Network, Readout, TokenRow};
use crate::testing::{
    all_shapes, assert_close, cpu, lively, lively_for, lively_scorer, numbers, outputs_and_gradient,
    relative, rows, shapes, wide,
};

/// Two rows have no target, or one.
const LENGTHS: [usize; 5] = [7, 1, 12, 2, 30];

#[test]
fn outputs_and_gradients_are_those_of_the_decomposed_twin_in_f64() {
    for config in all_shapes() {
        let rows = rows("twin", &LENGTHS, config.vocab);
        for readout in READOUTS {
            let model = lively_for(readout, &config, 1);
            let twin = exact_twin(&model);
            let what = format!("{config:?}, {readout:?}");
            let [got, got_grads] = outputs_and_gradient(&model, &rows, readout);
            let [wanted, wanted_grads] = outputs_and_gradient(&twin, &rows, readout);
            assert_close(&got, &wanted, 1e-5, &what);
            assert_gradient(&model, &got_grads, &wanted_grads, 1e-5, &what);
            let alone = model.outputs(&rows, readout);
            assert_eq!(wide(&alone), got, "{what}: without gradients");
        }
    }
}

#[test]
fn the_twin_computes_the_same_on_libtorch_as_on_flex() {
    for config in all_shapes() {
        let rows = rows("devices", &LENGTHS, config.vocab);
        for readout in READOUTS {
            let model = lively_for(readout, &config, 2);
            let what = format!("{config:?}, {readout:?}");
            let run =
                |device: &Device| outputs_and_gradient(&model.clone().decomposed(device), &rows, readout);
            let ([got, got_grads], [wanted, wanted_grads]) = (run(&cpu()), run(&Device::flex()));
            assert_close(&got, &wanted, 1e-5, &what);
            assert_gradient(&model, &got_grads, &wanted_grads, 2e-5, &what);
        }
    }
}

#[test]
fn products_in_bf16_are_those_of_f32_within_their_rounding_and_the_host_computes_in_f32() {
    let execution = Execution { dtype: Dtype::Bfloat16, ..Execution::default() };
    for config in all_shapes() {
        let rows = rows("bf16", &LENGTHS, config.vocab);
        for readout in READOUTS {
            let model = lively_for(readout, &config, 7).executed(execution);
            let in_f32 = model.clone().executed(Execution::default());
            let what = format!("{config:?}, {readout:?}");
            let [wanted, wanted_grads] = outputs_and_gradient(&model, &rows, readout);
            let [exact, _] = outputs_and_gradient(&exact_twin(&in_f32), &rows, readout);
            assert_close(&wanted, &exact, 1e-5, &what);
            for device in [cpu(), Device::flex()] {
                let twin = model.clone().decomposed(&device);
                let [got, got_grads] = outputs_and_gradient(&twin, &rows, readout);
                let (off, off_grads) = (relative(&got, &wanted), relative(&got_grads, &wanted_grads));
                assert!(off > 1e-5 && off < 3e-2, "{what} on {device:?}: {off}");
                assert!(off_grads < 6e-2, "{what} on {device:?}: gradients {off_grads}");
            }
        }
    }
}

#[test]
fn the_gradient_is_that_of_finite_differences_in_f64() {
    for config in all_shapes() {
        let rows = rows("differences", &[7, 12, 4], config.vocab);
        for readout in [Readout::LogProbs { temperature: 1.3 }, Readout::Values, Readout::Scores] {
            let model = lively_for(readout, &config, 3);
            // Drawn over all parameters, so a wrong gradient anywhere shows.
            let mut direction = numbers("direction", model.weights().len());
            // Of scores the bias takes no gradient.
            let bias = model.layout().value_head.as_ref().and_then(|head| head.bias.clone());
            bias.filter(|_| readout == Readout::Scores)
                .into_iter()
                .flatten()
                .for_each(|at| direction[at] = 0.0);
            let run = |by: f64| outputs_and_gradient(&moved_twin(&model, by, &direction), &rows, readout);
            let [outputs, grads] = run(0.0);
            let slope: f64 = grads.iter().zip(&direction).map(|(g, d)| g * d).sum();
            let weights = numbers("d_outputs", outputs.len());
            // So small that no unit of `relu` turns on or off on the way.
            let step = 1e-7;
            let [above, below] =
                [step, -step].map(|by| -> f64 { run(by)[0].iter().zip(&weights).map(|(x, w)| x * w).sum() });
            let measured = (above - below) / (2.0 * step);
            assert!((slope / measured - 1.0).abs() < 2e-6, "{config:?}, {readout:?}: {slope} {measured}");
        }
    }
}

#[test]
fn all_logits_of_targets_come_with_their_log_probabilities() {
    for config in all_shapes() {
        let model = lively(&config, 4, &cpu());
        let rows = rows("logits", &LENGTHS, config.vocab);
        let (logprobs, logits) = model.logprobs_and_logits(&rows, 0.7);
        assert_eq!(logprobs, model.outputs(&rows, Readout::LogProbs { temperature: 0.7 }));
        let (_, wanted) = exact_twin(&model).logprobs_and_logits(&rows, 0.7);
        let [logits, wanted] = [logits, wanted].map(|x| wide(&x));
        assert_eq!(logits.len(), logprobs.len() * config.vocab);
        assert!(relative(&logits, &wanted) < 1e-5, "{config:?}");
    }
}

#[test]
fn gradients_are_added_to_those_that_are_there() {
    let config = &all_shapes()[2];
    let model = lively(config, 5, &cpu());
    let rows = rows("added", &[6, 11], config.vocab);
    let readout = Readout::LogProbs { temperature: 1.0 };
    for model in [model.clone(), model.decomposed(&Device::flex())] {
        let mut both = model.weights().zeros_like();
        let mut single = both.clone();
        for grads in [&mut both, &mut single] {
            let (outputs, tape) = model.forward(&rows, readout);
            model.backward(tape, outputs.ones_like(), grads);
        }
        let (outputs, tape) = model.forward(&rows, readout);
        model.backward(tape, outputs.ones_like(), &mut both);
        let doubled: Vec<f64> = single.values().iter().map(|&x| 2.0 * f64::from(x)).collect();
        assert!(relative(&wide(&both.values()), &doubled) < 1e-6);
    }
}

#[test]
fn a_token_or_a_position_that_the_model_has_not_is_a_panic_and_no_other_parameter() {
    let [config, ..] = shapes();
    let row = |length: usize| TokenRow::new(vec![1; length], 1);
    let with = |at: usize| {
        let mut row = row(5);
        row.ids[at] = config.vocab as u32;
        row
    };
    let fails = |model: &Network, row: TokenRow, readout: Readout| {
        std::panic::catch_unwind(AssertUnwindSafe(|| model.outputs(&[row], readout))).is_err()
    };
    let logprobs = Readout::LogProbs { temperature: 1.0 };
    let both = |model: Network| [model.clone(), model.decomposed(&Device::flex())];
    for (model, scorer) in
        both(lively(&config, 6, &cpu())).iter().zip(&both(lively_scorer(&config, 6, &cpu())))
    {
        let longest = config.max_position_embeddings;
        assert!(!fails(model, row(longest + 1), logprobs), "the last token is only a label");
        assert!(fails(model, row(longest + 2), logprobs));
        assert!(fails(scorer, row(longest + 1), Readout::Scores));
        assert!(fails(scorer, with(2), Readout::Scores));
        assert!(fails(model, with(4), logprobs), "a label beyond the vocabulary");
    }
}
