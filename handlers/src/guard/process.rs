//! The guard itself: one thread that waits for orders, for the end of a family, and for deadlines.
//!
//! It must stay small and must not fail: there is nobody to tell but the one at the other end of the socket, who may be
//! the one that is gone.

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

use super::family::{descendants, names};
use super::wire::{GuardOrder, GuardReport, Inbox, Spec};

/// What a family has to end by itself when nobody is there any more who would wait for it.
const ORPHANS_GRACE: Duration = Duration::from_secs(1);

/// What a command's descendants have to end by themselves once the command has: they had all the time before.
const SWEEP_GRACE: Duration = Duration::from_millis(200);

/// How often who is left is killed again: others may have been born meanwhile.
const STRIKE_EVERY: Duration = Duration::from_millis(10);

/// How long that goes on. Who is left then hangs in the kernel, or belongs to another user.
const STRIKES: Duration = Duration::from_secs(5);

/// Longest sleep while a deadline lies ahead: what the clock of `poll` does not count (a suspended machine) is noticed.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// What a pipe takes without anybody reading.
const PIPE: usize = 64 * 1024;

/// Guards one command after the other, until none is left.
pub(super) fn run() -> io::Result<()> {
    prctl::set_child_subreaper(true)?;
    // Whatever is sent to everything at once (a service manager does) must not take the guard before its family.
    SigSet::all().thread_block()?;
    let ended = SignalFd::with_flags(
        &SigSet::from(Signal::SIGCHLD),
        SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK,
    )?;
    let mut link = Link::take()?;
    redirect_output();
    while let Some(order) = link.wait_for_order()? {
        // Others came too late for the command that they were for.
        if let GuardOrder::Start(spec) = order
            && !guard(&mut link, spec, &ended)?
        {
            break;
        }
    }
    Ok(())
}

/// Guards one command until nothing of its family is left; `false` if that cannot be had.
fn guard(link: &mut Link, spec: Spec, ended: &SignalFd) -> io::Result<bool> {
    let child = match start(spec) {
        Ok(child) => child,
        Err(error) => {
            link.say(&GuardReport::Failed(error.raw_os_error().unwrap_or(0)));
            return Ok(true);
        }
    };
    let leader = Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?);
    link.say(&GuardReport::Began(leader.as_raw()));
    Guarding {
        link,
        leader,
        child: Some(child),
        held: None,
        stage: Stage::Running,
    }
    .run(ended)
}

