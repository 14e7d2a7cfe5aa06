//! What must not change a result: threads, shards, recomputation, batches, padding, caches.

use burn::tensor::Device;
use half::bf16;

use super::{READOUTS, assert_gradient, exact_twin, full_logits, ragged};
use crate::generate::{Sampling, Stop, generate};
use crate::kernels::cpu::forms::Form;
use crate::model::cpu::decode::Packed;
use crate::model::cpu::tape::{Keep, keeps_logits};
use crate::model::device::Rows;
use crate::model::{Execution, ModelConfig, Network, Readout, TokenRow};
use crate::testing::{
    all_shapes, assert_close, cpu, host, lively, lively_for, lively_scorer, outputs_and_gradient, relative,
    rows, tokens, wide, with_threads,
};

const LENGTHS: [usize; 7] = [7, 1, 12, 2, 30, 5, 9];

fn with_shards(model: &Network, shards: usize) -> Network {
    model.clone().executed(Execution { shards, recompute: false, ..Execution::default() })
}

#[test]
fn any_number_of_threads_gives_the_same_bytes() {
    for config in all_shapes() {
        let rows = rows("threads", &LENGTHS, config.vocab);
        for shards in [2, 5] {
            for readout in READOUTS {
                let model = with_shards(&lively_for(readout, &config, 1), shards);
                let run = |threads| {
                    with_threads(threads, || {
                        (outputs_and_gradient(&model, &rows, readout), model.outputs(&rows, readout))
                    })
                };
                assert!(run(1) == run(2), "{config:?}, {readout:?}, {shards} shards");
            }
        }
    }
}

#[test]
fn any_number_of_shards_gives_the_same_numbers() {
    for config in all_shapes() {
        let rows = rows("shards", &LENGTHS, config.vocab);
        for readout in READOUTS {
            let model = lively_for(readout, &config, 2);
            let [outputs, grads] = outputs_and_gradient(&with_shards(&model, 1), &rows, readout);
            for shards in [2, 3, 8] {
                let what = format!("{config:?}, {readout:?}, {shards} shards");
                let [got, got_grads] = outputs_and_gradient(&with_shards(&model, shards), &rows, readout);
                assert_close(&got, &outputs, 1e-6, &what);
                assert_gradient(&model, &got_grads, &grads, 1e-6, &what);
            }
        }
    }
}

#[test]
fn computing_layers_again_gives_the_same_bytes_as_keeping_them() {
    for config in all_shapes() {
        let config = ModelConfig { layers: 3, ..config };
        let rows = rows("recompute", &LENGTHS, config.vocab);
        for readout in READOUTS {
            let model = lively_for(readout, &config, 3);
            let run = |recompute| {
                let model =
                    model.clone().executed(Execution { shards: 2, recompute, ..Execution::default() });
                outputs_and_gradient(&model, &rows, readout)
            };
            assert!(run(false) == run(true), "{config:?}, {readout:?}");
        }
    }
}

#[test]
fn keeping_the_logits_of_a_large_vocabulary_gives_the_same_bytes_as_computing_them_again() {
    let large = |layers| ModelConfig { vocab: 5000, layers, ..all_shapes()[2].clone() };
    let layers = (1..100).find(|&layers| keeps_logits(&large(layers), Keep::Everything)).unwrap();
    let rows = rows("logits", &LENGTHS, 5000);
    for temperature in [1.0, 0.7] {
        let readout = Readout::LogProbs { temperature };
        let model = lively_for(readout, &large(layers), 3);
        let [kept, again] = [false, true].map(|recompute| {
            let model = model.clone().executed(Execution { shards: 2, recompute, ..Execution::default() });
            // The second time in the memory of the first.
            [(); 2].map(|()| outputs_and_gradient(&model, &rows, readout))
        });
        assert!(kept[0] == kept[1] && kept == again, "{layers} layers, {readout:?}");
    }
    // Beside one layer they would be most of what is kept.
    assert!(!keeps_logits(&large(1), Keep::Everything) && !keeps_logits(&large(layers), Keep::Inputs));
}

#[test]
fn memory_that_an_earlier_batch_left_changes_nothing() {
    let config = &all_shapes()[2];
    let [small, large] = [&LENGTHS[..3], &[40, 3, 40, 40]].map(|n| rows("memory", n, config.vocab));
    for readout in READOUTS {
        let model = lively_for(readout, config, 4);
        let has_value_head = model.layout().value_head.is_some();
        let fresh = |rows: &[TokenRow]| {
            let model = Network::new(config, has_value_head, model.weights().values().into_owned(), &cpu());
            outputs_and_gradient(&model, rows, readout)
        };
        for rows in [&large, &small, &large, &small] {
            assert!(outputs_and_gradient(&model, rows, readout) == fresh(rows), "{readout:?}");
            model.outputs(&large, readout);
        }
    }
}

