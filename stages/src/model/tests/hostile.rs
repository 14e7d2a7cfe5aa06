//! Model folders that are damaged or made to do harm: each is an error that names the file, and
//! none is a panic, a hang, or memory that the machine does not have.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::model::io::{CONFIG, WEIGHTS, load, save};
use crate::testing::{cpu, lively, shapes};

fn good_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    save(folder.path(), &lively(&shapes()[0], 1, &cpu()), &Map::new()).unwrap();
    folder
}

/// What loading says of a folder; it must say something.
#[track_caller]
fn complaint(folder: &Path) -> String {
    let said = load(folder, false, &cpu()).unwrap_err().to_string();
    let of_scorer = load(folder, true, &cpu()).unwrap_err().to_string();
    assert!(!of_scorer.is_empty());
    said
}

/// A safetensors file as its parts: the header and the bytes after it.
struct File {
    header: BTreeMap<String, Value>,
    body: Vec<u8>,
}

impl File {
    fn read(folder: &Path) -> Self {
        let bytes = std::fs::read(folder.join(WEIGHTS)).unwrap();
        let end = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        Self { header: serde_json::from_slice(&bytes[8..end]).unwrap(), body: bytes[end..].to_vec() }
    }

    fn write(&self, folder: &Path) {
        let header = serde_json::to_vec(&self.header).unwrap();
        let bytes = [&(header.len() as u64).to_le_bytes()[..], &header, &self.body].concat();
        std::fs::write(folder.join(WEIGHTS), bytes).unwrap();
    }
}

/// What loading says after a change to the weights' file.
#[track_caller]
fn changed(change: impl FnOnce(&mut File)) -> String {
    let folder = good_folder();
    let mut file = File::read(folder.path());
    change(&mut file);
    file.write(folder.path());
    let said = complaint(folder.path());
    assert!(said.contains(WEIGHTS), "{said}");
    said
}

/// What loading says of other bytes in place of the weights.
#[track_caller]
fn with_weights(bytes: &[u8]) -> String {
    let folder = good_folder();
    std::fs::write(folder.path().join(WEIGHTS), bytes).unwrap();
    let said = complaint(folder.path());
    assert!(said.contains(WEIGHTS), "{said}");
    said
}

const NORM: &str = "transformer.ln_f.weight";

/// Removes a tensor with its bytes, and moves what follows down.
fn remove(file: &mut File, name: &str) {
    let gone = file.header.remove(name).unwrap();
    let [from, to] = [0, 1].map(|i| gone["data_offsets"][i].as_u64().unwrap());
    file.body.drain(from as usize..to as usize);
    for tensor in file.header.iter_mut().filter(|(name, _)| *name != "__metadata__").map(|(_, tensor)| tensor)
    {
        for i in 0..2 {
            let at = tensor["data_offsets"][i].as_u64().unwrap();
            if at >= to {
                tensor["data_offsets"][i] = json!(at - (to - from));
            }
        }
    }
}

#[test]
fn a_missing_tensor_is_named() {
    let said = changed(|f| remove(f, NORM));
    assert!(said.contains("`transformer.ln_f.weight` is missing"), "{said}");
}

#[test]
fn a_tensor_too_many_is_an_error() {
    let said = changed(|f| {
        let end = f.body.len();
        f.body.extend([0; 4]);
        f.header
            .insert("more".to_owned(), json!({"dtype": "F32", "shape": [1], "data_offsets": [end, end + 4]}));
    });
    assert!(said.contains("`more` is not part of the model"), "{said}");
    // As many values as the shape asks for, under another name.
    let said = changed(|f| {
        let tensor = f.header.remove(NORM).unwrap();
        f.header.insert("transformer.ln_f.wait".to_owned(), tensor);
    });
    assert!(said.contains("`transformer.ln_f.weight` is missing"), "{said}");
}

#[test]
fn a_tensor_of_another_shape_is_named_with_both_shapes() {
    let said = changed(|f| {
        let shape = &mut f.header.get_mut("transformer.h.0.attn.c_attn.weight").unwrap()["shape"];
        *shape = json!([shape[1], shape[0]]);
    });
    assert!(
        said.contains(
            "`transformer.h.0.attn.c_attn.weight` is of shape [72, 24], and [24, 72] is what `config.json` says"
        ),
        "{said}"
    );
    let said = changed(|f| f.header.get_mut(NORM).unwrap()["shape"] = json!([1, 24]));
    assert!(said.contains(NORM), "{said}");
}

#[test]
fn a_tensor_of_another_dtype_is_named() {
    for (dtype, shape, words) in [
        ("I32", [24], "wanted F32"),
        ("F16", [48], "of shape [48]"),
        ("F64", [12], "of shape [12]"),
        ("U8", [96], "of shape [96]"),
    ] {
        let said = changed(|f| {
            let tensor = f.header.get_mut(NORM).unwrap();
            tensor["dtype"] = json!(dtype);
            tensor["shape"] = json!(shape);
        });
        assert!(said.contains(NORM) && said.contains(words), "{said}");
    }
}

#[test]
fn a_truncated_file_is_an_error_wherever_it_ends() {
    let folder = good_folder();
    let whole = std::fs::read(folder.path().join(WEIGHTS)).unwrap();
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    for end in [0, 1, 7, 8, 9, header - 1, header, header + 1, whole.len() / 2, whole.len() - 1] {
        with_weights(&whole[..end]);
    }
    with_weights(&[whole.as_slice(), &[0]].concat());
    with_weights(&vec![0; whole.len()]);
}

