//! `kiln doctor`.
//!
//! Purpose: what this machine offers, what is missing, and what to do about each missing thing.
//! Invariant: changes nothing, and answers even where everything is missing.
//! Must not know: how stages run; about libtorch only the worker knows.

use std::fs;
use std::path::Path;

use serde::Serialize;
use serde_json::json;

use crate::cas::Store;
use crate::cli::args::{Common, DoctorArgs};
use crate::cli::cluster::trial;
use crate::cli::context::{cores, open_store};
use crate::cli::printer::{BAD, FAINT, GOOD, Printer, paint};
use crate::cli::root::find_root;
use crate::cli::{CliError, Exit};
use crate::provider::Providers;
use crate::report::text::{bytes, pad, printable, widest};

/// The format of an answer in JSON.
pub const DOCTOR_FORMAT: &str = "kiln.doctor/1";
/// With less free memory, training may fail.
const MEMORY_WANTED: u64 = 2 << 30;
/// With less free disk space, a build or a run may fail.
const DISK_WANTED: u64 = 5 << 30;

/// The result of one check.
#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    ok: bool,
    value: String,
    /// What to do; none when the check is ok.
    advice: Option<String>,
}

impl Check {
    fn good(name: &'static str, value: impl Into<String>) -> Self {
        Self { name, ok: true, value: value.into(), advice: None }
    }

    fn poor(name: &'static str, value: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name, ok: false, value: value.into(), advice: Some(advice.into()) }
    }
}

/// Runs the command.
///
/// # Errors
/// There is no working folder, or the store cannot be opened.
pub fn run(common: &Common, args: &DoctorArgs, printer: &mut Printer) -> Result<Exit, CliError> {
    if let Some(name) = &args.executor {
        return trial::run(common, args, name, printer);
    }
    let root = find_root(None)?;
    let store = open_store(common, &root)?;
    let mut checks = vec![cores_check(), memory_check(), disk_check(store.root())];
    checks.extend(worker_checks(&store));
    checks.push(store_check(&store));
    if args.json {
        printer.json(&json!({
            "schema": DOCTOR_FORMAT,
            "kiln": env!("CARGO_PKG_VERSION"),
            "root": root,
            "checks": checks,
        }))?;
        return Ok(Exit::Ok);
    }
    let width = widest(checks.iter().map(|c| c.name), 40);
    for check in &checks {
        let mark = if check.ok { paint(GOOD, "ok") } else { paint(BAD, "--") };
        printer.line(format!("{mark}  {}  {}", pad(check.name, width), printable(&check.value)));
        if let Some(advice) = &check.advice {
            printer.line(format!("    {}  {}", pad("", width), paint(FAINT, printable(advice))));
        }
    }
    Ok(Exit::Ok)
}

fn cores_check() -> Check {
    match cores() {
        1 => Check::poor("cores", "1", "stages run one at a time and slowly; two or more are better"),
        n => Check::good("cores", n.to_string()),
    }
}

fn memory_check() -> Check {
    let Some((total, free)) = memory() else {
        return Check::poor(
            "memory",
            "unknown",
            "/proc/meminfo cannot be read; give stages their `memory` yourself",
        );
    };
    let value = format!("{}, {} free", bytes(total), bytes(free));
    if free < MEMORY_WANTED {
        return Check::poor(
            "memory",
            value,
            format!("close something: training wants {} free", bytes(MEMORY_WANTED)),
        );
    }
    Check::good("memory", value)
}

/// Bytes of memory in all and free, within the limit of this process's control group.
fn memory() -> Option<(u64, u64)> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let field = |name: &str| {
        let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
        let kibibytes: u64 = rest.trim().trim_end_matches("kB").trim().parse().ok()?;
        Some(kibibytes * 1024)
    };
    let (mut total, mut free) = (field("MemTotal:")?, field("MemAvailable:")?);
    let group = |file: &str| -> Option<u64> {
        fs::read_to_string(Path::new("/sys/fs/cgroup").join(file)).ok()?.trim().parse().ok()
    };
    if let Some(limit) = group("memory.max").filter(|limit| *limit < total) {
        total = limit;
        free = free.min(limit.saturating_sub(group("memory.current").unwrap_or(0)));
    }
    Some((total, free))
}

fn disk_check(store: &Path) -> Check {
    // The folder of the store may not exist yet.
    let there = store.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("/"));
    match rustix::fs::statvfs(there) {
        Ok(disk) => {
            let free = disk.f_bavail * disk.f_frsize;
            let value = format!("{} free at {}", bytes(free), there.display());
            if free < DISK_WANTED {
                return Check::poor(
                    "disk",
                    value,
                    format!(
                        "free some: {} are wanted, or name a store elsewhere with --store",
                        bytes(DISK_WANTED)
                    ),
                );
            }
            Check::good("disk", value)
        }
        Err(e) => Check::poor("disk", format!("unknown: {e}"), format!("look at {}", there.display())),
    }
}

/// The worker, and what it reports about libtorch and CUDA.
fn worker_checks(store: &Store) -> Vec<Check> {
    let mut providers = Providers::new(store);
    let found = match providers.find(None) {
        Ok(found) => found,
        Err(why) => {
            return vec![Check::poor("worker", "not found", why.to_string())];
        }
    };
    let description = &found.description;
    let value = format!(
        "{} {} at {}, {} kinds",
        description.provider,
        description.version,
        found.program.display(),
        description.kinds.len()
    );
    let mut checks = vec![Check::good("worker", value)];
    if description.version != env!("CARGO_PKG_VERSION") {
        let advice = format!(
            "it belongs to another version of kiln than {}; build both with `make build`",
            env!("CARGO_PKG_VERSION")
        );
        checks = vec![Check { ok: false, advice: Some(advice), ..checks.remove(0) }];
    }
    let numerics = &description.numerics;
    checks.push(match numerics.get("libtorch") {
        Some(version) => Check::good("libtorch", version),
        None => Check::poor(
            "libtorch",
            "none: the worker computes without it",
            "`make build` builds the faster worker with libtorch",
        ),
    });
    checks.push(match numerics.get("device").map(String::as_str) {
        Some(device) if device.starts_with("cuda") => Check::good("cuda", device),
        // Nothing is missing on a machine without a GPU.
        _ if !Path::new("/dev/nvidia0").exists() => Check::good("cuda", "no GPU here; stages run on the CPU"),
        _ => Check::poor(
            "cuda",
            "a GPU is here, but the worker has no CUDA",
            "install a CUDA torch of the worker's libtorch version and build with LIBTORCH=...",
        ),
    });
    checks
}

fn store_check(store: &Store) -> Check {
    let folder = store.root();
    if !folder.is_dir() {
        return Check::good("store", format!("{}, made by the first run", folder.display()));
    }
    let size: u64 = ["blobs", "actions", "runs", "work"].iter().map(|part| size_of(&folder.join(part))).sum();
    Check::good("store", format!("{}, {}", folder.display(), bytes(size)))
}

/// Bytes of all files below a folder; files that cannot be read are not counted.
fn size_of(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let size = |entry: fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => size_of(&entry.path()),
        Ok(kind) if kind.is_file() => entry.metadata().map_or(0, |m| m.len()),
        _ => 0,
    };
    entries.flatten().map(size).sum()
}
