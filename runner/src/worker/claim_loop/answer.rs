//! The step that processes the result of a call: which verdicts were written, and new claims.

use runner_queue::{BrokerError, Claim, Exchanged, Settled, Verdict};
use tokio::time::Instant;

use super::call_result::{CallResult, VerdictBatch};
use super::state::ClaimLoop;

impl ClaimLoop {
    /// Processes an answer. Verdicts come before claims, which start in the slots that these free.
    pub(super) fn take_answer(&mut self, result: CallResult) {
        let notifications = result.notifications;
        match notifications {
            true => {
                self.spare.reserved -= result.reserved;
                self.spare.is_calling = false;
            }
            false => self.slots.reserved -= result.reserved,
        }
        self.unanswered.may_exist |= self.shared.worker.broker.has_unanswered();
        self.give_up(result.given_up);
        let Exchanged { settled, claims, more } = match result.answer {
            Ok(exchanged) => exchanged,
            Err(error) => return self.failed("settle and claim tasks", &error, (result.sent, notifications)),
        };
        match settled {
            Ok(settled) => self.written((result.sent, notifications), &settled),
            Err(error) => self.failed("write verdicts", &error, (result.sent, notifications)),
        }
        match claims {
            Ok(claims) => {
                let served = &self.shared.worker.served;
                match notifications {
                    true => {
                        self.spare.learn(result.asked, claims.len(), more);
                        self.spare.pause.succeeded();
                    }
                    false => {
                        self.queues
                            .learn(served, result.asked, result.queues.as_deref(), (&claims, more));
                        self.pause.succeeded();
                    }
                }
                self.take_claims(claims, result.began);
            }
            Err(error) => self.failed("claim tasks", &error, (VerdictBatch::default(), notifications)),
        }
    }

    /// These verdicts reached the broker; some answers may be missing.
    fn written(&mut self, (sent, notifications): (VerdictBatch, bool), settled: &[Settled]) {
        let delays = |verdict: &Verdict| matches!(verdict, Verdict::Retry { .. } | Verdict::Snooze { .. });
        if sent.settlements.iter().any(|settlement| delays(&settlement.verdict)) {
            self.shared.worker.delayed.notify_one();
        }
        let (mut done, mut unknown) = (Vec::with_capacity(sent.len()), VerdictBatch::default());
        for ((slot, settlement), answer) in sent.into_pairs().zip(settled) {
            match answer {
                Settled::Unknown => {
                    unknown.push(slot, settlement);
                    continue;
                }
                Settled::Stale => {
                    let task = settlement.claim.task();
                    tracing::warn!(task_id = %task.id, task_type = %task.kind, "verdict came too late; the task is no longer held here");
                    self.shared.worker.survived.add([settlement.claim]);
                }
                Settled::Accepted => {
                    self.shared.worker.events.settled(&settlement);
                    self.shared.worker.workflows.settled(&settlement);
                }
            }
            done.push(slot);
        }
        self.free(done);
        if !unknown.is_empty() {
            let doing = "write verdicts";
            let source = "the server that holds their queue did not answer".into();
            self.failed(
                doing,
                &BrokerError::Unreachable { doing, source },
                (unknown, notifications),
            );
        }
    }

    /// A call failed. Puts back those of its verdicts whose lease may still hold, and begins a pause. A call for notifications
    /// holds up only those: in a cluster their queue may be the only one that is away.
    ///
    /// Whether the broker applied them is not known. Offering them again is safe: the second time it answers that the
    /// claim is stale.
    pub(super) fn failed(
        &mut self,
        doing: &'static str,
        error: &BrokerError,
        (sent, notifications): (VerdictBatch, bool),
    ) {
        let worker = self.shared.worker.clone();
        worker.broker_failed(doing, error);
        let mut given_up = Vec::new();
        // From the last to the first, each to the front: the oldest verdict stays the first to go.
        for (slot, settlement) in sent.into_pairs().rev() {
            let claim = &settlement.claim;
            // The lease that the claim came with, or one that the heartbeat extended since.
            if worker.clock.now() < claim.lease_until() || worker.in_flight.holds(slot, claim, worker.settings.lease) {
                self.verdicts_of(slot).push_front((slot, settlement));
            } else {
                let task = claim.task();
                tracing::error!(task_id = %task.id, task_type = %task.kind, "verdict given up: the lease is over; the task runs again");
                given_up.push(slot);
            }
        }
        self.give_up(given_up);
        // The queues were not asked.
        match notifications {
            true => {
                self.spare.may_have_tasks = true;
                self.spare.pause.failed(!self.spare.verdicts.is_empty());
            }
            false => {
                self.queues.may_have_tasks = true;
                self.pause.failed(!self.verdicts.is_empty());
            }
        }
    }

    /// Starts the claims, hands back those that cannot start here now. `began`: when the call was made.
    pub(super) fn take_claims(&mut self, mut claims: Vec<Claim>, began: Instant) {
        // There may be fewer free slots than were requested: verdicts of the same call were refused and keep their
        // slots, or the worker was stopped or quieted while the call was under way.
        let mut free = if self.takes_tasks() { self.slots.free() } else { 0 };
        let mut spare = if self.is_open() { self.spare.free_after(0) } else { 0 };
        let refused = claims.extract_if(.., |claim| {
            let left = if self.spare.is_own(claim) {
                &mut spare
            } else {
                &mut free
            };
            let refused = *left == 0;
            *left = left.saturating_sub(1);
            refused
        });
        let refused: Vec<Claim> = refused.collect();
        if !refused.is_empty() {
            self.hand_back(refused, began);
        }
        let suspects = claims.extract_if(.., |claim| self.is_suspect(claim)).collect();
        self.start(claims, began);
        self.take_suspects(suspects, began);
    }
}
