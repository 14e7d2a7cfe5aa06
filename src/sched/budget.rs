//! The machine's cores, memory and GPUs, as numbers that are acquired and given back.
//!
//! Purpose: decide how many stages may run at once.
//! Invariant: what is acquired never exceeds the budget; a stage that asks for more than the machine
//! has gets all of it, so every stage fits when it is alone.
//! Must not know: stages, which of them goes first, and which core or GPU is whose.

use crate::spec::types::Resources;

/// What the machine has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capacity {
    /// Cores that this process may use.
    pub cores: u32,
    /// Bytes of memory that this process may use.
    pub memory: u64,
    /// GPUs that this process may use.
    pub gpus: u32,
    /// The most stages at a time (`--jobs`); as many as there are cores when none.
    pub jobs: Option<u32>,
    /// The most jobs at a time of each cluster.
    pub sites: Vec<u32>,
}

/// What is left of a [`Capacity`].
#[derive(Debug, Clone)]
pub struct Budget {
    capacity: Capacity,
    /// Places for single-threaded stages: the cores, or `--jobs` where that is more.
    slots: u32,
    free_slots: u32,
    free_jobs: u32,
    free_memory: u64,
    free_gpus: u32,
    free_sites: Vec<u32>,
}

/// What one stage has acquired.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Permit {
    /// How many threads the stage should use.
    pub threads: u32,
    /// How many GPUs it may use.
    pub gpus: u32,
    /// Whether it should have its cores to itself; it then has fewer than all of them.
    pub pinned: bool,
    /// Whether other stages may run on its cores.
    pub shared: bool,
    slots: u32,
    memory: u64,
    /// The cluster on which it has a job; it needs nothing of this machine then.
    site: Option<usize>,
}

impl Budget {
    /// A budget of which nothing has been acquired yet.
    pub fn new(capacity: Capacity) -> Self {
        let slots = capacity.cores.max(capacity.jobs.unwrap_or(0)).max(1);
        Self {
            slots,
            free_slots: slots,
            free_jobs: capacity.jobs.unwrap_or(slots).max(1),
            free_memory: capacity.memory,
            free_gpus: capacity.gpus,
            free_sites: capacity.sites.clone(),
            capacity,
        }
    }

    /// Acquires a job of a cluster, if one is free now.
    pub fn acquire_job(&mut self, site: usize) -> Option<Permit> {
        let free = self.free_sites.get_mut(site).filter(|free| **free > 0)?;
        *free -= 1;
        Some(Permit { site: Some(site), ..Permit::default() })
    }

    /// Acquires what a stage needs, if it is free now.
    pub fn acquire(&mut self, need: Resources) -> Option<Permit> {
        let cores = self.capacity.cores.max(1);
        let threads = if need.cpus == 0 { cores } else { need.cpus.min(cores) };
        // All cores means alone, however many jobs there may be.
        let slots = if threads == cores && cores > 1 { self.slots } else { threads };
        let memory = need.memory.min(self.capacity.memory);
        let gpus = need.gpus.min(self.capacity.gpus);
        let fits = slots <= self.free_slots && memory <= self.free_memory && gpus <= self.free_gpus;
        if self.free_jobs == 0 || !fits {
            return None;
        }
        self.free_jobs -= 1;
        self.free_slots -= slots;
        self.free_memory -= memory;
        self.free_gpus -= gpus;
        let pinned = self.slots == cores && threads < cores;
        let shared = self.slots > cores && slots < self.slots;
        Some(Permit { threads, gpus, pinned, shared, slots, memory, site: None })
    }

    /// Takes back what a stage had acquired.
    pub fn release(&mut self, permit: &Permit) {
        if let Some(site) = permit.site {
            if let Some(free) = self.free_sites.get_mut(site) {
                *free += 1;
            }
            return;
        }
        self.free_jobs += 1;
        self.free_slots += permit.slots;
        self.free_memory += permit.memory;
        self.free_gpus += permit.gpus;
    }

    /// Leaves a job to itself: what it has acquired does not come back in this run.
    pub fn leave(&mut self, permit: &Permit) {
        if permit.site.is_none() {
            self.release(permit);
        }
    }

    /// True when no further stage can start, whatever it needs.
    pub fn is_spent(&self) -> bool {
        (self.free_slots == 0 || self.free_jobs == 0) && self.free_sites.iter().all(|free| *free == 0)
    }

    /// True when nothing is acquired.
    pub fn is_whole(&self) -> bool {
        self.free_slots == self.slots && self.free_memory == self.capacity.memory
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(cores: u32, jobs: Option<u32>) -> Budget {
        Budget::new(Capacity { cores, memory: 1000, gpus: 2, jobs, sites: vec![2] })
    }

    fn need(cpus: u32, memory: u64) -> Resources {
        Resources { cpus, memory, gpus: 0, time: None }
    }

    #[test]
    fn jobs_of_a_cluster_need_nothing_of_this_machine_and_there_are_only_so_many() {
        let mut b = budget(1, None);
        let here = b.acquire(need(1, 1000)).unwrap();
        assert!(!b.is_spent());
        let one = b.acquire_job(0).unwrap();
        assert!(b.acquire_job(0).is_some());
        assert_eq!((b.acquire_job(0), b.acquire_job(1)), (None, None));
        assert!(b.is_spent());
        b.release(&one);
        assert!(b.acquire_job(0).is_some() && b.acquire(need(1, 0)).is_none());
        b.release(&here);
        assert!(b.is_whole());
    }

    #[test]
    fn a_stage_that_wants_all_cores_runs_alone_and_one_that_wants_more_gets_all() {
        for cpus in [0, 4, 99] {
            let mut b = budget(4, Some(8));
            let all = b.acquire(need(cpus, 0)).unwrap();
            assert_eq!((all.threads, all.pinned, all.shared), (4, false, false));
            assert_eq!(b.acquire(need(1, 0)), None);
            b.release(&all);
            assert!(b.acquire(need(1, 0)).is_some());
        }
    }

    #[test]
    fn more_jobs_than_cores_share_them_and_fewer_jobs_leave_some_idle() {
        let mut many = budget(2, Some(3));
        let permits: Vec<_> = std::iter::from_fn(|| many.acquire(need(1, 0))).collect();
        assert_eq!(permits.len(), 3);
        assert!(permits.iter().all(|p| p.shared && !p.pinned));
        let mut few = budget(4, Some(1));
        let one = few.acquire(need(1, 0)).unwrap();
        assert!(one.pinned && few.acquire(need(1, 0)).is_none());
        few.release(&one);
        assert!(few.is_whole());
    }

    #[test]
    fn memory_and_gpus_are_never_acquired_twice() {
        let mut b = budget(4, None);
        let big = b.acquire(need(1, 5000)).unwrap();
        assert_eq!(b.acquire(need(1, 1)), None);
        assert!(b.acquire(need(1, 0)).is_some());
        b.release(&big);
        assert!(b.acquire(need(1, 1000)).is_some());
        let gpus = |n| Resources { cpus: 1, memory: 0, gpus: n, time: None };
        let both = b.acquire(gpus(8)).unwrap();
        assert_eq!((both.gpus, b.acquire(gpus(1))), (2, None));
        b.release(&both);
        assert_eq!(b.acquire(gpus(1)).unwrap().gpus, 1);
    }
}
