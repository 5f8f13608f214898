//! The client side of a guard: starts it, sends it orders, receives its reports.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use runner_sdk::LeaseLimits;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout};

use super::MARK;
use super::wire::{GuardOrder, GuardReport, Inbox, Spec};

/// How long a guard may take until its command runs: generous, for a machine under heavy load.
const START: Duration = Duration::from_secs(20);

/// Maximum number of idle guards: about 2 MB each.
const MOST_IDLE: usize = 64;

/// How long they stay idle before they are ended.
const IDLE: Duration = Duration::from_secs(10);

/// How long a guard may take to exit after its last report.
const EXIT_TIMEOUT: Duration = Duration::from_secs(1);

/// Variables without which this program may not start a second time.
const LOADER: [&str; 2] = ["LD_LIBRARY_PATH", "LD_PRELOAD"];

/// Why a command does not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// The command could not be started.
    #[error(transparent)]
    Command(io::Error),
    /// Its guard could not be started.
    #[error("{}", Self::WHAT)]
    Guard(#[source] io::Error),
}

impl StartError {
    pub(super) const WHAT: &str = "the process that guards the command cannot be started";
}

/// A guard, with its command if it has one. Dropping it ends everything that the command started.
pub(crate) struct GuardHandle {
    child: Child,
    link: UnixStream,
    inbox: Inbox,
    /// The process id of the command.
    pub(crate) leader: i32,
}

impl GuardHandle {
    /// Starts the command under a guard, idle or new.
    pub(crate) async fn start(spec: Spec, hold: Option<LeaseLimits>, idle: &IdleGuards) -> Result<Self, StartError> {
        // Both are read before the command starts; the guard reports nothing before that, so neither waits for the
        // other.
        let mut bytes = GuardOrder::Start(Box::new(spec)).frame();
        if let Some(hold) = hold {
            bytes.extend(order_of(hold).frame());
        }
        if let Some(mut guard) = idle.take() {
            match guard.begin(&bytes).await {
                Ok(()) => return Ok(guard),
                Err(error @ StartError::Command(_)) => {
                    idle.put(guard);
                    return Err(error);
                }
                // It was killed while idle.
                Err(StartError::Guard(_)) => guard.dismiss(),
            }
        }
        let mut guard = Self::new().map_err(StartError::Guard)?;
        match guard.begin(&bytes).await {
            Ok(()) => Ok(guard),
            Err(error @ StartError::Command(_)) => {
                idle.put(guard);
                Err(error)
            }
            Err(error) => {
                guard.dismiss();
                Err(error)
            }
        }
    }

    /// Ends it, even if it is not a guard: a program whose `main` does something else would continue.
    fn dismiss(mut self) {
        self.child.start_kill().ok();
    }

