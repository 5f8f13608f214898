//! Claims that the broker made in a call whose answer was lost: no process knows of them, so nothing would run them
//! until their leases end.
//!
//! After such a call the loop makes no other, not even for verdicts, until it has asked for them. Claims whose answer
//! is still on its way look the same, so it first waits until no call is under way.

use tokio::time::Instant;

use super::call_result::VerdictBatch;
use super::state::ClaimLoop;
use super::unanswered::UnansweredClaims;

impl ClaimLoop {
    /// Asks for such claims once nothing else is under way. Returns whether other calls must wait for that.
    pub(super) fn ask_for_unanswered(&mut self) -> bool {
        if !self.unanswered.may_exist {
            return false;
        }
        // A worker that stops asks at once, and once: its end must not wait for an unreachable broker.
        let may_ask = !self.pause.is_on() || !self.is_open();
        if may_ask && self.calls.is_empty() && self.unanswered.question.is_none() {
            let worker = self.shared.worker.clone();
            self.unanswered.question = Some(Box::pin(async move {
                let mut known = worker.in_flight.claims();
                // Claims that were given up keep their leases for a while. This process must not run their tasks again
                // before those are over.
                known.extend(worker.survived.claims());
                let began = Instant::now();
                (began, worker.broker.unanswered(&known, worker.settings.lease).await)
            }));
        }
        true
    }

    /// Adds the claims whose answers did not arrive, as if they had.
    pub(super) fn take_unanswered(&mut self, (began, answer): UnansweredClaims) {
        let still = self.shared.worker.broker.has_unanswered();
        match answer {
            Ok(claims) => {
                self.unanswered.may_exist = still;
                self.queues.may_have_tasks = true;
                // Nothing may start beside a suspect that is alone.
                match self.suspects.blocks_claims() {
                    true => self.hand_back(claims, began),
                    false => self.take_claims(claims, began),
                }
            }
            Err(error) => {
                self.unanswered.may_exist = still && self.is_open();
                // The verdicts that wait for this are given up like others, once their leases are over.
                let mut waiting = VerdictBatch::default();
                for (slot, settlement) in self.spare.verdicts.drain(..).chain(self.verdicts.drain(..)) {
                    waiting.push(slot, settlement);
                }
                self.failed("look for claims that were not answered", &error, (waiting, false));
            }
        }
    }
}
