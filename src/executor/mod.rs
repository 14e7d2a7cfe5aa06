//! What runs a stage on this machine: the sandbox of a command and the control group of its processes.

pub mod cgroup;
pub mod sandbox;
