//! Gradients that several workers add to, each in its turn.
//!
//! Purpose: shards of a batch are worked on at once, and the gradient of a parameter is the sum over shards in their
//! order, whichever thread is faster.
//! Invariant: worker `s` adds to a part after all workers before it have; as every worker takes the parts in the same
//! order, and a thread takes its shards in order, somebody can always go on. A worker that panics releases the others.
//! Must not know: what is added.

use std::ops::Range;
use std::sync::{Condvar, Mutex, PoisonError};

struct Part<'a> {
    next: usize,
    values: &'a mut [f32],
}

/// Parts of one run of gradients.
pub struct Turns<'a> {
    parts: Vec<(Mutex<Part<'a>>, Condvar)>,
}

impl<'a> Turns<'a> {
    /// The parts of `values` at these places, which are sorted and do not overlap.
    pub fn new(mut values: &'a mut [f32], places: &[Range<usize>]) -> Self {
        let mut start = 0;
        let parts = places.iter().map(|place| {
            let (_, rest) = std::mem::take(&mut values).split_at_mut(place.start - start);
            let (part, rest) = rest.split_at_mut(place.len());
            (values, start) = (rest, place.end);
            (Mutex::new(Part { next: 0, values: part }), Condvar::new())
        });
        Self { parts: parts.collect() }
    }

    /// Waits for the turn of `worker` at a part, and lets `add` add to it.
    pub fn take(&self, part: usize, worker: usize, add: impl FnOnce(&mut [f32])) {
        let (mutex, condition) = &self.parts[part];
        let part = mutex.lock().unwrap_or_else(PoisonError::into_inner);
        let mut part =
            condition.wait_while(part, |part| part.next < worker).unwrap_or_else(PoisonError::into_inner);
        add(part.values);
        part.next = worker + 1;
        condition.notify_all();
    }

    /// Lets nobody wait any longer: a worker has panicked, and the gradients will not be used.
    pub fn release(&self) {
        for (mutex, condition) in &self.parts {
            mutex.lock().unwrap_or_else(PoisonError::into_inner).next = usize::MAX;
            condition.notify_all();
        }
    }
}
