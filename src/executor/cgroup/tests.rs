//! Fixtures of real systems, and real groups on this one.

use std::collections::BTreeMap;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use super::Group;
use super::hierarchy::Hierarchies;
use super::limits::{cpus_of, memory_of};

const MEMINFO: &str = "MemTotal:       16777216 kB\nMemFree: 1 kB\n";
const GIB: u64 = 1 << 30;

/// systemd with version 2 only, in a service of the user.
const SYSTEMD: (&str, &str) = (
    "24 29 0:22 / /proc rw,nosuid shared:12 - proc proc rw\n\
     35 23 0:29 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate\n",
    "0::/user.slice/user-1000.slice/user@1000.service/app.slice/run.scope\n",
);

/// Docker with a control group namespace (version 2).
const DOCKER: (&str, &str) = (
    "614 613 0:55 / /sys/fs/cgroup ro,nosuid,nodev,noexec,relatime - cgroup2 cgroup rw,nsdelegate\n",
    "0::/\n",
);

/// Docker with version 1: the paths are those of the host, and the mounts begin at our group.
const DOCKER_V1: (&str, &str) = (
    "700 699 0:32 /docker/8f1 /sys/fs/cgroup/memory ro,relatime master:15 - cgroup cgroup rw,memory\n\
     701 699 0:33 /docker/8f1 /sys/fs/cgroup/cpu,cpuacct ro,relatime master:16 - cgroup cgroup rw,cpu,cpuacct\n",
    "11:memory:/docker/8f1\n3:cpu,cpuacct:/docker/8f1\n1:name=systemd:/docker/8f1\n",
);

/// systemd's hybrid layout: the controllers in version 1, version 2 without any.
const HYBRID: (&str, &str) = (
    "30 25 0:26 / /sys/fs/cgroup/unified rw,nosuid shared:10 - cgroup2 cgroup2 rw\n\
     31 25 0:27 / /sys/fs/cgroup/systemd rw,nosuid shared:11 - cgroup cgroup rw,xattr,name=systemd\n\
     36 25 0:33 / /sys/fs/cgroup/memory rw,nosuid shared:17 - cgroup cgroup rw,memory\n\
     37 25 0:34 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:18 - cgroup cgroup rw,cpu,cpuacct\n",
    "5:memory:/user.slice/session-2.scope\n4:cpu,cpuacct:/user.slice\n\
     1:name=systemd:/user.slice/session-2.scope\n0::/user.slice/session-2.scope\n",
);

/// The machine where this was written: version 2 at an unusual place.
const THIS_MACHINE: (&str, &str) = (
    "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
     32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
     35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
     41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n",
    "4:memory:/process_api/67d3\n2:cpuacct:/\n1:cpu:/\n0::/\n",
);

fn parsed((mountinfo, cgroup): (&str, &str)) -> Hierarchies {
    Hierarchies::parse(mountinfo, cgroup)
}

/// A reader of these files.
fn files<const N: usize>(files: [(&str, &str); N]) -> impl Fn(&Path) -> Option<String> + use<N> {
    let files: BTreeMap<PathBuf, String> = files.map(|(path, text)| (path.into(), text.into())).into();
    move |path| files.get(path).cloned()
}

#[test]
fn our_group_of_version_2_is_found_wherever_it_is_mounted() {
    let folder = |fixture| parsed(fixture).unified().map(|folder| folder.display().to_string());
    let systemd = "/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/app.slice/run.scope";
    assert_eq!(folder(SYSTEMD).as_deref(), Some(systemd));
    assert_eq!(folder(DOCKER).as_deref(), Some("/sys/fs/cgroup"));
    assert_eq!(folder(DOCKER_V1), None);
    assert_eq!(folder(HYBRID).as_deref(), Some("/sys/fs/cgroup/unified/user.slice/session-2.scope"));
    assert_eq!(folder(THIS_MACHINE).as_deref(), Some("/sys/fs/cgroup/unified"));
    assert_eq!(folder(("", "")), None);
}

#[test]
fn a_path_outside_of_the_control_group_namespace_gives_no_group_but_the_limits_of_the_mount() {
    let outside = parsed((DOCKER.0, "0::/../../other\n"));
    assert_eq!(outside.unified(), None);
    assert_eq!(outside.unified_chain(), [PathBuf::from("/sys/fs/cgroup")]);
}

#[test]
fn blanks_in_a_mount_point_are_read() {
    let odd = "41 31 0:38 / /my\\040groups\\134x rw - cgroup2 cgroup2 rw\n";
    assert_eq!(parsed((odd, "0::/a:b\n")).unified(), Some(PathBuf::from("/my groups\\x/a:b")));
}

#[test]
fn the_smallest_memory_limit_of_all_ancestors_counts() {
    let slice = "/sys/fs/cgroup/user.slice/user-1000.slice";
    let own = format!("{slice}/user@1000.service/app.slice/run.scope/memory.max");
    let read = files([(&own, "max\n"), (&format!("{slice}/memory.max"), "2147483648\n")]);
    assert_eq!(memory_of(&parsed(SYSTEMD), MEMINFO, read), Some(2 * GIB));
}

