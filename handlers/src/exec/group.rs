//! The process group of one command: asked to end, killed, and gone when this value is dropped.

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::Child;

use crate::guard::lives_in_group;

/// A process group led by the child.
///
/// The kernel does not reuse the number of a group while one of its processes lives. Once all are gone it could: so the
/// group is killed right after its leader was waited for, and never again.
pub(super) struct ProcessGroup(Option<Pid>);

impl ProcessGroup {
    /// The group of a child that was started as its leader.
    pub(super) fn of(child: &Child) -> Self {
        let pid = child.id().and_then(|id| i32::try_from(id).ok());
        Self(pid.map(Pid::from_raw))
    }

    /// Asks all of them to end. Stopped ones are continued, or they would never see the signal.
    pub(super) fn terminate(&self) {
        self.signal(Signal::SIGTERM);
        self.signal(Signal::SIGCONT);
    }

    /// Whether a process of it lives. Zombies are ignored: in a container without an init process they stay forever.
    pub(super) async fn is_alive(&self) -> bool {
        let Some(group) = self.0.filter(|group| killpg(*group, None).is_ok()) else {
            return false;
        };
        let look = move || lives_in_group(group);
        tokio::task::spawn_blocking(look).await.unwrap_or(true)
    }

    /// Kills the remaining processes and forgets the group.
    pub(super) fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        self.0 = None;
    }

    /// Kills the remaining processes; may be called again.
    pub(super) fn kill_remaining(&self) {
        self.signal(Signal::SIGKILL);
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.0 {
            // Fails only if none is left, which is the goal.
            killpg(group, signal).ok();
        }
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        self.kill();
    }
}
