//! Models of files as Hugging Face has them.

use serde_json::json;

use super::{Parts, fixture, refused, text};
use crate::gguf::{GgufFile, Imported, MetaArray, MetaValue};

fn import(parts: &Parts) -> Imported<Vec<u8>> {
    Imported::new(parts.file()).unwrap()
}

fn read(model: &Imported<Vec<u8>>, name: &str) -> Vec<f32> {
    let mut values = Vec::new();
    model.read(name, &mut values).unwrap();
    values
}

fn names(model: &Imported<Vec<u8>>) -> Vec<&str> {
    model.tensors.iter().map(|tensor| tensor.name.as_str()).collect()
}

fn refusal(parts: Parts) -> String {
    refused(Imported::new(parts.file()))
}

#[test]
fn a_llama_is_imported_under_the_names_of_hugging_face() {
    let model = Imported::new(GgufFile::new(fixture("llama")).unwrap()).unwrap();
    let expected = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4, "intermediate_size": 3,
        "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 2,
        "max_position_embeddings": 4, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "rope_scaling": null,
        "hidden_act": "silu", "vocab_size": 8, "tie_word_embeddings": true, "attention_bias": false, "mlp_bias": false,
        "bos_token_id": 6, "eos_token_id": 7, "pad_token_id": null,
    });
    assert_eq!(model.config, expected);
    let layer = "model.layers.0";
    let expected = [
        "model.embed_tokens.weight".to_owned(),
        format!("{layer}.input_layernorm.weight"),
        format!("{layer}.self_attn.q_proj.weight"),
        format!("{layer}.self_attn.k_proj.weight"),
        format!("{layer}.self_attn.v_proj.weight"),
        format!("{layer}.self_attn.o_proj.weight"),
        format!("{layer}.post_attention_layernorm.weight"),
        format!("{layer}.mlp.gate_proj.weight"),
        format!("{layer}.mlp.up_proj.weight"),
        format!("{layer}.mlp.down_proj.weight"),
        "model.norm.weight".to_owned(),
    ];
    assert_eq!(names(&model), expected);
    assert_eq!(model.tensors[9].shape, [4, 3]);
    let message = refused(model.read("lm_head.weight", &mut Vec::new()));
    assert!(message.contains("tensor `lm_head.weight`: the model has no such tensor"));
}

#[test]
fn the_rows_of_queries_and_keys_of_a_llama_are_put_back_into_halves() {
    // One head of 4 queries, half as many heads of keys: 2 heads of 4 rows and 1 head of 4 rows.
    let rows = |count: usize| (0..count).flat_map(|row| [row as f32; 8]).collect::<Vec<f32>>();
    let parts = Parts::of("llama")
        .set("llama.attention.key_length", MetaValue::U32(4))
        .without_tensor("rope_freqs.weight")
        .tensor("blk.0.attn_q.weight", &[8, 4], rows(8)[..32].to_vec())
        .tensor("blk.0.attn_k.weight", &[4, 4], (0..16).map(|i| (i / 4) as f32).collect())
        .tensor("blk.0.attn_v.weight", &[4, 4], (0..16).map(|i| (i / 4) as f32).collect())
        .tensor("blk.0.attn_output.weight", &[4, 8], vec![0.0; 32])
        .tensor("blk.0.attn_q.weight", &[8, 4], (0..32).map(|i| (i / 4) as f32).collect());
    let model = import(&parts);
    let firsts = |name: &str| -> Vec<f32> {
        read(&model, &format!("model.layers.0.self_attn.{name}_proj.weight"))
            .iter()
            .step_by(4)
            .copied()
            .collect()
    };
    assert_eq!(firsts("q"), [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]);
    assert_eq!(firsts("k"), [0.0, 2.0, 1.0, 3.0]);
    assert_eq!(firsts("v"), [0.0, 1.0, 2.0, 3.0]);
    assert_eq!(model.config["head_dim"], 4);
}

