//! The step that makes calls: which verdicts go, how many tasks are asked for, and when the loop waits instead.

use std::time::Duration;

use tokio::time::Instant;

use super::call_result::{CallResult, VerdictBatch};
use super::settle_each::{self, SettledEach};
use super::state::ClaimLoop;

/// The most tasks that one call ends, and that it claims: about a millisecond of the store's time. More are slower:
/// the store's list of leases then becomes too long to update quickly.
const BATCH: usize = 128;

/// The longest wait for a wake-up while all queues are empty.
const IDLE: Duration = Duration::from_secs(15);

/// What a call asks for.
struct Wanted {
    /// How many tasks.
    asked: usize,
    /// Slots that its verdicts free for these.
    freed: usize,
    /// Only notifications; else anything else.
    notifications: bool,
}

impl ClaimLoop {
    /// Makes calls while there is something to send or to claim, and fewer than `most_calls` are under way.
    pub(super) fn make_calls(&mut self) {
        if self.ask_for_unanswered() {
            return;
        }
        while !self.pause.is_on() && self.calls.len() < self.most_calls {
            let sent = self.next_batch();
            let own = self.spare.count(&sent.slots);
            // First: they are few, and mostly there are none.
            let wanted = match self.room_for_notifications(own) {
                0 => Wanted {
                    asked: self.room_for(sent.len() - own),
                    freed: sent.len() - own,
                    notifications: false,
                },
                asked => Wanted {
                    asked,
                    freed: own,
                    notifications: true,
                },
            };
            // A second call that only claims would mostly find what the first one left: nothing.
            let may_ask = self.calls.is_empty() || self.queues.last_claim_was_full;
            if sent.is_empty() && (wanted.asked == 0 || !may_ask) {
                break;
            }
            self.send(sent, wanted);
        }
        self.wait_while_empty();
        self.wait_for_notifications();
    }

    /// Other queues are served, or others have tasks.
    pub(super) fn renew_queues(&mut self) {
        self.queues.renew(&self.shared.worker.served);
        // It waits for the queues that were there before.
        self.wake_up = None;
    }

    /// The oldest verdicts, those of one call at most.
    pub(super) fn next_batch(&mut self) -> VerdictBatch {
        let count = self.verdicts.len().min(BATCH);
        let mut batch = VerdictBatch::default();
        for (slot, settlement) in self.verdicts.drain(..count) {
            batch.push(slot, settlement);
        }
        batch
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

    fn send(&mut self, sent: VerdictBatch, wanted: Wanted) {
        let Wanted {
            asked,
            freed,
            notifications,
        } = wanted;
        // Claims take the slots of the verdicts first, which are counted as taken until the answer. Without a
        // reservation for the rest a second call would fill the same free slots.
        let reserved = asked.saturating_sub(freed);
        match notifications {
            true => self.spare.reserved += reserved,
            false => self.slots.reserved += reserved,
        }
        let worker = &self.shared.worker;
        let (broker, lease) = (worker.broker.clone(), worker.settings.lease);
        let (queues, report_queues) = match notifications {
            true => (self.spare.queues(), false),
            false => self.queues.next(),
        };
        self.calls.push(Box::pin(async move {
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
