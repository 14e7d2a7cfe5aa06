//! From the syntax of Jinja2 to that of minijinja.
//!
//! Purpose: [`lexer`] cuts a source into tokens as Jinja2 3.1 does with `trim_blocks` and `lstrip_blocks`; [`statement`] and
//! [`expression`] read them by Jinja2's grammar and write the same program for minijinja, in which every operator, attribute
//! and method is a filter of `python` (so that their meaning is Python's) and `{% generation %}` is a pair of calls.
//! Invariant: the written source nests and chains less than minijinja's parser, compiler and destructors bear; every byte of
//! it has a place in the source that people wrote.
//! Must not know: how anything is evaluated.

mod block;
mod collection;
mod expression;
mod lexer;
mod literal;
mod postfix;
mod program;
mod statement;
mod target;

pub(super) use lexer::is_space;
pub(super) use program::Program;
