//! In which order queues are asked: strictly by priority, or by weighted chance.

use std::collections::BTreeMap;

use runner_core::task::QueueName;

/// Yields an order of the queues for each claim.
pub(super) struct Order {
    queues: Vec<(QueueName, u32)>,
    strict: bool,
    seed: u64,
}

impl Order {
    /// `seed` need only differ between processes.
    pub(super) fn new(queues: &BTreeMap<QueueName, u32>, strict: bool, seed: u64) -> Self {
        let mut queues: Vec<_> = queues.iter().map(|(q, p)| (q.clone(), *p)).collect();
        queues.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        Self {
            queues,
            strict,
            seed: seed | 1,
        }
    }

    /// The next order: every queue once. A queue comes first with probability priority / sum of priorities,
    /// so an empty queue never holds up another.
    pub(super) fn next(&mut self) -> Vec<QueueName> {
        if self.strict || self.queues.len() == 1 {
            return self.queues.iter().map(|(q, _)| q.clone()).collect();
        }
        let mut left: Vec<&(QueueName, u32)> = self.queues.iter().collect();
        let mut order = Vec::with_capacity(left.len());
        while !left.is_empty() {
            let sum: u64 = left.iter().map(|(_, p)| u64::from(*p)).sum();
            let mut draw = xorshift(&mut self.seed) % sum.max(1);
            let hit = left.iter().position(|(_, p)| match draw.checked_sub(u64::from(*p)) {
                None => true,
                Some(rest) => {
                    draw = rest;
                    false
                }
            });
            order.push(left.remove(hit.unwrap_or(0)).0.clone());
        }
        order
    }
}

/// A small generator; fairness needs no secrecy.
fn xorshift(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn queues() -> BTreeMap<QueueName, u32> {
        [("critical", 6), ("default", 3), ("low", 1)]
            .map(|(n, p)| (QueueName::new(n).unwrap(), p))
            .into()
    }

    #[test]
    fn strict_is_by_priority() {
        let names: Vec<_> = Order::new(&queues(), true, 7)
            .next()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(names, ["critical", "default", "low"]);
    }

    #[test]
    fn weighted_comes_first_in_proportion_and_names_every_queue() {
        let mut order = Order::new(&queues(), false, 0x9e37_79b9_7f4a_7c15);
        let mut first = BTreeMap::new();
        for _ in 0..10_000 {
            let next = order.next();
            assert_eq!(next.len(), 3);
            *first.entry(next[0].to_string()).or_insert(0) += 1;
        }
        assert!((5_700..6_300).contains(&first["critical"]), "{first:?}");
        assert!((800..1_200).contains(&first["low"]), "{first:?}");
    }
}