#[test]
fn a_qwen_is_not_permuted_and_has_its_biases_and_norms() {
    let (qwen2, qwen3) = (Parts::of("qwen2"), Parts::of("qwen3"));
    let (two, three) = (import(&qwen2), import(&qwen3));
    let at = "model.layers.0.self_attn";
    assert_eq!(read(&two, &format!("{at}.q_proj.weight")), qwen2.values("blk.0.attn_q.weight"));
    assert_eq!(read(&two, &format!("{at}.k_proj.bias")), qwen2.values("blk.0.attn_k.bias"));
    assert_eq!(read(&three, &format!("{at}.k_proj.weight")), qwen3.values("blk.0.attn_k.weight"));
    assert_eq!(read(&three, &format!("{at}.q_norm.weight")), qwen3.values("blk.0.attn_q_norm.weight"));
    assert_eq!((&two.config["model_type"], &three.config["model_type"]), (&json!("qwen2"), &json!("qwen3")));
    assert!(
        refusal(Parts::of("qwen2").without_tensor("blk.0.attn_v.bias"))
            .contains("`blk.0.attn_v.bias`: it is missing")
    );
}

#[test]
fn the_maps_of_gpt2_are_turned_into_rows_of_inputs() {
    let parts = Parts::of("gpt2");
    let model = import(&parts);
    let tensor =
        model.tensors.iter().find(|tensor| tensor.name == "transformer.h.0.attn.c_attn.weight").unwrap();
    assert_eq!(tensor.shape, [4, 12]);
    let (ours, theirs) = (read(&model, &tensor.name), parts.values("blk.0.attn_qkv.weight"));
    for (input, output) in (0..4).flat_map(|input| (0..12).map(move |output| (input, output))) {
        assert_eq!(ours[input * 12 + output], theirs[output * 4 + input]);
    }
    assert_eq!(read(&model, "transformer.wpe.weight"), parts.values("position_embd.weight"));
    assert_eq!((&model.config["n_inner"], &model.config["tie_word_embeddings"]), (&json!(3), &json!(true)));
}

#[test]
fn an_output_head_unties_the_model_but_for_a_copy_of_gpt2s_embedding() {
    let values: Vec<f32> = (0..32).map(|i| i as f32).collect();
    for name in ["llama", "qwen2", "qwen3", "gpt2"] {
        let model = import(&Parts::of(name).tensor("output.weight", &[8, 4], values.clone()));
        assert_eq!(model.config["tie_word_embeddings"], false, "{name}");
        assert_eq!(read(&model, "lm_head.weight"), values, "{name}");
    }
    let copy = |name: &str| {
        let embedding = Parts::of(name).values("token_embd.weight").to_vec();
        import(&Parts::of(name).tensor("output.weight", &[8, 4], embedding)).config["tie_word_embeddings"]
            .clone()
    };
    assert_eq!((copy("gpt2"), copy("llama")), (json!(true), json!(false)));
}

#[test]
fn queries_keys_and_values_in_one_tensor_are_taken_apart() {
    for name in ["llama", "qwen2"] {
        let apart = Parts::of(name);
        let rows =
            ["q", "k", "v"].map(|map| apart.values(&format!("blk.0.attn_{map}.weight")).to_vec()).concat();
        let expected = import(&apart);
        let mut parts = Parts::of(name).tensor("blk.0.attn_qkv.weight", &[8, 4], rows);
        for map in ["q", "k", "v"] {
            parts = parts.without_tensor(&format!("blk.0.attn_{map}.weight"));
        }
        let model = import(&parts);
        assert_eq!(names(&model), names(&expected));
        for tensor in &expected.tensors {
            assert_eq!(read(&model, &tensor.name), read(&expected, &tensor.name), "{name} {}", tensor.name);
        }
    }
}

#[test]
fn a_key_that_changes_the_model_is_refused_by_its_name() {
    for (key, value) in [
        ("llama.attention.sliding_window", MetaValue::U32(4096)),
        ("llama.expert_count", MetaValue::U32(8)),
        ("llama.attention.scale", MetaValue::F32(0.1)),
        ("llama.final_logit_softcapping", MetaValue::F32(30.0)),
        ("llama.attention.causal", MetaValue::Bool(false)),
        ("llama.logit_scale", MetaValue::F32(1.0)),
        ("llama.of_the_future", MetaValue::Bool(true)),
        ("llama.rope.dimension_count", MetaValue::U32(1)),
        ("llama.attention.value_length", MetaValue::U32(4)),
        ("llama.rope.scaling.type", text("longrope")),
        ("llama.rope.scaling.yarn_log_multiplier", MetaValue::F32(0.1)),
        ("llama.tensor_data_layout", text("other")),
        ("general.type", text("adapter")),
        ("general.architecture", text("mamba")),
        ("general.quantization_version", MetaValue::U32(1)),
        ("adapter.lora.alpha", MetaValue::F32(16.0)),
        ("llama.vocab_size", MetaValue::U32(9)),
        ("tokenizer.ggml.of_the_future", MetaValue::Bool(true)),
    ] {
        let message = refusal(Parts::of("llama").set(key, value));
        assert!(message.starts_with(&format!("metadata key `{key}`: ")), "{message}");
    }
}

