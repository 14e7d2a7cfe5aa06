//! The machine's cores and memory, lent to stages.
//!
//! Purpose: how many stages may run at once, and on which cores.
//! Invariant: what is lent never exceeds the budget, except that a stage which asks for more than
//! there is gets all there is; lent cores are disjoint unless more jobs than cores were asked for.
//! Must not know: stages, which one is to run first.

use std::fs;

use rustix::thread::{CpuSet, sched_getaffinity};

use crate::spec::types::Resources;

/// What can be lent, and what is.
#[derive(Debug, Clone)]
pub struct Budget {
    /// Numbers of the cores that nobody has; empty when cores are not told apart.
    free_cores: Vec<usize>,
    /// Whether cores are given by number.
    pinned: bool,
    cores: u32,
    slots: u32,
    free_slots: u32,
    jobs: u32,
    memory: u64,
    free_memory: u64,
}

/// What a stage got.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grant {
    /// How many threads it should use.
    pub threads: u32,
    /// The cores that are its own; none when it may use all, or shares them.
    pub cores: Vec<usize>,
    /// Whether others may run on its cores.
    pub shared: bool,
    slots: u32,
    memory: u64,
}

impl Budget {
    /// The budget of this machine for at most `jobs` stages at a time. More jobs than cores share them.
    pub fn of_this_machine(jobs: Option<u32>) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1));
        let allowed = allowed_cores();
        // With a CPU quota below the cores that we see, which ones are ours is not for us to say.
        let numbers = if allowed.len() == cores as usize { allowed } else { Vec::new() };
        Self::new(cores, numbers, memory(), jobs)
    }

    fn new(cores: u32, numbers: Vec<usize>, memory: u64, jobs: Option<u32>) -> Self {
        let slots = cores.max(jobs.unwrap_or(0));
        Self {
            pinned: slots == cores && numbers.len() == cores as usize,
            free_cores: numbers,
            cores,
            slots,
            free_slots: slots,
            jobs: jobs.unwrap_or(slots),
            memory,
            free_memory: memory,
        }
    }

    /// The most stages that can run at a time, as long as none does.
    pub fn most_stages(&self) -> usize {
        self.jobs.min(self.slots) as usize
    }

    /// True when nothing more can be lent.
    pub fn is_spent(&self) -> bool {
        self.free_slots == 0 || self.jobs == 0
    }

    /// Lends what a stage needs, if it is free now.
    pub fn lend(&mut self, need: Resources) -> Option<Grant> {
        let threads = if need.cpus == 0 { self.cores } else { need.cpus.min(self.cores) };
        // All cores means: alone, however many jobs there may be.
        let slots = if threads == self.cores && self.cores > 1 { self.slots } else { threads };
        let memory = need.memory.min(self.memory);
        if self.jobs == 0 || slots > self.free_slots || memory > self.free_memory {
            return None;
        }
        self.jobs -= 1;
        self.free_slots -= slots;
        self.free_memory -= memory;
        let own = if self.pinned && threads < self.cores { threads as usize } else { 0 };
        let cores = self.free_cores.drain(..own).collect();
        let shared = self.slots > self.cores && slots < self.slots;
        Some(Grant { threads, cores, shared, slots, memory })
    }

    /// Takes back what a stage had.
    pub fn give_back(&mut self, grant: Grant) {
        self.jobs += 1;
        self.free_slots += grant.slots;
        self.free_memory += grant.memory;
        self.free_cores.extend(grant.cores);
        self.free_cores.sort_unstable();
    }
}

impl Grant {
    /// Its own cores as the system wants them; none when it may use all.
    pub fn cpu_set(&self) -> Option<CpuSet> {
        if self.cores.is_empty() {
            return None;
        }
        let mut set = CpuSet::new();
        self.cores.iter().for_each(|&core| set.set(core));
        Some(set)
    }
}

fn allowed_cores() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(None) else { return Vec::new() };
    (0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect()
}

/// Bytes of memory that we may use: the machine's, or the control group's if that is less.
fn memory() -> u64 {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let limits = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let limits = limits.iter().filter_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok());
    limits.chain(total(&meminfo)).min().unwrap_or(u64::MAX)
}

fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(cores: u32, jobs: Option<u32>) -> Budget {
        Budget::new(cores, (0..cores as usize).collect(), 1000, jobs)
    }

    fn need(cpus: u32, memory: u64) -> Resources {
        Resources { cpus, memory, gpus: 0 }
    }

    #[test]
    fn stages_get_disjoint_cores_and_give_them_back() {
        let mut b = budget(4, None);
        let one = b.lend(need(1, 0)).unwrap();
        let two = b.lend(need(2, 0)).unwrap();
        assert_eq!((one.cores.as_slice(), two.cores.as_slice()), (&[0][..], &[1, 2][..]));
        assert_eq!(b.lend(need(2, 0)), None);
        b.give_back(one);
        assert_eq!(b.lend(need(2, 0)).unwrap().cores, [0, 3]);
        assert!(b.is_spent());
    }

    #[test]
    fn a_stage_that_wants_all_cores_runs_alone_and_one_that_wants_more_gets_all() {
        for cpus in [0, 4, 99] {
            let mut b = budget(4, Some(8));
            let all = b.lend(need(cpus, 0)).unwrap();
            assert_eq!((all.threads, all.cores.len(), all.shared), (4, 0, false));
            assert_eq!(b.lend(need(1, 0)), None);
            b.give_back(all);
            assert!(b.lend(need(1, 0)).is_some());
        }
    }

    #[test]
    fn more_jobs_than_cores_share_them_and_fewer_jobs_leave_some_idle() {
        let mut many = budget(2, Some(3));
        let grants: Vec<_> = std::iter::from_fn(|| many.lend(need(1, 0))).collect();
        assert_eq!(grants.len(), 3);
        assert!(grants.iter().all(|g| g.shared && g.cores.is_empty()));
        let mut few = budget(4, Some(1));
        let one = few.lend(need(1, 0)).unwrap();
        assert_eq!(few.lend(need(1, 0)), None);
        few.give_back(one);
        assert_eq!(few.lend(need(1, 0)).unwrap().cores, [0]);
    }

    #[test]
    fn memory_is_never_lent_twice() {
        let mut b = budget(4, None);
        let big = b.lend(need(1, 5000)).unwrap();
        assert_eq!(b.lend(need(1, 1)), None);
        assert!(b.lend(need(1, 0)).is_some());
        b.give_back(big);
        assert!(b.lend(need(1, 1000)).is_some());
    }

    #[test]
    fn meminfo_is_read_in_kibibytes() {
        assert_eq!(total("MemFree: 1 kB\nMemTotal:       2048 kB\n"), Some(2048 * 1024));
        assert!(memory() > 1 << 20);
    }
}
