//! Warnings about expressions that are valid and probably not what was meant.

use super::Expression;
use super::calendar::ones;
use super::parse::Plan;

/// A warning about an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lint {
    /// `W230` a star before a fixed hour, `W231` a stepped day field beside a weekday, `W250` not
    /// understood by Go schedulers.
    pub code: &'static str,
    /// What happens, and what to write for the likelier wish.
    pub message: String,
}

/// Everything suspicious about an expression; empty for most.
#[must_use]
pub fn lint(expression: &Expression) -> Vec<Lint> {
    let Plan::Calendar { fields, seconds, .. } = expression.plan() else {
        return Vec::new();
    };
    let [second, minute, hour, day, _, weekday] = fields;
    let mut found = Vec::new();
    let mut warn = |code, message| found.push(Lint { code, message });
    let fixed = |bits: u64| (bits.count_ones() == 1).then(|| ones(bits).next()).flatten();
    if minute.star
        && let Some(hour) = fixed(hour.bits)
    {
        warn(
            "W230",
            format!(
                "\"{expression}\" fires every minute between {hour:02}:00 and {hour:02}:59; \
                 for once a day write 0 for the minute"
            ),
        );
    } else if second.star
        && let (Some(minute), Some(hour)) = (fixed(minute.bits), fixed(hour.bits))
    {
        warn(
            "W230",
            format!(
                "\"{expression}\" fires 60 times within {hour:02}:{minute:02}; \
                 for once a day write 0 for the second"
            ),
        );
    }
    let both = !day.star && !weekday.star;
    if both && (day.stepped_star || weekday.stepped_star) {
        warn(
            "W231",
            format!(
                "\"{expression}\" fires when the day or the weekday matches (the rule of Go \
                 schedulers); Vixie cron would want both"
            ),
        );
    }
    if *seconds || weekday.seven {
        let what = if *seconds { "a field of seconds" } else { "7 for Sunday" };
        warn(
            "W250",
            format!("{what} is not understood by Go asynq schedulers reading the same text"),
        );
    }
    found
}
