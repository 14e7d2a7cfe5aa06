//! The supervisor of a stage's process.
//!
//! Purpose: a small single-threaded process that starts the leader, adopts every descendant that
//! loses its parent, and does not report before all of them have ended. Then it serves the next request: to
//! fork a supervisor costs half as much as a short stage does.
//! Invariant: when it reports or ends, no descendant of the leader is alive. When the runner dies, it
//! sees the end of its control socket and kills all of them. It reports that an exit was asked for only
//! if the leader was still alive when it was told, or if a descendant was ended because of it. One that has
//! confined itself serves no other request.
//! Must not know: stages, keys, why the process is stopped.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Access, access};
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::net::{RecvFlags, recv};
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitOptions, WaitStatus, kill_process, kill_process_group, waitid,
};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::descendants;
use super::launch::{Ended, KILL, Launch, Leader, Leftover, STOP};
use super::request::Request;
use crate::executor::cgroup::Group;

/// After a stop was asked for, or after the leader failed, descendants have no longer than this.
const SHORT_LINGER: Duration = Duration::from_millis(500);

/// Serves the requests that come on `control`, one after the other. `groups` is the folder in which control
/// groups can be made, if any.
pub fn serve(control: UnixStream, groups: Option<&Path>) {
    let Ok(mut supervisor) = Supervisor::new(control, groups) else { return };
    while let Some(request) = Request::receive(&supervisor.control) {
        let (ended, is_last) = supervisor.supervise(request);
        // Nobody listens when the runner is gone.
        let Some(report) = ended.and_then(|ended| serde_json::to_vec(&Ended { is_last, ..ended }).ok())
        else {
            return;
        };
        let sent = (&supervisor.control).write_all(&[&report, &b"\n"[..]].concat());
        if sent.is_err() || is_last {
            return;
        }
    }
}

/// What a supervisor keeps from one process to the next.
struct Supervisor {
    control: UnixStream,
    /// Readable when a child has ended.
    signals: UnixStream,
    /// Where leaders are born, if it can be had; empty between two of them.
    group: Option<Group>,
    /// The cores that a process may use that asks for none.
    cores: CpuSet,
}

impl Supervisor {
    fn new(control: UnixStream, groups: Option<&Path>) -> io::Result<Self> {
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        let (signals, writer) = UnixStream::pair()?;
        signals.set_nonblocking(true)?;
        signal_hook::low_level::pipe::register(signal_hook::consts::SIGCHLD, writer)?;
        Ok(Self {
            control,
            signals,
            group: groups.and_then(Group::create_in),
            cores: sched_getaffinity(None)?,
        })
    }

    /// Runs a process to its end and that of all its descendants; none when the runner has died. Also says
    /// whether it was the last one.
    fn supervise(&mut self, request: Request) -> (Option<Ended>, bool) {
        let confined = request.launch.confinement.is_some();
        if confined {
            // It could not be reached from inside, not even to be removed.
            self.group = None;
        }
        match Watched::start(self, request) {
            Ok((watched, is_back)) => (watched.run(), confined || !is_back),
            Err(e) => {
                let missing = e.kind() == io::ErrorKind::NotFound;
                let leader = Leader::NotStarted { message: e.to_string(), missing };
                (Some(Ended { leader, asked: false, left: Vec::new(), is_last: true }), true)
            }
        }
    }

    /// Lets this process, and so its children, use these cores alone.
    fn pin(&self, cores: &[usize]) {
        let mut set = CpuSet::new();
        cores.iter().filter(|&&core| core < CpuSet::MAX_CPU).for_each(|&core| set.set(core));
        // A core that went away meanwhile is no reason to fail.
        let _ = sched_setaffinity(None, if cores.is_empty() { &self.cores } else { &set });
    }
}

/// A process and its descendants.
struct Watched<'a> {
    supervisor: &'a Supervisor,
    leader: Pid,
    linger: Duration,
    ended: Option<Leader>,
    asked: bool,
    /// The runner has asked for a stop, whether the leader was still there or not.
    stopping: bool,
    /// Everything is being killed, so nobody is blamed for dying.
    killing: bool,
    deadline: Option<Instant>,
    left: Vec<Leftover>,
    /// The command lines of the processes that were there when the leader ended.
    names: HashMap<Pid, String>,
    _lock: OwnedFd,
}

