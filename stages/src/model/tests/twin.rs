//! The decoder on the CPU against the same decoder in burn's operations, and that one's gradients against differences.

use burn::tensor::Device;

use super::{READOUTS, assert_gradient, exact_twin, moved_twin};
use crate::model::Readout;
use crate::testing::{
    all_shapes, assert_close, cpu, lively_scorer, numbers, outputs_and_gradient, relative, rows,
};

/// Two rows have no target, or one.
const LENGTHS: [usize; 5] = [7, 1, 12, 2, 30];

#[test]
fn outputs_and_gradients_are_those_of_the_decomposed_twin_in_f64() {
    for config in all_shapes() {
        let model = lively_scorer(&config, 1, &cpu());
        let twin = exact_twin(&model);
        let rows = rows("twin", &LENGTHS, config.vocab);
        for readout in READOUTS {
            let what = format!("{config:?}, {readout:?}");
            let [got, got_grads] = outputs_and_gradient(&model, &rows, readout);
            let [wanted, wanted_grads] = outputs_and_gradient(&twin, &rows, readout);
            assert_close(&got, &wanted, 1e-5, &what);
            assert_gradient(&model, &got_grads, &wanted_grads, 1e-5, &what);
            let alone = model.outputs(&rows, readout);
            assert_eq!(crate::testing::wide(&alone), got, "{what}: without gradients");
        }
    }
}

#[test]
fn the_twin_computes_the_same_on_libtorch_as_on_flex() {
    for config in all_shapes() {
        let model = lively_scorer(&config, 2, &cpu());
        let rows = rows("devices", &LENGTHS, config.vocab);
        for readout in READOUTS {
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
fn the_gradient_is_that_of_finite_differences_in_f64() {
    for config in all_shapes() {
        let model = lively_scorer(&config, 3, &cpu());
        let rows = rows("differences", &[7, 12, 4], config.vocab);
        // Drawn over all parameters, so a wrong gradient anywhere shows.
        let direction = numbers("direction", model.weights().len());
        for readout in [Readout::LogProbs { temperature: 1.3 }, Readout::Values, Readout::Scores] {
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
        let model = lively_scorer(&config, 4, &cpu());
        let rows = rows("logits", &LENGTHS, config.vocab);
        let (logprobs, logits) = model.logprobs_and_logits(&rows, 0.7);
        assert_eq!(logprobs, model.outputs(&rows, Readout::LogProbs { temperature: 0.7 }));
        let (_, wanted) = exact_twin(&model).logprobs_and_logits(&rows, 0.7);
        let [logits, wanted] = [logits, wanted].map(|x| crate::testing::wide(&x));
        assert_eq!(logits.len(), logprobs.len() * config.vocab);
        assert!(relative(&logits, &wanted) < 1e-5, "{config:?}");
    }
}

#[test]
fn gradients_are_added_to_those_that_are_there() {
    let config = &all_shapes()[2];
    let model = lively_scorer(config, 5, &cpu());
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
        assert!(relative(&crate::testing::wide(&both.values()), &doubled) < 1e-6);
    }
}
