//! Tests of the decoder: what it computes, and how it is kept on disk.

mod compute;
mod folder;
mod hostile;
