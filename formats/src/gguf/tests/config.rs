//! Configurations that llama.cpp can follow, and others.

use serde_json::{Value, json};

use super::{Folder, refused};
use crate::gguf::{GgufFile, Imported, MetaValue, Precision};

#[test]
fn a_setting_that_llama_cpp_cannot_follow_is_refused_by_its_name() {
    for (name, field, value) in [
        ("llama", "hidden_act", json!("gelu")),
        ("llama", "sliding_window", json!(2)),
        ("llama", "partial_rotary_factor", json!(0.5)),
        ("llama", "model_type", json!("gemma")),
        ("llama", "num_hidden_layers", json!(-1)),
        ("llama", "vocab_size", json!(null)),
        ("qwen2", "head_dim", json!(4)),
        ("qwen3", "layer_types", json!(["sliding_attention"])),
        ("qwen2", "num_key_value_heads", json!("two")),
        ("llama", "attn_logit_softcapping", json!(30.0)),
        ("llama", "num_hidden_layers", json!(513)),
        ("llama", "rms_norm_eps", json!(2e-52)),
        ("gpt2", "layer_norm_epsilon", json!(0)),
        ("gpt2", "activation_function", json!("gelu")),
        ("gpt2", "n_layer", json!(513)),
        ("gpt2", "scale_attn_by_inverse_layer_idx", json!(true)),
    ] {
        let mut folder = Folder::of(name);
        folder.config[field] = value;
        let message = refused(folder.written(Precision::F32));
        assert!(message.starts_with("config.json: ") && message.contains(&format!("`{field}")), "{message}");
    }
    let mut folder = Folder::of("llama");
    folder.config["architectures"] = json!(["LlamaForSequenceClassification"]);
    folder.config["id2label"] = json!({ "0": "score" });
    assert!(refused(folder.written(Precision::F32)).contains("`architectures`: llama.cpp does not know"));
    folder.config = Value::Null;
    assert!(refused(folder.written(Precision::F32)).starts_with("config.json: it is missing"));
}

#[test]
fn a_window_is_refused_unless_it_covers_the_context() {
    for (name, window, is_followed) in [("mistral", 3, false), ("mistral", 4, true), ("qwen2", 3, false)] {
        let mut folder = Folder::of(if name == "qwen2" { name } else { "llama" });
        if name == "mistral" {
            folder.config = mistral(folder.config);
        }
        folder.config["sliding_window"] = json!(window);
        folder.config["use_sliding_window"] = json!(name == "qwen2");
        folder.config["max_window_layers"] = json!(0);
        if name == "mistral" {
            for name in ["use_sliding_window", "max_window_layers"] {
                folder.config.as_object_mut().unwrap().remove(name);
            }
        }
        let written = folder.written(Precision::F32);
        assert_eq!(written.is_ok(), is_followed, "{name} {window} {written:?}");
        assert!(
            is_followed || refused(written).contains("`sliding_window`: llama.cpp attends to all tokens")
        );
    }
}

