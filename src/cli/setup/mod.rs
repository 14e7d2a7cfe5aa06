//! The commands that need no pipeline: a first file, the machine, editor and shell support, error codes.

pub mod completions;
pub mod doctor;
pub mod explain;
pub mod import;
pub mod init;
pub mod params;
pub mod schema;
