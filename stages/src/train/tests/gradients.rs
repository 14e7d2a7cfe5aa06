//! The token loss and its gradient.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Tensor, TensorData};

use crate::model::io::{leaf, named_tensors, with_tensors};
use crate::model::{Decoder, Rows};
use crate::rng::{keyed, normal};
use crate::testing::{assert_close, cpu, host, lively, relative, rows, shapes, tokens};
use crate::train::lm::target_logprobs;
use crate::train::{Grads, TokenRow, lm_grads, lm_loss};

/// Gradients by path, on the host.
fn on_host(model: &Decoder, mut grads: Grads) -> BTreeMap<String, Vec<f64>> {
    let shapes = named_tensors(model);
    let take = |(path, data): (String, TensorData)| {
        let values = match data.shape().num_dims() {
            1 => host(grads.remove::<1>(&path)?),
            _ => host(grads.remove::<2>(&path)?),
        };
        Some((path, values))
    };
    shapes.into_iter().filter_map(take).collect()
}

#[test]
fn one_micro_batch_of_32_ragged_rows_and_32_of_one_row_give_the_same_gradient() {
    for config in shapes() {
        let model = lively(&config, 1, &cpu().autodiff());
        let lengths: Vec<usize> = (0..32).map(|i| 2 + i * 7 % 30).collect();
        let rows = rows("ragged", &lengths, config.vocab);
        let (whole, loss) = lm_grads(&model, &rows, 32).unwrap();
        let whole = on_host(&model, whole);
        assert_eq!(whole.len(), named_tensors(&model).len(), "every parameter has a gradient");
        for micro in [1, 5, 0] {
            let (cut, cut_loss) = lm_grads(&model, &rows, micro).unwrap();
            assert!((cut_loss / loss - 1.0).abs() < 1e-5, "{cut_loss} {loss}");
            for (path, got) in on_host(&model, cut) {
                let off = relative(&got, &whole[&path]);
                assert!(off < 1e-4, "{:?}, micro {micro}: {path} is off by {off}", config.family);
            }
        }
    }
}

#[test]
fn the_mean_runs_over_tokens_and_not_over_rows() {
    let config = &shapes()[0];
    let model = lively(config, 2, &cpu().autodiff());
    let rows = rows("means", &[4, 20], config.vocab);
    let (_, loss) = lm_grads(&model, &rows, 1).unwrap();
    let parts: Vec<(f64, usize)> = rows.iter().map(|r| lm_loss(&model, std::slice::from_ref(r), 1)).collect();
    let by_token = parts.iter().map(|p| p.0).sum::<f64>() / parts.iter().map(|p| p.1).sum::<usize>() as f64;
    let by_row = parts.iter().map(|p| p.0 / p.1 as f64).sum::<f64>() / 2.0;
    assert!((loss - by_token).abs() < 1e-5, "{loss} {by_token}");
    assert!((by_row - by_token).abs() > 1e-2, "the two means must differ for this to show anything");
}

#[test]
fn a_row_without_a_target_is_an_error_that_names_it() {
    let config = &shapes()[0];
    let model = lively(config, 3, &cpu().autodiff());
    let good = rows("good", &[5], config.vocab).remove(0);
    let masked = TokenRow { ids: vec![1, 2, 3], from: 3 };
    let alone = TokenRow { ids: vec![1], from: 0 };
    for bad in [masked, alone] {
        let said = lm_grads(&model, &[good.clone(), good.clone(), bad], 1).err().unwrap();
        assert!(said.contains("row 2"), "{said}");
    }
}

#[test]
fn a_loss_that_is_not_finite_is_an_error_that_names_its_rows() {
    let config = &shapes()[0];
    let mut tensors = named_tensors(&lively(config, 3, &cpu()));
    // Position 10 alone is poisoned; only row 3 is that long.
    let mut table: Vec<f32> = tensors["position_embedding"].iter::<f32>().collect();
    table[10 * config.width] = f32::NAN;
    tensors.insert("position_embedding".to_owned(), TensorData::new(table, [config.context, config.width]));
    let model = with_tensors(lively(config, 3, &cpu().autodiff()), tensors).unwrap();
    let rows = rows("finite", &[5, 9, 6, 20], config.vocab);
    let said = lm_grads(&model, &rows, 1).err().unwrap();
    assert!(said.contains("rows 3 and after") && said.contains("NaN"), "{said}");
}

/// The log-probability of each token of a row but the first, in f64 from the logits.
fn by_hand(model: &Decoder, ids: &[u32], temperature: f64) -> Vec<f64> {
    let hidden = model.hidden(Rows::right(&[ids], 0, &model.device()), None);
    let [_, time, width] = hidden.dims();
    let logits = host(model.logits(hidden.reshape([time, width])));
    let rows = logits.chunks(model.config().vocab);
    rows.zip(&ids[1..])
        .map(|(row, &next)| {
            let total: f64 = row.iter().map(|l| (l / temperature).exp()).sum();
            row[next as usize] / temperature - total.ln()
        })
        .collect()
}

#[test]
fn the_loss_is_the_sum_over_response_and_stop_tokens_and_no_others() {
    for config in shapes() {
        let model = lively(&config, 4, &cpu());
        for (prompt, response) in [(1, 1), (3, 1), (6, 9), (1, 12)] {
            let ids = tokens("sft", prompt + response, config.vocab);
            let row = TokenRow { ids: ids.clone(), from: prompt };
            assert_eq!(row.targets(), response);
            let wanted = by_hand(&model, &ids, 1.0)[prompt - 1..].to_vec();
            assert_close(
                &host(target_logprobs(&model, std::slice::from_ref(&row), 1.0)),
                &wanted,
                1e-5,
                "log-probabilities",
            );
            let (loss, count) = lm_loss(&model, &[row], 4);
            assert_eq!(count, response);
            assert_close(&[loss], &[-wanted.iter().sum::<f64>()], 1e-5, "loss");
        }
    }
}

