//! Shapes as `config.json`, and weights as files.

use std::borrow::Cow;
use std::path::Path;

use serde_json::{Value, json};

use super::hugging_face::{read, write};
use super::peft::{self, AdapterConfig};
use super::safetensors;
use super::safetensors::{INDEX, Stored, Tensor, WEIGHTS, Weights};
use super::{Activation, Described, Family, Head, Rope, Scaling, Yarn};

fn llama() -> Value {
    json!({
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 96, "hidden_size": 48,
        "intermediate_size": 80, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
        "max_position_embeddings": 64,
    })
}

fn gpt2() -> Value {
    json!({"model_type": "gpt2", "vocab_size": 96, "n_embd": 48, "n_layer": 3, "n_head": 4, "n_positions": 64})
}

/// A configuration with more fields.
fn with(mut config: Value, fields: Value) -> Value {
    if let (Some(config), Value::Object(fields)) = (config.as_object_mut(), fields) {
        config.extend(fields);
    }
    config
}

fn complaint(config: &Value) -> String {
    read(config).unwrap_err().to_string()
}

#[test]
fn what_a_configuration_leaves_out_is_what_transformers_takes() {
    let Described { config, head } = read(&llama()).unwrap();
    assert_eq!(head, Head::Vocabulary);
    assert_eq!((config.head_dim, config.tied, config.activation), (12, false, Activation::Silu));
    assert_eq!((config.norm_eps, config.rope, config.window), (1e-6, Rope::new(1e4), None));
    let config = read(&gpt2()).unwrap().config;
    assert_eq!((config.intermediate_size, config.tied, config.activation), (192, true, Activation::GeluNew));
    assert!(config.biases.qkv && config.biases.norms && config.norm_eps == 1e-5);
}

#[test]
fn the_classes_of_mistral_and_qwen_have_defaults_of_their_own() {
    let named = |name: &str| with(llama(), json!({"model_type": name, "architectures": null}));
    let without = |mut config: Value, field: &str| {
        config.as_object_mut().unwrap().remove(field);
        config
    };
    let window = read(&named("mistral")).unwrap().config.window.unwrap();
    assert_eq!((window.size, window.layers), (4096, vec![true; 3]));
    let null = with(named("mistral"), json!({"sliding_window": null}));
    assert_eq!(read(&null).unwrap().config.window, None);
    assert_eq!(read(&named("qwen3")).unwrap().config.head_dim, 128);
    assert_eq!(read(&without(llama(), "num_key_value_heads")).unwrap().config.kv_heads, 4);
    let null = with(named("qwen2"), json!({"num_key_value_heads": null}));
    assert_eq!(read(&null).unwrap().config.kv_heads, 4);
    for name in ["mistral", "qwen2", "qwen3"] {
        let said = complaint(&without(named(name), "num_key_value_heads"));
        assert!(said.contains("`num_key_value_heads` is missing"), "{said}");
    }
    for kind in ["linear_attention", "sliding_attention"] {
        assert!(complaint(&with(named("qwen3"), json!({"layer_types": [kind]}))).contains("`layer_types`"));
    }
}

#[test]
fn a_gpt2_may_have_the_names_of_other_families() {
    let other = json!({"model_type": "gpt2", "vocab_size": 96, "hidden_size": 48, "num_hidden_layers": 3,
                       "num_attention_heads": 4, "max_position_embeddings": 64});
    assert_eq!(read(&other), read(&gpt2()));
}

#[test]
fn a_message_shows_little_of_what_a_file_says() {
    let long = "\u{1b}[2J".repeat(1000);
    for field in ["model_type", "hidden_act", "vocab_size", "rope_theta"] {
        let said = complaint(&with(llama(), json!({field: long})));
        assert!(said.len() < 500 && !said.contains('\u{1b}') && said.contains(field), "{said}");
    }
    for config in [
        json!({"architectures": [long]}),
        json!({long.clone(): 1}),
        json!({"rope_scaling": {"type": long}}),
        json!({"rope_scaling": {long.clone(): 1}}),
    ] {
        let said = complaint(&with(llama(), config));
        assert!(said.len() < 500 && !said.contains('\u{1b}'), "{said}");
    }
}

