//! The `kiln` binary.
//!
//! Purpose: hands the process over to `cli` and its exit code back.
//! Invariant: nothing heavy happens before the command is known.
//! Must not know: anything else.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(kiln::cli::main::main(std::env::args_os()).code())
}
