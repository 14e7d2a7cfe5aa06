//! How fast a training is, and how much memory it takes.
//!
//! Purpose: tokens a second, floating-point operations, the part of the machine's rate that they are, peak memory.
//! Invariant: measuring changes no output.
//! Must not know: what is trained.

use std::sync::OnceLock;
use std::time::Instant;

use crate::kernels::cpu::linear::{Matrix, product};
use crate::kernels::{is_host, workers};
use crate::model::Network;

/// Measures a training from its start.
pub struct Meter {
    start: Instant,
    tokens: u64,
    flops: f64,
    /// Operations a second that the machine can do, where that is known.
    peak: Option<f64>,
}

impl Meter {
    /// The training of this model begins.
    pub fn new(model: &Network) -> Self {
        let peak = is_host(model.device()).then(matmul_rate);
        Self { start: Instant::now(), tokens: 0, flops: 0.0, peak }
    }

    /// Rows of so many tokens each went through the model, forward and backward.
    pub fn add(&mut self, model: &Network, lengths: impl Iterator<Item = usize>) {
        for length in lengths {
            self.tokens += length as u64;
            self.flops += (length as u64 * model.config().training_flops_per_token(length)) as f64;
        }
    }

    /// Tokens a second since the start.
    pub fn tokens_per_second(&self) -> f64 {
        self.tokens as f64 / self.start.elapsed().as_secs_f64()
    }

    /// All measurements by name: operations by `6 N_matmul + 12 L d T` a token (Chowdhery 2022), `mfu` as a part of the
    /// measured rate of matrix products of all threads, peak memory in MiB.
    pub fn measurements(&self) -> [(&'static str, f64); 4] {
        let rate = self.flops / self.start.elapsed().as_secs_f64();
        [
            ("train/tokens_per_second", self.tokens_per_second()),
            ("train/gflops", rate / 1e9),
            ("train/mfu", self.peak.map_or(f64::NAN, |peak| rate / peak)),
            ("train/peak_memory_mib", peak_memory() / f64::from(1 << 20)),
        ]
    }
}

/// Operations a second of matrix products on all threads of the stage, measured once.
fn matmul_rate() -> f64 {
    const SIZE: usize = 384;
    const ROUNDS: usize = 4;
    static RATE: OnceLock<f64> = OnceLock::new();
    *RATE.get_or_init(|| {
        let run = |_: usize, (): ()| {
            let (a, b, mut out) = (vec![0.5; SIZE * SIZE], vec![0.25; SIZE * SIZE], vec![0.0; SIZE * SIZE]);
            product(&mut out, Matrix::new(&a, SIZE), Matrix::new(&b, SIZE), false);
            let start = Instant::now();
            for _ in 0..ROUNDS {
                product(&mut out, Matrix::new(&a, SIZE), Matrix::new(&b, SIZE), false);
            }
            (ROUNDS * 2 * SIZE.pow(3)) as f64 / start.elapsed().as_secs_f64()
        };
        workers::run(vec![(); workers::threads()], run).into_iter().sum()
    })
}

/// The most memory that this process has had at once, in bytes; 0 where that is not known.
fn peak_memory() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).and_then(|word| word.parse::<f64>().ok());
    kib.unwrap_or(0.0) * 1024.0
}
