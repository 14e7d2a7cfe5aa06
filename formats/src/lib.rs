//! The files that Kiln shares with other tools.
//!
//! Purpose: readers and writers of what people bring along and take away. `bpe` is our own tokenizer,
//! `template` are the chat templates of Hugging Face models.
//! Invariant: every file may be hostile: sizes, nesting and time are bounded, and what is wrong is an error that names the
//! file and the place in it.
//! Must not know: burn, libtorch, models in memory, stages, the runner. It compiles without them, so that each parser can be
//! fuzzed alone.

pub mod bpe;
pub mod template;
