//! A model, between GGUF and a Hugging Face folder.
//!
//! Purpose: the shape of a decoder in the terms of either side ([`metadata`], [`config`]), and the tensors under both names
//! ([`layout`]).
//! Invariant: what one side says and the other cannot is an error that names it.
//! Must not know: tokenizers.

mod config;
mod decoder;
mod layout;
mod metadata;
mod rope;

pub(super) use config::{read as from_config, write as to_config};
pub(super) use decoder::Decoder;
pub(super) use layout::{Form, Slot, slots};
pub(super) use metadata::{HEAD, ROPE_FREQS, read as from_metadata, write as to_metadata};
pub(super) use rope::Scaling;
