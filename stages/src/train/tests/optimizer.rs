//! AdamW over a whole model, and what a training does with what is not finite.

use super::{bits, contents, read_back, values};
use crate::kernels::flat::Flat;
use crate::model::{Dtype, Execution, TokenRow};
use crate::testing::{assert_close, cpu, lively, rows, shapes};
use crate::train::lm::LOGPROBS;
use crate::train::optimizer::OptimizerKind;
use crate::train::state::Saved;
use crate::train::{OptimizerParams, Trainer, add_lm_loss};

fn params() -> OptimizerParams {
    OptimizerParams { max_grad_norm: 0.0, ..OptimizerParams::default() }
}

/// Adds the gradient of rows, and updates.
fn step(trainer: &mut Trainer, rows: &[TokenRow], rate: f64) -> f64 {
    add_lm_loss(trainer, rows, 8, 1.0).unwrap();
    trainer.step(rate).unwrap()
}

#[test]
fn three_updates_of_a_model_are_those_of_the_paper_with_decay_on_matrices_only() {
    for config in [&shapes()[0], &shapes()[2]] {
        let batch = rows("updates", &[6, 11, 3], config.vocab);
        for max_grad_norm in [0.0, 0.05] {
            let mut trainer =
                Trainer::new(lively(config, 1, &cpu()), &OptimizerParams { max_grad_norm, ..params() });
            let entries = trainer.model.layout().entries().to_vec();
            let mut wanted = values(trainer.model.weights());
            let (mut m, mut v) = (vec![0.0; wanted.len()], vec![0.0; wanted.len()]);
            for t in 1..=3 {
                let rate = 0.01 / f64::from(t);
                add_lm_loss(&mut trainer, &batch, 8, 1.0).unwrap();
                let g = values(trainer.grads());
                let norm = g.iter().map(|x| x * x).sum::<f64>().sqrt();
                let scale = if max_grad_norm > 0.0 { (max_grad_norm / norm).min(1.0) } else { 1.0 };
                for entry in &entries {
                    let decay = if entry.shape.len() >= 2 { 0.1 } else { 0.0 };
                    for i in entry.range.clone() {
                        let g = g[i] * scale;
                        m[i] = 0.9 * m[i] + 0.1 * g;
                        v[i] = 0.95 * v[i] + 0.05 * g * g;
                        let m_hat = m[i] / (1.0 - 0.9f64.powi(t));
                        let v_hat = v[i] / (1.0 - 0.95f64.powi(t));
                        wanted[i] -= rate * (m_hat / (v_hat.sqrt() + 1e-8) + decay * wanted[i]);
                    }
                }
                let seen = trainer.step(rate).unwrap();
                assert!((seen / norm - 1.0).abs() < 1e-5, "the norm is told before clipping: {seen} {norm}");
                assert!(
                    max_grad_norm == 0.0 || norm > max_grad_norm,
                    "the clip must bite for this to show anything"
                );
                assert_eq!(trainer.grads().norm(), 0.0, "the next step begins without gradients");
                let after = values(trainer.model.weights());
                for entry in &entries {
                    // A gradient of nearly 0 has a sign of rounding only, and Adam takes a full step by it.
                    let steady: Vec<usize> = entry.range.clone().filter(|&i| g[i].abs() > 1e-6).collect();
                    let pick = |xs: &[f64]| steady.iter().map(|&i| xs[i]).collect::<Vec<_>>();
                    let what = format!("{}, update {t}, clip {max_grad_norm}", entry.name);
                    assert_close(&pick(&after), &pick(&wanted), 1e-4, &what);
                }
                wanted = after;
            }
        }
    }
}

#[test]
fn the_updates_of_the_host_and_of_another_device_are_the_same() {
    let config = &shapes()[1];
    let batch = rows("devices", &[6, 11, 3], config.vocab);
    let host = lively(config, 5, &cpu());
    // A large `eps`, so that gradients of nearly 0 make no full step by the sign of their rounding.
    let params = OptimizerParams { eps: 1e-3, max_grad_norm: 0.5, ..params() };
    let [host, other] = [host.clone(), host.decomposed(&cpu())].map(|model| {
        let mut trainer = Trainer::new(model, &params);
        (0..3).for_each(|_| {
            step(&mut trainer, &batch, 0.01);
        });
        values(trainer.model.weights())
    });
    assert_close(&host, &other, 1e-4, "weights");
}