#[test]
fn a_number_that_no_model_has_is_refused() {
    for (key, value, words) in [
        ("llama.attention.layer_norm_rms_epsilon", MetaValue::F32(0.0), "norm_eps is 0.0; it must lie"),
        ("llama.rope.freq_base", MetaValue::F32(0.5), "rope_theta is 0.5; it must lie"),
        ("llama.attention.head_count_kv", MetaValue::U32(3), "no multiple of kv_heads 3"),
        ("llama.attention.key_length", MetaValue::U32(3), "even head size, not 3"),
    ] {
        let parts = Parts::of("llama").without("llama.rope.dimension_count").set(key, value);
        let message = refusal(parts.without("llama.attention.value_length"));
        assert!(message.contains(words), "{message}");
    }
    let wide = Parts::of("qwen2").set("qwen2.attention.key_length", MetaValue::U32(4));
    let message = refusal(wide);
    assert!(message.contains("`qwen2.attention.key_length`: 2 heads of it do not make"), "{message}");
}

#[test]
fn a_key_that_changes_nothing_is_accepted() {
    let parts = Parts::of("llama")
        .set("llama.attention.sliding_window", MetaValue::U32(0))
        .set("llama.expert_count", MetaValue::U32(0))
        .set("llama.attention.causal", MetaValue::Bool(true))
        .set("llama.rope.scaling.finetuned", MetaValue::Bool(true))
        .set("llama.rope.scaling.factor", MetaValue::F32(1.0))
        .set("llama.tensor_data_layout", text("Meta AI original pth"))
        .set("quantize.imatrix.file", text("x"))
        .set("general.sampling.temp", MetaValue::F32(0.6))
        .set("llama.feed_forward_length", MetaValue::Array(MetaArray::I32(vec![3])));
    assert_eq!(import(&parts).config, import(&Parts::of("llama")).config);
}

#[test]
fn layers_that_differ_or_are_missing_are_refused() {
    let lists = MetaValue::Array(MetaArray::I32(vec![1, 2]));
    assert!(
        refusal(Parts::of("llama").set("llama.attention.head_count_kv", lists))
            .contains("differs from layer to layer")
    );
    assert!(
        refusal(Parts::of("llama").set("llama.block_count", MetaValue::U32(2)))
            .contains("`blk.1.attn_norm.weight`")
    );
    let many = refusal(Parts::of("llama").set("llama.block_count", MetaValue::U32(400)));
    assert!(many.contains("400 layers, but 12 tensors"), "{many}");
    let more = refusal(Parts::of("llama").set("llama.block_count", MetaValue::U32(u32::MAX)));
    assert!(more.contains("`llama.block_count`: it is 4294967295, not from 1 to 512"), "{more}");
    assert!(
        refusal(Parts::of("llama").without("llama.block_count"))
            .contains("`llama.block_count`: it is missing")
    );
    assert!(
        refusal(Parts::of("llama").set("llama.attention.head_count", MetaValue::U32(0)))
            .contains("head_count")
    );
    let kv = refusal(Parts::of("llama").set("llama.attention.head_count_kv", MetaValue::U32(0)));
    assert!(kv.contains("kv_heads is 0; it must lie between 1 and"), "{kv}");
}

#[test]
fn a_tensor_that_is_no_part_of_the_model_or_of_another_shape_is_refused() {
    let more = Parts::of("llama").tensor("blk.0.attn_q.bias", &[4], vec![0.0; 4]);
    assert!(refusal(more).contains("tensor `blk.0.attn_q.bias`: it is no part of a llama"));
    let wide = Parts::of("llama").tensor("blk.0.ffn_up.weight", &[4, 4], vec![0.0; 16]);
    let message = refusal(wide);
    assert!(
        message.contains("`blk.0.ffn_up.weight`: its shape is [4, 4], where the metadata say [3, 4]"),
        "{message}"
    );
    let vocab = Parts::of("llama").tensor("token_embd.weight", &[9, 4], vec![0.0; 36]);
    assert!(refusal(vocab).contains("9 rows, but the tokenizer has 8 tokens"));
    assert!(
        refusal(Parts::of("llama").without_tensor("token_embd.weight"))
            .contains("`token_embd.weight`: it is missing")
    );
}

