//! Kiln: a declarative pipeline runner.
//!
//! Purpose: the library behind the `kiln` binary. A pipeline file is read (`spec`), turned into a
//! DAG (`graph`), compared with what the store knows (`plan`) and brought up to date (`execute`);
//! `report` and `cli` speak to people.
//! Invariant: imports run one way: digest, protocol <- spec <- graph <- plan <- execute <- report, cli;
//! `cas` knows only `digest`, and `state` only those two. `fuzzing` has what reads each format, for tests.
//! Must not know: libtorch, or anything of how a stage trains. That is a provider's business.

pub mod cas;
pub mod cli;
pub mod digest;
pub mod executor;
#[doc(hidden)]
pub mod fuzzing;
pub mod graph;
pub mod plan;
pub mod protocol;
pub mod provider;
pub mod report;
pub mod sched;
pub mod spec;
pub mod state;
