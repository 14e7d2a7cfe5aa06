//! What a template may ask for.
//!
//! Purpose: the bounds that keep a hostile template from time and memory, in one place.
//! Invariant: the least of them is far above what the templates of public models need.
//! Must not know: templates.

/// Bytes of a template's source.
pub(super) const MAX_SOURCE: usize = 1 << 20;
/// Steps of minijinja's machine (an instruction, 64 bytes of text made or read, or an item visited).
pub(super) const STEPS: u64 = 6_000_000;
/// Bytes of the rendered text.
pub(super) const MAX_OUTPUT: usize = 64 << 20;
/// How deep lists and dicts nest in one another.
pub(super) const MAX_DEPTH: u16 = 200;
/// Items of a `range`, as the sandbox of Jinja2 has it.
pub(super) const MAX_RANGE: usize = 100_000;

/// How deep expressions nest.
pub(super) const MAX_EXPRESSION_DEPTH: usize = 40;
/// How deep blocks nest.
pub(super) const MAX_BLOCK_DEPTH: usize = 40;
/// Attributes, calls, filters or tests on one value, and operands of `and` and `or`.
pub(super) const MAX_CHAIN: usize = 200;
/// `elif`s of one `if`.
pub(super) const MAX_ELIFS: usize = 100;
/// Operands that one call of a filter takes; minijinja allows 2,000 arguments.
pub(super) const OPERANDS: usize = 900;
/// Arguments of a call, items of a list, entries of a dict.
pub(super) const MAX_ITEMS: usize = 1_900;
