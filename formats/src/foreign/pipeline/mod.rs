//! What happens to a text before and after its pieces become tokens.
//!
//! Purpose: [`normalize`] changes the text, [`split`] cuts it into the pieces within which merges happen, [`quick`] does so
//! where the text stays as it is, [`post`] knows the tokens around it. The strings, with their alignment to the original, are those of the crate `tokenizers`; the patterns are
//! [`find`]'s.
//! Invariant: a part of a type that is not known, or that could panic or grow without bound in the crate, is an error when it
//! is read; then nothing here fails.
//! Must not know: vocabularies, files.

mod find;
mod normalize;
mod post;
mod quick;
mod split;

pub(super) use normalize::Normalizer;
pub(super) use post::Around;
pub(super) use quick::Quick;
pub(super) use split::PreTokenizer;
