//! Adapters against the model into which they are merged: outputs, gradients, generation; what is frozen and shared.

use std::sync::Arc;

use burn::tensor::Device;

use super::{READOUTS, ragged};
use crate::generate::{Sampling, Stop, generate};
use crate::kernels::flat::Flat;
use crate::model::layout::Layout;
use crate::model::lora::AdapterLayout;
use crate::model::{Execution, LoraParams, ModelConfig, Network, Readout};
use crate::testing::{
    all_shapes, assert_close, cpu, lively, narrow, numbers, outputs_and_gradient, relative, rows, wide,
    with_threads,
};

const LENGTHS: [usize; 5] = [7, 1, 12, 2, 30];

fn params() -> LoraParams {
    LoraParams { rank: 3, alpha: 5.0, ..LoraParams::default() }
}

/// A lively decoder with a lively adapter.
fn adapted_with(config: &ModelConfig, params: &LoraParams, has_value_head: bool) -> Network {
    let draws = |layout: &AdapterLayout| {
        let scaled = numbers("adapter", layout.len()).iter().map(|x| 0.3 * x).collect::<Vec<_>>();
        narrow(&scaled)
    };
    lively(config, 1, &cpu()).adapted(params, has_value_head, draws).unwrap()
}

fn adapted(config: &ModelConfig, readout: Readout) -> Network {
    adapted_with(config, &params(), !matches!(readout, Readout::LogProbs { .. }))
}

#[test]
fn a_model_with_an_adapter_says_what_the_merged_one_says() {
    for config in all_shapes() {
        let rows = rows("adapter", &LENGTHS, config.vocab);
        for readout in READOUTS {
            let model = adapted(&config, readout);
            let what = format!("{config:?}, {readout:?}");
            let [got, wanted] =
                [&model, &model.clone().merged()].map(|model| wide(&model.outputs(&rows, readout)));
            assert_close(&got, &wanted, 1e-5, &what);
            let base = lively(&config, 1, &cpu()).with_value_head(1);
            let scalar = !matches!(readout, Readout::LogProbs { .. });
            let base = if scalar { base } else { lively(&config, 1, &cpu()) };
            assert!(relative(&wide(&base.outputs(&rows, readout)), &wanted) > 1e-2, "{what}: a change");
        }
    }
}

/// The gradients of A and B that follow from those of the whole maps of the merged model, by the chain rule.
fn by_chain_rule(model: &Network, whole: &[f64]) -> Vec<f64> {
    let adapter = model.adapter().unwrap();
    let (layout, weights) = (adapter.layout(), wide(&adapter.weights().values()));
    let merged = Layout::new(model.config(), layout.value_head.is_some());
    let mut out = vec![0.0; layout.len()];
    let heads = [(&layout.value_head, &merged.value_head)];
    for (to, from) in heads.into_iter().filter_map(|(to, from)| Some((to.as_ref()?, from.as_ref()?))) {
        out[to.weight.clone()].copy_from_slice(&whole[from.weight.clone()]);
        out[to.bias.clone().unwrap()].copy_from_slice(&whole[from.bias.clone().unwrap()]);
    }
    for (halves, changes) in merged.layers.iter().zip(&layout.layers) {
        for (half, changes) in halves.iter().zip(changes) {
            let maps = [(&half.first, &changes.first), (&half.last, &changes.last)];
            for (map, part) in
                maps.into_iter().flat_map(|(map, parts)| parts.iter().map(move |part| (map, part)))
            {
                let (inner, rank) = (map.weight.len() / map.columns, layout.rank);
                for (i, c, r) in (0..inner).flat_map(|i| {
                    let columns = part.columns.clone();
                    columns.enumerate().flat_map(move |(c, _)| (0..rank).map(move |r| (i, c, r)))
                }) {
                    let g = f64::from(layout.scale)
                        * whole[map.weight.start + i * map.columns + part.columns.start + c];
                    let (a, b) = (part.a.start + r * inner + i, part.b.start + c * rank + r);
                    out[a] += g * weights[b];
                    out[b] += g * weights[a];
                }
            }
        }
    }
    out
}

#[test]
fn gradients_of_an_adapter_follow_from_those_of_the_merged_model() {
    for config in all_shapes() {
        let rows = rows("gradients", &LENGTHS, config.vocab);
        for readout in READOUTS {
            let model = adapted(&config, readout);
            let [_, got] = outputs_and_gradient(&model, &rows, readout);
            let [_, whole] = outputs_and_gradient(&model.clone().merged(), &rows, readout);
            let wanted = by_chain_rule(&model, &whole);
            let what = format!("{config:?}, {readout:?}");
            assert!(relative(&got, &wanted) < 1e-5, "{what}: {}", relative(&got, &wanted));
            let recomputed = model.executed(Execution { recompute: true, ..Execution::default() });
            assert!(outputs_and_gradient(&recomputed, &rows, readout)[1] == got, "{what}, computed again");
        }
    }
}