#[test]
fn memory_limits_are_read_in_containers_and_in_version_1() {
    let docker = files([("/sys/fs/cgroup/memory.max", "1073741824\n")]);
    assert_eq!(memory_of(&parsed(DOCKER), MEMINFO, docker), Some(GIB));
    let docker_v1 = files([("/sys/fs/cgroup/memory/memory.limit_in_bytes", "1073741824\n")]);
    assert_eq!(memory_of(&parsed(DOCKER_V1), MEMINFO, docker_v1), Some(GIB));
    let own = "/sys/fs/cgroup/memory/user.slice/session-2.scope/memory.limit_in_bytes";
    let root = "/sys/fs/cgroup/memory/memory.limit_in_bytes";
    let hybrid = files([(own, "3221225472\n"), (root, "9223372036854771712\n")]);
    assert_eq!(memory_of(&parsed(HYBRID), MEMINFO, hybrid), Some(3 * GIB));
    let this = files([("/sys/fs/cgroup/memory/process_api/67d3/memory.limit_in_bytes", "1073741824")]);
    assert_eq!(memory_of(&parsed(THIS_MACHINE), MEMINFO, this), Some(GIB));
}

#[test]
fn without_a_limit_the_memory_of_the_machine_counts() {
    let unlimited = files([("/sys/fs/cgroup/memory.max", "max\n")]);
    assert_eq!(memory_of(&parsed(DOCKER), MEMINFO, unlimited), Some(16 * GIB));
    let above = files([("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")]);
    assert_eq!(memory_of(&parsed(DOCKER_V1), MEMINFO, above), Some(16 * GIB));
    assert_eq!(memory_of(&parsed(("", "")), "", files([])), None);
}

#[test]
fn the_smallest_cpu_quota_of_all_ancestors_counts() {
    let slice = "/sys/fs/cgroup/user.slice";
    let outer = format!("{slice}/cpu.max");
    let inner = format!("{slice}/user-1000.slice/cpu.max");
    let read = files([(&outer, "150000 100000\n"), (&inner, "max 100000\n")]);
    assert_eq!(cpus_of(&parsed(SYSTEMD), read), Some(1.5));
    let (quota, period) =
        ("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us");
    assert_eq!(cpus_of(&parsed(DOCKER_V1), files([(quota, "50000\n"), (period, "100000\n")])), Some(0.5));
    assert_eq!(cpus_of(&parsed(HYBRID), files([(quota, "-1\n"), (period, "100000\n")])), None);
}

#[test]
fn the_limits_of_this_process_can_be_read() {
    let memory = super::memory_limit().unwrap();
    assert!(memory > 1 << 20, "{memory}");
    assert!(super::cpu_quota().is_none_or(|cpus| cpus > 0.0));
}

/// A group of version 2, or a line that says why the test is left out.
fn group() -> Option<Group> {
    let group = Group::parent().and_then(|parent| Group::create_in(&parent));
    if group.is_none() {
        println!("left out: no control group of version 2 can be made here");
    }
    group
}

/// A shell that leaves a process in a session of its own, all of it in the group.
fn family(group: &Group) -> Child {
    let mut shell = Command::new("sh");
    shell.args(["-c", "read go; setsid sleep 300 & sleep 300"]).stdin(std::process::Stdio::piped());
    let mut child = shell.process_group(0).spawn().unwrap();
    group.add(child.id()).unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"go\n").unwrap();
    wait_until(|| group.processes().unwrap().len() >= 3);
    child
}

fn wait_until(done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(20), "it takes too long");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_group_kills_every_descendant_also_in_another_session() {
    for one_by_one in [false, true] {
        let Some(group) = group() else { return };
        assert!(group.is_empty().unwrap());
        let mut child = family(&group);
        assert!(!group.is_empty().unwrap());
        assert!(group.remove().is_err());
        if one_by_one {
            group.kill_one_by_one().unwrap()
        } else {
            group.kill().unwrap()
        }
        assert_eq!(child.wait().unwrap().signal(), Some(9));
        wait_until(|| group.is_empty().unwrap());
        let path = group.folder.clone();
        drop(group);
        assert!(!path.exists());
    }
}

#[test]
fn what_a_killed_supervisor_left_is_removed_unless_it_has_processes() {
    let Some(group) = group() else { return };
    let parent = group.folder.parent().unwrap().to_owned();
    let mut child = family(&group);
    // No process has this id.
    let (full, empty) = (parent.join("kiln-4194305-0.0"), parent.join("kiln-4194305-0.1"));
    for folder in [&full, &empty] {
        std::fs::create_dir(folder).unwrap();
    }
    std::fs::write(full.join("cgroup.procs"), child.id().to_string()).unwrap();
    Group::sweep(&parent);
    assert!(full.exists() && !empty.exists() && group.folder.exists());
    group.kill().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until(|| {
        Group::sweep(&parent);
        !full.exists()
    });
}

#[test]
fn no_group_is_made_where_there_is_none() {
    assert!(Group::create_in(Path::new("/nowhere")).is_none());
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("cgroup.procs"), "").unwrap();
    assert!(Group::create_in(folder.path()).is_none());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}
