//! The graph: pipeline -> DAG of stages, with references resolved and types checked.

mod build;

pub use build::{Edge, Graph, Input, Producer, load};
