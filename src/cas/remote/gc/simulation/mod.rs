//! Senders, collectors, crashes and clocks, simulated in memory.
//!
//! `world` is an object store with a clock of its own, which checks every removal and every action that it is given;
//! `actors` send and collect through the code that does it for real, and are suspended and killed; `runs` runs them
//! by seed, and shows that each protection is needed.

mod actors;
mod runs;
mod world;
