//! Model folders that are well.

use std::path::Path;

use burn::tensor::Device;
use serde_json::Map;

use crate::model::io::{self, ModelError, WEIGHTS, load};
use crate::model::{Dtype, Execution, Network};
use crate::rl::reward_model::RewardModel;
use crate::testing::{all_shapes, changed, cpu, lively, lively_scorer, shapes};

fn save(folder: &Path, model: &Network) -> Result<(), ModelError> {
    io::save(folder, model, &Map::new())
}

fn bits(model: &Network) -> Vec<u32> {
    model.weights().values().iter().map(|x| x.to_bits()).collect()
}

/// What rounding, printing or flushing would change.
const ODD: [f32; 5] = [-0.0, f32::MIN_POSITIVE / 8.0, f32::MAX, 1.0 + f32::EPSILON, f32::MIN];

#[test]
fn a_model_that_is_saved_and_loaded_is_the_same_bit_for_bit() {
    for config in all_shapes() {
        for has_value_head in [false, true] {
            let model = match has_value_head {
                false => lively(&config, 1, &cpu()),
                true => lively_scorer(&config, 1, &cpu()),
            };
            let model = changed(model, "norm.weight", |values| values[..5].copy_from_slice(&ODD));
            let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            save(first.path(), &model).unwrap();
            let loaded = load(first.path(), has_value_head, &cpu()).unwrap();
            assert_eq!(loaded.config(), &config);
            assert!(bits(&loaded) == bits(&model), "{config:?}");
            assert_eq!(loaded.layout().entries(), model.layout().entries());
            save(second.path(), &loaded).unwrap();
            for file in [WEIGHTS, io::CONFIG] {
                let read = |folder: &tempfile::TempDir| std::fs::read(folder.path().join(file)).unwrap();
                assert!(read(&first) == read(&second), "{file}");
            }
        }
    }
}

#[test]
fn a_model_on_a_device_saves_the_same_files() {
    for config in shapes() {
        let model = lively(&config, 2, &cpu());
        let wanted = tempfile::tempdir().unwrap();
        save(wanted.path(), &model).unwrap();
        for device in [cpu(), Device::flex()] {
            let folder = tempfile::tempdir().unwrap();
            save(folder.path(), &model.clone().decomposed(&device)).unwrap();
            for file in [WEIGHTS, io::CONFIG] {
                let read = |folder: &tempfile::TempDir| std::fs::read(folder.path().join(file)).unwrap();
                assert!(read(&folder) == read(&wanted), "{file}");
            }
        }
    }
}

#[test]
fn a_model_with_a_weight_that_is_not_finite_is_not_saved() {
    for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let model = changed(lively(&shapes()[0], 1, &cpu()), "norm.weight", |values| {
            *values.last_mut().unwrap() = odd;
        });
        let folder = tempfile::tempdir().unwrap();
        let said = save(folder.path(), &model).unwrap_err().to_string();
        assert!(said.contains("`transformer.ln_f.weight`") && said.contains("not finite"), "{said}");
        assert!(!folder.path().join(WEIGHTS).exists());
    }
}

#[test]
fn a_decoder_is_no_scorer_and_a_scorer_no_decoder() {
    let config = &shapes()[1];
    let folder = tempfile::tempdir().unwrap();
    save(folder.path(), &lively(config, 3, &cpu())).unwrap();
    let said = load(folder.path(), true, &cpu()).unwrap_err().to_string();
    assert!(said.contains("it is a language model, and a reward model is needed"), "{said}");
    save(folder.path(), &lively_scorer(config, 3, &cpu())).unwrap();
    let said = load(folder.path(), false, &cpu()).unwrap_err().to_string();
    assert!(said.contains("it is a reward model, and a language model is needed"), "{said}");
}

#[test]
fn saving_leaves_nothing_but_the_folders_files() {
    let folder = tempfile::tempdir().unwrap();
    save(folder.path(), &lively(&shapes()[0], 4, &cpu())).unwrap();
    let mut names: Vec<String> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["config.json", "model.safetensors"]);
}

#[test]
fn a_reward_model_in_bf16_is_saved_with_the_very_scale_and_offset_it_was_given() {
    let execution = Execution { dtype: Dtype::Bfloat16, ..Execution::default() };
    let model = lively_scorer(&shapes()[2], 3, &cpu()).executed(execution);
    let RewardModel(model) = RewardModel(model).rescaled(1.234_567, -0.765_432);
    let folder = tempfile::tempdir().unwrap();
    save(folder.path(), &model).unwrap();
    assert!(bits(&load(folder.path(), true, &cpu()).unwrap()) == bits(&model));
    let size = std::fs::metadata(folder.path().join(WEIGHTS)).unwrap().len() as usize;
    assert!(size < 3 * model.weights().len(), "all but the head takes two bytes: {size}");
}