#[test]
fn a_parameter_without_a_gradient_moves_by_its_decay_alone() {
    let model = lively(&shapes()[0], 2, &cpu());
    let mut still = Trainer::new(model.clone(), &OptimizerParams { weight_decay: 0.0, ..params() });
    assert_eq!(still.step(0.1), Ok(0.0));
    assert_eq!(bits(&still.model), bits(&model));
    let mut decayed = Trainer::new(model.clone(), &params());
    assert_eq!(decayed.step(0.1), Ok(0.0));
    let (before, after) = (values(model.weights()), values(decayed.model.weights()));
    for entry in model.layout().entries() {
        let kept = if entry.shape.len() >= 2 { 1.0 - 0.1 * 0.1 } else { 1.0 };
        let wanted: Vec<f64> = before[entry.range.clone()].iter().map(|x| x * kept).collect();
        assert_close(&after[entry.range.clone()], &wanted, 1e-6, &entry.name);
    }
}

#[test]
fn an_update_changes_no_copy_of_the_model_that_somebody_holds() {
    let config = &shapes()[2];
    let batch = rows("held", &[6, 11], config.vocab);
    let mut trainer = Trainer::new(lively(config, 3, &cpu()), &params());
    for _ in 0..2 {
        let before = bits(&trainer.model);
        let (model, whole) = (trainer.model.clone(), trainer.clone());
        let state = contents(&whole);
        step(&mut trainer, &batch, 0.1);
        assert_ne!(bits(&trainer.model), before);
        assert_eq!(bits(&model), before, "a copy of the model");
        assert_eq!(contents(&whole), state, "a copy of the training");
    }
}

#[test]
fn the_state_taken_out_and_put_back_goes_on_bit_for_bit() {
    let config = &shapes()[1];
    let batch = rows("state", &[6, 11], config.vocab);
    let mut straight = Trainer::new(lively(config, 4, &cpu()), &params());
    step(&mut straight, &batch, 0.01);
    let mut saved = Saved::default();
    straight.save("o", &mut saved);
    assert_eq!(saved.counters["o.updates"], 1);
    let mut reader = read_back(saved);
    let mut restored = Trainer::new(lively(config, 5, &cpu()), &params());
    restored.restore("o", &mut reader).unwrap();
    assert!(reader.tensors.is_empty() && reader.counters.is_empty(), "all of it is taken");
    assert_eq!(contents(&restored), contents(&straight));
    for _ in 0..2 {
        step(&mut straight, &batch, 0.01);
        step(&mut restored, &batch, 0.01);
        assert_eq!(contents(&restored), contents(&straight));
    }
}

#[test]
fn a_state_that_does_not_fit_the_weights_is_an_error_that_names_what_does_not() {
    let fresh = || Trainer::new(lively(&shapes()[0], 6, &cpu()), &params());
    let length = fresh().model.weights().len();
    for part in ["o.weights", "o.first", "o.second", "o.updates"] {
        for change in ["missing", "shorter", "longer"] {
            let from = fresh();
            let mut saved = Saved::default();
            from.save("o", &mut saved);
            let mut reader = read_back(saved);
            match (change, reader.tensors.get_mut(part)) {
                ("shorter", Some(values)) => values.truncate(length - 1),
                ("longer", Some(values)) => values.push(0.0),
                ("missing", Some(_)) => drop(reader.tensors.remove(part)),
                ("missing", None) => drop(reader.counters.remove(part)),
                _ => drop(reader.counters.insert(part.to_owned(), "many".into())),
            }
            let said = fresh().restore("o", &mut reader).unwrap_err();
            assert!(said.contains(&format!("`{part}`")), "{change}: {said}");
        }
    }
}

#[test]
fn a_loss_that_is_not_finite_adds_no_gradient_and_changes_no_weight() {
    let config = &shapes()[0];
    let batch = rows("loss", &[6, 11], config.vocab);
    let mut trainer = Trainer::new(lively(config, 7, &cpu()), &params());
    add_lm_loss(&mut trainer, &batch, 8, 1.0).unwrap();
    let (state, grads) = (contents(&trainer), values(trainer.grads()));
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let said = trainer.add(&batch, LOGPROBS, |logprobs| logprobs.sum() * bad).unwrap_err();
        assert!(said.contains("the loss is") && said.contains("smaller learning rate"), "{said}");
        assert_eq!(contents(&trainer), state, "{bad}");
        assert_eq!(values(trainer.grads()), grads, "{bad}");
    }
}

