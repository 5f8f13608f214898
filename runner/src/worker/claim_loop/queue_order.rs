//! In which order queues are asked: strictly by priority, or by weighted chance.

use std::collections::{HashSet, VecDeque};

use runner_core::task::QueueName;

/// The most queues in one call; with more, each call names others.
const MOST: usize = 64;

/// Queues whose wake-ups are awaited when there are too many for all: those that gave tasks last. Each takes a
/// connection.
const WATCHED: usize = 16;

/// Yields an order of the queues for each claim.
pub(super) struct QueueOrder {
    queues: Vec<(QueueName, u32)>,
    /// Sums of the priorities up to each queue.
    sums: Vec<u64>,
    strict: bool,
    seed: u64,
    /// Where the next strict order begins among the queues of one priority, when there are more than [`MOST`].
    turn: usize,
    /// Those that gave tasks, the latest last; used only when not all are asked each time.
    recent: VecDeque<QueueName>,
}

impl QueueOrder {
    /// `seed` need only differ between processes.
    pub(super) fn new(queues: Vec<(QueueName, u32)>, strict: bool, seed: u64) -> Self {
        let mut order = Self {
            queues: Vec::new(),
            sums: Vec::new(),
            strict,
            seed: seed | 1,
            turn: 0,
            recent: VecDeque::new(),
        };
        order.renew(queues);
        order
    }

    /// Replaces the queues.
    pub(super) fn renew(&mut self, mut queues: Vec<(QueueName, u32)>) {
        queues.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        self.queues = queues;
        self.sum_up();
    }

    fn sum_up(&mut self) {
        let mut sum = 0;
        let sums = self.queues.iter().map(|(_, priority)| {
            sum += u64::from(*priority);
            sum
        });
        self.sums = sums.collect();
    }

    /// Whether each order names all queues.
    fn names_all(&self) -> bool {
        self.queues.len() <= MOST
    }

    /// The next order: every queue once, or some of very many. A queue comes first with probability priority / sum of
    /// priorities, so an empty queue never holds up another.
    pub(super) fn next(&mut self) -> Vec<QueueName> {
        match (self.names_all(), self.strict || self.queues.len() == 1) {
            (true, true) => self.queues.iter().map(|(q, _)| q.clone()).collect(),
            (true, false) => self.shuffled(),
            (false, true) => self.turned(),
            (false, false) => self.drawn(),
        }
    }