#[test]
fn rows_in_one_batch_and_one_by_one_give_the_same_numbers() {
    for config in all_shapes() {
        let rows = rows("together", &LENGTHS, config.vocab);
        for readout in READOUTS {
            let model = with_shards(&lively_for(readout, &config, 5), 1);
            let what = format!("{config:?}, {readout:?}");
            let run = |rows: &[TokenRow]| {
                let (outputs, tape) = model.forward(rows, readout);
                let mut grads = model.weights().zeros_like();
                model.backward(tape, outputs.ones_like(), &mut grads);
                (host(outputs), wide(&grads.values()))
            };
            let (together, grads) = run(&rows);
            let mut sum = vec![0.0; grads.len()];
            let mut alone = Vec::new();
            for row in rows.chunks(1) {
                let (outputs, grads) = run(row);
                alone.extend(outputs);
                sum.iter_mut().zip(grads).for_each(|(sum, grad)| *sum += grad);
            }
            assert_close(&together, &alone, 1e-6, &what);
            assert_gradient(&model, &grads, &sum, 1e-6, &what);
        }
    }
}

#[test]
fn a_score_without_padding_is_that_of_the_twin_with_padding_on_either_side() {
    for config in all_shapes() {
        let model = lively_scorer(&config, 6, &cpu());
        let ids = ragged(&config);
        let rows: Vec<TokenRow> = ids.iter().map(|r| TokenRow::new(r.clone(), 1)).collect();
        let scores = wide(&model.outputs(&rows, Readout::Scores));
        let spread = scores.iter().fold(0.0, |m: f64, x| m.max((x - scores[0]).abs()));
        assert!(spread > 0.1, "scores that are all alike show nothing: {scores:?}");
        for device in [Device::flex(), cpu()] {
            let twin = model.clone().decomposed(&device);
            assert_close(&wide(&twin.outputs(&rows, Readout::Scores)), &scores, 1e-5, "right");
            let hidden = host(twin.decoder().hidden(Rows::left(&ids, 0, &device), None));
            let d = config.hidden_size;
            let weights = wide(&model.weights().values());
            let head = model.layout().value_head.clone().unwrap();
            // The last place of each row, with the scalar head written out.
            let of_row = |row: &[f64]| -> f64 {
                let last = row[row.len() - d..].iter().zip(&weights[head.weight.clone()]);
                last.map(|(x, w)| x * w).sum::<f64>() + weights[head.bias.clone().unwrap().start]
            };
            let left: Vec<f64> = hidden.chunks(hidden.len() / rows.len()).map(of_row).collect();
            assert_close(&left, &scores, 1e-5, "left");
        }
    }
}

#[test]
fn logits_without_padding_are_those_of_the_twin_with_padding_on_the_left() {
    for config in all_shapes() {
        let model = lively(&config, 7, &cpu());
        let (rows, twin) = (ragged(&config), exact_twin(&model));
        let decoder = twin.decoder();
        let hidden = decoder.hidden(Rows::left(&rows, 0, &Device::flex()), None);
        let [batch, time, width] = hidden.dims();
        let logits = host(decoder.logits(hidden.reshape([batch * time, width])));
        for (row, logits) in rows.iter().zip(logits.chunks(time * config.vocab)) {
            let own = full_logits(&model, row).concat();
            let padded = &logits[logits.len() - own.len()..];
            assert_close(&own, padded, 1e-5, &format!("{config:?}, {} tokens", row.len()));
        }
    }
}

#[test]
fn decoding_with_a_cache_gives_the_logits_of_the_full_forward_pass() {
    for config in all_shapes() {
        let model = lively(&config, 8, &cpu());
        let packed = Packed::new(model.view().unwrap());
        let more = tokens("more", 5 * 6, config.vocab);
        for shares in [false, true] {
            let mut so_far = ragged(&config);
            let mut session = packed.session(so_far.len(), shares);
            let mut fed: Vec<(usize, Vec<u32>)> = so_far.iter().cloned().enumerate().collect();
            for step in more.chunks(so_far.len()) {
                let logits = session.feed(&fed);
                for (i, got) in logits.chunks(config.vocab).enumerate() {
                    let wanted = full_logits(&model, &so_far[i]).pop().unwrap();
                    let what = format!("{config:?}, row {i}, {} tokens", so_far[i].len());
                    assert_close(&wide(got), &wanted, 1e-5, &what);
                }
                fed = step.iter().map(|&token| vec![token]).enumerate().collect();
                so_far.iter_mut().zip(step).for_each(|(row, &token)| row.push(token));
            }
        }
    }
}

