//! Spans of the future that are already decided, because the broker's clock was ahead when it decided them.
//!
//! A cursor left in the future by such a clock is reset to the present; the occurrences fired by then must not fire
//! again when their instant comes. Not here: how a broker finds the spans.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::Serialize;

use super::Timing;

/// Maximum number of spans per schedule. If a clock goes back and forth more often, the last ones are merged.
pub const MOST_SPANS: usize = 8;

/// Occurrences from `from` to `to`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Span {
    /// The first instant.
    pub from: Timestamp,
    /// The last instant.
    pub to: Timestamp,
}

/// All such spans of a schedule, at most [`MOST_SPANS`], in the order in which they were found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Ahead(Vec<Span>);

impl Ahead {
    /// Whether there are none, as usual.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The span that contains `at`.
    #[must_use]
    pub fn span_of(&self, at: Timestamp) -> Option<Span> {
        self.0.iter().copied().find(|span| span.from <= at && at <= span.to)
    }

    /// The last instant of all spans.
    #[must_use]
    pub fn end(&self) -> Option<Timestamp> {
        self.0.iter().map(|span| span.to).max()
    }

    /// Adds a span and drops those that are over at `now`.
    pub fn add(&mut self, span: Span, now: Timestamp) {
        self.0.retain(|known| known.to > now);
        let full = self.0.len() >= MOST_SPANS;
        match self.0.last_mut() {
            Some(last) if full => {
                last.from = last.from.min(span.from);
                last.to = last.to.max(span.to);
            }
            _ => self.0.push(span),
        }
    }

    /// The first occurrence after `after` that is not decided yet.
    #[must_use]
    pub fn next(&self, timing: &Timing, after: Timestamp) -> Option<Timestamp> {
        let mut next = timing.next(after)?;
        // Each pass leaves one span behind.
        for _ in 0..=MOST_SPANS {
            let Some(span) = self.span_of(next) else { break };
            next = timing.next(span.to)?;
        }
        Some(next)
    }
}

/// The stored form: whole seconds, `from..to` for each span, separated by spaces.
impl fmt::Display for Ahead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, span) in self.0.iter().enumerate() {
            let space = if nth == 0 { "" } else { " " };
            write!(f, "{space}{}..{}", span.from.as_second(), span.to.as_second())?;
        }
        Ok(())
    }
}

impl FromStr for Ahead {
    type Err = std::convert::Infallible;

    /// Unreadable spans are left out: a damaged one must not stop its schedule.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let span = |part: &str| {
            let (from, to) = part.split_once("..")?;
            Some(Span {
                from: Timestamp::from_second(from.parse().ok()?).ok()?,
                to: Timestamp::from_second(to.parse().ok()?).ok()?,
            })
        };
        let spans = text.split_ascii_whitespace().filter_map(span);
        Ok(Self(spans.take(MOST_SPANS).collect()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use jiff::tz::TimeZone;

    use super::*;
    use crate::cron::DstRule;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn span(from: i64, to: i64) -> Span {
        Span {
            from: at(from),
            to: at(to),
        }
    }

    #[test]
    fn the_next_occurrence_lies_outside_all_spans() {
        let timing = Timing::parse("a", "*/10 * * * * *", "UTC", &TimeZone::UTC, DstRule::default()).unwrap();
        let mut ahead = Ahead::default();
        assert_eq!(ahead.next(&timing, at(0)), Some(at(10)));
        ahead.add(span(20, 40), at(0));
        ahead.add(span(41, 60), at(0));
        assert_eq!(ahead.next(&timing, at(0)), Some(at(10)));
        assert_eq!(ahead.next(&timing, at(10)), Some(at(70)));
        assert_eq!(ahead.end(), Some(at(60)));
    }

    #[test]
    fn spans_are_few_and_those_that_are_over_are_forgotten() {
        let mut ahead = Ahead::default();
        for n in 0..50 {
            ahead.add(span(100 + n * 10, 102 + n * 10), at(0));
        }
        assert_eq!(ahead.0.len(), MOST_SPANS);
        assert_eq!(ahead.span_of(at(591)), Some(span(170, 592)));
        assert_eq!(ahead.span_of(at(105)), None);
        ahead.add(span(700, 710), at(600));
        assert_eq!(ahead.0, [span(700, 710)]);
    }

    #[test]
    fn they_are_read_as_they_are_written_and_damage_is_left_out() {
        let mut ahead = Ahead::default();
        assert_eq!("".parse::<Ahead>().unwrap(), ahead);
        ahead.add(span(1, 2), at(0));
        ahead.add(span(5, 9), at(0));
        let text = ahead.to_string();
        assert_eq!(text, "1800000001..1800000002 1800000005..1800000009");
        assert_eq!(text.parse::<Ahead>().unwrap(), ahead);
        assert_eq!(format!("x..y 3 {text} 1..").parse::<Ahead>().unwrap(), ahead);
    }
}
