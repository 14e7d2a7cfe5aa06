//! The simulation by seed.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::sleep;

use super::actors::{ACTIONS, Actor, Without, action};
use super::world::World;

/// What a run has seen.
struct Seen {
    violations: Vec<String>,
    removed: usize,
    actions: usize,
}

/// Runs senders and collectors until they have made so many requests.
fn simulate(seed: u64, steps: u64, without: Without) -> Seen {
    fastrand::seed(seed);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let world = runtime.block_on(async {
        let world = Arc::new(Mutex::new(World::new(seed)));
        let done = Arc::new(AtomicU64::new(0));
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut actor = || Actor {
            world: Arc::clone(&world),
            steps: Arc::clone(&done),
            suspend: Arc::default(),
            without,
            rng: rng.fork(),
        };
        let mut tasks: Vec<_> = (0..6).map(|_| tokio::spawn(actor().send_for_ever())).collect();
        tasks.extend((0..2).map(|_| tokio::spawn(actor().collect_for_ever())));
        let clock = Arc::clone(&world);
        while done.load(Ordering::Relaxed) < steps {
            sleep(Duration::from_secs(rng.u64(5 * 3600..100_000))).await;
            // A sender relies on what was less than twelve hours old, and may be suspended for five more before its
            // last request: two jumps and these are less than the grace window, which is what it promises.
            clock.lock().unwrap().jump(rng.i64(-3 * 3_600_000..3 * 3_600_000));

            assert!(!tasks.iter().any(tokio::task::JoinHandle::is_finished), "an actor panicked");
        }
        tasks.iter().for_each(tokio::task::JoinHandle::abort);
        world
    });
    let mut world = world.lock().unwrap();
    let violations = std::mem::take(&mut world.violations);
    Seen { violations, removed: world.removed, actions: world.actions }
}

fn holds(seeds: std::ops::Range<u64>, steps: u64) {
    let (mut removed, mut actions) = (0, 0);
    for seed in seeds {
        let seen = simulate(seed, steps, Without::Nothing);
        assert!(seen.violations.is_empty(), "seed {seed}: {:?}", seen.violations);
        removed += seen.removed;
        actions += seen.actions;
    }
    // Something was at stake.
    assert!(removed > 100 && actions > 100, "{removed} removed, {actions} written");
}

#[test]
fn no_collector_removes_what_a_record_or_a_living_sender_needs() {
    holds(0..10, 3_000);
}

#[test]
#[ignore = "a million requests take a minute"]
fn no_collector_removes_what_is_needed_in_a_million_requests() {
    holds(1_000..1_100, 10_000);
}

#[test]
fn each_protection_is_needed() {
    for without in [Without::Grace, Without::Intents, Without::SecondLook] {
        let broken = (0..40).any(|seed| !simulate(seed, 5_000, without).violations.is_empty());
        assert!(broken, "nothing went wrong without {without:?}");
    }
}

#[test]
fn the_actions_of_the_simulation_are_as_many_as_it_says() {
    let keys: std::collections::BTreeSet<_> = (0..ACTIONS).map(|number| action(number).0.key).collect();
    assert_eq!(keys.len() as u64, ACTIONS);
}
