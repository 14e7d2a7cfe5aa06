//! A byte-level vocabulary, between GGUF and the files of Hugging Face.
//!
//! Purpose: tokens, merges, special tokens and chat templates in the terms of either side ([`metadata`], [`document`],
//! [`parse`]), and the splits that llama.cpp knows by name ([`split`]).
//! Invariant: every token keeps its id; what one side says and the other cannot is an error that names it.
//! Must not know: models.

mod document;
mod metadata;
mod parse;
mod split;
mod tokens;

pub(super) use document::{generation_config, tokenizer, tokenizer_config};
pub(super) use metadata::{read as from_metadata, write as to_metadata};
pub(super) use parse::{Documents, read as from_documents};
