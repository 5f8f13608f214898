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
    /// Whether a claim may find something. Set after every event that may have added tasks: an unnecessary wake-up
    /// costs one call, a missing one leaves tasks waiting until the next.
    pub may_have_tasks: bool,
    /// Whether the last claim returned all that was requested, so that a second call at the same time pays off.
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

    /// Learns from a call that requested `asked` tasks; `queues`: which were asked, if there are very many; `more`: whether the
    /// broker knows that there may be more than it claimed.
    pub(super) fn learn(
        &mut self,
        served: &ServedQueues,
        asked: usize,
        queues: Option<&[QueueName]>,
        (claims, more): (&[Claim], bool),
    ) {
        // A call that only settled has no information about the queues.
        if asked == 0 {
            return;
        }
        self.last_claim_was_full = claims.len() == asked;
        self.may_have_tasks = self.last_claim_was_full || more;
        let Some(queues) = queues else { return };
        // A full claim may not have reached the last queues: none of them is known to be empty.
        if !self.may_have_tasks {
            let named = |queue: &QueueName| served.is_named(queue);
            let gave = claims.iter().map(|claim| &claim.task().queue).collect();
            self.order.learn(queues, &gave, named);
            self.may_have_tasks = self.order.has_others(named);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn queue(name: &str) -> QueueName {
        QueueName::new(name).unwrap()
    }

    #[test]
    fn after_an_empty_claim_nothing_is_asked_until_something_changes() {
        let served = ServedQueues::new(&[(queue("default"), 1)].into());
        let mut queues = QueuesToAsk::new(&served, false, 1);
        queues.learn(&served, 0, None, (&[], false));
        assert!(queues.may_have_tasks, "that call asked for nothing");
        queues.learn(&served, 4, None, (&[], true));
        assert!(queues.may_have_tasks, "it ended early");
        queues.learn(&served, 4, None, (&[], false));
        assert!(!queues.may_have_tasks && !queues.last_claim_was_full);
        assert_eq!(queues.watched(&served), [queue("default")]);
        queues.renew(&served);
        assert!(queues.may_have_tasks);
    }

    #[test]
    fn of_very_many_queues_those_that_gave_nothing_are_not_asked_again() {
        let served = ServedQueues::new(&[(queue("*"), 1)].into());
        let all: Vec<QueueName> = (0..100).map(|n| queue(&format!("q{n}"))).collect();
        served.discover(&all);
        served.have_tasks(&all[..2]);
        let mut queues = QueuesToAsk::new(&served, false, 1);
        let (asked, reported) = queues.next();
        assert!(asked.len() == 2 && reported, "{asked:?}");
        queues.learn(&served, 4, Some(&asked[..1]), (&[], false));
        assert!(queues.may_have_tasks, "the other one may have some");
        assert_eq!(queues.next().0, asked[1..]);
        queues.learn(&served, 4, Some(&asked[1..]), (&[], false));
        assert!(!queues.may_have_tasks && queues.watched(&served).is_empty());
    }
}