    /// Whether it is idle and has sent all its reports.
    fn is_idle(&self) -> bool {
        let nothing = self.link.try_read(&mut [0; 1]);
        self.inbox.is_empty() && nothing.is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock)
    }

    async fn begin(&mut self, order: &[u8]) -> Result<(), StartError> {
        let began = async {
            self.link.write_all(order).await?;
            Ok::<_, io::Error>(self.report().await)
        };
        match timeout(START, began).await {
            Ok(Ok(Some(GuardReport::Began(leader)))) => {
                self.leader = leader;
                Ok(())
            }
            Ok(Ok(Some(GuardReport::Failed(number)))) => Err(StartError::Command(io::Error::from_raw_os_error(number))),
            Ok(Ok(_)) => Err(StartError::Guard(io::ErrorKind::UnexpectedEof.into())),
            Ok(Err(error)) => Err(StartError::Guard(error)),
            Err(_) => Err(StartError::Guard(io::ErrorKind::TimedOut.into())),
        }
    }

    /// The next report; `None` once the guard is gone. Cancel safe.
    pub(crate) async fn report(&mut self) -> Option<GuardReport> {
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

    /// Asks the whole family to end.
    pub(crate) fn terminate(&self) {
        self.order(&GuardOrder::Terminate);
    }

    /// Ends what the command left behind.
    pub(crate) fn sweep(&self) {
        self.order(&GuardOrder::Sweep);
    }

    /// Kills the whole family.
    pub(crate) fn kill(&self) {
        self.order(&GuardOrder::Kill);
    }

    /// Sets until when the lease holds.
    pub(crate) fn hold(&self, hold: LeaseLimits) {
        self.order(&order_of(hold));
    }

    fn order(&self, order: &GuardOrder) {
        // A few bytes, which always fit unless the guard hangs or is gone: then orders are useless.
        if let Err(error) = self.link.try_write(&order.frame()) {
            tracing::debug!(%error, "the guard of a command cannot be reached");
        }
    }

    /// Waits a moment for the guard to exit; returns how it ended, for people.
    pub(crate) async fn ended(&mut self) -> String {
        match timeout(EXIT_TIMEOUT, self.child.wait()).await {
            Ok(Ok(status)) => status.to_string(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it still runs".to_owned(),
        }
    }
}

/// Relative times, because the clocks of two processes can differ: tests and containers change them.
fn order_of(hold: LeaseLimits) -> GuardOrder {
    let milliseconds = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
    let left = Instant::from_std(hold.ask).saturating_duration_since(Instant::now());
    GuardOrder::Hold {
        ask: milliseconds(left),
        kill: milliseconds(hold.kill.saturating_duration_since(hold.ask)),
    }
}

impl GuardHandle {
    fn new() -> io::Result<Self> {
        let (own, guards_end) = std::os::unix::net::UnixStream::pair()?;
        own.set_nonblocking(true)?;
        let link = UnixStream::from_std(own)?;
        let mut command = Command::new("/proc/self/exe");
        command.arg0("runner-guard").arg(MARK);
        #[allow(clippy::disallowed_methods)] // what the loader needs, not a setting
        let loader = LOADER.map(|name| (name, std::env::var_os(name)));
        let loader: Vec<(&str, OsString)> = loader.into_iter().filter_map(|(n, v)| Some((n, v?))).collect();
        command.env_clear().envs(loader).current_dir("/");
        command.stdin(Stdio::from(OwnedFd::from(guards_end)));
        // The output of a `main` that does not become a guard is useless.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        // Own process group: a signal to this one, such as Ctrl-C in a terminal, is not meant for commands.
        command.process_group(0);
        // Dropping `command` closes its end of the socket, so that only the guard holds one.
        let child = command.spawn()?;
        Ok(Self {
            child,
            link,
            inbox: Inbox::default(),
            leader: 0,
        })
    }
}

/// Idle guards: reusing one saves starting a process. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct IdleGuards(Arc<Mutex<Vec<(Instant, GuardHandle)>>>);

impl IdleGuards {
    fn lock(&self) -> MutexGuard<'_, Vec<(Instant, GuardHandle)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Option<GuardHandle> {
        let mut idle = self.lock();
        std::iter::from_fn(|| idle.pop())
            .map(|(_, guard)| guard)
            .find(GuardHandle::is_idle)
    }

    /// Takes back a guard whose family is gone.
    pub(crate) fn put(&self, guard: GuardHandle) {
        let mut idle = self.lock();
        if idle.len() >= MOST_IDLE {
            return;
        }
        idle.push((Instant::now(), guard));
        if idle.len() == 1 {
            tokio::spawn(dismiss(Arc::downgrade(&self.0)));
        }
    }
}

/// Ends guards that have been idle for a while, until there are none.
async fn dismiss(idle: Weak<Mutex<Vec<(Instant, GuardHandle)>>>) {
    loop {
        #[allow(clippy::disallowed_methods)] // a bounded wait for nothing but time
        tokio::time::sleep(IDLE).await;
        let Some(idle) = idle.upgrade() else { return };
        let mut idle = idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(since, _)| since.elapsed() < IDLE);
        if idle.is_empty() {
            return;
        }
    }
}
