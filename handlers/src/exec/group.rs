//! The process group of one command: asked to end, made to end, and gone when this value is dropped.

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::Child;

use crate::guard::lives_in_group;

/// A process group of which the child is the leader.
///
/// The kernel does not give the number of a group to anyone else while one process of the group lives. Once
/// all are gone the number could be used again: so the group is killed at once after its leader was waited
/// for, and then never again.
pub(super) struct ProcessGroup(Option<Pid>);

impl ProcessGroup {
    /// The group of a child that was started as leader of its own group.
    pub(super) fn of(child: &Child) -> Self {
        let pid = child.id().and_then(|id| i32::try_from(id).ok());
        Self(pid.map(Pid::from_raw))
    }

    /// Asks all of them to end. One that is stopped is woken, or it would never learn of it.
    pub(super) fn terminate(&self) {
        self.signal(Signal::SIGTERM);
        self.signal(Signal::SIGCONT);
    }

    /// Whether a process of it lives. Those that have ended and that their parent does not wait for are left out: in a
    /// container without an init process they stay for ever.
    pub(super) async fn is_alive(&self) -> bool {
        let Some(group) = self.0.filter(|group| killpg(*group, None).is_ok()) else {
            return false;
        };
        let look = move || lives_in_group(group);
        tokio::task::spawn_blocking(look).await.unwrap_or(true)
    }

    /// Kills the processes that are left and forgets the group.
    pub(super) fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        self.0 = None;
    }

    /// Kills the processes that are left; may be called again.
    pub(super) fn kill_remaining(&self) {
        self.signal(Signal::SIGKILL);
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.0 {
            // Fails only if nobody is left, which is what is wanted in the end.
            killpg(group, signal).ok();
        }
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        self.kill();
    }
}
