//! What this machine offers, and which cores and GPUs are whose.
//!
//! Purpose: the capacity for the scheduler, and for each stage cores and GPUs that no other stage has,
//! neither of this runner nor of another one of the same user.
//! Invariant: a claim is a file lock, so it ends with the process that holds it; where no claim can be
//! made, a stage runs on all cores rather than on somebody else's.
//! Must not know: stages, which of them goes first.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::thread::{CpuSet, sched_getaffinity};

use crate::executor::cgroup;
use crate::sched::budget::{Capacity, Permit};

/// The machine, as far as this process may use it.
#[derive(Debug)]
pub struct Machine {
    /// Numbers of the cores; empty when a quota below their number makes them meaningless.
    cores: Vec<usize>,
    /// Names of the GPUs, as CUDA_VISIBLE_DEVICES takes them.
    gpus: Vec<String>,
    count: u32,
    claims: Option<PathBuf>,
}

/// The cores and GPUs of one stage; given back when it is dropped.
#[derive(Debug, Default)]
pub struct Claim {
    /// Numbers of its cores; empty when it may use all.
    pub cores: Vec<usize>,
    /// Names of its GPUs.
    pub gpus: Vec<String>,
    _locks: Vec<File>,
}

impl Machine {
    /// Looks at this machine.
    pub fn look() -> Self {
        let count = std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1));
        let cores = allowed_cores();
        let cores = if cores.len() == count as usize { cores } else { Vec::new() };
        Self { cores, gpus: gpus(), count, claims: claims_folder() }
    }

    /// What the scheduler may give out, with at most `jobs` stages at a time.
    pub fn capacity(&self, jobs: Option<u32>) -> Capacity {
        Capacity {
            cores: self.count,
            memory: memory(),
            gpus: u32::try_from(self.gpus.len()).unwrap_or(0),
            jobs,
            sites: Vec::new(),
        }
    }

    /// Claims the cores and GPUs that a permit stands for. Fewer are claimed where others hold them.
    pub fn claim(&self, permit: &Permit) -> Claim {
        let Some(folder) = &self.claims else { return Claim::default() };
        let mut claim = Claim::default();
        if permit.pinned {
            let wanted = permit.threads as usize;
            let names = self.cores.iter().map(|core| (*core, format!("core-{core}")));
            let taken: Vec<_> =
                names.filter_map(|(core, name)| Some((core, lock(folder, &name)?))).take(wanted).collect();
            // With fewer than it asked for it would be worse off than with all of them.
            if taken.len() == wanted {
                for (core, lock) in taken {
                    claim.cores.push(core);
                    claim._locks.push(lock);
                }
            }
        }
        for gpu in &self.gpus {
            if claim.gpus.len() == permit.gpus as usize {
                break;
            }
            if let Some(lock) = lock(folder, &format!("gpu-{}", gpu.replace('/', "_"))) {
                claim.gpus.push(gpu.clone());
                claim._locks.push(lock);
            }
        }
        claim
    }
}

fn allowed_cores() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(None) else { return Vec::new() };
    (0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect()
}

/// The GPUs that the caller allows, else those that have a device file.
fn gpus() -> Vec<String> {
    if let Ok(visible) = std::env::var("CUDA_VISIBLE_DEVICES") {
        let names = visible.split(',').map(str::trim).filter(|name| !name.is_empty() && *name != "-1");
        return names.map(str::to_owned).collect();
    }
    (0..64)
        .map(|n: u32| n.to_string())
        .take_while(|n| Path::new("/dev").join(format!("nvidia{n}")).exists())
        .collect()
}

/// Bytes of memory that this process may use: the machine's, or the limit of a control group.
pub fn memory() -> u64 {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    total(&meminfo).into_iter().chain(cgroup::memory_limit()).min().unwrap_or(u64::MAX)
}

fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// A folder of this user for claims, which must belong to nobody else.
fn claims_folder() -> Option<PathBuf> {
    let uid = rustix::process::getuid().as_raw();
    let base = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
    let folder =
        base.map_or_else(|| std::env::temp_dir().join(format!("kiln-{uid}")), |base| base.join("kiln"));
    let _ = fs::DirBuilder::new().mode(0o700).create(&folder);
    let meta = fs::symlink_metadata(&folder).ok()?;
    (meta.is_dir() && meta.uid() == uid && meta.mode() & 0o022 == 0).then_some(folder)
}

fn lock(folder: &Path, name: &str) -> Option<File> {
    let file = OpenOptions::new().create(true).append(true).open(folder.join(name)).ok()?;
    file.try_lock().ok().map(|()| file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sched::budget::Budget;
    use crate::spec::types::Resources;

    fn machine(claims: &Path) -> Machine {
        let gpus = vec!["0".to_owned(), "1".to_owned()];
        Machine { cores: vec![3, 4, 5, 6], gpus, count: 4, claims: Some(claims.to_owned()) }
    }

    fn permit(cpus: u32, gpus: u32) -> Permit {
        let capacity = Capacity { cores: 4, memory: 0, gpus: 2, jobs: None, sites: Vec::new() };
        Budget::new(capacity).acquire(Resources { cpus, memory: 0, gpus, time: None }).unwrap()
    }

    #[test]
    fn two_runners_never_claim_one_core_or_gpu() {
        let folder = tempfile::tempdir().unwrap();
        let (ours, theirs) = (machine(folder.path()), machine(folder.path()));
        let first = ours.claim(&permit(2, 1));
        assert_eq!((first.cores.as_slice(), first.gpus.as_slice()), (&[3, 4][..], &["0".to_owned()][..]));
        let second = theirs.claim(&permit(2, 1));
        assert_eq!((second.cores.as_slice(), second.gpus.as_slice()), (&[5, 6][..], &["1".to_owned()][..]));
        // None is left, so the next one may use all cores, shared with the others.
        assert_eq!(theirs.claim(&permit(1, 0)).cores, Vec::<usize>::new());
        drop(first);
        assert_eq!(theirs.claim(&permit(1, 0)).cores, [3]);
    }

    #[test]
    fn meminfo_is_read_in_kibibytes() {
        assert_eq!(total("MemFree: 1 kB\nMemTotal:       2048 kB\n"), Some(2048 * 1024));
        assert!(memory() > 1 << 20);
    }
}
