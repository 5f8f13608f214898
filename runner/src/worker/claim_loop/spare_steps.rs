//! The steps of slots that only notifications use: how many are asked for, and the wait for one.
//!
//! A paused worker sends them too: people are to hear of what the pause delays. Part of the one loop, because what it knows of calls without an answer and of suspects concerns the whole process.

use std::time::Duration;

use super::call::{self, ClaimRequest};
use super::state::ClaimLoop;

/// The longest wait for a wake-up.
const IDLE: Duration = Duration::from_secs(15);

impl ClaimLoop {
    /// Sends the verdicts of notifications and asks for more, in a call of their own: however many there are, and whatever is wrong
    /// with the server that has their queue, tasks are claimed as before.
    pub(super) fn call_for_notifications(&mut self) {
        if self.spare.is_calling || self.spare.pause.is_on() {
            return;
        }
        let sent = call::batch_of(&mut self.spare.verdicts);
        let asked = self.room_for_notifications(sent.len());
        if sent.is_empty() && asked == 0 {
            return self.wait_for_notifications();
        }
        let reserved = asked.saturating_sub(sent.len());
        self.spare.reserved += reserved;
        self.spare.is_calling = true;
        let request = ClaimRequest {
            queues: self.spare.queues(),
            report_queues: false,
            asked,
            reserved,
            notifications: true,
        };
        self.send(sent, request);
    }

    /// How many notifications a call that ends `ending` of them may claim.
    fn room_for_notifications(&self, ending: usize) -> usize {
        if !self.is_open() || !self.spare.may_have_tasks || self.suspects.blocks_claims() {
            return 0;
        }
        let freed = if self.spare.pause.has_failures() { 0 } else { ending };
        self.spare.free_after(freed)
    }

    /// Waits for a notification while there is a slot for it.
    fn wait_for_notifications(&mut self) {
        let idle = self.is_open() && !self.spare.may_have_tasks && self.spare.free_after(0) > 0;
        if !idle || self.spare.wake_up.is_some() || self.suspects.blocks_claims() {
            return;
        }
        let (broker, queues) = (self.shared.worker.broker.clone(), self.spare.queues());
        self.spare.wake_up = Some(Box::pin(async move { broker.wait_for_work(&queues, IDLE).await }));
    }
}
