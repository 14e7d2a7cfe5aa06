//! Random projects, edits, kills and damage, and a plain run that must make all of it good.
//!
//! Purpose: drive the real binary through random histories, and compare every output with what it should be.
//! Invariant: a case is a function of its seed, which a failure names: `make soak SEED=.. CASES=1` replays it.
//! Must not know: how Kiln is built inside.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stderr)]

mod artifact;
mod case;
mod check;
mod damage;
mod edit;
mod generate;
mod project;
mod runs;
mod world;
mod yaml;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// The first seed of the default tests.
const FIRST: u64 = 1;
/// How many cases are under way at a time; they wait more than they work.
const THREADS: usize = 3;

/// How many cases of a soak are run before the next seed is noted.
const CHUNK: usize = 50;

#[test]
fn a_plain_run_makes_good_a_hundred_histories() {
    run(FIRST, 100);
}

#[test]
#[ignore = "takes minutes; part of `make test-long`"]
fn a_plain_run_makes_good_a_thousand_histories() {
    run(FIRST + 100, 1000);
}

/// `KILN_SOAK_CASES` cases from `KILN_SOAK_SEED` on, or from where the last call stopped.
#[test]
#[ignore = "takes as long as it is told; see `make soak`"]
fn soak() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let Some(cases) = number("KILN_SOAK_CASES") else { return };
    let target =
        std::path::PathBuf::from(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()));
    let file = target.join("soak.next");
    let stopped = || std::fs::read_to_string(&file).ok()?.trim().parse().ok();
    let first = number("KILN_SOAK_SEED").or_else(stopped).unwrap_or(10_000);
    std::fs::create_dir_all(&target).unwrap();
    // The next seed is noted now and then, so that it goes on there when it is stopped or fails.
    for seed in (first..first + cases).step_by(CHUNK) {
        let count = (first + cases - seed).min(CHUNK as u64);
        run(seed, count);
        std::fs::write(&file, format!("{}\n", seed + count)).unwrap();
    }
}

/// Runs the cases of these seeds; all failures are told at the end.
fn run(first: u64, count: u64) {
    let start = Instant::now();
    let next = AtomicU64::new(first);
    let failures = Mutex::new(Vec::new());
    let done = Mutex::new(BTreeMap::<&str, u64>::new());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        break;
                    }
                    let outcome = std::panic::catch_unwind(|| case::run(seed));
                    let panicked = || Err(format!("seed {seed}: the test itself panicked (see above)"));
                    match outcome.unwrap_or_else(|_| panicked()) {
                        Ok(kinds) => {
                            let mut done = done.lock().unwrap();
                            kinds.into_iter().for_each(|kind| *done.entry(kind).or_default() += 1);
                        }
                        Err(failure) => {
                            eprintln!("{failure}\n----");
                            failures.lock().unwrap().push((seed, failure));
                        }
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    let seeds: Vec<_> = failures.iter().map(|(seed, _)| seed).collect();
    eprintln!(
        "{count} cases from seed {first} in {:.1} s: {:?}",
        start.elapsed().as_secs_f64(),
        done.lock().unwrap()
    );
    assert!(failures.is_empty(), "{} of {count} cases failed: seeds {seeds:?}", failures.len());
}