#[test]
fn a_header_that_claims_gigabytes_is_an_error() {
    for claim in [1u64 << 30, 1 << 40, u64::MAX, u64::MAX - 8, 99_999_999] {
        with_weights(&[&claim.to_le_bytes()[..], b"{}"].concat());
    }
    for end in [1u64 << 33, u64::MAX] {
        changed(|f| f.header.get_mut(NORM).unwrap()["data_offsets"][1] = json!(end));
    }
    changed(|f| f.header.get_mut(NORM).unwrap()["shape"] = json!([1u64 << 33, 1u64 << 33]));
}

#[test]
fn offsets_that_overlap_or_run_backwards_are_an_error() {
    changed(|f| f.header.get_mut(NORM).unwrap()["data_offsets"] = json!([0, 96]));
    changed(|f| f.header.get_mut(NORM).unwrap()["data_offsets"] = json!([96, 0]));
    changed(|f| f.header.get_mut(NORM).unwrap()["data_offsets"] = json!([-4, 92]));
}

#[test]
fn a_header_that_is_no_header_is_an_error() {
    for text in
        ["", "[]", "null", "{\"a\":1}", "{\"transformer.ln_f.weight\":{}}", "\u{0}", &"[".repeat(100_000)]
    {
        with_weights(&[&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat());
    }
}

#[test]
fn a_file_with_more_bytes_than_the_model_has_values_is_not_even_read() {
    let folder = good_folder();
    let file = std::fs::File::create(folder.path().join(WEIGHTS)).unwrap();
    // Sparse: a terabyte that costs nothing until it is read.
    file.set_len(1 << 40).unwrap();
    assert!(complaint(folder.path()).contains(WEIGHTS));
}

#[test]
fn a_device_or_a_folder_in_place_of_a_file_is_an_error() {
    for name in [WEIGHTS, CONFIG] {
        let folder = good_folder();
        let path = folder.path().join(name);
        std::fs::remove_file(&path).unwrap();
        complaint(folder.path());
        std::fs::create_dir(&path).unwrap();
        complaint(folder.path());
        std::fs::remove_dir(&path).unwrap();
        // Says that it has no bytes, and never ends.
        std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
        let said = complaint(folder.path());
        assert!(said.contains(name), "{said}");
    }
}

/// What loading says after a change to `config.json`.
#[track_caller]
fn configured(change: impl FnOnce(&mut Value)) -> String {
    let folder = good_folder();
    let path = folder.path().join(CONFIG);
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut config);
    std::fs::write(&path, config.to_string()).unwrap();
    complaint(folder.path())
}

#[test]
fn a_config_with_absurd_numbers_is_an_error() {
    let absurd = [
        json!(0),
        json!(-1),
        json!(1u64 << 60),
        json!(u64::MAX),
        json!(1e300),
        json!(2.5),
        json!("8"),
        json!([]),
    ];
    for name in ["vocab_size", "n_layer", "n_embd", "n_head", "n_inner", "n_positions"] {
        for value in &absurd {
            configured(|c| c[name] = value.clone());
        }
    }
    for value in [json!(0.0), json!(-1.0), json!(1e300), json!("x")] {
        configured(|c| c["layer_norm_epsilon"] = value.clone());
    }
    configured(|c| c["model_type"] = json!("gpt5"));
    configured(|c| c["model_type"] = json!(null));
    configured(|c| c["activation_function"] = json!("tanh"));
    configured(|c| c["bias"] = json!(false));
    configured(|c| c["bias"] = json!(1));
    configured(|c| c["n_head"] = json!(5));
    configured(|c| c["tie_word_embeddings"] = json!(false));
    configured(|c| *c = json!([]));
}

#[test]
fn a_config_that_asks_for_a_giant_over_small_weights_costs_an_error_and_no_memory() {
    // 2^36 values for the embedding alone, all within the bounds of a shape.
    let said = configured(|c| {
        c["vocab_size"] = json!(1 << 20);
        c["n_embd"] = json!(1 << 16);
        c["n_head"] = json!(1 << 10);
        c["n_layer"] = json!(1 << 10);
        c["n_inner"] = json!(1 << 18);
    });
    assert!(said.contains("[1048576, 65536] is what `config.json` says"), "{said}");
}

#[test]
fn a_config_that_is_too_long_or_no_json_is_an_error() {
    let folder = good_folder();
    for text in ["", "{", "\u{feff}{}", &"[".repeat(200_000), &" ".repeat(5 << 20)] {
        std::fs::write(folder.path().join(CONFIG), text).unwrap();
        assert!(complaint(folder.path()).contains(CONFIG));
    }
    std::fs::write(folder.path().join(CONFIG), [0xff, 0xfe, 0x00]).unwrap();
    assert!(complaint(folder.path()).contains(CONFIG));
}

#[test]
fn weights_of_another_shape_are_not_read() {
    for (field, value) in [
        ("n_layer", json!(1)),
        ("n_layer", json!(3)),
        ("n_positions", json!(47)),
        ("tie_word_embeddings", json!(false)),
    ] {
        let said = configured(|c| c[field] = value.clone());
        assert!(said.contains("transformer.") || said.contains("lm_head"), "{said}");
    }
}

#[test]
fn a_value_that_is_not_finite_is_refused_wherever_it_stands() {
    for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for at in 0..3 {
            let said = changed(|f| {
                let start = [0, f.body.len() / 8 * 4, f.body.len() - 4][at];
                f.body[start..start + 4].copy_from_slice(&odd.to_le_bytes());
            });
            assert!(said.contains("has a value that is not finite"), "{said}");
        }
    }
}
