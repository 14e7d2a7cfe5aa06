//! A model, between GGUF and a Hugging Face folder.
//!
//! Purpose: a model's shape in GGUF's keys ([`metadata`]) with LLaMA 3's divisors ([`rope`]), the shapes that llama.cpp can
//! follow ([`config`]), and the tensors under both names ([`layout`]). The shape itself and `config.json` are those of
//! [`crate::model`].
//! Invariant: what one side says and the other cannot is an error that names it.
//! Must not know: tokenizers.

mod config;
mod layout;
mod metadata;
mod rope;

pub(super) use config::read as from_config;
pub(super) use layout::{Form, Slot, slots};
pub(super) use metadata::{HEAD, ROPE_FREQS, architecture, read as from_metadata, write as to_metadata};
pub(super) use rope::divisors;
