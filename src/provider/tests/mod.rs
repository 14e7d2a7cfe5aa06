//! Tests of discovery, `describe`, its cache and the environment.

#![allow(clippy::unwrap_used)]

mod describe;
mod environment;
