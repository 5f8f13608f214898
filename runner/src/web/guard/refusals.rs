//! Log lines about refused requests: a bounded number, so that attackers cannot fill the log.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

/// The window in which lines are counted.
const WINDOW: Duration = Duration::from_secs(60);
/// Lines per window: enough to show each form of a wrong set-up.
const LINES: u32 = 10;

/// Counts the lines.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<Option<Window>>);

#[derive(Debug, Clone, Copy)]
struct Window {
    since: Timestamp,
    lines: u32,
    left_out: u64,
}

impl Refusals {
    /// Whether one more line may be written, and how many were dropped since the last one.
    pub fn line(&self, now: Timestamp) -> Option<u64> {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = Window {
            since: now,
            lines: 0,
            left_out: window.map_or(0, |w| w.left_out),
        };
        let gone = |since: Timestamp| Duration::try_from(now.duration_since(since)).unwrap_or(WINDOW);
        let mut current = window.filter(|w| gone(w.since) < WINDOW).unwrap_or(fresh);
        let left_out = if current.lines < LINES {
            current.lines += 1;
            Some(std::mem::take(&mut current.left_out))
        } else {
            current.left_out += 1;
            None
        };
        *window = Some(current);
        left_out
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_minute_has_ten_lines_and_the_next_one_counts_the_dropped() {
        let refusals = Refusals::default();
        let at = |second| Timestamp::from_second(second).unwrap();
        let written: Vec<_> = (0..25).map(|_| refusals.line(at(100))).collect();
        assert_eq!(written.iter().flatten().count(), 10);
        assert_eq!(refusals.line(at(159)), None);
        assert_eq!(refusals.line(at(160)), Some(16));
        assert_eq!(refusals.line(at(160)), Some(0));
        assert_eq!(refusals.line(at(1)), Some(0), "a clock that was set back");
    }
}
