//! Whether there may be claims that the broker made in a call whose answer was lost. `unanswered_steps` asks for them.

use futures_util::future::BoxFuture;
use runner_queue::{BrokerResult, Claim};
use tokio::time::Instant;

/// The answer to the question, and when it was asked.
pub(super) type UnansweredClaims = (Instant, BrokerResult<Vec<Claim>>);

/// Whether there may be such claims, and the question for them.
#[derive(Default)]
pub(super) struct Unanswered {
    /// A call was not answered, so that tasks may be claimed that this process does not know of.
    pub may_exist: bool,
    /// Asks for them; set only while no other call is under way.
    pub question: Option<BoxFuture<'static, UnansweredClaims>>,
}

impl Unanswered {
    /// Whether claims may still come from here.
    pub(super) fn may_bring_claims(&self) -> bool {
        self.may_exist || self.question.is_some()
    }
}
