//! Which task types are done as soon as they are called: their handlers wait for nothing and take a moment.
//!
//! Such a handler is called by the processor itself; every other one runs apart, so that it holds up nobody. A type is
//! found out by how it ran apart, and loses its place with the first call that waits or lasts.

use std::collections::HashSet;
use std::time::Duration;

use tokio::time::Instant;

/// How long a call may last that counts as done at once.
const MOMENT: Duration = Duration::from_micros(50);

/// How long the processor may call handlers before it does something else.
const TURN: Duration = Duration::from_millis(1);

/// How many such types are remembered; beyond that all are found out anew.
const TYPES: usize = 1000;

/// The types that are done at once.
#[derive(Default)]
pub(super) struct Pace(HashSet<String>);

impl Pace {
    /// Handlers of this type were seen to be done at once.
    pub(super) fn learn(&mut self, kind: &str) {
        if self.0.contains(kind) {
            return;
        }
        if self.0.len() >= TYPES {
            self.0.clear();
        }
        self.0.insert(kind.to_owned());
    }

    pub(super) fn is_at_once(&self, kind: &str) -> bool {
        self.0.contains(kind)
    }

    pub(super) fn forget(&mut self, kind: &str) {
        self.0.remove(kind);
    }
}

/// Whether a call that took so long is done at once.
pub(super) fn is_moment(took: Duration) -> bool {
    took <= MOMENT
}

/// The time that the processor gives to calls in one go.
pub(super) struct Turn {
    began: Instant,
    last: Instant,
}

impl Turn {
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
    fn a_type_is_at_once_until_it_is_not() {
        let mut pace = Pace::default();
        assert!(!pace.is_at_once("a"));
        pace.learn("a");
        assert!(pace.is_at_once("a"));
        pace.forget("a");
        assert!(!pace.is_at_once("a"));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut pace = Pace::default();
        (0..=TYPES).for_each(|n| pace.learn(&n.to_string()));
        assert_eq!(pace.0.len(), 1);
    }
}
