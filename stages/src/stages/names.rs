//! What params are called elsewhere.
//!
//! Purpose: the names of earlier revisions and of the tools that people come from, so that an error says what a param is
//! called here.
//! Invariant: a kind is given a name only if it has the param that this stands for, and none of that name itself.
//! Must not know: what any param does.

use serde_json::{Map, Value};

/// The name elsewhere (Hugging Face's trainers and TRL, nanoGPT, earlier revisions), and the path of the param here; in
/// brackets, how its value differs.
const NAMES: [(&str, &str); 48] = [
    ("lr", "learning_rate"),
    ("max_lr", "learning_rate"),
    ("peak_lr", "learning_rate"),
    ("min_lr", "schedule.min_lr_ratio (a part of `learning_rate`)"),
    ("warmup_steps", "schedule.warmup"),
    ("warmup_iters", "schedule.warmup"),
    ("num_warmup_steps", "schedule.warmup"),
    ("lr_scheduler_type", "schedule.decay"),
    ("grad_clip", "optimizer.max_grad_norm"),
    ("adam_beta1", "optimizer.beta1"),
    ("adam_beta2", "optimizer.beta2"),
    ("adam_epsilon", "optimizer.eps"),
    ("bf16", "dtype"),
    ("torch_dtype", "dtype"),
    ("precision", "dtype"),
    ("gradient_checkpointing", "recompute"),
    (
        "gradient_accumulation_steps",
        "micro_batch (rows that go through the model at once, of the `batch_size` of a step)",
    ),
    ("max_iters", "steps"),
    ("max_steps", "steps"),
    ("num_train_epochs", "epochs"),
    ("num_epochs", "epochs"),
    ("num_ppo_epochs", "epochs"),
    ("ppo_epochs", "epochs"),
    ("eval_interval", "eval_every"),
    ("eval_steps", "eval_every"),
    ("per_device_train_batch_size", "batch_size"),
    ("per_device_train_batch_size", "prompts_per_batch"),
    ("batch_size", "prompts_per_batch"),
    ("n_layer", "model.layers"),
    ("num_hidden_layers", "model.layers"),
    ("n_head", "model.heads"),
    ("num_attention_heads", "model.heads"),
    ("n_embd", "model.hidden_size"),
    ("d_model", "model.hidden_size"),
    ("block_size", "model.max_position_embeddings"),
    ("context_length", "model.max_position_embeddings"),
    ("beta", "kl_coef"),
    ("init_kl_coef", "kl_coef"),
    ("target_kl", "kl_target"),
    ("lam", "gae_lambda"),
    ("lambda", "gae_lambda"),
    ("clip", "cliprange"),
    ("clip_range", "cliprange"),
    ("value_clip", "cliprange_value"),
    ("vf_coef", "value_coef"),
    ("num_mini_batches", "minibatches"),
    ("missing_stop_reward", "missing_eos_reward"),
    ("pretraining_coef", "ptx_coef"),
];
/// As [`NAMES`], for lengths of what is generated.
const LENGTHS: [&str; 3] = ["max_tokens", "response_length", "max_completion_length"];

/// Adds to the schema of a kind's params what they are called elsewhere.
pub fn add(schema: &mut Map<String, Value>) {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return };
    let has = |path: &str| properties.contains_key(path.split(['.', ' ']).next().unwrap_or(path));
    let lengths = LENGTHS.map(|name| (name, "max_new_tokens"));
    let names = NAMES.into_iter().chain(lengths).filter(|(name, path)| has(path) && !has(name));
    let names: Map<_, _> = names.map(|(name, path)| (name.to_owned(), path.into())).collect();
    if !names.is_empty() {
        schema.insert("x-other-names".to_owned(), Value::Object(names));
    }
}
