//! Real sandboxes, each in a process of its own: `world` builds the folders and starts the processes.

mod plans;
mod real;
mod world;

use world::{User, World, ways};