impl<'a> Watched<'a> {
    /// Also says whether the supervisor is out of the leader's control group again.
    fn start(supervisor: &'a Supervisor, request: Request) -> io::Result<(Self, bool)> {
        supervisor.pin(&request.launch.cores);
        if let Some(confinement) = &request.launch.confinement {
            confinement.strict.enter(confinement.method).map_err(io::Error::other)?;
        }
        let linger = Duration::from_millis(request.launch.linger_ms);
        let (leader, is_back, lock) = start_leader(request, supervisor.group.as_ref())?;
        let watched = Self {
            supervisor,
            leader,
            linger,
            ended: None,
            asked: false,
            stopping: false,
            killing: false,
            deadline: None,
            left: Vec::new(),
            names: HashMap::new(),
            _lock: lock,
        };
        Ok((watched, is_back))
    }

    /// None when the runner has died.
    fn run(mut self) -> Option<Ended> {
        let mut runner_alive = true;
        while !self.reap() {
            match self.wait() {
                Some(STOP) => self.stop(),
                Some(KILL) => self.kill(),
                Some(_) => {}
                None if runner_alive && self.runner_is_gone() => {
                    runner_alive = false;
                    self.kill();
                }
                None => {}
            }
            if self.killing || self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                self.end_descendants();
            }
        }
        let leader = self.ended.take().unwrap_or(Leader::Signal(0));
        let (asked, left) = (self.asked, std::mem::take(&mut self.left));
        runner_alive.then_some(Ended { leader, asked, left, is_last: false })
    }

    /// Waits for a child, a word of the runner, or the deadline.
    fn wait(&mut self) -> Option<u8> {
        let longest = if self.killing { Some(Duration::from_millis(20)) } else { None };
        let left = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let time = [longest, left].into_iter().flatten().min();
        let time = time.map(|time| time + Duration::from_millis(1));
        let time = time.and_then(|time| Timespec::try_from(time).ok());
        let Supervisor { control, signals, .. } = self.supervisor;
        let mut files = vec![PollFd::new(signals, PollFlags::IN)];
        if !self.killing {
            files.push(PollFd::new(control, PollFlags::IN));
        }
        let _ = poll(&mut files, time.as_ref());
        let mut bytes = [0; 64];
        while (&*signals).read(&mut bytes).is_ok_and(|n| n > 0) {}
        let mut word = [0; 1];
        recv(control, &mut word, RecvFlags::DONTWAIT).is_ok_and(|(n, _)| n == 1).then_some(word[0])
    }

    fn runner_is_gone(&self) -> bool {
        let mut byte = [0; 1];
        let peeked = recv(&self.supervisor.control, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT);
        matches!(peeked, Ok((_, 0)) | Err(Errno::CONNRESET | Errno::PIPE))
    }

    fn stop(&mut self) {
        self.stopping = true;
        if self.ended.is_none() && !self.leader_has_ended() {
            self.asked = true;
            let _ = kill_process_group(self.leader, Signal::TERM);
        } else {
            self.deadline = Some(Instant::now() + SHORT_LINGER);
        }
    }

    fn leader_has_ended(&self) -> bool {
        let peek = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(self.leader), peek).ok().flatten().is_some()
    }

    fn kill(&mut self) {
        // What a descendant that outlived the leader has made is no more whole than what the leader has.
        self.asked |= !descendants::of(rustix::process::getpid()).is_empty();
        self.killing = true;
        if self.ended.is_none() {
            let _ = kill_process_group(self.leader, Signal::KILL);
        }
        self.end_descendants();
    }

    /// Reaps every child that has ended; true when none is left.
    fn reap(&mut self) -> bool {
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == self.leader => self.leader_ended(status),
                Ok(Some((pid, status))) => self.descendant_ended(pid, status),
                Ok(None) => {
                    self.name_descendants();
                    return false;
                }
                Err(Errno::INTR) => {}
                // There are no children, and so no descendants.
                Err(_) => return true,
            }
        }
    }

    fn leader_ended(&mut self, status: WaitStatus) {
        let code = status.exit_status().unwrap_or(0);
        let leader = status.terminating_signal().map_or(Leader::Exit(code), Leader::Signal);
        let in_a_hurry = self.asked || leader != Leader::Exit(0);
        let linger = if in_a_hurry { self.linger.min(SHORT_LINGER) } else { self.linger };
        self.ended = Some(leader);
        self.deadline = Some(Instant::now() + linger);
    }

    /// Remembers who is left when the leader has ended: a process that has died has no command line.
    fn name_descendants(&mut self) {
        if self.ended.is_some() && self.names.is_empty() {
            let left = descendants::of(rustix::process::getpid());
            self.names = left.into_iter().map(|pid| (pid, descendants::command_line(pid))).collect();
        }
    }

    fn descendant_ended(&mut self, pid: Pid, status: WaitStatus) {
        let Some(signal) = status.terminating_signal().filter(|_| !self.killing) else { return };
        // A producer whose reader has closed the pipe ends by SIGPIPE, and that is its normal end.
        if signal != Signal::PIPE.as_raw() {
            let name = self.names.remove(&pid).unwrap_or_else(|| "a process".to_owned());
            let pid = pid.as_raw_nonzero().get();
            self.left.push(Leftover { pid, name, signal: Some(signal) });
        }
    }

    /// Kills what outlived the leader, and notes it unless all was to be killed or stopped anyway.
    fn end_descendants(&mut self) {
        let own = rustix::process::getpid();
        for pid in descendants::of(own) {
            self.asked |= self.stopping;
            let blamed = !self.killing && !self.stopping && pid != self.leader;
            if blamed && !self.left.iter().any(|left| left.pid == pid.as_raw_nonzero().get()) {
                let name = descendants::command_line(pid);
                self.left.push(Leftover { pid: pid.as_raw_nonzero().get(), name, signal: None });
            }
            let _ = kill_process(pid, Signal::KILL);
        }
        if let Some(group) = &self.supervisor.group {
            let _ = group.kill();
        }
        self.killing = true;
    }
}

