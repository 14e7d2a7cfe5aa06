//! Which device a stage computes on.
//!
//! Purpose: turns the request's word (`auto`, `cpu`, `cuda`) into a burn device, and tells what the
//! numbers depend on.
//! Invariant: `auto` takes a GPU only if libtorch can use it, and says nothing otherwise.
//! Must not know: stages.

// burn-tch is deprecated upstream; burn's constructors of its devices are named here alone.
#![allow(deprecated)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use burn::tensor::Device;

use crate::kernels::cpu::simd::{Level, level};

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
    crate::kernels::libtorch::has_cuda().then(|| Device::libtorch_cuda(0))
}

#[cfg(not(feature = "tch"))]
fn cuda() -> Option<Device> {
    None
}

/// Limits the threads of the stage to its cores.
pub fn set_threads(threads: u32) {
    // What libtorch computes on the CPU is small: losses over the outputs of a model.
    #[cfg(feature = "tch")]
    crate::kernels::libtorch::set_threads(1);
    crate::kernels::workers::set_threads(threads.max(1) as usize);
    // Generation and the tokenizer take rayon's global pool.
    let _ = rayon::ThreadPoolBuilder::new().num_threads(threads.max(1) as usize).build_global();
}

/// What the bits of one process depend on beside the code, exactly: a state that was computed under
/// other values is not resumed. Threads are not here: no sum depends on how many there are.
pub fn exact_numerics(device: &Device) -> BTreeMap<String, String> {
    let named = format!("{device:?}");
    // `Device<LibTorch(Cpu)>`: backend and class of the device in one word.
    let device = named.strip_prefix("Device<").and_then(|d| d.strip_suffix('>')).unwrap_or(&named);
    let mut out = BTreeMap::from([
        ("arch".to_owned(), std::env::consts::ARCH.to_owned()),
        ("device".to_owned(), device.to_owned()),
        ("vectors".to_owned(), vectors().to_owned()),
    ]);
    #[cfg(feature = "tch")]
    out.insert("libtorch".to_owned(), crate::kernels::libtorch::version());
    #[cfg(not(feature = "tch"))]
    out.insert("libtorch".to_owned(), "none".to_owned());
    out
}

/// The widest vector instructions, by which our kernels and those of libtorch are chosen.
fn vectors() -> &'static str {
    match level() {
        Level::Avx512 => "avx512",
        Level::Avx2 => "avx2",
        Level::Baseline => "baseline",
    }
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
    crate::kernels::libtorch::files()
}

/// Nothing beside the program.
#[cfg(not(feature = "tch"))]
pub fn files() -> Vec<PathBuf> {
    Vec::new()
}

/// What changes the device that `auto` takes by being there: a GPU, and libtorch's CUDA half.
#[cfg(feature = "tch")]
pub fn device_files() -> Vec<PathBuf> {
    vec![
        PathBuf::from("/dev/nvidiactl"),
        PathBuf::from("/dev/nvidia0"),
        crate::kernels::libtorch::cuda_library(),
    ]
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
        out.insert("libtorch".to_owned(), crate::kernels::libtorch::version());
        let device = if crate::kernels::libtorch::has_cuda() { "cuda" } else { "cpu" };
        out.insert("device".to_owned(), device.to_owned());
    }
    #[cfg(not(feature = "tch"))]
    out.insert("backend".to_owned(), "flex".to_owned());
    out.insert("arch".to_owned(), std::env::consts::ARCH.to_owned());
    out.insert("vectors".to_owned(), vectors().to_owned());
    out
}
