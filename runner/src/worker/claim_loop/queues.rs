//! Which queues the claim loop asks next, and whether they may have something to claim.
//!
//! In which order they are asked is decided by `queue_order`; which are served at all by `served_queues`.

use runner_core::task::QueueName;
use runner_queue::Claim;

use super::queue_order::QueueOrder;
use crate::worker::served_queues::ServedQueues;

/// The queues as the loop knows them.
pub(super) struct QueuesToAsk {
    order: QueueOrder,
    /// Whether more queues are served than one call asks.
    many: bool,
    /// Whether a claim may bring something. Set after every event that may have added tasks: a wake-up too many costs one
    /// call, one too few leaves tasks waiting until the next.
    pub may_have_tasks: bool,
    /// Whether the last claim brought all that was asked for, so that a second call beside it is worth its price.
    pub last_claim_was_full: bool,
}

impl QueuesToAsk {
    pub(super) fn new(served: &ServedQueues, strict: bool, seed: u64) -> Self {
        Self {
            order: QueueOrder::new(served.to_ask(), strict, seed),
            many: !served.are_few(),
            may_have_tasks: true,
            last_claim_was_full: false,
        }
    }

    /// Other queues are served, or others have tasks.
    pub(super) fn renew(&mut self, served: &ServedQueues) {
        self.order.renew(served.to_ask());
        self.many = !served.are_few();
        self.may_have_tasks = true;
    }

    /// The queues for a call, and whether its answer says which of them are empty: that is worth knowing of very many.
    pub(super) fn next(&mut self) -> (Vec<QueueName>, bool) {
        (self.order.next(), self.many)
    }

    /// The queues to wait for while all are empty. None of very many: then the discovery of queues ends the wait.
    pub(super) fn watched(&mut self, served: &ServedQueues) -> Vec<QueueName> {
        match self.many {
            true => self.order.watched(|queue| served.is_named(queue)),
            false => self.order.next(),
        }
    }

    /// Takes in what a call brought that asked for `asked` tasks, of which `queues` if those were very many.
    pub(super) fn learn(
        &mut self,
        served: &ServedQueues,
        asked: usize,
        queues: Option<&[QueueName]>,
        claims: &[Claim],
    ) {
        // A call that only settled says nothing about the queues.
        if asked == 0 {
            return;
        }
        self.last_claim_was_full = claims.len() == asked;
        self.may_have_tasks = self.last_claim_was_full;
        let Some(queues) = queues else { return };
        // A full claim may not have reached the last queues: none of them is known to be empty.
        if !self.last_claim_was_full {
            let named = |queue: &QueueName| served.is_named(queue);
            let gave = claims.iter().map(|claim| &claim.task().queue).collect();
            self.order.learn(queues, &gave, named);
            self.may_have_tasks = self.order.has_others(named);
        }
    }
}
