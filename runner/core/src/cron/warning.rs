//! What a warning about an expression consists of. Which expressions get one is decided in `lint` and `dialect`.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{DstRule, Expression, Language};

/// A warning about an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lint {
    /// `W230` a star before a fixed hour, `W231` a day and a weekday, `W232` fields in the order of AWS, `W233` weekdays
    /// counted as Quartz does, `W234` a step that does not divide its field, `W250` not understood by Go schedulers.
    pub code: &'static str,
    /// What happens.
    pub message: String,
    /// What to write for the likelier intention, or to confirm the present one.
    pub hint: Option<String>,
}

/// The first occurrences of a month that begins on a Monday, as `Tue 12:00`. Fixed, so that the same expression yields the
/// same warning.
pub(super) fn example(expression: &Expression) -> String {
    const SHOWN: usize = 4;
    // 2024-01-01T00:00:00Z less a second, so that the first instant counts.
    let start = Timestamp::from_second(1_704_067_199).unwrap_or_default();
    let next = |at: &Timestamp| expression.next(*at, &TimeZone::UTC, DstRule::default());
    let times: Vec<Timestamp> = std::iter::successors(next(&start), next).take(SHOWN).collect();
    let one_day = times.first().zip(times.last()).is_some_and(|(a, b)| {
        let day = |at: &Timestamp| at.to_zoned(TimeZone::UTC).date();
        day(a) == day(b)
    });
    let with_seconds = times.iter().any(|at| at.as_second() % 60 != 0);
    let format = match (one_day, with_seconds) {
        (true, false) => "%H:%M",
        (true, true) => "%H:%M:%S",
        (false, false) => "%a %-d %H:%M",
        (false, true) => "%a %-d %H:%M:%S",
    };
    let shown: Vec<String> = times.iter().map(|at| at.strftime(format).to_string()).collect();
    let words = expression.describe(Language::English);
    match shown.is_empty() {
        true => words,
        false => format!("{words}: {}, …", shown.join(", ")),
    }
}
