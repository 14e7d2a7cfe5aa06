//! The `kiln` binary.
//!
//! Purpose: hands the process over to `cli` and its exit code back; sets one number of the allocator.
//! Invariant: nothing heavy happens before the command is known.
//! Must not know: commands.

use std::process::ExitCode;

fn main() -> ExitCode {
    let word = std::env::args_os().nth(1);
    if word.as_deref() == Some(kiln::executor::supervise::SPAWNER.as_ref()) {
        kiln::executor::supervise::serve();
        return ExitCode::SUCCESS;
    }
    if word.as_deref() == Some(kiln::executor::download::DOWNLOADER.as_ref()) {
        return kiln::executor::download::serve();
    }
    keep_freed_memory();
    ExitCode::from(kiln::cli::main::main(std::env::args_os()).code())
}

/// glibc gives back at once what a thread frees, and every stage takes it anew: that was a tenth of the
/// processor time of a run of small stages. Other C libraries have no such number to set.
#[allow(unsafe_code)]
fn keep_freed_memory() {
    // SAFETY: it sets a number of the allocator, before any other thread exists.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_TRIM_THRESHOLD, 64 << 20);
    }
}