#[test]
fn every_family_and_option_is_read_again_as_it_was_written() {
    let relative = |name: &str, more: Value| {
        with(with(llama(), json!({"model_type": name, "architectures": null})), more)
    };
    let scaled = |scaling: Value| relative("llama", json!({"rope_scaling": scaling, "rope_theta": 5e5}));
    let configs = [
        llama(),
        gpt2(),
        with(gpt2(), json!({"bias": false, "n_inner": 77, "tie_word_embeddings": false})),
        with(
            llama(),
            json!({"attention_bias": true, "mlp_bias": true, "head_dim": 20, "tie_word_embeddings": true}),
        ),
        scaled(json!({"rope_type": "linear", "factor": 2.5})),
        scaled(json!({"type": "dynamic", "factor": 2})),
        scaled(json!({"rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4,
                      "original_max_position_embeddings": 16})),
        scaled(json!({"rope_type": "yarn", "factor": 4, "original_max_position_embeddings": 16})),
        scaled(
            json!({"rope_type": "yarn", "factor": 4, "attention_factor": 1.3, "beta_fast": 20, "truncate": false,
                      "mscale": 1, "mscale_all_dim": 0.7}),
        ),
        relative("mistral", json!({"sliding_window": 5, "head_dim": 6})),
        relative("mistral", json!({"sliding_window": null})),
        relative("qwen2", json!({"use_sliding_window": true, "sliding_window": 4, "max_window_layers": 1})),
        relative("qwen2", json!({"use_sliding_window": false, "sliding_window": 4096})),
        relative(
            "qwen3",
            json!({"attention_bias": true, "use_sliding_window": true, "sliding_window": 4,
                                 "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}),
        ),
        with(
            llama(),
            json!({"architectures": ["LlamaForSequenceClassification"], "id2label": {"0": "LABEL_0"},
                             "reward_offset": -0.1}),
        ),
    ];
    for config in configs {
        let described = read(&config).unwrap_or_else(|e| panic!("{config}: {e}"));
        assert_eq!(read(&Value::Object(write(&described))).as_ref(), Ok(&described), "{config}");
    }
}

#[test]
fn newer_files_name_rope_otherwise_and_mean_the_same() {
    let old = with(llama(), json!({"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2.0}}));
    let new = json!({"rope_parameters": {"rope_theta": 5e5, "rope_type": "linear", "factor": 2.0}});
    assert_eq!(read(&old).unwrap(), read(&with(llama(), new)).unwrap());
}

#[test]
fn a_field_that_changes_what_a_model_computes_and_is_not_known_is_refused_by_name() {
    for (field, value) in [
        ("attn_logit_softcapping", json!(50.0)),
        ("num_local_experts", json!(8)),
        ("quantization_config", json!({"bits": 4})),
        ("scale_embeddings", json!(true)),
        ("residual_multiplier", json!(0.22)),
        ("no_rope_layers", json!([0, 1, 1])),
        ("auto_map", json!({"AutoModel": "code.Model"})),
    ] {
        let said = complaint(&with(llama(), json!({field: value})));
        assert!(said.contains(&format!("`{field}`")), "{said}");
        assert!(read(&with(llama(), json!({field: null}))).is_ok(), "{field}: null is as if it were missing");
    }
    for (config, words) in [
        (
            with(gpt2(), json!({"scale_attn_by_inverse_layer_idx": true})),
            "`scale_attn_by_inverse_layer_idx: true`",
        ),
        (with(gpt2(), json!({"add_cross_attention": true})), "`add_cross_attention: true`"),
        (with(llama(), json!({"partial_rotary_factor": 0.5})), "`partial_rotary_factor: 0.5`"),
        (with(llama(), json!({"rope_scaling": {"type": "longrope", "factor": 2}})), "`longrope`"),
        (with(llama(), json!({"rope_scaling": {"type": "linear", "factor": 2, "more": 1}})), "`more`"),
        (with(llama(), json!({"rope_scaling": {"type": "linear"}})), "no `factor`"),
        (with(llama(), json!({"model_type": "mamba"})), "`model_type: mamba`"),
        (with(llama(), json!({"hidden_act": "tanh"})), "`hidden_act: tanh`"),
        (
            with(llama(), json!({"architectures": ["LlamaForTokenClassification"]})),
            "LlamaForTokenClassification",
        ),
        (with(llama(), json!({"architectures": ["LlamaForSequenceClassification"]})), "2 labels"),
        (with(llama(), json!({"sliding_window": 4})), "`sliding_window`"),
        (with(llama(), json!({"vocab_size": "many"})), "`vocab_size` is \"many\""),
        (with(llama(), json!({"hidden_size": null})), "`hidden_size` is missing"),
    ] {
        let said = complaint(&config);
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn fields_of_training_and_of_generation_are_nothing_to_a_model() {
    let harmless = json!({"attention_dropout": 0.1, "use_cache": true, "_name_or_path": "x", "torch_dtype": "bfloat16",
                          "transformers_version": "4.40", "eos_token_id": [1, 2], "pretraining_tp": 1,
                          "transformers.js_config": {"kv_cache_dtype": {}}, "is_llama_config": true,
                          "rope_interleaved": false, "partial_rotary_factor": 1.0});
    assert_eq!(read(&with(llama(), harmless)), read(&llama()));
}

#[test]
fn an_absurd_shape_is_an_error() {
    for (field, value) in [
        ("num_attention_heads", json!(0)),
        ("num_key_value_heads", json!(3)),
        ("head_dim", json!(7)),
        ("num_hidden_layers", json!(1u64 << 40)),
        ("vocab_size", json!(u64::MAX)),
        ("max_position_embeddings", json!(1 << 21)),
        ("rope_theta", json!(0.5)),
        ("rms_norm_eps", json!(-1.0)),
        ("rms_norm_eps", json!(2e-52)),
        ("rope_scaling", json!({"type": "linear", "factor": 0})),
        ("rope_scaling", json!({"type": "yarn", "factor": 1e300})),
    ] {
        assert!(!complaint(&with(llama(), json!({field: value}))).is_empty());
    }
    assert!(read(&json!([])).is_err() && read(&json!("llama")).is_err());
}

#[test]
fn only_the_scaling_of_rope_changes_its_frequencies() {
    let plain = Rope::new(1e4).frequencies(8);
    assert_eq!(plain.1, 1.0);
    assert!((plain.0[0] - 1.0).abs() < 1e-7 && (plain.0[2] - 0.01).abs() < 1e-8, "{:?}", plain.0);
    let scaled = |scaling| Rope { theta: 1e4, scaling }.frequencies(8);
    let linear = scaled(Scaling::Linear { factor: 2.0 });
    assert!(linear.0.iter().zip(&plain.0).all(|(a, b)| *a == b / 2.0));
    assert_eq!(scaled(Scaling::Dynamic { factor: 3.0 }), plain);
    let llama3 = scaled(Scaling::Llama3 { factor: 8.0, low: 1.0, high: 4.0, original: 64.0 });
    assert!(llama3.0[0] == plain.0[0] && llama3.0[3] == plain.0[3] / 8.0, "{llama3:?}");
    let yarn = Yarn {
        factor: 4.0,
        original: 64.0,
        attention_factor: None,
        beta_fast: 32.0,
        beta_slow: 1.0,
        truncate: true,
        mscale: None,
    };
    let (frequencies, attention) = scaled(Scaling::Yarn(yarn));
    assert!((f64::from(attention) - (0.1 * 4f64.ln() + 1.0)).abs() < 1e-6);
    assert!((frequencies[3] - plain.0[3] / 4.0).abs() < 1e-9);
}

/// Tensors of these names and sizes; the values of the i-th begin with i.
fn tensors(sizes: &[(&str, usize)], stored: Stored) -> Vec<Tensor<'static>> {
    let one = |(i, (name, size)): (usize, &(&str, usize))| {
        let size = *size;
        let values = move || Cow::Owned((0..size).map(|n| (i + n) as f32).collect());
        Tensor { name: (*name).to_owned(), shape: vec![size], stored, values: Box::new(values) }
    };
    sizes.iter().enumerate().map(one).collect()
}

fn values(weights: &Weights, name: &str, size: usize) -> Vec<f32> {
    let mut out = vec![0.0; size];
    weights.read(name, &[size], &mut out).unwrap();
    out
}

#[test]
fn weights_are_cut_into_files_that_are_not_too_large_and_read_again() {
    let sizes = [("a", 3), ("b", 5), ("c", 1), ("d", 2)];
    for (stored, most, files) in
        [(Stored::F32, 1000, 1), (Stored::F32, 24, 3), (Stored::F32, 1, 4), (Stored::Bf16, 16, 2)]
    {
        let folder = tempfile::tempdir().unwrap();
        safetensors::write(folder.path(), &tensors(&sizes, stored), most).unwrap();
        assert_eq!(folder.path().join(WEIGHTS).exists(), files == 1);
        let weights = Weights::open(folder.path()).unwrap();
        assert_eq!(weights.paths().count(), files);
        assert_eq!(weights.names().collect::<Vec<_>>(), ["a", "b", "c", "d"]);
        assert_eq!(values(&weights, "b", 5), [1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(weights.shape("d"), Some(&[2][..]));
    }
}

#[test]
fn an_index_names_files_of_its_own_folder_and_every_tensor_in_them() {
    let folder = tempfile::tempdir().unwrap();
    safetensors::write(folder.path(), &tensors(&[("a", 3), ("b", 5)], Stored::F32), 1).unwrap();
    let [first, second] = [1, 2].map(|n| format!("model-0000{n}-of-00002.safetensors"));
    let opened = |map: Value| {
        std::fs::write(folder.path().join(INDEX), json!({"weight_map": map}).to_string()).unwrap();
        Weights::open(folder.path()).map(|_| ()).map_err(|e| e.to_string())
    };
    assert_eq!(opened(json!({"a": first, "b": second})), Ok(()));
    for (map, words) in [
        (json!({"a": first, "b": first}), "which does not hold it"),
        (json!({"a": second, "b": first}), "which does not hold it"),
        (json!({"a": "../a.safetensors"}), "no safetensors file of its folder"),
        (json!({"a": "/etc/a.safetensors"}), "no safetensors file of its folder"),
        (json!({"a": "a.bin"}), "no safetensors file of its folder"),
        (json!({"a": "missing.safetensors"}), "No such file"),
        (json!([]), "weights"),
    ] {
        let said = opened(map).unwrap_err();
        assert!(said.contains(words) || words == "weights", "{said}");
    }
    std::fs::copy(folder.path().join(&first), folder.path().join("c.safetensors")).unwrap();
    assert!(opened(json!({"a": first, "b": "c.safetensors"})).unwrap_err().contains("`a` is in"));
}

#[test]
fn a_value_that_is_not_finite_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let odd = Tensor {
        name: "a".into(),
        shape: vec![1],
        stored: Stored::F32,
        values: Box::new(|| vec![f32::NAN].into()),
    };
    safetensors::write(folder.path(), &[odd], 1000).unwrap();
    let said = Weights::open(folder.path()).unwrap().read("a", &[1], &mut [0.0]).unwrap_err().to_string();
    assert!(said.contains("`a` has a value that is not finite") && said.contains(WEIGHTS), "{said}");
}

#[test]
fn an_adapter_is_read_as_it_was_written_and_what_it_may_not_have_is_named() {
    let config = AdapterConfig {
        rank: 4,
        alpha: 8.0,
        use_rslora: true,
        targets: vec!["down_proj".into(), "q_proj".into()],
        is_scorer: true,
    };
    let written = Value::Object(peft::write(&config, false, "base"));
    assert_eq!(peft::read(&written), Ok(config));
    let off = json!({"use_dora": false, "rank_pattern": {}, "layers_to_transform": null, "eva_config": null, "init_lora_weights": "gaussian"});
    assert!(peft::read(&with(written.clone(), off)).is_ok());
    for (field, value, words) in [
        ("use_dora", json!(true), "`use_dora`"),
        ("init_lora_weights", json!("pissa"), "changes the weights of the model too"),
        ("init_lora_weights", json!("olora"), "`init_lora_weights: \"olora\"`"),
        ("rank_pattern", json!({"q_proj": 2}), "`rank_pattern`"),
        ("layers_to_transform", json!([1]), "`layers_to_transform`"),
        ("peft_type", json!("IA3"), "`peft_type: IA3`"),
        ("bias", json!("all"), "`bias: all`"),
        ("task_type", json!("TOKEN_CLS"), "`task_type: TOKEN_CLS`"),
        ("modules_to_save", json!(["embed_tokens"]), "`embed_tokens`"),
        ("target_modules", json!("all-linear"), "`target_modules` is"),
        ("r", json!(0), "`r: 0`"),
    ] {
        let said = peft::read(&with(written.clone(), json!({field: value}))).unwrap_err().to_string();
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn folders_without_weights_say_which_file_is_missing() {
    let said = Weights::open(Path::new("/nowhere")).unwrap_err().to_string();
    assert!(said.contains("/nowhere/model.safetensors"), "{said}");
    assert!(read(&json!({"model_type": "qwen2"})).unwrap_err().to_string().contains("is missing"));
    assert_eq!(read(&llama()).unwrap().config.family, Family::Llama);
}
