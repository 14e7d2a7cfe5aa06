//! AdamW over a whole module.

use std::collections::BTreeMap;

use burn::module::Module;

use crate::model::Decoder;
use crate::model::io::{NamedTensors, named_tensors};
use crate::testing::{assert_close, cpu, lively, rows, shapes};
use crate::train::{AdamW, AdamWParams, Grads, TokenRow, lm_grads};

fn params() -> AdamWParams {
    AdamWParams { beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1, clip: 0.0 }
}

fn grads(model: &Decoder, rows: &[TokenRow]) -> Grads {
    lm_grads(model, rows, 8).unwrap().0
}

fn values(tensors: &NamedTensors) -> BTreeMap<String, Vec<f64>> {
    tensors.iter().map(|(name, data)| (name.clone(), data.iter::<f64>().collect())).collect()
}

/// Gradients by path, on the host, through the optimizer's own first moment.
fn on_host(model: &Decoder, rows: &[TokenRow]) -> BTreeMap<String, Vec<f64>> {
    let mut probe = AdamW::new(AdamWParams { beta1: 0.0, ..params() });
    let (_, _) = probe.update(model.clone(), grads(model, rows), 0.0).unwrap();
    let mut state = NamedTensors::new();
    probe.state("", &mut state);
    values(&state).into_iter().filter_map(|(k, v)| Some((k.strip_prefix("m.")?.to_owned(), v))).collect()
}

#[test]
fn three_updates_of_a_module_are_those_of_the_paper_with_decay_on_matrices_only() {
    let config = &shapes()[0];
    let batch = rows("updates", &[6, 11, 3], config.vocab);
    for clip in [0.0, 0.05] {
        let mut model = lively(config, 1, &cpu().autodiff());
        let mut optimizer = AdamW::new(AdamWParams { clip, ..params() });
        let mut wanted = values(&named_tensors(&model));
        let ranks: BTreeMap<String, usize> =
            named_tensors(&model).iter().map(|(k, d)| (k.clone(), d.shape().num_dims())).collect();
        let zeros: BTreeMap<String, Vec<f64>> =
            wanted.iter().map(|(k, v)| (k.clone(), vec![0.0; v.len()])).collect();
        let (mut m, mut v) = (zeros.clone(), zeros);
        for t in 1..=3 {
            let rate = 0.01 / f64::from(t);
            let g = on_host(&model, &batch);
            let norm = g.values().flatten().map(|x| x * x).sum::<f64>().sqrt();
            let scale = if clip > 0.0 { (clip / norm).min(1.0) } else { 1.0 };
            for (path, param) in &mut wanted {
                let decay = if ranks[path] >= 2 { 0.1 } else { 0.0 };
                for i in 0..param.len() {
                    let (m, v) = (&mut m.get_mut(path).unwrap()[i], &mut v.get_mut(path).unwrap()[i]);
                    let g = g[path][i] * scale;
                    *m = 0.9 * *m + 0.1 * g;
                    *v = 0.95 * *v + 0.05 * g * g;
                    let m_hat = *m / (1.0 - 0.9f64.powi(t));
                    let v_hat = *v / (1.0 - 0.95f64.powi(t));
                    param[i] -= rate * (m_hat / (v_hat.sqrt() + 1e-8) + decay * param[i]);
                }
            }
            let seen;
            let step = grads(&model, &batch);
            (model, seen) = optimizer.update(model, step, rate).unwrap();
            assert!((seen / norm - 1.0).abs() < 1e-5, "the norm is told before clipping: {seen} {norm}");
            assert!(clip == 0.0 || norm > clip, "the clip must bite for this to show anything");
            let after = values(&named_tensors(&model));
            for (path, got) in &after {
                // A gradient of nearly 0 has a sign of rounding only, and Adam takes a full step by it.
                let steady: Vec<usize> = (0..got.len()).filter(|&i| g[path][i].abs() > 1e-6).collect();
                let pick = |xs: &[f64]| steady.iter().map(|&i| xs[i]).collect::<Vec<_>>();
                assert_close(
                    &pick(got),
                    &pick(&wanted[path]),
                    1e-4,
                    &format!("{path}, update {t}, clip {clip}"),
                );
            }
            wanted = after;
        }
    }
}

#[test]
fn a_parameter_without_a_gradient_stays_as_it_is() {
    let config = &shapes()[0];
    let model = lively(config, 2, &cpu().autodiff());
    let before = named_tensors(&model);
    let (model, norm) = AdamW::new(params()).update(model, Grads::default(), 0.1).unwrap();
    assert_eq!(norm, 0.0);
    assert_eq!(named_tensors(&model), before);
}

#[test]
fn an_update_changes_no_copy_of_the_model_that_somebody_holds() {
    let config = &shapes()[2];
    let batch = rows("held", &[6, 11], config.vocab);
    let mut model = lively(config, 3, &cpu().autodiff());
    let mut optimizer = AdamW::new(params());
    for _ in 0..2 {
        let before = named_tensors(&model);
        let (clone, valid) = (model.clone(), model.valid());
        let step = grads(&model, &batch);
        (model, _) = optimizer.update(model, step, 0.1).unwrap();
        assert_ne!(named_tensors(&model), before);
        assert_eq!(named_tensors(&clone), before, "a clone");
        assert_eq!(named_tensors(&valid), before, "the model without autodiff");
    }
}

#[test]
fn the_state_taken_out_and_put_back_goes_on_bit_for_bit() {
    let config = &shapes()[1];
    let batch = rows("state", &[6, 11], config.vocab);
    let step = |model: Decoder, optimizer: &mut AdamW| {
        let g = grads(&model, &batch);
        optimizer.update(model, g, 0.01).unwrap().0
    };
    let mut optimizer = AdamW::new(params());
    let model = step(lively(config, 4, &cpu().autodiff()), &mut optimizer);
    let mut state = NamedTensors::new();
    let updates = optimizer.state("o.", &mut state);
    assert_eq!(updates, 1);
    let mut restored = AdamW::new(params());
    restored.restore("o.", updates, &mut state, &named_tensors(&model), &cpu()).unwrap();
    assert!(state.is_empty());
    let straight = step(model.clone(), &mut optimizer);
    assert_eq!(named_tensors(&step(model, &mut restored)), named_tensors(&straight));
}

#[test]
fn a_state_that_does_not_fit_the_weights_is_an_error_that_names_what_does_not() {
    let data = |n: usize| burn::tensor::TensorData::new(vec![0f32; n], [n]);
    let weights = NamedTensors::from([("norm.weight".to_owned(), data(1))]);
    let restored = |moments: &[(&str, usize)]| {
        let mut state = moments.iter().map(|(name, n)| ((*name).to_owned(), data(*n))).collect();
        AdamW::new(params()).restore("o.", 1, &mut state, &weights, &cpu())
    };
    assert!(restored(&[("o.m.norm.weight", 1), ("o.v.norm.weight", 1)]).is_ok());
    for (moments, word) in [
        (&[("o.m.norm.weight", 1)][..], "o.v.norm.weight"),
        (&[("o.m.norm.weight", 2), ("o.v.norm.weight", 1)], "norm.weight"),
        (&[("o.m.norm.weight", 1), ("o.v.norm.weight", 2)], "norm.weight"),
        (&[("o.m.other", 1), ("o.v.other", 1)], "other"),
    ] {
        let said = restored(moments).unwrap_err();
        assert!(said.contains(word), "{said}");
    }
}
