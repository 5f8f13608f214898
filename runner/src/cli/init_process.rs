//! The program as the first process of a container: it starts itself again as a child and reaps orphans.
//!
//! The kernel gives every orphan to the first process, where it stays a zombie until its status is read, and
//! shields that process from signals. So the first process only passes signals on and reaps what has ended.
//! If the runner itself did that, it would take the exit statuses of processes that handlers started.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode};

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd, siginfo};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpid, getppid};

use super::exit::FAILURE;

/// How the kernel marks a signal that it sends by itself, to all processes of a terminal's foreground.
const BY_KERNEL: i32 = 0x80;

/// The process id of the first process.
const FIRST: i32 = 1;

/// Undoes what the first process did to its own signals, if this one was started by it, and gives it its name back.
pub(super) fn hear_signals() {
    if getppid().as_raw() != FIRST {
        return;
    }
    // Fails only for a set that makes no sense.
    SigSet::all().thread_unblock().ok();
    let name = std::env::args_os().next().unwrap_or_default();
    let name = Path::new(&name).file_name().unwrap_or_default();
    if let Ok(name) = CString::new(name.as_bytes()) {
        prctl::set_name(&name).ok();
    }
}

/// Does the work of a first process until the program that it started ends. Returns the exit code, or `None` if this is
/// not the first process or the program cannot be started a second time: then it runs without one.
pub(super) fn look_after() -> Option<ExitCode> {
    if getpid().as_raw() != FIRST {
        return None;
    }
    let all = SigSet::all();
    all.thread_block().ok()?;
    let (signals, child) = match (SignalFd::with_flags(&all, SfdFlags::SFD_CLOEXEC), start()) {
        (Ok(signals), Ok(child)) => (signals, child),
        _ => {
            all.thread_unblock().ok();
            return None;
        }
    };
    let pid = Pid::from_raw(i32::try_from(child.id()).ok()?);
    loop {
        if let Some(code) = reap(pid) {
            return Some(ExitCode::from(code));
        }
        if let Ok(Some(signal)) = signals.read_signal() {
            pass_on(&signal, pid);
        }
    }
}

fn start() -> std::io::Result<Child> {
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_else(|| "runner".into());
    Command::new("/proc/self/exe").arg0(name).args(arguments).spawn()
}

/// Reaps all that have ended. Returns the exit code once the program has.
fn reap(program: Pid) -> Option<u8> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) if pid == program => return Some(u8::try_from(code).unwrap_or(FAILURE)),
            // As a shell reports a command that a signal killed.
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == program => {
                return Some(u8::try_from(128 + signal as i32).unwrap_or(FAILURE));
            }
            Ok(WaitStatus::StillAlive) => return None,
            // It has ended, and its status is unknown.
            Err(Errno::ECHILD) => return Some(FAILURE),
            Ok(_) | Err(_) => (),
        }
    }
}

fn pass_on(signal: &siginfo, program: Pid) {
    let number = i32::try_from(signal.ssi_signo).unwrap_or(0);
    let signal = match Signal::try_from(number) {
        Ok(Signal::SIGCHLD) => return,
        // The terminal has sent these to the program, too.
        Ok(Signal::SIGINT | Signal::SIGQUIT | Signal::SIGTSTP | Signal::SIGWINCH) if signal.ssi_code == BY_KERNEL => {
            return;
        }
        Ok(signal) => signal,
        // A real-time signal: those that mean something to a first process ask it to halt.
        Err(_) => Signal::SIGTERM,
    };
    // It may just have ended.
    kill(program, signal).ok();
}
