//! libtorch as a library: its version, and its CUDA half.
//!
//! Purpose: the binary is linked against the CPU half alone; where the CUDA half lies beside it,
//! loading that at start-up makes one binary serve both.
//! Invariant: nothing fails where there is no CUDA half.
//! Must not know: tensors.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::OnceLock;

/// Loads `libtorch_cuda.so` if it lies beside the libtorch that this binary was built with.
fn load_cuda() -> bool {
    static LOADED: OnceLock<bool> = OnceLock::new();
    *LOADED.get_or_init(|| {
        let path = PathBuf::from(env!("KILN_LIBTORCH")).join("lib/libtorch_cuda.so");
        if !path.exists() {
            return false;
        }
        let Ok(name) = CString::new(path.as_os_str().as_bytes()) else { return false };
        // SAFETY: the library is the other half of the one already loaded; its initialisers only
        // register CUDA with it.
        #[allow(unsafe_code)]
        let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
        !handle.is_null()
    })
}

/// Whether libtorch can use a CUDA device.
pub fn has_cuda() -> bool {
    load_cuda() && tch::Cuda::is_available()
}

/// libtorch's version as its folder tells it.
pub fn version() -> String {
    let folder = PathBuf::from(env!("KILN_LIBTORCH"));
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).ok();
    let named = read("build-version").map(|v| v.trim().to_owned());
    let python = || {
        let text = read("version.py")?;
        let line = text.lines().find(|l| l.starts_with("__version__"))?;
        line.split('\'').nth(1).map(str::to_owned)
    };
    named.or_else(python).unwrap_or_else(|| "unknown".to_owned())
}
