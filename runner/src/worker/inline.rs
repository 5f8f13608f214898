//! Which task types are done as soon as they are called: their handlers wait for nothing and take a moment.
//!
//! Such a handler is called by the processor itself; every other one runs apart, so that it holds up nobody. A type is
//! found out by how it ran apart, and loses its place with the first call that waits or lasts; one that held up the
//! processor for long a few times does not get it back.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

/// How long a call may last that counts as done at once.
const MOMENT: Duration = Duration::from_micros(50);

/// How long a call lasts that the others notice.
const LONG: Duration = Duration::from_millis(10);

/// How often a type may hold up the others so long.
const LONG_CALLS: u8 = 3;

/// How long the processor may call handlers before it does something else.
const TURN: Duration = Duration::from_millis(1);

/// How many types are remembered; beyond that all are found out anew.
const TYPES: usize = 1000;

/// What was seen of each type.
#[derive(Default)]
pub(super) struct InlineTypes(HashMap<String, TypeHistory>);

#[derive(Default)]
struct TypeHistory {
    at_once: bool,
    long_calls: u8,
}

impl InlineTypes {
    /// A handler of this type ran apart and was done at once.
    pub(super) fn learn(&mut self, kind: &str) {
        if let Some(seen) = self.0.get_mut(kind) {
            seen.at_once = seen.long_calls < LONG_CALLS;
            return;
        }
        if self.0.len() >= TYPES {
            self.0.clear();
        }
        let seen = TypeHistory {
            at_once: true,
            long_calls: 0,
        };
        self.0.insert(kind.to_owned(), seen);
    }

    pub(super) fn is_at_once(&self, kind: &str) -> bool {
        self.0.get(kind).is_some_and(|seen| seen.at_once)
    }

    /// The processor called a handler of this type, for so long; `over`: it did not wait.
    pub(super) fn called(&mut self, kind: &str, over: bool, took: Duration) {
        if over && is_moment(took) {
            return;
        }
        if let Some(seen) = self.0.get_mut(kind) {
            seen.at_once = false;
            seen.long_calls = seen.long_calls.saturating_add(u8::from(took > LONG));
        }
    }
}

/// Whether a call that took so long is done at once.
pub(super) fn is_moment(took: Duration) -> bool {
    took <= MOMENT
}

/// The time that the processor gives to calls in one go.
pub(super) struct InlineBudget {
    began: Instant,
    last: Instant,
}

impl InlineBudget {
    pub(super) fn new() -> Self {
        let began = Instant::now();
        Self { began, last: began }
    }

    pub(super) fn is_over(&self) -> bool {
        self.last - self.began > TURN
    }

    /// How long it has been since the last time.
    pub(super) fn lap(&mut self) -> Duration {
        let now = Instant::now();
        let took = now - self.last;
        self.last = now;
        took
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_at_once_until_it_waits_or_lasts() {
        let mut pace = InlineTypes::default();
        assert!(!pace.is_at_once("a"));
        for (over, took) in [(false, Duration::ZERO), (true, Duration::from_micros(51))] {
            pace.learn("a");
            pace.called("a", true, MOMENT);
            assert!(pace.is_at_once("a"));
            pace.called("a", over, took);
            assert!(!pace.is_at_once("a"));
        }
    }

    #[test]
    fn what_held_up_the_others_for_long_stays_apart() {
        let mut pace = InlineTypes::default();
        for _ in 0..LONG_CALLS {
            pace.learn("a");
            assert!(pace.is_at_once("a"));
            pace.called("a", true, LONG * 2);
        }
        pace.learn("a");
        assert!(!pace.is_at_once("a"));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut pace = InlineTypes::default();
        (0..=TYPES).for_each(|n| pace.learn(&n.to_string()));
        assert_eq!(pace.0.len(), 1);
    }
}
