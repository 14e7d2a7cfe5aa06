//! Hugging Face folders as files.

use serde_json::{Value, json};

use super::{Folder, Parts, refused};
use crate::bpe::{Pattern, TrainOptions};
use crate::gguf::{GgufFile, Imported, MetaValue, Precision, export, export_to, exported_tensors};

fn read<S: crate::gguf::ReadAt>(model: &Imported<S>, name: &str) -> Vec<f32> {
    let mut values = Vec::new();
    model.read(name, &mut values).unwrap();
    values
}

#[test]
fn a_model_that_was_imported_is_the_same_after_an_export() {
    for name in ["llama", "qwen2", "qwen3", "gpt2"] {
        let model = Imported::new(Parts::of(name).file()).unwrap();
        let folder = Folder::of(name);
        let values = |name: &str, _: &[usize], out: &mut Vec<f32>| model.read(name, out);
        let bytes = export_to(Vec::new(), &folder.documents(), "tiny", Precision::F32, values).unwrap();
        let again = Imported::new(GgufFile::new(bytes).unwrap()).unwrap();
        assert_eq!(again.config, model.config);
        assert_eq!(again.tokenizer, model.tokenizer);
        assert_eq!(again.tokenizer_config, model.tokenizer_config);
        assert_eq!(again.generation_config, model.generation_config);
        assert_eq!(again.tensors.len(), model.tensors.len());
        for tensor in &model.tensors {
            assert_eq!(read(&again, &tensor.name), read(&model, &tensor.name), "{name} {}", tensor.name);
        }
    }
}

#[test]
fn a_file_has_the_keys_of_llama_cpps_converter() {
    let file = Folder::of("llama").written(Precision::F16).unwrap();
    let metadata = file.metadata();
    for (key, value) in [
        ("general.file_type", MetaValue::U32(1)),
        ("general.quantization_version", MetaValue::U32(2)),
        ("llama.block_count", MetaValue::U32(1)),
        ("llama.rope.freq_base", MetaValue::F32(10_000.0)),
        ("llama.attention.layer_norm_rms_epsilon", MetaValue::F32(1e-5)),
        ("tokenizer.ggml.pre", MetaValue::String("llama-bpe".into())),
        ("tokenizer.ggml.add_bos_token", MetaValue::Bool(true)),
        ("tokenizer.ggml.eos_token_id", MetaValue::U32(7)),
    ] {
        assert_eq!(metadata.get(key), Some(&value), "{key}");
    }
    let kind = |name: &str| file.tensor(name).unwrap().kind.name();
    assert_eq!((kind("output_norm.weight"), kind("blk.0.ffn_up.weight")), ("F32", "F16"));
    let file = Folder::of("gpt2").written(Precision::Q8_0).unwrap();
    let kind = |name: &str| file.tensor(name).unwrap().kind.name();
    // Rows of 4 are no blocks of 32.
    assert_eq!((kind("position_embd.weight"), kind("token_embd.weight")), ("F32", "F16"));
    assert_eq!(kind("blk.0.attn_qkv.bias"), "F32");
}

#[test]
fn the_tensors_that_are_asked_for_are_known_before() {
    let folder = Folder::of("llama");
    let mut asked = Vec::new();
    let values = |name: &str, shape: &[usize], out: &mut Vec<f32>| {
        asked.push((name.to_owned(), shape.to_vec()));
        out.resize(shape.iter().product(), 0.0);
        Ok::<(), String>(())
    };
    export_to(Vec::new(), &folder.documents(), "tiny", Precision::F32, values).unwrap();
    assert_eq!(asked, exported_tensors(&folder.config).unwrap());
    assert_eq!(asked[0], ("model.embed_tokens.weight".to_owned(), vec![8, 4]));
}

type GiveValues = dyn Fn(&str, &mut Vec<f32>) -> Result<(), String>;