#[test]
fn a_scaling_of_rope_that_gguf_cannot_say_is_refused_by_its_name() {
    for (name, scaling, words) in [
        ("llama", json!({ "rope_type": "dynamic", "factor": 2.0 }), "llama.cpp has no `dynamic`"),
        ("llama", json!({ "rope_type": "longrope", "factor": 2.0 }), "`longrope`"),
        ("llama", json!({ "rope_type": "linear", "factor": 1e-60 }), "factor is 1e-60"),
        ("llama", json!({ "rope_type": "yarn", "factor": 2.0, "truncate": false }), "`truncate`: GGUF"),
        (
            "llama",
            json!({ "rope_type": "yarn", "factor": 2.0, "mscale": 1.0, "mscale_all_dim": 2.0 }),
            "`mscale`: GGUF",
        ),
        (
            "llama",
            json!({ "rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 0.5 }),
            "`original_max_position_embeddings`: it is 0.5",
        ),
        ("llama", json!({ "rope_type": "yarn", "factor": 2.0, "beta_slow": 1e-46 }), "beta_slow is 1e-46"),
        (
            "llama",
            json!({ "rope_type": "yarn", "factor": 2.0, "attention_factor": 1e300 }),
            "attention_factor",
        ),
        // Above the bound in 64 bits, and not in 32.
        (
            "llama",
            json!({ "rope_type": "yarn", "factor": 2.0, "rope_theta": 1.0000010000000001 }),
            "rounded to the 32 bits that GGUF has: model shape: the scaling of RoPE: rope_theta - 1",
        ),
        ("qwen2", llama3(8.0, 1.0, 4.0, 8192), "`rope_scaling`: llama.cpp has `llama3` with"),
        ("llama", llama3(0.5, 1.0, 4.0, 1), "`rope_scaling`: GGUF stores what `llama3` divides"),
    ] {
        let mut folder = Folder::of(name);
        folder.config["rope_scaling"] = scaling.clone();
        let message = refused(folder.written(Precision::F32));
        assert!(message.starts_with("config.json: ") && message.contains(words), "{scaling} {message}");
    }
    let mut folder = Folder::of("llama");
    folder.config["rope_theta"] = json!(1e-60);
    assert!(refused(folder.written(Precision::F32)).contains("rope_theta is 1e-60"));
}

fn llama3(factor: f64, low: f64, high: f64, original: usize) -> Value {
    json!({
        "rope_type": "llama3", "factor": factor, "low_freq_factor": low, "high_freq_factor": high,
        "original_max_position_embeddings": original,
    })
}

/// The configuration of a LLaMA as that of a Mistral.
fn mistral(mut config: Value) -> Value {
    config["model_type"] = json!("mistral");
    config["architectures"] = json!(["MistralForCausalLM"]);
    config["sliding_window"] = json!(null);
    for name in ["attention_bias", "mlp_bias"] {
        config.as_object_mut().unwrap().remove(name);
    }
    config
}

#[test]
fn the_defaults_of_mistral_and_qwen_are_not_guessed() {
    let mut folder = Folder::of("llama");
    folder.config = mistral(folder.config);
    folder.config["max_position_embeddings"] = json!(32768);
    let file = folder.written(Precision::F32).unwrap();
    assert_eq!(file.metadata().string("general.architecture").unwrap(), Some("llama"));
    // The class has a window of 4096 where the field is absent.
    folder.config.as_object_mut().unwrap().remove("sliding_window");
    assert!(refused(folder.written(Precision::F32)).contains("`sliding_window`"));
    folder.config["sliding_window"] = json!(null);
    folder.config.as_object_mut().unwrap().remove("num_key_value_heads");
    assert!(refused(folder.written(Precision::F32)).contains("`num_key_value_heads` is missing"));
}

#[test]
fn scalings_of_rope_come_back() {
    let yarn = json!({ "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 2, "beta_fast": 32.0,
                       "beta_slow": 1.0 });
    let scalings = [
        llama3(8.0, 1.0, 4.0, 8192),
        llama3(5.0, 1.0, 7.0, 333),
        llama3(5.0, 3.0, 7.0, 1000),
        yarn,
        json!({ "rope_type": "linear", "factor": 2.0 }),
    ];
    for scaling in scalings {
        let mut folder = Folder::of("llama");
        folder.config["head_dim"] = json!(64);
        folder.config["rope_scaling"] = scaling.clone();
        let model = Imported::new(folder.written(Precision::F32).unwrap()).unwrap();
        assert_eq!(model.config["rope_scaling"], scaling);
        // transformers 5 has it in another place.
        let mut newer = scaling.clone();
        newer["rope_theta"] = json!(500_000.0);
        folder.config["rope_parameters"] = newer;
        folder.config.as_object_mut().unwrap().remove("rope_scaling");
        let model = Imported::new(folder.written(Precision::F32).unwrap()).unwrap();
        assert_eq!(
            (&model.config["rope_scaling"], &model.config["rope_theta"]),
            (&scaling, &json!(500_000.0))
        );
    }
}

#[test]
fn a_scaling_of_heads_too_short_to_tell_its_numbers_gives_the_same_divisors_again() {
    for (size, original, theta) in
        [(2, 4, 10_000.0), (4, 16, 10_000.0), (8, 64, 10_000.0), (16, 32, 500_000.0)]
    {
        let mut folder = Folder::of("llama");
        folder.config["head_dim"] = json!(size);
        folder.config["rope_theta"] = json!(theta);
        folder.config["rope_scaling"] = llama3(8.0, 1.0, 4.0, original);
        let model = Imported::new(folder.written(Precision::F32).unwrap()).unwrap();
        let divisors = |file: &GgufFile<Vec<u8>>| {
            let mut values = Vec::new();
            file.read_tensor("rope_freqs.weight", &mut values).unwrap();
            values
        };
        folder.config = model.config.clone();
        let again = divisors(&folder.written(Precision::F32).unwrap());
        let near = again.iter().zip(divisors(model.file())).all(|(a, b)| (a - b).abs() < 1e-4 * b);
        assert!(near && again.iter().any(|divisor| *divisor != 1.0), "{size} {again:?}");
    }
}

#[test]
fn the_numbers_of_yarn_are_written_where_they_are_not_the_usual_ones() {
    let mut folder = Folder::of("llama");
    folder.config["rope_scaling"] = json!({ "type": "yarn", "factor": 4.0, "beta_fast": 16.0 });
    let file = folder.written(Precision::F32).unwrap();
    let key = |name: &str| file.metadata().get(&format!("llama.rope.scaling.{name}")).cloned();
    assert_eq!(key("yarn_beta_fast"), Some(MetaValue::F32(16.0)));
    assert_eq!((key("yarn_beta_slow"), key("yarn_attn_factor")), (None, None));
    assert_eq!(key("original_context_length"), Some(MetaValue::U32(4)));
}
