//! How much memory and CPU time the control group of this process may use.
//!
//! Purpose: the smallest limit of the own group and of all its ancestors that are visible here, of both versions.
//! Invariant: never more memory than the machine has.
//! Must not know: who shares what is there.

use std::fs;
use std::path::{Path, PathBuf};

use super::hierarchy::Hierarchies;

/// Bytes of memory that this process may use; none when nothing can be read.
pub fn memory_limit() -> Option<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    memory_of(&Hierarchies::of_this_process(), &meminfo, read)
}

/// How many cores' worth of time this process may use; none when there is no limit.
pub fn cpu_quota() -> Option<f64> {
    cpus_of(&Hierarchies::of_this_process(), read)
}

/// How many processes of the own group were killed so far because it was out of memory; 0 where nothing can be read.
pub fn oom_kills() -> u64 {
    let groups = Hierarchies::of_this_process();
    let unified = groups.unified_chain().into_iter().next().map(|folder| folder.join("memory.events"));
    let old =
        groups.controller_chain("memory").into_iter().next().map(|folder| folder.join("memory.oom_control"));
    let texts = unified.into_iter().chain(old).filter_map(|file| read(&file));
    texts.filter_map(|text| kills_in(&text)).max().unwrap_or(0)
}

/// The counter has the same name in both versions.
pub(super) fn kills_in(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}

fn read(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// `read` gives the text of a file in a control group.
pub(super) fn memory_of(
    groups: &Hierarchies,
    meminfo: &str,
    read: impl Fn(&Path) -> Option<String>,
) -> Option<u64> {
    // Without a limit the file says `max`, or in version 1 a number near 2^63.
    let bytes = |file: PathBuf| read(&file)?.trim().parse().ok();
    let unified = groups.unified_chain().into_iter().map(|folder| folder.join("memory.max"));
    let old =
        groups.controller_chain("memory").into_iter().map(|folder| folder.join("memory.limit_in_bytes"));
    unified.chain(old).filter_map(bytes).chain(total(meminfo)).min()
}

/// The same for CPU time.
pub(super) fn cpus_of(groups: &Hierarchies, read: impl Fn(&Path) -> Option<String>) -> Option<f64> {
    let unified = groups.unified_chain().into_iter().filter_map(|folder| {
        let text = read(&folder.join("cpu.max"))?;
        let (quota, period) = text.trim().split_once(' ')?;
        ratio(quota, period)
    });
    let old = groups.controller_chain("cpu").into_iter().filter_map(|folder| {
        ratio(&read(&folder.join("cpu.cfs_quota_us"))?, &read(&folder.join("cpu.cfs_period_us"))?)
    });
    unified.chain(old).reduce(f64::min)
}

/// Without a quota it is `max`, or in version 1 -1.
fn ratio(quota: &str, period: &str) -> Option<f64> {
    let (quota, period): (f64, f64) = (quota.trim().parse().ok()?, period.trim().parse().ok()?);
    (quota > 0.0 && period > 0.0).then_some(quota / period)
}

fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}