#[test]
fn the_biases_of_a_llama_are_said_by_its_config() {
    let mut parts = Parts::of("llama");
    for (name, rows) in [("attn_q", 4), ("attn_k", 2), ("attn_v", 2), ("attn_output", 4)] {
        parts = parts.tensor(&format!("blk.0.{name}.bias"), &[rows], (0..rows).map(|i| i as f32).collect());
    }
    let model = import(&parts);
    assert_eq!((&model.config["attention_bias"], &model.config["mlp_bias"]), (&json!(true), &json!(false)));
    assert_eq!(read(&model, "model.layers.0.self_attn.o_proj.bias"), [0.0, 1.0, 2.0, 3.0]);
    for (name, rows) in [("ffn_gate", 3), ("ffn_up", 3), ("ffn_down", 4)] {
        parts = parts.tensor(&format!("blk.0.{name}.bias"), &[rows], vec![1.0; rows]);
    }
    assert_eq!(import(&parts).config["mlp_bias"], true);
}

/// A LLaMA whose heads are wide enough for a scaling to show.
fn wide(theta: f32) -> Parts {
    let size = 32;
    Parts::of("llama")
        .set("llama.attention.key_length", MetaValue::U32(size as u32))
        .set("llama.rope.freq_base", MetaValue::F32(theta))
        .without_tensor("rope_freqs.weight")
        .tensor("blk.0.attn_q.weight", &[2 * size, 4], vec![0.0; 8 * size])
        .tensor("blk.0.attn_k.weight", &[size, 4], vec![0.0; 4 * size])
        .tensor("blk.0.attn_v.weight", &[size, 4], vec![0.0; 4 * size])
        .tensor("blk.0.attn_output.weight", &[4, 2 * size], vec![0.0; 8 * size])
}

#[test]
fn the_scaling_of_llama_3_is_recovered_from_its_divisors() {
    // What llama.cpp's converter writes for Llama 3.2 (factor 32, low 1, high 4, 8192), a base of 500,000 and heads of 32.
    let mut divisors = vec![1.0; 16];
    divisors[8] = 3.2922628;
    divisors[9..].fill(32.0);
    let model = import(&wide(500_000.0).tensor("rope_freqs.weight", &[16], divisors.clone()));
    let expected = json!({
        "rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    });
    assert_eq!(model.config["rope_scaling"], expected);
    divisors[12] = 17.0;
    let message = refusal(wide(500_000.0).tensor("rope_freqs.weight", &[16], divisors));
    assert!(
        message.contains("`rope_freqs.weight`: these divisors are not those of LLaMA 3's scaling"),
        "{message}"
    );
    let short = wide(500_000.0).tensor("rope_freqs.weight", &[4], vec![1.0; 4]);
    assert!(refusal(short).contains("half a head of values"));
    let qwen = Parts::of("qwen2").tensor("rope_freqs.weight", &[1], vec![2.0]);
    assert!(refusal(qwen).contains("only a LLaMA"));
}

#[test]
fn linear_and_yarn_scaling_are_said_by_the_config() {
    let scaled = |kind: &str, more: &[(&str, MetaValue)]| {
        let mut parts = wide(10_000.0).set("llama.rope.scaling.factor", MetaValue::F32(4.0));
        if !kind.is_empty() {
            parts = parts.set("llama.rope.scaling.type", text(kind));
        }
        for (name, value) in more {
            parts = parts.set(&format!("llama.rope.scaling.{name}"), value.clone());
        }
        import(&parts).config["rope_scaling"].clone()
    };
    assert_eq!(scaled("", &[]), json!({ "rope_type": "linear", "factor": 4.0 }));
    assert_eq!(scaled("none", &[]), json!(null));
    let more = [("original_context_length", MetaValue::U32(2)), ("yarn_beta_fast", MetaValue::F32(16.0))];
    let expected = json!({ "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 2, "beta_fast": 16.0,
                           "beta_slow": 1.0 });
    assert_eq!(scaled("yarn", &more), expected);
    let missing = refusal(wide(1e4).set("llama.rope.scaling.type", text("yarn")));
    assert!(missing.contains("`llama.rope.scaling.factor`: it is missing"), "{missing}");
}
