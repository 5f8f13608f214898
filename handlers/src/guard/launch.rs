//! The process between a guard and a command that is confined: applies limits and user to itself, then becomes the command.
//!
//! It is this program, started once more by the guard. So nothing is done between fork and exec, and the guard itself keeps
//! neither the limits nor the user. If it cannot become the command, the error number goes through a pipe that closes
//! otherwise.

use std::ffi::{OsStr, OsString};
use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::unistd::pipe2;

use super::confine::{Confinement, close_inherited};
use super::wire::Spec;

/// The first argument of such a process.
pub(super) const MARK: &str = "--runner-starts-a-command";

/// Variables of the loader that this program may need to start.
const LOADER: [&str; 2] = ["LD_LIBRARY_PATH", "LD_PRELOAD"];

/// Before the name of each variable of the command on its way: none of them may act on the launcher, which has all rights of
/// the runner.
const HELD_BACK: &str = "RUNNER_LAUNCH_";

/// More than is allocated while the process becomes the command: with a limit on memory there may be no more to get.
const SPARE: usize = 64 * 1024;

/// The command that starts the launcher for `spec`, and where it reports an error.
pub(super) struct Launch {
    pub(super) command: Command,
    report: OwnedFd,
    launchers_end: OwnedFd,
}

impl Launch {
    pub(super) fn of(spec: &Spec) -> io::Result<Self> {
        let (report, launchers_end) = pipe2(OFlag::O_CLOEXEC)?;
        fcntl(&launchers_end, FcntlArg::F_SETFD(FdFlag::empty()))?;
        let mut command = Command::new("/proc/self/exe");
        command.arg0("runner-guard").arg(MARK);
        command.arg(launchers_end.as_raw_fd().to_string());
        command.arg(spec.confinement.to_text());
        command.arg(&spec.program).arg(&spec.name).args(&spec.arguments);
        command.env_clear();
        for (name, value) in &spec.env {
            let mut held = OsString::from(HELD_BACK);
            held.push(name);
            command.env(held, value);
        }
        #[allow(clippy::disallowed_methods)] // what the loader of this program needs
        for name in LOADER {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        Ok(Self {
            command,
            report,
            launchers_end,
        })
    }

    /// Waits until the launcher is the command.
    pub(super) fn finish(self, mut child: Child) -> io::Result<Child> {
        drop(self.launchers_end);
        let mut number = [0; 4];
        match std::fs::File::from(self.report).read_exact(&mut number) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(child),
            Ok(()) => {
                child.wait()?;
                Err(io::Error::from_raw_os_error(i32::from_le_bytes(number)))
            }
            Err(error) => {
                child.kill()?;
                child.wait()?;
                Err(error)
            }
        }
    }
}

/// Becomes the command; returns only if that is impossible.
pub(super) fn run() -> io::Error {
    let mut arguments = std::env::args_os().skip(2);
    let mut next = || arguments.next().unwrap_or_default();
    let (descriptor, confinement, program, name) = (next(), next(), next(), next());
    // Opened again, so that it closes when the command begins.
    let path = format!("/proc/self/fd/{}", descriptor.to_string_lossy());
    let mut report = match OpenOptions::new().write(true).open(path) {
        Ok(report) => report,
        Err(error) => return error,
    };
    close_inherited();
    let mut command = Command::new(program);
    command.arg0(name).args(arguments);
    command.env_clear();
    #[allow(clippy::disallowed_methods)] // what the guard passed on for the command
    for (held, value) in std::env::vars_os() {
        if let Some(name) = held.as_bytes().strip_prefix(HELD_BACK.as_bytes()) {
            command.env(OsStr::from_bytes(name), value);
        }
    }
    let error = become_command(command, &confinement.to_string_lossy());
    let number = error.raw_os_error().unwrap_or(Errno::EINVAL as i32);
    report.write_all(&number.to_le_bytes()).ok();
    error
}

fn become_command(mut command: Command, confinement: &str) -> io::Error {
    let Some(confinement) = Confinement::from_text(confinement) else {
        return io::Error::from(Errno::EINVAL);
    };
    drop(std::hint::black_box(vec![1_u8; SPARE]));
    match confinement.apply_to_command() {
        Ok(()) => command.exec(),
        Err(error) => error,
    }
}
