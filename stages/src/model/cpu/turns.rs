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
        // Never back: those who were released stay so.
        part.next = part.next.max(worker + 1);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_add_to_each_part_in_their_order_whichever_is_faster() {
        let mut values = vec![0.0f32; 10];
        let turns = Turns::new(&mut values, &[1..4, 4..5, 7..10]);
        std::thread::scope(|scope| {
            for worker in 0..4usize {
                let turns = &turns;
                scope.spawn(move || {
                    // The first are the slowest.
                    std::thread::sleep(std::time::Duration::from_millis(5 * (3 - worker as u64)));
                    for part in 0..3 {
                        turns.take(part, worker, |values| {
                            values.iter_mut().for_each(|x| *x = 10.0 * *x + worker as f32 + 1.0);
                        });
                    }
                });
            }
        });
        drop(turns);
        let each = 1234.0;
        assert_eq!(values, [0.0, each, each, each, each, 0.0, 0.0, each, each, each]);
    }

    #[test]
    fn a_worker_that_fails_keeps_nobody_waiting() {
        let mut values = vec![0.0f32; 2];
        let turns = Turns::new(&mut values, &[0..1, 1..2]);
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| turns.take(1, 1, |values| values[0] = 1.0));
            turns.release();
            waits.join().unwrap();
            // One that comes after somebody was released, and not in the next turn, is not kept waiting either.
            turns.take(1, 3, |values| values[0] = 3.0);
        });
    }
}
