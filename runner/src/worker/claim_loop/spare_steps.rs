//! The steps of slots that only notifications use: how many are asked for, and the wait for one.
//!
//! Part of the one loop, because what it knows of calls without an answer and of suspects concerns the whole process.

use std::time::Duration;

use super::state::ClaimLoop;

/// The longest wait for a wake-up.
const IDLE: Duration = Duration::from_secs(15);

impl ClaimLoop {
    /// How many notifications a call that ends `ending` of them may claim.
    pub(super) fn room_for_notifications(&self, ending: usize) -> usize {
        if !self.takes_tasks() || !self.spare.may_have_tasks || self.suspects.blocks_claims() {
            return 0;
        }
        let freed = if self.pause.has_failures() { 0 } else { ending };
        self.spare.free_after(freed)
    }

    /// Waits for a notification while there is a slot for it.
    pub(super) fn wait_for_notifications(&mut self) {
        let idle = self.takes_tasks() && !self.spare.may_have_tasks && self.spare.free_after(0) > 0;
        if !idle || self.spare.wake_up.is_some() || self.suspects.blocks_claims() {
            return;
        }
        let (broker, queues) = (self.shared.worker.broker.clone(), self.spare.queues());
        self.spare.wake_up = Some(Box::pin(async move { broker.wait_for_work(&queues, IDLE).await }));
    }
}
