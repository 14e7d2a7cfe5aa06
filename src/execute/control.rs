//! Stopping a run.
//!
//! Purpose: one switch that every executor and every child process of a run hangs on.
//! Invariant: a child is signalled only while it is registered, and it is registered only while its
//! process id cannot be anyone else's; a child that registers after the switch was thrown is
//! signalled at once.
//! Must not know: stages, schedules, why the run is stopped.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

/// How far a run is to be stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Stop {
    /// Go on.
    #[default]
    No,
    /// Checkpoint and end: SIGTERM.
    Ask,
    /// End now: SIGKILL.
    Kill,
}

/// The switch.
#[derive(Debug, Default)]
pub struct Control {
    state: Mutex<State>,
    thrown: Condvar,
}

#[derive(Debug, Default)]
struct State {
    stop: Stop,
    groups: BTreeSet<i32>,
}

impl Control {
    /// How far the run is to be stopped.
    pub fn stop(&self) -> Stop {
        self.lock().stop
    }

    /// True when the run is to be stopped.
    pub fn stopping(&self) -> bool {
        self.stop() > Stop::No
    }

    /// Throws the switch; it never goes back.
    pub fn throw(&self, stop: Stop) {
        let mut state = self.lock();
        if stop > state.stop {
            state.stop = stop;
            state.groups.iter().for_each(|&group| signal(group, stop));
            self.thrown.notify_all();
        }
    }

    /// A process group that is to be signalled when the switch is thrown, until the guard is gone.
    pub fn register(&self, group: i32) -> Registered<'_> {
        let mut state = self.lock();
        state.groups.insert(group);
        signal(group, state.stop);
        Registered { control: self, group }
    }

    /// Sleeps, but no longer than until the switch is thrown; true when it was.
    pub fn sleep(&self, time: Duration) -> bool {
        let end = Instant::now() + time;
        let mut state = self.lock();
        while state.stop == Stop::No {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.thrown.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A process group that hangs on the switch; let go before its leader is reaped.
#[derive(Debug)]
pub struct Registered<'a> {
    control: &'a Control,
    group: i32,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.control.lock().groups.remove(&self.group);
    }
}

fn signal(group: i32, stop: Stop) {
    let signal = match stop {
        Stop::No => return,
        Stop::Ask => Signal::TERM,
        Stop::Kill => Signal::KILL,
    };
    signal_group(group, signal);
}

/// Signals every process of a group; one that is gone needs none.
pub fn signal_group(group: i32, signal: Signal) {
    if let Some(group) = Pid::from_raw(group) {
        let _ = kill_process_group(group, signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_switch_never_goes_back_and_wakes_sleepers() {
        let control = Control::default();
        assert!(!control.sleep(Duration::from_millis(1)));
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| control.sleep(Duration::from_secs(60)));
            control.throw(Stop::Kill);
            assert!(sleeper.join().unwrap());
        });
        control.throw(Stop::Ask);
        assert_eq!(control.stop(), Stop::Kill);
    }
}
