//! Claims that the broker made in a call whose answer was lost: no process knows of them, so nothing would run them until
//! their leases end.
//!
//! After such a call the loop makes no other until it has asked for them. Claims whose answer is still on its way look the
//! same, so it first waits until no call is under way; and it leaves out what is in the table of tasks in flight.

use futures_util::future::BoxFuture;
use runner_queue::{BrokerResult, Claim};
use tokio::time::Instant;

use super::call::VerdictBatch;
use super::state::ClaimLoop;

/// What became of the question, and when it was asked.
pub(super) type UnansweredClaims = (Instant, BrokerResult<Vec<Claim>>);

/// Whether there may be such claims, and the question for them.
#[derive(Default)]
pub(super) struct Unanswered {
    /// A call was not answered, so that tasks may be claimed that this process does not know of.
    pub may_exist: bool,
    /// Asks for them; there while no other call is under way.
    pub question: Option<BoxFuture<'static, UnansweredClaims>>,
}

impl ClaimLoop {
    /// Asks for such claims as soon as nothing else is under way. Whether other calls must wait for that.
    pub(super) fn ask_for_unanswered(&mut self) -> bool {
        if !self.unanswered.may_exist {
            return false;
        }
        if !self.pause.is_on() && self.calls.is_empty() && self.unanswered.question.is_none() {
            let worker = &self.shared.worker;
            let (broker, lease) = (worker.broker.clone(), worker.settings.lease);
            self.unanswered.question = Some(Box::pin(async move {
                let began = Instant::now();
                (began, broker.unanswered(lease).await)
            }));
        }
        true
    }

    /// Takes in the claims whose answers did not arrive, as if they had.
    pub(super) fn take_unanswered(&mut self, (began, answer): UnansweredClaims) {
        match answer {
            Ok(claims) => {
                self.unanswered.may_exist = false;
                self.queues.may_have_tasks = true;
                let unknown = self.shared.worker.in_flight.without_known(claims);
                self.take_claims(unknown, began);
            }
            Err(error) => {
                // It may be that the broker has given them up.
                self.unanswered.may_exist = self.shared.worker.broker.has_unanswered();
                let doing = "look for claims that were not answered";
                self.failed(doing, &error, VerdictBatch::default());
            }
        }
    }
}
