//! The guard itself: one thread that waits for orders, for the end of a family, and for deadlines.
//!
//! It must stay small and must not fail: its only contact is the other end of the socket, which may be the process that is
//! gone.

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, killpg};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout};

use super::confine::{close_inherited, forbid_core_dumps};
use super::family::{descendants, names};
use super::launch::Launch;
use super::wire::{GuardOrder, GuardReport, Inbox, Spec};

/// How long a family may take to end by itself when the process that started it is gone.
const ORPHANS_GRACE: Duration = Duration::from_secs(1);

/// How long descendants may take to end after their command: they had its whole run before.
const SWEEP_GRACE: Duration = Duration::from_millis(200);

/// Interval between kills of the remaining processes: new ones may have been born.
const STRIKE_EVERY: Duration = Duration::from_millis(10);

/// How long that is repeated. Processes left by then hang in the kernel, or belong to another user.
const STRIKES: Duration = Duration::from_secs(5);

/// The longest sleep before a deadline: `poll` does not count suspended time.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// What fits into a pipe without a reader.
const PIPE: usize = 64 * 1024;

/// Guards one command after the other, until the socket closes.
pub(super) fn run() -> io::Result<()> {
    close_inherited();
    forbid_core_dumps();
    prctl::set_child_subreaper(true)?;
    // Signals sent to every process at once (by a service manager) must not end the guard before its family.
    SigSet::all().thread_block()?;
    let ended = SignalFd::with_flags(
        &SigSet::from(Signal::SIGCHLD),
        SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK,
    )?;
    let mut link = Link::take()?;
    redirect_output();
    while let Some(order) = link.wait_for_order()? {
        // Late orders for the previous command.
        if let GuardOrder::Start(spec) = order
            && !guard(&mut link, *spec, &ended)?
        {
            break;
        }
    }
    Ok(())
}

/// Guards one command until its whole family is gone; `false` if that is impossible.
fn guard(link: &mut Link, spec: Spec, ended: &SignalFd) -> io::Result<bool> {
    let child = match start(spec) {
        Ok(child) => child,
        Err(error) => {
            link.send(&GuardReport::Failed(error.raw_os_error().unwrap_or(0)));
            return Ok(true);
        }
    };
    let leader = Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?);
    link.send(&GuardReport::Began(leader.as_raw()));
    Guarding {
        link,
        leader,
        child: Some(child),
        held: None,
        stage: Stage::Running,
    }
    .run(ended)
}

/// Starts the command with no signal blocked, as leader of its own group.
fn start(spec: Spec) -> io::Result<Child> {
    spec.confinement.apply_to_guard()?;
    let mut launch = match spec.confinement.needs_launcher() {
        true => Some(Launch::of(&spec)?),
        false => None,
    };
    let mut direct = Command::new(&spec.program);
    direct.arg0(&spec.name).args(&spec.arguments);
    direct.env_clear().envs(spec.env);
    let command = launch.as_mut().map_or(&mut direct, |launch| &mut launch.command);
    command.current_dir(&spec.cwd).process_group(0);
    command.stdout(output(&spec.stdout)?).stderr(output(&spec.stderr)?);
    command.stdin(match &spec.stdin {
        Some(_) => Stdio::piped(),
        None => Stdio::null(),
    });
    SigSet::empty().thread_set_mask()?;
    let child = command.spawn();
    SigSet::all().thread_block()?;
    let mut child = child?;
    if let Some(launch) = launch {
        child = launch.finish(child)?;
    }
    if let (Some(mut pipe), Some(payload)) = (child.stdin.take(), spec.stdin) {
        let fits = payload.len() <= PIPE;
        // A command need not read it.
        let mut feed = move || drop(pipe.write_all(&payload));
        if fits {
            feed();
        } else if let Err(error) = std::thread::Builder::new().spawn(feed) {
            child.kill().ok();
            child.wait().ok();
            return Err(error);
        }
    }
    Ok(child)
}