#[test]
fn decoding_keeps_the_matrices_of_a_bf16_model_in_bf16_and_those_of_an_f32_model_as_they_are() {
    for config in all_shapes() {
        let model = lively(&config, 8, &cpu());
        let rounded = model.weights().values().iter().map(|&x| bf16::from_f32(x).to_f32()).collect();
        let rounded = Network::new(&config, false, rounded, &cpu());
        for (model, wanted) in [(&model, Form::Full), (&rounded, Form::Brain)] {
            let packed = Packed::new(model.view().unwrap());
            assert!(packed.forms().all(|form| form == wanted), "{config:?}, {wanted:?}");
            assert_eq!(packed.forms().count(), 4 * config.layers + 1);
        }
    }
}

#[test]
fn decoding_gives_the_same_bytes_in_any_company_and_in_any_pieces() {
    for config in all_shapes() {
        let model = lively(&config, 9, &cpu());
        let packed = Packed::new(model.view().unwrap());
        let row = tokens("pieces", 12, config.vocab);
        let run = |pieces: &[&[u32]], company: usize, shares: bool| {
            let mut session = packed.session(company + 1, shares);
            let mut logits = Vec::new();
            for piece in pieces {
                // The others go first, and each by a token of its own.
                let mut fed: Vec<(usize, Vec<u32>)> = (0..company).map(|i| (i, vec![i as u32])).collect();
                fed.push((company, piece.to_vec()));
                logits = session.feed(&fed).split_off(company * config.vocab);
            }
            logits.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
        };
        let wanted = run(&[&row], 0, false);
        for pieces in [vec![&row[..]], vec![&row[..5], &row[5..6], &row[6..]], row.chunks(1).collect()] {
            for (company, shares) in [(0, false), (0, true), (1, false), (7, true), (13, false)] {
                assert!(run(&pieces, company, shares) == wanted, "{config:?}, {company} others");
            }
        }
    }
}

#[test]
fn samples_are_the_same_one_by_one_and_sixteen_at_once_even_where_rows_run_out_of_room() {
    for config in all_shapes() {
        for room in [48, 14] {
            let config = ModelConfig { max_position_embeddings: room, ..config.clone() };
            let model = lively(&config, 10, &cpu());
            // One prompt leaves no room in the small context.
            let lengths = [3, 1, 13, 7, 2, 12, 5, 14, 9, 4, 6, 11, 10, 8, 1, 3];
            let prompts: Vec<Vec<u32>> = lengths.iter().map(|&n| tokens("prompt", n, config.vocab)).collect();
            let keys: Vec<u64> = (0..16).collect();
            let sampling = Sampling {
                temperature: 1.0,
                max_new_tokens: 8,
                stop: Stop::Tokens(vec![3]),
                seed: 1,
                purpose: "test",
                step: 0,
            };
            let run = |batch, threads| {
                with_threads(threads, || generate(&model, &prompts, &keys, batch, &sampling).unwrap())
            };
            let alone = run(1, 1);
            for (batch, threads) in [(16, 1), (16, 2), (5, 2), (1, 2)] {
                assert_eq!(run(batch, threads), alone, "{config:?}, batches of {batch}");
            }
            for (made, length) in alone.iter().zip(lengths) {
                let limit = (room - length).min(8);
                assert!(made.finished || made.tokens.len() == limit, "{config:?}, {length}: {made:?}");
            }
        }
    }
}

#[test]
fn another_seed_gives_other_outputs_and_another_gradient() {
    // The comparisons above are worth something only because of this.
    let config = &all_shapes()[0];
    let rows = rows("worth", &LENGTHS, config.vocab);
    let readout = Readout::LogProbs { temperature: 1.0 };
    let of = |seed| outputs_and_gradient(&lively(config, seed, &cpu()), &rows, readout);
    assert!(relative(&of(1)[0], &of(2)[0]) > 0.1 && relative(&of(1)[1], &of(2)[1]) > 0.1);
}
