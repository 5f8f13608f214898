//! The step that makes calls: which verdicts go, how many tasks are asked for, and when the loop waits instead.

use std::collections::VecDeque;
use std::time::Duration;

use runner_core::task::QueueName;
use runner_queue::Settlement;
use tokio::time::Instant;

use super::call_result::{CallResult, VerdictBatch};
use super::settle_each::{self, SettledEach};
use super::state::ClaimLoop;
use crate::worker::in_flight::Slot;

/// The most tasks that one call ends, and that it claims: about a millisecond of the store's time. More are slower:
/// the store's list of leases then becomes too long to update quickly.
const BATCH: usize = 128;

/// The longest wait for a wake-up while all queues are empty.
const IDLE: Duration = Duration::from_secs(15);

impl ClaimLoop {
    /// Makes calls while there is something to send or to claim, and fewer than `most_calls` are under way.
    pub(super) fn make_calls(&mut self) {
        if self.ask_for_unanswered() {
            return;
        }
        while !self.pause.is_on() && self.calls_for_tasks() < self.most_calls {
            let sent = self.next_batch();
            let asked = self.room_for(sent.len());
            // A second call that only claims would mostly find what the first one left: nothing.
            let may_ask = self.calls_for_tasks() == 0 || self.queues.last_claim_was_full;
            if sent.is_empty() && (asked == 0 || !may_ask) {
                break;
            }
            self.send_for_tasks(sent, asked);
        }
        self.wait_while_empty();
        self.call_for_notifications();
    }

    /// Calls under way that are not for notifications.
    fn calls_for_tasks(&self) -> usize {
        self.calls.len() - usize::from(self.spare.is_calling)
    }

    /// Other queues are served, or others have tasks.
    pub(super) fn renew_queues(&mut self) {
        self.queues.renew(&self.shared.worker.served);
        // It waits for the queues that were there before.
        self.wake_up = None;
    }

    /// The oldest verdicts, those of one call at most.
    pub(super) fn next_batch(&mut self) -> VerdictBatch {
        batch_of(&mut self.verdicts)
    }

    /// How many tasks a call that sends `ending` verdicts may claim: their slots are free by then. Each call asks for
    /// its share of all slots, so that some are left for the other one.
    pub(super) fn room_for(&self, ending: usize) -> usize {
        let wanted = self.takes_tasks() && (self.queues.may_have_tasks || ending > 0);
        if !wanted || self.suspects.blocks_claims() {
            return 0;
        }
        // After a failure only what is free now: verdicts that fail once more keep their slots, and the claims would
        // have none.
        let freed = if self.pause.has_failures() { 0 } else { ending };
        let share = self.slots.total.div_ceil(self.most_calls);
        self.slots.free_after(freed).min(share.max(ending)).min(BATCH)
    }

    fn send_for_tasks(&mut self, sent: VerdictBatch, asked: usize) {
        // Claims take the slots of the verdicts first, which are counted as taken until the answer. Without a
        // reservation for the rest a second call would fill the same free slots.
        let reserved = asked.saturating_sub(sent.len());
        self.slots.reserved += reserved;
        let (queues, report_queues) = self.queues.next();
        self.send(
            sent,
            ClaimRequest {
                queues,
                report_queues,
                asked,
                reserved,
                notifications: false,
            },
        );
    }

    /// The only place where a call begins.
    pub(super) fn send(&mut self, sent: VerdictBatch, request: ClaimRequest) {
        let worker = &self.shared.worker;
        let (broker, lease) = (worker.broker.clone(), worker.settings.lease);
        self.calls.push(Box::pin(async move {
            let ClaimRequest {
                queues,
                report_queues,
                asked,
                reserved,
                notifications,
            } = request;
            let began = Instant::now();
            let answer = broker.exchange(&sent.settlements, &queues, asked, lease).await;
            let given_up = Vec::new();
            let each = match settle_each::is_refusal(&answer) && !sent.is_empty() {
                true => Box::pin(settle_each::settle_each(&*broker, sent, answer, lease)).await,
                false => SettledEach { sent, answer, given_up },
            };
            CallResult {
                sent: each.sent,
                asked,
                notifications,
                reserved,
                began,
                answer: each.answer,
                given_up: each.given_up,
                queues: report_queues.then_some(queues),
            }
        }));
    }

    /// Waits for a wake-up of the broker while there are free slots and nothing to claim. Verdicts do not wait for it:
    /// the call that takes them also claims.
    fn wait_while_empty(&mut self) {
        let idle = self.takes_tasks() && !self.queues.may_have_tasks && self.slots.free() > 0;
        if !idle || self.wake_up.is_some() || self.suspects.blocks_claims() {
            return;
        }
        let worker = &self.shared.worker;
        let queues = self.queues.watched(&worker.served);
        if !queues.is_empty() {
            let broker = worker.broker.clone();
            self.wake_up = Some(Box::pin(async move { broker.wait_for_work(&queues, IDLE).await }));
        }
    }
}

/// What a call asks for.
pub(super) struct ClaimRequest {
    /// In which queues.
    pub(super) queues: Vec<QueueName>,
    /// Whether the answer is to name them.
    pub(super) report_queues: bool,
    /// How many tasks.
    pub(super) asked: usize,
    /// How many slots were reserved for them besides those of the verdicts.
    pub(super) reserved: usize,
    /// Whether it is about notifications only.
    pub(super) notifications: bool,
}

/// The oldest verdicts, those of one call at most.
pub(super) fn batch_of(verdicts: &mut VecDeque<(Slot, Settlement)>) -> VerdictBatch {
    let count = verdicts.len().min(BATCH);
    let mut batch = VerdictBatch::default();
    for (slot, settlement) in verdicts.drain(..count) {
        batch.push(slot, settlement);
    }
    batch
}