#[test]
fn a_prompt_token_is_a_context_and_never_a_target() {
    // With a model that sees no context at all, prompts change nothing.
    let config = &shapes()[0];
    let blind = named_tensors(&lively(config, 5, &cpu()))
        .into_iter()
        .map(|(name, data)| {
            let zero = name.starts_with("blocks") || name == "position_embedding";
            let values: Vec<f32> = data.iter::<f32>().map(|x| if zero { 0.0 } else { x }).collect();
            (name, TensorData::new(values, data.shape().as_slice().to_vec()))
        })
        .collect();
    let model = with_tensors(lively(config, 5, &cpu()), blind).unwrap();
    let loss = |ids: [u32; 6]| lm_loss(&model, &[TokenRow { ids: ids.to_vec(), from: 4 }], 1).0;
    assert_eq!(loss([1, 2, 3, 9, 5, 6]), loss([30, 31, 32, 9, 5, 6]));
    assert_ne!(loss([1, 2, 3, 9, 5, 6]), loss([1, 2, 3, 9, 7, 6]));
}

#[test]
fn padding_never_enters_a_log_probability() {
    for config in shapes() {
        let model = lively(&config, 6, &cpu());
        let rows = rows("padding", &[17, 3, 9], config.vocab);
        let together = host(target_logprobs(&model, &rows, 1.0));
        let alone: Vec<f64> =
            rows.iter().flat_map(|r| host(target_logprobs(&model, std::slice::from_ref(r), 1.0))).collect();
        assert_close(&together, &alone, 1e-5, &format!("{:?}", config.family));
    }
}

#[test]
fn the_temperature_divides_the_logits() {
    let config = &shapes()[1];
    let model = lively(config, 7, &cpu());
    let ids = tokens("temperature", 8, config.vocab);
    for temperature in [0.5, 2.0] {
        let got = host(target_logprobs(&model, &[TokenRow { ids: ids.clone(), from: 1 }], temperature));
        assert_close(&got, &by_hand(&model, &ids, temperature), 1e-5, "temperature");
    }
}

/// Adds `by` times a drawn direction to every parameter, in f64; `by` 0 only changes the dtype.
struct Moved {
    path: Vec<String>,
    by: f64,
}

fn direction(path: &str, n: usize) -> Vec<f64> {
    let mut rng = keyed(3, path, 0, 0);
    (0..n).map(|_| normal(&mut rng)).collect()
}

impl ModuleMapper for Moved {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }
    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (id, value, mapper) = param.consume();
        let moves = direction(&self.path.join("."), value.shape().num_elements());
        let data: Vec<f64> = host(value.clone()).iter().zip(&moves).map(|(x, m)| x + self.by * m).collect();
        let data = TensorData::new(data, value.dims());
        Param::from_mapped_value(id, leaf(Tensor::from_data(data, (&value.device(), DType::F64))), mapper)
    }
}

#[test]
fn the_gradient_is_that_of_finite_differences_in_f64() {
    for config in shapes() {
        let rows = rows("differences", &[7, 12, 4], config.vocab);
        let moved = |by: f64| lively(&config, 8, &cpu().autodiff()).map(&mut Moved { path: Vec::new(), by });
        let loss = |model: &Decoder| target_logprobs(model, &rows, 1.3).mean().neg();
        let model = moved(0.0);
        let mut gradients = loss(&model).backward();
        let grads = on_host(&model, Grads::take(&model, &mut gradients));
        let slope: f64 = grads
            .iter()
            .map(|(path, g)| g.iter().zip(direction(path, g.len())).map(|(g, d)| g * d).sum::<f64>())
            .sum();
        let step = 1e-5;
        let at = |by: f64| loss(&moved(by)).into_scalar::<f64>();
        let measured = (at(step) - at(-step)) / (2.0 * step);
        // The direction is drawn over all parameters, so a wrong gradient anywhere shows.
        assert!((slope / measured - 1.0).abs() < 1e-6, "{:?}: {slope} {measured}", config.family);
    }
}

#[test]
fn the_norm_is_over_all_gradients_together_and_addition_adds() {
    let config = &shapes()[2];
    let model = lively(config, 9, &cpu().autodiff());
    let rows = rows("norm", &[6, 11], config.vocab);
    let grads = |rows: &[TokenRow]| lm_grads(&model, rows, 4).unwrap().0;
    let all = on_host(&model, grads(&rows));
    let norm = all.values().flatten().map(|x| x * x).sum::<f64>().sqrt();
    assert!((grads(&rows).norm() / norm - 1.0).abs() < 1e-6);
    let mut sum = grads(&rows[..1]);
    sum.add(grads(&rows[1..]));
    let (first, second) = (on_host(&model, grads(&rows[..1])), on_host(&model, grads(&rows[1..])));
    for (path, got) in on_host(&model, sum) {
        let wanted: Vec<f64> = first[&path].iter().zip(&second[&path]).map(|(a, b)| a + b).collect();
        assert_close(&got, &wanted, 1e-6, &path);
    }
    assert_eq!(Grads::default().norm(), 0.0);
}
