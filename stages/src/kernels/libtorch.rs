//! libtorch as a library: where it is, its version, and its CUDA half.
//!
//! Purpose: the binary is linked against the CPU half alone; where the CUDA half lies beside it,
//! loading that at start-up makes one binary serve both.
//! Invariant: nothing fails where there is no CUDA half; what is said of libtorch is true of the one
//! that is loaded, which LD_LIBRARY_PATH may have chosen, and not of the one at build time.
//! Must not know: tensors.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The libraries of libtorch that this process has loaded, sorted by path.
fn loaded() -> Vec<PathBuf> {
    const NAMES: [&str; 3] = ["libtorch_cpu.so", "libtorch_cuda.so", "libc10.so"];
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let paths = maps.lines().filter_map(|line| line.find('/').map(|at| Path::new(&line[at..])));
    let ours = paths.filter(|p| p.file_name().is_some_and(|name| NAMES.iter().any(|n| name == *n)));
    ours.map(Path::to_owned).collect::<BTreeSet<_>>().into_iter().collect()
}

/// The folder of libtorch: above the `lib` that the CPU half was loaded from.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let cpu = loaded().into_iter().find(|p| p.ends_with("lib/libtorch_cpu.so"));
        let above = cpu.as_deref().and_then(|p| p.ancestors().nth(2));
        above.map_or_else(|| PathBuf::from(env!("KILN_LIBTORCH")), Path::to_owned)
    })
}

/// Where the CUDA half is, if it is there.
pub fn cuda_library() -> PathBuf {
    folder().join("lib/libtorch_cuda.so")
}

/// The loaded libraries and the files that tell the version, as far as they are there.
pub fn files() -> Vec<PathBuf> {
    let versions = ["build-version", "version.py"].map(|name| folder().join(name));
    versions.into_iter().filter(|path| path.exists()).chain(loaded()).collect()
}

/// Loads `libtorch_cuda.so` if it lies beside the CPU half.
fn load_cuda() -> bool {
    static LOADED: OnceLock<bool> = OnceLock::new();
    *LOADED.get_or_init(|| {
        let path = cuda_library();
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

/// Limits the threads of one operation on the CPU.
pub fn set_threads(threads: i32) {
    tch::set_num_threads(threads);
}

/// libtorch's version as its folder tells it.
pub fn version() -> String {
    let read = |name: &str| std::fs::read_to_string(folder().join(name)).ok();
    let named = read("build-version").map(|v| v.trim().to_owned());
    let python = || {
        let text = read("version.py")?;
        let line = text.lines().find(|l| l.starts_with("__version__"))?;
        line.split('\'').nth(1).map(str::to_owned)
    };
    named.or_else(python).unwrap_or_else(|| "unknown".to_owned())
}