    fn shuffled(&mut self) -> Vec<QueueName> {
        let mut left: Vec<&(QueueName, u32)> = self.queues.iter().collect();
        let mut order = Vec::with_capacity(left.len());
        // Draws without replacement, so that each queue comes once. There are few queues, so sums are not prepared.
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

    /// Draws by chance, without those that were drawn already.
    fn drawn(&mut self) -> Vec<QueueName> {
        let whole = self.sums.last().copied().unwrap_or(0).max(1);
        let mut seen = HashSet::with_capacity(MOST);
        let mut order = Vec::with_capacity(MOST);
        // As many draws as places: queues that are drawn twice leave some of them empty. A draw costs a binary search;
        // drawing until all are filled could take long where one priority outweighs the rest.
        for _ in 0..MOST {
            let draw = xorshift(&mut self.seed) % whole;
            let place = self.sums.partition_point(|sum| *sum <= draw);
            if let Some((queue, _)) = self.queues.get(place).filter(|_| seen.insert(place)) {
                order.push(queue.clone());
            }
        }
        order
    }

    /// By priority; among equals others come first each time.
    fn turned(&mut self) -> Vec<QueueName> {
        // Moves on by half of what one call names: each of equal queues comes in two calls in a row, first late, then
        // early.
        self.turn = self.turn.wrapping_add(MOST / 2);
        let same = self.queues.chunk_by(|a, b| a.1 == b.1);
        let turned = same.flat_map(|same| {
            let (before, after) = same.split_at(self.turn % same.len());
            after.iter().chain(before)
        });
        turned.take(MOST).map(|(queue, _)| queue.clone()).collect()
    }

    /// Learns from a call: `gave` are the queues of its tasks; the others that were asked are empty.
    /// Empty ones are not asked again before they are known to have tasks, unless they are to `stay`.
    pub(super) fn learn(&mut self, asked: &[QueueName], gave: &HashSet<&QueueName>, stay: impl Fn(&QueueName) -> bool) {
        let empty: HashSet<&QueueName> = asked.iter().filter(|q| !gave.contains(q) && !stay(q)).collect();
        if !empty.is_empty() {
            self.queues.retain(|(queue, _)| !empty.contains(queue));
            self.sum_up();
        }
        // Moves queues that gave tasks to the end; the front is forgotten.
        for queue in gave {
            self.recent.retain(|known| known != *queue);
            self.recent.push_back((*queue).clone());
        }
        while self.recent.len() > WATCHED {
            self.recent.pop_front();
        }
    }

    /// Whether queues are left that are known to have tasks, besides those that `stay`.
    pub(super) fn has_others(&self, stay: impl Fn(&QueueName) -> bool) -> bool {
        self.queues.iter().any(|(queue, _)| !stay(queue))
    }

    /// Queues whose wake-ups are worth a wait when very many are served: these and those that gave tasks last.
    pub(super) fn watched(&self, stay: impl Fn(&QueueName) -> bool) -> Vec<QueueName> {
        let named = self.queues.iter().map(|(queue, _)| queue).filter(|queue| stay(queue));
        let recent = self.recent.iter().rev().filter(|queue| !stay(queue));
        named.chain(recent.take(WATCHED)).cloned().collect()
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
    use std::collections::BTreeMap;

    use super::*;

    fn queue(name: &str) -> QueueName {
        QueueName::new(name).unwrap()
    }

    fn queues() -> Vec<(QueueName, u32)> {
        [("critical", 6), ("default", 3), ("low", 1)]
            .map(|(n, p)| (queue(n), p))
            .into()
    }

    fn many() -> Vec<(QueueName, u32)> {
        (0..1000)
            .map(|n| (queue(&format!("q{n}")), if n < 10 { 10 } else { 1 }))
            .collect()
    }

    #[test]
    fn strict_is_by_priority() {
        let names: Vec<_> = QueueOrder::new(queues(), true, 7)
            .next()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(names, ["critical", "default", "low"]);
    }

    #[test]
    fn weighted_comes_first_in_proportion_and_names_every_queue() {
        let mut order = QueueOrder::new(queues(), false, 0x9e37_79b9_7f4a_7c15);
        let mut first = BTreeMap::new();
        for _ in 0..10_000 {
            let next = order.next();
            assert_eq!(next.len(), 3);
            *first.entry(next[0].to_string()).or_insert(0) += 1;
        }
        assert!((5_700..6_300).contains(&first["critical"]), "{first:?}");
        assert!((800..1_200).contains(&first["low"]), "{first:?}");
    }

    #[test]
    fn of_very_many_each_call_names_some_and_all_get_their_turn() {
        for strict in [false, true] {
            let mut order = QueueOrder::new(many(), strict, 42);
            let mut heavy = 0;
            let mut seen = HashSet::new();
            for _ in 0..2000 {
                let next = order.next();
                assert!(next.len() <= MOST && next.iter().collect::<HashSet<_>>().len() == next.len());
                heavy += usize::from(next[0].as_str().len() == 2);
                seen.extend(next);
            }
            assert_eq!(seen.len(), 1000, "strict: {strict}");
            // 100 of 1090 parts by chance, always by strict priority.
            let expected = if strict { 2000..2001 } else { 130..250 };
            assert!(expected.contains(&heavy), "strict: {strict}, {heavy}");
        }
    }

    #[test]
    fn what_is_empty_is_not_asked_again_and_what_gave_tasks_is_watched() {
        let mut order = QueueOrder::new(many(), false, 42);
        let named = queue("q0");
        let stay = |queue: &QueueName| *queue == named;
        while order.has_others(stay) {
            let asked = order.next();
            let gave = asked.iter().filter(|q| **q == queue("q77")).take(1).collect();
            order.learn(&asked, &gave, stay);
            if gave.len() == 1 {
                order.learn(&[queue("q77")], &HashSet::new(), stay);
            }
        }
        assert_eq!(order.next(), [queue("q0")]);
        assert_eq!(order.watched(stay), [queue("q0"), queue("q77")]);
    }
}
