//! Commands that are killed at moments of every phase, and a plain run that must make all of it good.
//!
//! Purpose: SIGKILL to `run`, `push`, `pull`, `gc` and `fsck`, and to the processes of a run, at chosen system calls;
//! then the digests must be those of an undisturbed run, the store sound, and the remote complete.
//! Invariant: a case is a function of its seed, which a failure names.
//! Must not know: how Kiln is built inside; only where it keeps things.
//!
//! The commands are traced (ptrace), so that a kill hits the phase that it is meant for. The kills of the worker are
//! in `ladder.rs`.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stderr)]

mod aim;
mod calls;
mod case;
#[path = "../common/mod.rs"]
mod common;
mod phase;
mod scene;
mod trace;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use case::Met;
use phase::Phase;
use scene::Prepared;

/// How many cases are under way at a time; they wait more than they work.
const THREADS: usize = 3;
/// The first seed of the long test.
const FIRST: u64 = 1000;
/// How often the long test meets each phase.
const LEAST: usize = 20;

#[test]
fn a_plain_run_makes_good_a_kill_in_every_phase() {
    let met = run(0, 20);
    let missing: Vec<_> = Phase::ALL.into_iter().filter(|phase| count(&met, *phase) == 0).collect();
    assert!(missing.is_empty(), "these phases were not met: {missing:?}");
}

/// `KILN_KILLS_SEED` alone replays a case, with `KILN_KILLS_CASES` so many from there on.
#[test]
#[ignore = "takes minutes; part of `make soak-shared`"]
fn a_plain_run_makes_good_nine_hundred_and_fifty_kills() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("KILN_KILLS_SEED") {
        run(seed, number("KILN_KILLS_CASES").unwrap_or(1));
        return;
    }
    let met = run(FIRST, 950);
    for phase in Phase::ALL {
        assert!(count(&met, phase) >= LEAST, "{phase:?} was met {} times only", count(&met, phase));
    }
}

fn count(met: &BTreeMap<Met, usize>, phase: Phase) -> usize {
    met.iter().filter(|((_, hit, _), _)| *hit == phase).map(|(_, count)| count).sum()
}

/// Runs the cases of these seeds, and prints how often what was met; all failures are told at the end.
fn run(first: u64, count: u64) -> BTreeMap<Met, usize> {
    let start = Instant::now();
    let prepared = Prepared::new();
    let counts = aim::survey(&prepared).unwrap_or_else(|error| panic!("{error}"));
    let (next, failures) = (AtomicU64::new(first), Mutex::new(Vec::new()));
    let met = Mutex::new(BTreeMap::<Met, usize>::new());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        break;
                    }
                    let outcome = std::panic::catch_unwind(|| case::run(seed, &prepared, &counts));
                    let panicked = || Err(format!("seed {seed}: the test itself panicked (see above)"));
                    match outcome.unwrap_or_else(|_| panicked()) {
                        Ok(hit) => *met.lock().unwrap().entry(hit).or_default() += 1,
                        Err(failure) => {
                            eprintln!("{failure}\n----");
                            failures.lock().unwrap().push(seed);
                        }
                    }
                }
            });
        }
    });
    let (met, failures) = (met.into_inner().unwrap(), failures.into_inner().unwrap());
    table(&met);
    eprintln!("{count} kills from seed {first} in {:.1} s", start.elapsed().as_secs_f64());
    assert!(failures.is_empty(), "{} of {count} cases failed: seeds {failures:?}", failures.len());
    met
}

fn table(met: &BTreeMap<Met, usize>) {
    for phase in Phase::ALL {
        let hits = met.iter().filter(|((_, hit, _), _)| *hit == phase);
        let hits = hits.map(|((scene, _, victim), count)| format!("{scene:?}/{victim:?} {count}"));
        eprintln!("{:>4}  {phase:?}: {}", count(met, phase), hits.collect::<Vec<_>>().join(", "));
    }
}