/// Starts the command with no signal blocked, as leader of a group of its own.
fn start(spec: Spec) -> io::Result<Child> {
    let mut command = Command::new(&spec.program);
    command.arg0(&spec.name).args(&spec.arguments);
    command.env_clear().envs(spec.env).current_dir(&spec.cwd);
    command.process_group(0);
    command.stdout(output(&spec.stdout)?).stderr(output(&spec.stderr)?);
    command.stdin(match &spec.stdin {
        Some(_) => Stdio::piped(),
        None => Stdio::null(),
    });
    SigSet::empty().thread_set_mask()?;
    let child = command.spawn();
    SigSet::all().thread_block()?;
    let mut child = child?;
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

/// The writing end of a named pipe; only the command keeps it, so that its output ends with its family.
fn output(path: &Path) -> io::Result<Stdio> {
    if path.as_os_str().is_empty() {
        return Ok(Stdio::null());
    }
    // Only as long as there is a reader: without one this would wait, or fail when it must not wait.
    let pipe = OpenOptions::new()
        .write(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path)?;
    fcntl(&pipe, FcntlArg::F_SETFL(OFlag::empty()))?;
    Ok(Stdio::from(pipe))
}

/// Lets go of the socket's first descriptor and of everybody else's output.
fn redirect_output() {
    if let Ok(null) = OpenOptions::new().read(true).write(true).open("/dev/null") {
        dup2_stdin(&null).ok();
        dup2_stdout(&null).ok();
        dup2_stderr(&null).ok();
    }
    prctl::set_name(c"runner-guard").ok();
}

/// Now, counting the time for which the machine was suspended.
fn now() -> Duration {
    // It fails only where there is no such clock: then no deadline ever passes.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}

/// The socket.
struct Link {
    stream: UnixStream,
    inbox: Inbox,
    open: bool,
}

impl Link {
    /// It comes as standard input.
    fn take() -> io::Result<Self> {
        let stream: OwnedFd = io::stdin().as_fd().try_clone_to_owned()?;
        Ok(Self {
            stream: UnixStream::from(stream),
            inbox: Inbox::default(),
            open: true,
        })
    }

    /// Says something, if anybody is there.
    fn say(&mut self, report: &GuardReport) {
        self.stream.write_all(&report.frame()).ok();
    }

    /// Takes in what has come, or waits for it; the end is remembered.
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
    /// Asked to end; killed then, if a time is set.
    Asked(Option<Duration>),
    /// Being killed since then.
    Killing(Duration),
}

struct Guarding<'l> {
    link: &'l mut Link,
    leader: Pid,
    /// The command, until it has ended.
    child: Option<Child>,
    /// When all is asked to end, and killed, unless that is put off again.
    held: Option<(Duration, Duration)>,
    stage: Stage,
}

impl Guarding<'_> {
    /// Whether all of the family is gone.
    fn run(mut self, ended: &SignalFd) -> io::Result<bool> {
        loop {
            // Also before the first wait: orders may have come together with the command.
            self.obey();
            if self.reap() {
                self.link.say(&GuardReport::Gone);
                return Ok(true);
            }
            self.keep_time();
            if let Stage::Killing(since) = self.stage {
                let left = self.kill_family();
                if now().saturating_sub(since) > STRIKES && !left.is_empty() {
                    self.link.say(&GuardReport::Stuck(left));
                    return Ok(false);
                }
            }
            self.sleep(ended)?;
            while let Ok(Some(_)) = ended.read_signal() {}
        }
    }

    /// Collects who has ended; whether nobody is left.
    fn reap(&mut self) -> bool {
        // The command first and by its own handle, which also knows the signals that have no name.
        match self.child.as_mut().map(Child::try_wait) {
            Some(Ok(Some(status))) => self.leader_ended(status.into_raw()),
            // Its status was collected below, under a number that has no name.
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
            self.link.say(&GuardReport::Ended(status));
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

    /// Does what is due.
    fn keep_time(&mut self) {
        let now = now();
        if !self.link.open && self.stage == Stage::Running {
            self.ask(Some(now + ORPHANS_GRACE));
        } else if !self.link.open && self.stage == Stage::Asked(None) {
            self.kill();
        }
        if let Some((ask, kill)) = self.held
            && now >= ask
        {
            self.link.say(&GuardReport::Overdue);
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

    /// Asks all of them to end. One that is stopped is woken, or it would never learn of it.
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
            self.link.say(&GuardReport::Left(names(&left)));
        }
        self.ask(Some(now() + SWEEP_GRACE));
    }

    fn kill(&mut self) {
        if !matches!(self.stage, Stage::Killing(_)) {
            self.stage = Stage::Killing(now());
        }
    }

    /// Kills whoever is there; who that is.
    fn kill_family(&self) -> String {
        let left = self.signal(Signal::SIGKILL);
        names(&left)
    }

    /// Signals the whole family; who that is. Its group is reached in one step, so that none is missed there.
    fn signal(&self, signal: Signal) -> Vec<super::Member> {
        // The number of the group is its own only until its leader was waited for.
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

    /// Waits until something happens or is due.
    fn sleep(&mut self, ended: &SignalFd) -> io::Result<()> {
        let now = now();
        let due = match self.stage {
            Stage::Killing(_) => Some(STRIKE_EVERY),
            Stage::Asked(Some(at)) => Some(at.saturating_sub(now)),
            _ => None,
        };
        let held = self.held.map(|(ask, _)| ask.saturating_sub(now));
        let longest = [due, held].into_iter().flatten().min().map(|d| d.min(LONGEST_SLEEP));
        // A millisecond more: woken too early it would turn in circles.
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
