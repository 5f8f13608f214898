//! The end of the socket in this process: starts a guard, gives it orders, hears its reports.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::time::Duration;

use runner_sdk::Hold;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::time::{Instant, timeout};

use super::MARK;
use super::wire::{Inbox, Order, Report, Spec};

/// How long a guard may take until its command runs: a machine under heavy load, and then some.
const START: Duration = Duration::from_secs(20);

/// How long a guard that has said its last word may take to be gone.
const LAST_STEP: Duration = Duration::from_secs(1);

/// Variables without which this very program may not start a second time.
const LOADER: [&str; 2] = ["LD_LIBRARY_PATH", "LD_PRELOAD"];

/// Why a command does not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// It itself could not be started.
    #[error(transparent)]
    Command(io::Error),
    /// Its guard could not.
    #[error("{}", Self::WHAT)]
    Guard(#[source] io::Error),
}

impl StartError {
    pub(super) const WHAT: &str = "the process that guards the command cannot be started";
}

/// A guard with its command. When it is dropped, whatever the command started is ended.
pub(crate) struct Guard {
    child: Child,
    link: UnixStream,
    inbox: Inbox,
    /// The number of the command.
    pub(crate) leader: i32,
    /// What the command prints.
    pub(crate) stdout: Option<ChildStdout>,
    /// What it complains.
    pub(crate) stderr: Option<ChildStderr>,
}

impl Guard {
    /// Starts the command under a guard; `label` shows in lists of processes.
    pub(crate) async fn start(spec: Spec, label: &str, hold: Option<Hold>) -> Result<Self, StartError> {
        let (mut child, link) = spawn(label).map_err(StartError::Guard)?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let mut guard = Self {
            child,
            link,
            inbox: Inbox::default(),
            leader: 0,
            stdout,
            stderr,
        };
        let began = timeout(START, guard.begin(spec, hold)).await;
        let late = || StartError::Guard(io::ErrorKind::TimedOut.into());
        match began.unwrap_or_else(|_| Err(late())) {
            Ok(()) => Ok(guard),
            Err(error) => {
                // A program whose `main` does something else would go on doing it.
                guard.child.start_kill().ok();
                Err(error)
            }
        }
    }

    async fn begin(&mut self, spec: Spec, hold: Option<Hold>) -> Result<(), StartError> {
        // Both are read before the command starts; the guard says nothing before that, so neither waits for the other.
        let mut bytes = Order::Start(spec).frame();
        if let Some(hold) = hold {
            bytes.extend(order_of(hold).frame());
        }
        self.link.write_all(&bytes).await.map_err(StartError::Guard)?;
        drop(bytes);
        match self.report().await {
            Some(Report::Began(leader)) => {
                self.leader = leader;
                Ok(())
            }
            Some(Report::Failed(number)) => Err(StartError::Command(io::Error::from_raw_os_error(number))),
            _ => Err(StartError::Guard(io::ErrorKind::UnexpectedEof.into())),
        }
    }

    /// The next report; nothing once the guard is gone. May be dropped and called again.
    pub(crate) async fn report(&mut self) -> Option<Report> {
        let mut chunk = [0; 1024];
        loop {
            if let Some(report) = self.inbox.next_report().ok()? {
                return Some(report);
            }
            self.link.readable().await.ok()?;
            match self.link.try_read(&mut chunk) {
                Ok(0) => return None,
                Ok(n) => self.inbox.take_in(&chunk[..n]),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => (),
                Err(_) => return None,
            }
        }
    }

    /// Asks all of the family to end.
    pub(crate) fn terminate(&self) {
        self.order(&Order::Terminate);
    }

    /// Ends what the command left behind.
    pub(crate) fn sweep(&self) {
        self.order(&Order::Sweep);
    }

    /// Kills all of the family.
    pub(crate) fn kill(&self) {
        self.order(&Order::Kill);
    }

    /// Says until when the lease holds.
    pub(crate) fn hold(&self, hold: Hold) {
        self.order(&order_of(hold));
    }

    fn order(&self, order: &Order) {
        // A few bytes, for which there is always room unless the guard hangs, or is gone: then nothing is left to order.
        if let Err(error) = self.link.try_write(&order.frame()) {
            tracing::debug!(%error, "the guard of a command cannot be reached");
        }
    }

    /// Waits until the guard is gone, for a moment; how it ended, for people.
    pub(crate) async fn ended(&mut self) -> String {
        match timeout(LAST_STEP, self.child.wait()).await {
            Ok(Ok(status)) => status.to_string(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it still runs".to_owned(),
        }
    }
}

/// Relative, because the clocks of two processes can differ: tests and containers move them.
fn order_of(hold: Hold) -> Order {
    let milliseconds = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
    let left = Instant::from_std(hold.ask).saturating_duration_since(Instant::now());
    Order::Hold {
        ask: milliseconds(left),
        kill: milliseconds(hold.kill.saturating_duration_since(hold.ask)),
    }
}

fn spawn(label: &str) -> io::Result<(Child, UnixStream)> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let link = UnixStream::from_std(ours)?;
    let mut command = Command::new("/proc/self/exe");
    command.arg0("runner-guard").args([MARK, label]);
    #[allow(clippy::disallowed_methods)] // what the loader needs, not a setting
    let loader = LOADER.map(|name| (name, std::env::var_os(name)));
    let loader: Vec<(&str, OsString)> = loader.into_iter().filter_map(|(n, v)| Some((n, v?))).collect();
    command.env_clear().envs(loader).current_dir("/");
    command.stdin(Stdio::from(OwnedFd::from(theirs)));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    // A signal to the group of this process, such as Ctrl-C in a terminal, is not for commands.
    command.process_group(0);
    // With the command its end of the socket goes, so that only the guard has one.
    Ok((command.spawn()?, link))
}
