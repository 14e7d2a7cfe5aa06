//! A process under ptrace.
//!
//! Purpose: run a command and look at each of its system calls, in all its threads, before and after it is made. So
//! it can be killed at a moment that is known and not found by luck, and Kiln needs no code for tests.
//! Invariant: the command has ended when `run` returns, and ends with the thread that traces it. The processes that
//! it starts are not traced.
//! Must not know: what a call means, when a process is to be killed.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use crate::common::processes::kill;

/// Nothing takes longer, unless it hangs.
const LONGEST: Duration = Duration::from_secs(120);
/// What a stop at a system call has besides SIGTRAP.
const SYSCALL: i32 = 0x80;

/// A thread that stands before or after a system call.
pub struct Stop {
    pub thread: i32,
    pub moment: Moment,
}

#[derive(Clone, Copy)]
pub enum Moment {
    Before { number: i64, arguments: [u64; 6] },
    After,
}

/// What comes next.
#[derive(Clone, Copy, PartialEq)]
pub enum Next {
    GoOn,
    /// The command is killed as it stands.
    Kill,
    /// It goes on and is not looked at any more.
    Release,
}

/// Runs a command; `look` is asked at each stop, with the id of the process. Gives its exit code; none when it was
/// killed.
///
/// # Errors
/// It cannot be started or traced, or it hangs.
pub fn run(command: &mut Command, look: &mut dyn FnMut(i32, &Stop) -> Next) -> io::Result<Option<i32>> {
    trace_me(command);
    let leader = command.spawn()?.id().cast_signed();
    let (ended, watch) = mpsc::channel();
    std::thread::scope(|scope| {
        let watch = scope.spawn(move || {
            let hangs = watch.recv_timeout(LONGEST) == Err(mpsc::RecvTimeoutError::Timeout);
            if hangs {
                kill(leader);
            }
            hangs
        });
        let code = follow(leader, look);
        let _ = ended.send(());
        match watch.join() {
            Ok(true) => Err(io::Error::other(format!("it did not end within {LONGEST:?}"))),
            _ => code,
        }
    })
}

fn follow(leader: i32, look: &mut dyn FnMut(i32, &Stop) -> Next) -> io::Result<Option<i32>> {
    // It stops when it has become the program.
    let (_, status) = wait()?;
    if !libc::WIFSTOPPED(status) {
        return Err(io::Error::other("it could not be traced; does this machine allow ptrace?"));
    }
    set_options(leader)?;
    let mut next = Next::GoOn;
    resume(leader, next, 0);
    loop {
        let (thread, status) = wait()?;
        if !libc::WIFSTOPPED(status) {
            if thread == leader {
                return Ok(libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status)));
            }
            continue;
        }
        let signal = match libc::WSTOPSIG(status) {
            stop if stop == libc::SIGTRAP | SYSCALL => {
                if next == Next::GoOn
                    && let Some(moment) = moment(thread)
                {
                    next = look(leader, &Stop { thread, moment });
                }
                if next == Next::Kill {
                    kill(leader);
                }
                0
            }
            // A new thread, or the news of one.
            libc::SIGSTOP | libc::SIGTRAP => 0,
            signal => signal,
        };
        resume(thread, next, signal);
    }
}

#[allow(unsafe_code)]
fn trace_me(command: &mut Command) {
    let ask = || {
        // SAFETY: it has no pointers, and is one system call.
        let answer = unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) };
        if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    // SAFETY: between fork and exec nothing but that system call is made.
    unsafe { command.pre_exec(ask) };
}

/// Waits for a thread of what this thread traces: its id and the status.
#[allow(unsafe_code)]
fn wait() -> io::Result<(i32, i32)> {
    let mut status = 0;
    loop {
        // SAFETY: `status` is there for it to be written.
        let thread = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL | libc::__WNOTHREAD) };
        let error = io::Error::last_os_error();
        if thread > 0 {
            return Ok((thread, status));
        }
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

#[allow(unsafe_code)]
fn set_options(leader: i32) -> io::Result<()> {
    let options = libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_TRACECLONE | libc::PTRACE_O_EXITKILL;
    // SAFETY: it has no pointers.
    let answer = unsafe { libc::ptrace(libc::PTRACE_SETOPTIONS, leader, 0, options as libc::c_long) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Lets a stopped thread go on. One that was killed meanwhile is no error.
#[allow(unsafe_code)]
fn resume(thread: i32, next: Next, signal: i32) {
    let request = if next == Next::GoOn { libc::PTRACE_SYSCALL } else { libc::PTRACE_CONT };
    // SAFETY: it has no pointers.
    unsafe { libc::ptrace(request, thread, 0, signal as libc::c_long) };
}

/// Where a thread stands; none when it was killed meanwhile.
#[allow(unsafe_code)]
fn moment(thread: i32) -> Option<Moment> {
    // SAFETY: all of it are numbers, for which zero is a value.
    let mut info: libc::ptrace_syscall_info = unsafe { std::mem::zeroed() };
    let size = size_of_val(&info);
    // SAFETY: the kernel writes `size` bytes at most.
    let answer = unsafe { libc::ptrace(libc::PTRACE_GET_SYSCALL_INFO, thread, size, &raw mut info) };
    match info.op {
        _ if answer <= 0 => None,
        libc::PTRACE_SYSCALL_INFO_ENTRY => {
            // SAFETY: `op` says that the kernel has written this one.
            let entry = unsafe { info.u.entry };
            Some(Moment::Before { number: entry.nr.cast_signed(), arguments: entry.args })
        }
        libc::PTRACE_SYSCALL_INFO_EXIT => Some(Moment::After),
        _ => None,
    }
}
