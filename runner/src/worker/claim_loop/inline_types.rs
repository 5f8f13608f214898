//! Which types of tasks have quick handlers, which the claim loop may call itself, and for how long it may.
//!
//! Learned from how they ran when they were spawned. A type is spawned again after the first call that waits or takes
//! longer; one that blocked the loop for long a few times is always spawned.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

/// How long a call of a quick handler may take.
const MOMENT: Duration = Duration::from_micros(50);

/// From here on a call delays other tasks noticeably.
const LONG: Duration = Duration::from_millis(10);

/// After this many long calls a type is never called in the loop again.
const LONG_CALLS: u8 = 3;

/// How long the loop may call handlers before it continues with its other steps.
const TURN: Duration = Duration::from_millis(1);

/// How many types are remembered; beyond that all are learned again.
const TYPES: usize = 1000;

/// What is known of each type.
#[derive(Default)]
pub(super) struct InlineTypes(HashMap<String, TypeHistory>);

#[derive(Default)]
struct TypeHistory {
    at_once: bool,
    long_calls: u8,
}

impl InlineTypes {
    /// A handler of this type was spawned and returned at once.
    pub(super) fn learn(&mut self, kind: &str) {
        if let Some(history) = self.0.get_mut(kind) {
            history.at_once = history.long_calls < LONG_CALLS;
            return;
        }
        if self.0.len() >= TYPES {
            self.0.clear();
        }
        let history = TypeHistory {
            at_once: true,
            long_calls: 0,
        };
        self.0.insert(kind.to_owned(), history);
    }

    /// Whether handlers of this type most likely return at once.
    pub(super) fn is_at_once(&self, kind: &str) -> bool {
        self.0.get(kind).is_some_and(|history| history.at_once)
    }

    /// The loop called a handler of this type; `over`: it returned without waiting.
    pub(super) fn called(&mut self, kind: &str, over: bool, took: Duration) {
        if over && is_moment(took) {
            return;
        }
        if let Some(history) = self.0.get_mut(kind) {
            history.at_once = false;
            history.long_calls = history.long_calls.saturating_add(u8::from(took > LONG));
        }
    }
}

/// Whether a call that took this long counts as returning at once.
pub(super) fn is_moment(took: Duration) -> bool {
    took <= MOMENT
}

/// The time that the loop spends on calls in one step.
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

    /// The time since the last lap.
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
        let mut types = InlineTypes::default();
        assert!(!types.is_at_once("a"));
        for (over, took) in [(false, Duration::ZERO), (true, Duration::from_micros(51))] {
            types.learn("a");
            types.called("a", true, MOMENT);
            assert!(types.is_at_once("a"));
            types.called("a", over, took);
            assert!(!types.is_at_once("a"));
        }
    }

    #[test]
    fn a_type_that_often_takes_long_is_never_called_inline_again() {
        let mut types = InlineTypes::default();
        for _ in 0..LONG_CALLS {
            types.learn("a");
            assert!(types.is_at_once("a"));
            types.called("a", true, LONG * 2);
        }
        types.learn("a");
        assert!(!types.is_at_once("a"));
    }

    #[test]
    fn the_number_of_types_is_bounded() {
        let mut types = InlineTypes::default();
        (0..=TYPES).for_each(|n| types.learn(&n.to_string()));
        assert_eq!(types.0.len(), 1);
    }
}
