//! The YAML tree: what a file says before anybody asks what it means.
//!
//! `yaml` reads the text and `scalar` types its plain scalars; `node` is the tree; `environment` and
//! `overrides` change it before the sections are read.

pub mod environment;
pub mod node;
pub mod overrides;
pub mod scalar;
pub mod yaml;