#[test]
fn an_adapter_on_a_device_computes_the_same() {
    for config in all_shapes() {
        let rows = rows("device", &LENGTHS, config.vocab);
        for readout in READOUTS {
            let model = adapted(&config, readout);
            let [wanted, wanted_grads] = outputs_and_gradient(&model, &rows, readout);
            let twin = model.decomposed(&Device::flex());
            let [got, grads] = outputs_and_gradient(&twin, &rows, readout);
            let what = format!("{config:?}, {readout:?}");
            assert_close(&got, &wanted, 1e-5, &what);
            assert!(relative(&grads, &wanted_grads) < 3e-5, "{what}: {}", relative(&grads, &wanted_grads));
        }
    }
}

#[test]
fn some_maps_alone_can_be_adapted_and_one_that_is_not_there_is_named() {
    for config in all_shapes() {
        let targets: &[&str] = if config.has_rope() { &["v_proj", "down_proj"] } else { &["c_fc"] };
        let params = LoraParams { targets: targets.iter().map(|t| (*t).to_owned()).collect(), ..params() };
        let model = adapted_with(&config, &params, false);
        let names = model.adapter().unwrap().layout().entries().iter().map(|entry| entry.name.clone());
        let of_target = |name: &String| targets.iter().any(|target| name.contains(&format!(".{target}.")));
        assert_eq!(names.filter(of_target).count(), 2 * targets.len() * config.layers);
        let rows = rows("targets", &LENGTHS, config.vocab);
        let readout = READOUTS[0];
        let [_, got] = outputs_and_gradient(&model, &rows, readout);
        let [_, whole] = outputs_and_gradient(&model.clone().merged(), &rows, readout);
        assert!(relative(&got, &by_chain_rule(&model, &whole)) < 1e-5);
        let wrong = LoraParams { targets: vec!["query".to_owned()], ..params.clone() };
        let said = lively(&config, 1, &cpu()).adapted(&wrong, false, |l| l.draw(1)).unwrap_err().to_string();
        assert!(said.contains("`query`") && said.contains(targets[0]), "{said}");
    }
}

#[test]
fn a_fresh_adapter_changes_nothing_and_depends_on_its_seed_alone() {
    for config in all_shapes() {
        let rows = rows("fresh", &LENGTHS, config.vocab);
        let base = lively(&config, 1, &cpu());
        let fresh = |seed: u64| base.clone().adapted(&params(), false, |layout| layout.draw(seed)).unwrap();
        assert!(fresh(1).outputs(&rows, READOUTS[0]) == base.outputs(&rows, READOUTS[0]), "{config:?}");
        assert!(fresh(1).trained().values() == fresh(1).trained().values());
        assert!(fresh(1).trained().values() != fresh(2).trained().values());
        let [_, grads] = outputs_and_gradient(&fresh(1), &rows, READOUTS[0]);
        assert!(grads.iter().any(|&g| g != 0.0), "B learns from the first step on");
    }
}

#[test]
fn models_with_adapters_share_the_parameters_that_are_frozen() {
    let config = &all_shapes()[2];
    let policy = adapted(config, READOUTS[0]);
    let (reference, value) = (policy.clone(), policy.with_value_head(3));
    let of = |model: &Network| match model.weights() {
        Flat::Host(weights) => Arc::clone(weights),
        Flat::Device(_) => unreachable!("the CPU is the host"),
    };
    assert!(Arc::ptr_eq(&of(&policy), &of(&reference)) && Arc::ptr_eq(&of(&policy), &of(&value)));
    assert!(value.has_value_head() && !policy.has_value_head());
    // The value model goes on with the adapter that it was made of.
    let own = policy.trained().values();
    assert!(value.trained().values().ends_with(&own));
}

#[test]
fn any_number_of_threads_gives_an_adapter_the_same_bytes() {
    for config in all_shapes() {
        let rows = rows("threads", &LENGTHS, config.vocab);
        for readout in READOUTS {
            let model = adapted(&config, readout);
            let run = |threads| with_threads(threads, || outputs_and_gradient(&model, &rows, readout));
            assert!(run(1) == run(2), "{config:?}, {readout:?}");
        }
    }
}

#[test]
fn merged_and_unmerged_models_generate_the_same_tokens() {
    for config in all_shapes() {
        let model = adapted(&config, READOUTS[0]);
        let prompts = ragged(&config);
        let keys: Vec<u64> = (0..prompts.len() as u64).collect();
        let sampling = Sampling {
            temperature: 0.9,
            max_new_tokens: 12,
            stop: Stop::Tokens(vec![u32::MAX]),
            seed: 7,
            purpose: "test",
            step: 0,
        };
        let [unmerged, merged] = [&model, &model.clone().merged()]
            .map(|model| generate(model, &prompts, &keys, 5, &sampling).unwrap());
        assert_eq!(unmerged, merged, "{config:?}");
    }
}
