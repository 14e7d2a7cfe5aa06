//! The lock file, `NAME.lock` beside `NAME.yaml`.
//!
//! It records what each stage was made from and what came out, for people to commit and to compare. Kiln
//! itself plans from the store alone. `stanza` is its form, `file` finds, reads and writes it, `reporter`
//! updates it when a run ends, `compare` is behind `--locked`, and `merge` is a merge driver for git.

mod compare;
mod file;
mod merge;
mod reporter;
pub(crate) mod stanza;

pub use compare::{Difference, LockCheck, compare, compare_outputs};
pub(crate) use file::write as write_stanzas;
pub use file::{LockFile, LockFileError, check_version};
pub use merge::{Merged, merge};
pub use reporter::LockFileReporter;
