//! The graph: pipeline -> DAG of stages, with references resolved and types checked.

mod build;
mod cycles;
mod dag;
pub mod render;
#[cfg(test)]
mod tests;

pub use build::{build, load};
pub use dag::{Edge, Graph, Input, Producer};