/// The writing end of a named pipe; only the command holds it, so that its output ends with its family.
fn output(path: &Path) -> io::Result<Stdio> {
    if path.as_os_str().is_empty() {
        return Ok(Stdio::null());
    }
    // Requires a reader: without one, opening would block or fail.
    let pipe = OpenOptions::new()
        .write(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path)?;
    fcntl(&pipe, FcntlArg::F_SETFL(OFlag::empty()))?;
    Ok(Stdio::from(pipe))
}

/// Closes the inherited socket descriptor and the output of the parent.
fn redirect_output() {
    if let Ok(null) = OpenOptions::new().read(true).write(true).open("/dev/null") {
        dup2_stdin(&null).ok();
        dup2_stdout(&null).ok();
        dup2_stderr(&null).ok();
    }
    prctl::set_name(c"runner-guard").ok();
}

/// The current time, including the time for which the machine was suspended.
fn now() -> Duration {
    // Fails only without such a clock; no deadline passes then.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}

/// The socket.
struct Link {
    stream: UnixStream,
    inbox: Inbox,
    open: bool,
}

impl Link {
    /// Inherited as standard input.
    fn take() -> io::Result<Self> {
        let stream: OwnedFd = io::stdin().as_fd().try_clone_to_owned()?;
        Ok(Self {
            stream: UnixStream::from(stream),
            inbox: Inbox::default(),
            open: true,
        })
    }

    /// Sends a report, if the other end is still there.
    fn send(&mut self, report: &GuardReport) {
        self.stream.write_all(&report.frame()).ok();
    }

    /// Reads orders, or waits for them; records when the socket closes.
    fn read(&mut self) {
        let mut chunk = vec![0; 64 * 1024];
        match self.stream.read(&mut chunk) {
            Ok(n @ 1..) => self.inbox.take_in(&chunk[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => (),
            Ok(_) | Err(_) => self.open = false,
        }
    }

    fn wait_for_order(&mut self) -> io::Result<Option<GuardOrder>> {
        loop {
            if let Some(order) = self.inbox.next_order()? {
                return Ok(Some(order));
            }
            if !self.open {
                return Ok(None);
            }
            self.read();
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Running,
    /// Asked to end; killed at the given time, if any.
    Asked(Option<Duration>),
    /// Being killed since then.
    Killing(Duration),
}

struct Guarding<'l> {
    link: &'l mut Link,
    leader: Pid,
    /// The command, until it has ended.
    child: Option<Child>,
    /// When the family is asked to end, and when it is killed, unless the lease is extended.
    held: Option<(Duration, Duration)>,
    stage: Stage,
}

impl Guarding<'_> {
    /// Whether the whole family is gone.
    fn run(mut self, ended: &SignalFd) -> io::Result<bool> {
        loop {
            // Before the first wait too: orders may have arrived together with the command.
            self.obey();
            if self.reap() {
                self.link.send(&GuardReport::Gone);
                return Ok(true);
            }
            self.check_deadlines();
            if let Stage::Killing(since) = self.stage {
                let left = self.kill_family();
                if now().saturating_sub(since) > STRIKES && !left.is_empty() {
                    self.link.send(&GuardReport::Stuck(left));
                    return Ok(false);
                }
            }
            self.sleep(ended)?;
            while let Ok(Some(_)) = ended.read_signal() {}
        }
    }

    /// Reaps ended processes. Returns whether none is left.
    fn reap(&mut self) -> bool {
        // The command first and through its own handle, which also knows unnamed signals.
        match self.child.as_mut().map(Child::try_wait) {
            Some(Ok(Some(status))) => self.leader_ended(status.into_raw()),
            // Already reaped below, with a status that has no name.
            Some(Err(_)) => self.leader_ended(Signal::SIGKILL as i32),
            Some(Ok(None)) | None => (),
        }
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) => return false,
                Ok(WaitStatus::Exited(pid, code)) if pid == self.leader => self.leader_ended(code << 8),
                Ok(WaitStatus::Signaled(pid, signal, _)) if pid == self.leader => self.leader_ended(signal as i32),
                Err(Errno::ECHILD) => return true,
                Ok(_) | Err(_) => (),
            }
        }
    }

    fn leader_ended(&mut self, status: i32) {
        if self.child.take().is_some() {
            self.link.send(&GuardReport::Ended(status));
        }
    }

    fn obey(&mut self) {
        loop {
            match self.link.inbox.next_order() {
                Ok(Some(GuardOrder::Terminate)) => self.ask(None),
                Ok(Some(GuardOrder::Sweep)) => self.sweep(),
                Ok(Some(GuardOrder::Kill)) => self.kill(),
                Ok(Some(GuardOrder::Hold { ask, kill })) => {
                    let ask = now() + Duration::from_millis(ask);
                    self.held = Some((ask, ask + Duration::from_millis(kill)));
                }
                Ok(Some(GuardOrder::Start(_)) | None) => return,
                Err(_) => {
                    self.link.open = false;
                    return;
                }
            }
        }
    }

    /// Takes the steps that are due.
    fn check_deadlines(&mut self) {
        let now = now();
        if !self.link.open && self.stage == Stage::Running {
            self.ask(Some(now + ORPHANS_GRACE));
        } else if !self.link.open && self.stage == Stage::Asked(None) {
            self.kill();
        }
        if let Some((ask, kill)) = self.held
            && now >= ask
        {
            self.link.send(&GuardReport::Overdue);
            self.held = None;
            match self.stage {
                Stage::Running => self.ask(Some(kill)),
                Stage::Asked(at) => self.stage = Stage::Asked(Some(at.map_or(kill, |at| at.min(kill)))),
                Stage::Killing(_) => (),
            }
        }
        if let Stage::Asked(Some(at)) = self.stage
            && now >= at
        {
            self.kill();
        }
    }

    /// Asks the family to end. Stopped ones are continued, or they would never see the signal.
    fn ask(&mut self, kill_at: Option<Duration>) {
        if let Stage::Killing(_) = self.stage {
            return;
        }
        self.stage = Stage::Asked(kill_at);
        for signal in [Signal::SIGTERM, Signal::SIGCONT] {
            self.signal(signal);
        }
    }

    fn sweep(&mut self) {
        let left = descendants(Pid::this());
        if !left.is_empty() {
            self.link.send(&GuardReport::Left(names(&left)));
        }
        self.ask(Some(now() + SWEEP_GRACE));
    }

    fn kill(&mut self) {
        if !matches!(self.stage, Stage::Killing(_)) {
            self.stage = Stage::Killing(now());
        }
    }

    /// Kills the remaining processes and returns them.
    fn kill_family(&self) -> String {
        let left = self.signal(Signal::SIGKILL);
        names(&left)
    }

    /// Signals the whole family and returns it. The group is signalled as a whole, so that none of it is missed.
    fn signal(&self, signal: Signal) -> Vec<super::Member> {
        // The group's number is safe to use only until its leader was waited for.
        let alive = self.child.is_some();
        if alive {
            killpg(self.leader, signal).ok();
        }
        let family = descendants(Pid::this());
        for member in &family {
            let reached = alive && member.is_in_group(self.leader);
            if !reached {
                member.signal(signal);
            }
        }
        family
    }

    /// Waits for an event or for the next deadline.
    fn sleep(&mut self, ended: &SignalFd) -> io::Result<()> {
        let now = now();
        let due = match self.stage {
            Stage::Killing(_) => Some(STRIKE_EVERY),
            Stage::Asked(Some(at)) => Some(at.saturating_sub(now)),
            _ => None,
        };
        let held = self.held.map(|(ask, _)| ask.saturating_sub(now));
        let longest = [due, held].into_iter().flatten().min().map(|d| d.min(LONGEST_SLEEP));
        // A millisecond more: waking too early would spin.
        let timeout = longest.map(|d| u16::try_from(d.as_millis()).unwrap_or(u16::MAX).saturating_add(1));
        let timeout = timeout.map_or(PollTimeout::NONE, PollTimeout::from);
        let mut fds = vec![PollFd::new(ended.as_fd(), PollFlags::POLLIN)];
        if self.link.open {
            fds.push(PollFd::new(self.link.stream.as_fd(), PollFlags::POLLIN));
        }
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => (),
            Err(error) => return Err(error.into()),
        }
        let came = fds.get(1).and_then(PollFd::any).unwrap_or_default();
        drop(fds);
        if came {
            self.link.read();
        }
        Ok(())
    }
}