#[test]
fn a_file_is_not_left_behind_when_values_are_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let content = Folder::of("llama");
    let write = |values: &GiveValues| {
        let values = |name: &str, _: &[usize], out: &mut Vec<f32>| values(name, out);
        refused(export(&path, &content.documents(), "tiny", Precision::F32, values))
    };
    let message = write(&|_, out| {
        out.push(1.0);
        Ok(())
    });
    assert!(
        message.contains("model.gguf: tensor `model.embed_tokens.weight`: 1 values do not make"),
        "{message}"
    );
    assert!(write(&|_, _| Err("the disk is on fire".into())).ends_with("the disk is on fire"));
    let nan = write(&|_, out| {
        out.resize(32, f32::NAN);
        Ok(())
    });
    assert!(nan.contains("tensor `token_embd.weight`: its value 0 is NaN"), "{nan}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_tokenizer_that_llama_cpp_cannot_follow_is_refused() {
    let changed = |change: &dyn Fn(&mut Folder)| {
        let mut folder = Folder::of("qwen2");
        change(&mut folder);
        refused(folder.written(Precision::F32))
    };
    let split = changed(&|folder| {
        folder.tokenizer["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = json!("x+")
    });
    assert!(split.contains("tokenizer.json: `pre_tokenizer`: llama.cpp has no name for this way"), "{split}");
    let whole = changed(&|folder| folder.tokenizer["model"]["ignore_merges"] = json!(true));
    assert!(whole.contains("only with `ignore_merges` false"), "{whole}");
    assert!(
        changed(&|folder| folder.tokenizer["model"]["type"] = json!("Unigram"))
            .contains("only byte-level BPE")
    );
    assert!(
        changed(&|folder| folder.tokenizer["model"]["byte_fallback"] = json!(true))
            .contains("`byte_fallback`")
    );
    let normal = changed(&|folder| folder.tokenizer["normalizer"] = json!({ "type": "Lowercase" }));
    assert!(normal.contains("`normalizer`"), "{normal}");
    let strips = changed(&|folder| folder.tokenizer["added_tokens"][0]["lstrip"] = json!(true));
    assert!(strips.contains("`lstrip`: the token `<|start|>` asks for it"), "{strips}");
    let large = changed(&|folder| folder.tokenizer["model"]["vocab"]["zz"] = json!(8));
    assert!(large.contains("token 8 is beyond the 8 rows"), "{large}");
    let stops = changed(&|folder| folder.generation_config["eos_token_id"] = json!([7, 6, 5, 4]));
    assert!(stops.contains("4 tokens end what the model says, and GGUF holds three"), "{stops}");
    let eos = changed(&|folder| {
        folder.tokenizer_config["eos_token"] = json!(null);
        folder.generation_config["eos_token_id"] = json!(null);
        folder.config["eos_token_id"] = json!(null);
    });
    assert!(eos.contains("`eos_token`: it is missing"), "{eos}");
    let unknown = changed(&|folder| folder.tokenizer_config["bos_token"] = json!("<s>"));
    assert!(unknown.contains("`bos_token`: `<s>` is no token"), "{unknown}");
    let around = changed(&|folder| {
        let special = json!({ "SpecialToken": { "id": "<|stop|>", "type_id": 0 } });
        let single = json!([special, { "Sequence": { "id": "A", "type_id": 0 } }]);
        folder.tokenizer["post_processor"] = json!({ "type": "TemplateProcessing", "single": single });
    });
    assert!(around.contains("only BOS before a text"), "{around}");
}

#[test]
fn a_vocabulary_that_claims_too_much_is_an_error_before_memory_is_taken() {
    let mut folder = Folder::of("qwen2");
    folder.config["vocab_size"] = json!(200_000_000);
    assert!(refused(folder.written(Precision::F32)).contains("vocab is 200000000; it must lie"));
    folder.config["vocab_size"] = json!(u64::MAX);
    assert!(refused(folder.written(Precision::F32)).contains("vocab is 18446744073709551615"));
    folder.config["vocab_size"] = json!(8);
    folder.config["hidden_act"] = json!("x".repeat(10_000));
    assert!(refused(folder.written(Precision::F32)).len() < 250);
    folder.config = json!(["x".repeat(10_000)]);
    assert!(refused(folder.written(Precision::F32)).len() < 250);
}

#[test]
fn merges_of_either_form_are_written_and_gaps_become_unused_tokens() {
    let mut folder = Folder::of("qwen2");
    folder.tokenizer["model"]["merges"] = json!([["a", "b"], ["Ġ", "a"]]);
    folder.tokenizer["normalizer"] = json!({ "type": "NFC" });
    folder.config["vocab_size"] = json!(10);
    let file = folder.written(Precision::F32).unwrap();
    assert_eq!(file.metadata().strings("tokenizer.ggml.merges").unwrap().unwrap(), ["a b", "Ġ a"]);
    assert_eq!(file.metadata().strings("tokenizer.ggml.tokens").unwrap().unwrap()[8..], ["[PAD8]", "[PAD9]"]);
    let types = file.metadata().integers::<i32>("tokenizer.ggml.token_type").unwrap().unwrap();
    assert_eq!(types, [1, 1, 1, 1, 1, 1, 3, 3, 5, 5]);
    let model = Imported::new(file).unwrap();
    let again = Folder { tokenizer: model.tokenizer.clone(), ..folder };
    let types = again.written(Precision::F32).unwrap();
    assert_eq!(types.metadata().integers::<i32>("tokenizer.ggml.token_type").unwrap().unwrap()[8..], [5, 5]);
    let spaced = json!([["a ", "b"]]);
    let broken = Folder {
        tokenizer: {
            let mut t = again.tokenizer.clone();
            t["model"]["merges"] = spaced;
            t
        },
        ..again
    };
    assert!(refused(broken.written(Precision::F32)).contains("merge 0 is not two tokens without a space"));
}

#[test]
fn our_own_tokenizers_are_written() {
    for (pattern, name) in [(Pattern::Gpt2, "gpt-2"), (Pattern::Gpt4, "dbrx")] {
        let folder = tempfile::tempdir().unwrap();
        let options = TrainOptions { vocab_size: 300, pattern, ..TrainOptions::default() };
        let trained =
            crate::bpe::Tokenizer::train(&["the cat and the hat and the bat"; 9], &options).unwrap();
        trained.tokenizer.save(folder.path()).unwrap();
        let document = |name: &str| -> Value {
            serde_json::from_slice(&std::fs::read(folder.path().join(name)).unwrap()).unwrap()
        };
        let mut config = Folder::of("qwen2").config;
        config["vocab_size"] = json!(trained.tokenizer.vocab_size());
        let content = Folder {
            config,
            tokenizer: document("tokenizer.json"),
            tokenizer_config: document("tokenizer_config.json"),
            generation_config: Value::Null,
        };
        let file = content.written(Precision::F32).unwrap();
        assert_eq!(file.metadata().string("tokenizer.ggml.pre").unwrap(), Some(name));
        let eos = file.metadata().integer::<u32>("tokenizer.ggml.eos_token_id").unwrap();
        assert_eq!(eos, Some(trained.tokenizer.stop()));
        assert_eq!(file.metadata().boolean("tokenizer.ggml.add_bos_token").unwrap(), Some(false));
    }
}
