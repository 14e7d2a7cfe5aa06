//! The threads that shards are worked on by.
//!
//! Purpose: runs one job a shard on as many threads as the stage has cores.
//! Invariant: a thread takes its jobs in their order, and the results come in the order of the jobs, so what is computed
//! does not depend on how many threads there are.
//! Must not know: what a job is.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

static THREADS: AtomicUsize = AtomicUsize::new(1);

/// Sets how many threads may run at once.
pub fn set_threads(threads: usize) {
    THREADS.store(threads.max(1), Ordering::Relaxed);
}

/// How many threads may run at once.
pub fn threads() -> usize {
    THREADS.load(Ordering::Relaxed)
}

/// Runs `work`, which shares many short pieces with the other threads of rayon's pool, while these stay awake: to wake a thread
/// takes as long as such a piece. A thread that finds nothing to do leaves its core to whoever wants it.
pub fn awake<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    let done = &AtomicBool::new(false);
    rayon::scope(|scope| {
        let own = rayon::current_thread_index();
        for _ in 1..rayon::current_num_threads() {
            scope.spawn(move |_| {
                // The thread of `work` may find this while it waits for a piece, and is to go on.
                while rayon::current_thread_index() != own && !done.load(Ordering::Acquire) {
                    if rayon::yield_now() == Some(rayon::Yield::Idle) {
                        std::thread::yield_now();
                    }
                }
            });
        }
        let _done = Done(done);
        work()
    })
}

/// Raises a flag at its end, also where a panic ends it.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Runs `work` on each job; returns the results in order.
pub fn run<J: Send, R: Send>(jobs: Vec<J>, work: impl Fn(usize, J) -> R + Sync) -> Vec<R> {
    let count = threads().min(jobs.len());
    if count <= 1 {
        return jobs.into_iter().enumerate().map(|(i, job)| work(i, job)).collect();
    }
    let mut shares: Vec<Vec<(usize, J)>> = (0..count).map(|_| Vec::new()).collect();
    for (i, job) in jobs.into_iter().enumerate() {
        shares[i % count].push((i, job));
    }
    let results = Mutex::new(Vec::new());
    let run = |share: Vec<(usize, J)>| {
        for (i, job) in share {
            let result = work(i, job);
            results.lock().unwrap_or_else(PoisonError::into_inner).push((i, result));
        }
    };
    let mut own = shares.remove(0);
    let shares: Vec<_> = shares.into_iter().map(|share| Mutex::new(Some(share))).collect();
    let take = |share: &Mutex<Option<Vec<(usize, J)>>>| {
        share.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default()
    };
    std::thread::scope(|scope| {
        for share in &shares {
            // Where no thread can be had, this one does the work, still in the order of the jobs.
            if std::thread::Builder::new().spawn_scoped(scope, || run(take(share))).is_err() {
                own.extend(take(share));
            }
        }
        own.sort_by_key(|(i, _)| *i);
        run(own);
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(i, _)| *i);
    results.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::with_threads;

    #[test]
    fn results_come_in_the_order_of_the_jobs_by_any_number_of_threads() {
        for threads in [1, 2, 3, 8] {
            for count in [0, 1, 2, 7, 20] {
                let jobs: Vec<usize> = (0..count).collect();
                let made = with_threads(threads, || {
                    run(jobs, |i, job| {
                        assert_eq!(i, job);
                        std::thread::sleep(std::time::Duration::from_micros(50 * (job as u64 % 3)));
                        10 * job
                    })
                });
                assert_eq!(made, (0..count).map(|job| 10 * job).collect::<Vec<_>>(), "{threads} threads");
            }
        }
    }

    #[test]
    fn work_is_shared_with_threads_that_stay_awake_and_ends_with_its_panic() {
        use std::panic::AssertUnwindSafe;

        use rayon::prelude::*;

        for threads in [1, 2, 5] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let made =
                pool.install(|| awake(|| (0..100).map(|i| (0..i).into_par_iter().sum::<i32>()).sum::<i32>()));
            assert_eq!(made, (0..100).map(|i| (0..i).sum::<i32>()).sum::<i32>(), "{threads} threads");
            let ends =
                std::panic::catch_unwind(AssertUnwindSafe(|| pool.install(|| awake(|| panic!("it ends")))));
            assert!(ends.is_err());
        }
    }

    #[test]
    fn there_is_always_one_thread() {
        assert_eq!(with_threads(0, threads), 1);
    }
}
