//! The files that Kiln shares with other tools.
//!
//! Purpose: readers and writers of what people bring along and take away. `bpe` is our own tokenizer, `foreign` those of
//! others, `template` their chat templates, `tokenizer` either kind with its conversations; `model` has the files of a
//! model, `gguf` those of llama.cpp; `records` reads datasets, `shards` holds them as tokens. `fuzzing`
//! has what reads each format, for tests.
//! Invariant: every file may be hostile: sizes, nesting and time are bounded, and what is wrong is an error that names the
//! file and the place in it.
//! Must not know: burn, libtorch, models in memory, stages, the runner. It compiles without them, so that each parser can be
//! fuzzed alone.

pub mod bpe;
pub mod foreign;
pub mod fuzzing;
pub mod gguf;
pub mod model;
pub mod records;
pub mod shards;
pub mod template;
pub mod tokenizer;