#[test]
fn a_gradient_that_is_not_finite_changes_no_weight_no_moment_and_no_count() {
    let config = &shapes()[2];
    let batch = rows("gradient", &[6, 11], config.vocab);
    for model in [lively(config, 8, &cpu()), lively(config, 8, &cpu()).decomposed(&cpu())] {
        let mut trainer = Trainer::new(model, &params());
        step(&mut trainer, &batch, 0.01);
        let state = contents(&trainer);
        // The root of 0 is finite, and its slope is not.
        let value = trainer.add(&batch, LOGPROBS, |x| (x.clone() - x.detach()).sqrt().sum());
        assert_eq!(value, Ok(0.0));
        let said = trainer.step(0.01).unwrap_err();
        assert!(said.contains("gradient") && said.contains("smaller learning rate"), "{said}");
        assert_eq!(contents(&trainer), state);
    }
}

#[test]
fn one_gradient_that_is_not_finite_is_found_among_all_others() {
    let model = lively(&shapes()[0], 9, &cpu());
    let length = model.weights().len();
    for at in [0, length / 2, length - 1] {
        for bad in [f32::NAN, f32::INFINITY] {
            let mut grads = vec![0.0f32; length];
            grads[at] = bad;
            let mut updated = model.clone();
            let mut optimizer = crate::train::optimizer::Optimizer::new(params(), &model);
            let said = optimizer.update(updated.trained_mut(), &Flat::new(grads, &cpu()), 0.1).unwrap_err();
            assert!(said.contains("norm of the gradient"), "{said}");
            assert_eq!((bits(&updated), optimizer.updates), (bits(&model), 0));
        }
    }
}

#[test]
fn muon_takes_the_matrices_of_the_layers_and_leaves_the_rest_to_adamw() {
    for config in &shapes() {
        let batch = rows("muon", &[6, 11, 3], config.vocab);
        let updated = |kind| {
            let mut trainer = Trainer::new(lively(config, 1, &cpu()), &OptimizerParams { kind, ..params() });
            step(&mut trainer, &batch, 0.01);
            trainer
        };
        let (muon, adamw) = (updated(OptimizerKind::Muon), updated(OptimizerKind::Adamw));
        for entry in muon.model.layout().entries() {
            let of = |trainer: &Trainer| trainer.model.weights().values()[entry.range.clone()].to_vec();
            let is_matrix = entry.name.starts_with("blocks.") && entry.shape.len() == 2;
            assert_eq!(of(&muon) != of(&adamw), is_matrix, "{}", entry.name);
        }
        let places = muon.model.layout().matrices(config);
        let each = if config.is_gated() { 7 } else { 6 };
        assert_eq!(places.len(), each * config.layers, "q, k, v and gate and up apart");
    }
}

#[test]
fn weights_in_bf16_are_the_rounding_of_masters_that_go_on_in_f32() {
    let config = &shapes()[2];
    let batch = rows("bf16", &[6, 11, 3], config.vocab);
    let execution = Execution { dtype: Dtype::Bfloat16, ..Execution::default() };
    let mut trainer = Trainer::new(lively(config, 1, &cpu()).executed(execution), &params());
    let start = bits(&trainer.model);
    assert!(start.iter().all(|x| x & 0xffff == 0), "every weight is one of bf16");
    // A rate at which a single step is lost in the rounding of most weights.
    for _ in 0..40 {
        step(&mut trainer, &batch, 1e-5);
    }
    let mut saved = Saved::default();
    trainer.save("model", &mut saved);
    let masters = saved.tensors.iter().find(|(name, _)| name == "model.weights").unwrap().1.to_vec();
    let rounded = Flat::new(masters.clone(), &cpu()).rounded();
    assert!(*rounded.values() == *trainer.model.weights().values());
    assert!(masters.iter().filter(|x| x.to_bits() & 0xffff != 0).count() > masters.len() / 2);
    assert_ne!(bits(&trainer.model), start, "small steps add up in the masters");
    let mut restored = Trainer::new(lively(config, 2, &cpu()).executed(execution), &params());
    restored.restore("model", &mut read_back(saved)).unwrap();
    for trainer in [&mut trainer, &mut restored] {
        step(trainer, &batch, 1e-3);
    }
    assert_eq!(contents(&trainer), contents(&restored));
}