/// Starts the leader in a process group of its own, and in the control group. Also says whether this process
/// is out of the control group again, and gives back the lock.
fn start_leader(request: Request, group: Option<&Group>) -> io::Result<(Pid, bool, OwnedFd)> {
    let Request { launch, stdin, stdout, stderr, lock } = request;
    let (program, arguments) =
        launch.arguments.split_first().ok_or_else(|| io::Error::other("there is no program to start"))?;
    // With a path the standard library can start it without a copy of this process.
    let path = find(&launch, program.as_ref());
    let mut command = Command::new(path.as_deref().map_or(program.as_ref(), Path::as_os_str));
    command.arg0(program).args(arguments).current_dir(&launch.folder).process_group(0);
    command.env_clear().envs(launch.environment.iter().map(|(name, value)| (name, value)));
    command.stdin(stdin.map_or_else(Stdio::null, Stdio::from)).stdout(stdout).stderr(stderr);
    // Whoever finds the lock taken although its owner is dead can find its holders by this descriptor.
    fcntl_setfd(lock.as_fd(), FdFlags::empty())?;
    // The leader is born in the control group, so that nothing can be forked outside of it.
    let group = group.filter(|group| group.add(std::process::id()).is_ok());
    let child = command.spawn();
    let is_back = group.is_none_or(Group::leave);
    let leader = Pid::from_child(&child?);
    fcntl_setfd(lock.as_fd(), FdFlags::CLOEXEC)?;
    Ok((leader, is_back, lock))
}

/// The program on the PATH of the process to start; none when it is not there or is named by a path.
fn find(launch: &Launch, program: &OsStr) -> Option<PathBuf> {
    if program.as_encoded_bytes().contains(&b'/') {
        return None;
    }
    let (_, path) = launch.environment.iter().find(|(name, _)| name.0 == "PATH")?;
    let folders = std::env::split_paths(&path.0).map(|folder| launch.folder.join(folder));
    let mut places = folders.map(|folder| folder.join(program));
    places.find(|place| place.is_file() && access(place, Access::EXEC_OK).is_ok())
}

/// Names this process so that `killall kiln`, which is meant for runners, does not take it along.
pub fn rename_process() {
    let _ = rustix::thread::set_name(c"kiln-supervisor");
    let _ = fs::write("/proc/self/oom_score_adj", "-1");
}
