//! Model folders that are well.

use burn::tensor::TensorData;

use crate::model::io::{self, WEIGHTS, load, named_tensors, save, with_tensors};
use crate::rl::scorer::{self, Scorer};
use crate::testing::{cpu, lively, shapes};

#[test]
fn a_model_that_is_saved_and_loaded_is_the_same_bit_for_bit() {
    for config in shapes() {
        let mut tensors = named_tensors(&lively(&config, 1, &cpu()));
        // What rounding, printing or flushing would change.
        let odd = [-0.0f32, f32::MIN_POSITIVE / 8.0, f32::MAX, 1.0 + f32::EPSILON, f32::MIN];
        let bias = tensors.get_mut("norm.weight").unwrap();
        let mut values: Vec<f32> = bias.iter::<f32>().collect();
        values[..5].copy_from_slice(&odd);
        *bias = TensorData::new(values, [config.width]);
        let model = with_tensors(lively(&config, 1, &cpu()), tensors).unwrap();

        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        save(first.path(), &model).unwrap();
        let loaded = load(first.path(), &cpu()).unwrap();
        assert_eq!(loaded.config(), &config);
        let (saved, loaded_tensors) = (named_tensors(&model), named_tensors(&loaded));
        assert_eq!(saved.len(), loaded_tensors.len());
        for (name, data) in saved {
            assert_eq!(data.as_bytes(), loaded_tensors[&name].as_bytes(), "{name}");
        }
        save(second.path(), &loaded).unwrap();
        for file in [WEIGHTS, io::CONFIG] {
            let read = |folder: &tempfile::TempDir| std::fs::read(folder.path().join(file)).unwrap();
            assert_eq!(read(&first), read(&second), "{file}");
        }
    }
}

#[test]
fn a_model_with_a_weight_that_is_not_finite_is_not_saved() {
    for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut tensors = named_tensors(&lively(&shapes()[0], 1, &cpu()));
        let mut values: Vec<f32> = tensors["norm.weight"].iter::<f32>().collect();
        let width = values.len();
        values[width - 1] = odd;
        tensors.insert("norm.weight".to_owned(), TensorData::new(values, [width]));
        let model = with_tensors(lively(&shapes()[0], 1, &cpu()), tensors).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let said = save(folder.path(), &model).unwrap_err().to_string();
        assert!(said.contains("`norm.weight`") && said.contains("not finite"), "{said}");
        assert!(!folder.path().join(WEIGHTS).exists());
    }
}

#[test]
fn a_scorer_that_is_saved_and_loaded_is_the_same_bit_for_bit() {
    for config in shapes() {
        let scorer = Scorer::new(lively(&config, 2, &cpu()), 5).shifted(0.3);
        let folder = tempfile::tempdir().unwrap();
        scorer::save(folder.path(), &scorer).unwrap();
        let loaded = scorer::load(folder.path(), &cpu()).unwrap();
        assert_eq!(named_tensors(&loaded), named_tensors(&scorer));
    }
}

#[test]
fn a_model_loads_alike_with_and_without_autodiff() {
    let config = &shapes()[2];
    let folder = tempfile::tempdir().unwrap();
    save(folder.path(), &lively(config, 3, &cpu())).unwrap();
    let plain = load(folder.path(), &cpu()).unwrap();
    let learning = load(folder.path(), &cpu().autodiff()).unwrap();
    assert_eq!(named_tensors(&plain), named_tensors(&learning));
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
