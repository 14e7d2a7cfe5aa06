//! Which device a stage computes on.
//!
//! Purpose: turns the request's word (`auto`, `cpu`, `cuda`) into a burn device, and tells what the
//! numbers depend on.
//! Invariant: `auto` takes a GPU only if libtorch can use it, and says nothing otherwise.
//! Must not know: stages.

// burn-tch is deprecated upstream; its device constructors are named here alone.
#![allow(deprecated)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use burn::tensor::Device;

/// The device for a request's word.
///
/// # Errors
/// When `cuda` is asked for and not there, or the word is unknown.
pub fn resolve(word: &str) -> Result<Device, String> {
    match word {
        "cpu" => Ok(cpu()),
        "auto" => Ok(cuda().unwrap_or_else(cpu)),
        "cuda" => cuda().ok_or_else(|| {
            "no CUDA device can be used: this needs the CUDA build of libtorch 2.11 and a driver \
             (`kiln doctor` says what is there); `--device cpu` works everywhere"
                .to_owned()
        }),
        other => Err(format!("there is no device `{other}`: auto, cpu or cuda")),
    }
}

#[cfg(feature = "tch")]
fn cpu() -> Device {
    Device::libtorch()
}

#[cfg(not(feature = "tch"))]
fn cpu() -> Device {
    Device::flex()
}

#[cfg(feature = "tch")]
fn cuda() -> Option<Device> {
    crate::libtorch::has_cuda().then(|| Device::libtorch_cuda(0))
}

#[cfg(not(feature = "tch"))]
fn cuda() -> Option<Device> {
    None
}

/// Limits the threads of one operation to the stage's cores.
pub fn set_threads(threads: u32) {
    #[cfg(feature = "tch")]
    tch::set_num_threads(threads.max(1) as i32);
    crate::kernels::workers::set_threads(threads.max(1) as usize);
    // burn-flex, generation and the tokenizer take rayon's global pool.
    let _ = rayon::ThreadPoolBuilder::new().num_threads(threads.max(1) as usize).build_global();
}

/// What the bits of one process depend on beside the code, exactly: a state that was computed under
/// other values is not resumed. The thread count is here because libtorch splits sums by it.
pub fn exact_numerics(device: &Device, threads: u32) -> BTreeMap<String, String> {
    let named = format!("{device:?}");
    // `Device<LibTorch(Cpu)>`: backend and class of the device in one word.
    let device = named.strip_prefix("Device<").and_then(|d| d.strip_suffix('>')).unwrap_or(&named);
    let mut out = BTreeMap::from([
        ("arch".to_owned(), std::env::consts::ARCH.to_owned()),
        ("device".to_owned(), device.to_owned()),
        ("threads".to_owned(), threads.max(1).to_string()),
        ("vectors".to_owned(), vectors().to_owned()),
    ]);
    #[cfg(feature = "tch")]
    out.insert("libtorch".to_owned(), crate::libtorch::version());
    #[cfg(not(feature = "tch"))]
    out.insert("libtorch".to_owned(), "none".to_owned());
    out
}

/// The widest vector instructions, by which libtorch chooses its kernels.
fn vectors() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            return "avx512";
        }
        if is_x86_feature_detected!("avx2") {
            return "avx2";
        }
    }
    "baseline"
}

/// The variables that the processes of this provider need: how the libraries are found, and which
/// GPUs are seen.
pub fn environment() -> Vec<String> {
    let names: &[&str] = if cfg!(feature = "tch") {
        &["CUDA_DEVICE_ORDER", "CUDA_HOME", "CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH", "LIBTORCH"]
    } else {
        &[]
    };
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// The files that `describe` depends on: the libraries of libtorch that are loaded, and its version.
#[cfg(feature = "tch")]
pub fn files() -> Vec<PathBuf> {
    crate::libtorch::files()
}

/// Nothing beside the program.
#[cfg(not(feature = "tch"))]
pub fn files() -> Vec<PathBuf> {
    Vec::new()
}

/// What changes the device that `auto` takes by being there: a GPU, and libtorch's CUDA half.
#[cfg(feature = "tch")]
pub fn device_files() -> Vec<PathBuf> {
    vec![PathBuf::from("/dev/nvidiactl"), PathBuf::from("/dev/nvidia0"), crate::libtorch::cuda_library()]
}

/// Nothing: there is only the CPU.
#[cfg(not(feature = "tch"))]
pub fn device_files() -> Vec<PathBuf> {
    Vec::new()
}

/// What the numbers depend on beside the code: the keys of stages with `cache: exact` hold it.
pub fn numerics() -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    #[cfg(feature = "tch")]
    {
        out.insert("backend".to_owned(), "libtorch".to_owned());
        out.insert("libtorch".to_owned(), crate::libtorch::version());
        let device = if crate::libtorch::has_cuda() { "cuda" } else { "cpu" };
        out.insert("device".to_owned(), device.to_owned());
    }
    #[cfg(not(feature = "tch"))]
    out.insert("backend".to_owned(), "flex".to_owned());
    out.insert("arch".to_owned(), std::env::consts::ARCH.to_owned());
    out
}
