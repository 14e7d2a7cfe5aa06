//! The local store: blobs, actions, runs, and what is known of files by their stat.

pub mod types;
