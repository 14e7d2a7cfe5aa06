//! Blocks that are open.
//!
//! Purpose: what is remembered of a block until its end.
//! Invariant: a block has the name of the tag that ends it.
//! Must not know: tokens.

/// A `for` that is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Loop {
    /// Where it begins in the text.
    pub(super) start: usize,
    pub(super) recursive: bool,
    /// Whether `break` or `continue` stand in it.
    pub(super) has_jump: bool,
    pub(super) has_else: bool,
}

/// A block that is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Block {
    For(Loop),
    /// `if`, the number of its `elif`s and whether it has had its `else`.
    If {
        elifs: usize,
        has_else: bool,
    },
    Macro,
    Call,
    Filter,
    Set,
    With,
    Generation,
}

impl Block {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::For(_) => "for",
            Self::If { .. } => "if",
            Self::Macro => "macro",
            Self::Call => "call",
            Self::Filter => "filter",
            Self::Set => "set",
            Self::With => "with",
            Self::Generation => "generation",
        }
    }

    /// Whether the text of the block is gathered before it is written, so that its place is not known.
    pub(super) fn is_gathered(self) -> bool {
        match self {
            Self::For(found) => found.recursive,
            other => matches!(other, Self::Macro | Self::Call | Self::Filter | Self::Set),
        }
    }
}
