//! Tests of the parts of a training step, and of the loop around them.

mod checkpoint;
mod gradients;
mod optimizer;
mod resume;
