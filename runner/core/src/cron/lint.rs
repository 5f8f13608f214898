//! Warnings about valid expressions that are probably not what was meant.
//!
//! Each explains what happens, what to write for the likelier intention, and how to confirm the present text so that
//! the warning goes away. Callers add upcoming occurrences, which need a clock.

use super::calendar::ones;
use super::field::{CronField, UNITS};
use super::parse::ParsedRule;
use super::warning::{Lint, example};
use super::{Expression, dialect, dialect_lint};

/// All codes of a [`Lint`] about the times of an expression.
pub const TIMING_LINTS: [&str; 5] = ["W230", "W231", "W232", "W233", "W234"];

/// Everything suspicious about an expression; empty for most.
#[must_use]
pub fn lint(expression: &Expression) -> Vec<Lint> {
    let ParsedRule::Calendar { fields, seconds, .. } = expression.plan() else {
        return Vec::new();
    };
    let mut found: Vec<Lint> = Vec::new();
    found.extend(star_before_hour(expression, fields));
    found.extend(both_days(expression, fields));
    found.extend(dialect_lint::aws(expression, fields, *seconds));
    found.extend(dialect_lint::quartz_weekdays(expression, fields));
    // If the fields are in another order, the steps are not what they seem.
    if found.iter().all(|lint| lint.code != "W232") {
        found.extend(uneven_steps(expression, fields));
    }
    let weekday = &fields[5];
    if *seconds || weekday.seven {
        let what = if *seconds { "a field of seconds" } else { "7 for Sunday" };
        found.push(Lint {
            code: "W250",
            message: format!("{what} is not understood by Go asynq schedulers reading the same text"),
            hint: None,
        });
    }
    found
}

fn only(field: &CronField) -> Option<u32> {
    (field.bits.count_ones() == 1)
        .then(|| ones(field.bits).next())
        .flatten()
}

fn star_before_hour(expression: &Expression, fields: &[CronField; 6]) -> Option<Lint> {
    let [second, minute, hour, ..] = fields;
    let hour = only(hour)?;
    let (message, unit, meant) = if minute.star {
        let text = format!("\"{expression}\" fires every minute between {hour:02}:00 and {hour:02}:59");
        (text, "minute", "0-59")
    } else if second.star {
        let minute = only(minute)?;
        (
            format!("\"{expression}\" fires 60 times within {hour:02}:{minute:02}"),
            "second",
            "0-59",
        )
    } else {
        return None;
    };
    Some(Lint {
        code: "W230",
        message,
        hint: Some(format!(
            "for once a day write 0 for the {unit}; if it is meant, write {meant}"
        )),
    })
}

fn both_days(expression: &Expression, fields: &[CronField; 6]) -> Option<Lint> {
    let [.., day, _, weekday] = fields;
    if day.star || weekday.star {
        return None;
    }
    let mut message = format!(
        "\"{expression}\" fires on days on which either the day of the month or the weekday matches, not only on those \
         on which both do ({})",
        example(expression)
    );
    if day.stepped_star || weekday.stepped_star {
        message += "; Vixie cron would want both, Go schedulers do as is done here";
    }
    Some(Lint {
        code: "W231",
        message,
        hint: Some(
            "for days on which both match give one of the two and let what runs look at the other; if either is meant, \
             it is right as it is"
                .to_owned(),
        ),
    })
}

/// A step over a whole field that does not divide it, so that the sequence restarts with the field.
fn uneven_steps(expression: &Expression, fields: &[CronField; 6]) -> Option<Lint> {
    let (index, step) = (0..UNITS.len()).find_map(|index| Some((index, uneven(index, fields)?)))?;
    let (field, unit) = (&fields[index], &UNITS[index]);
    let whole = ["minute", "hour", "day", "month", "year", "week"]
        .get(index)
        .copied()
        .unwrap_or_default();
    let values: Vec<String> = ones(field.bits).map(|value| dialect::shown(index, value)).collect();
    let name = unit.name;
    let message = match values.as_slice() {
        [one] => format!(
            "\"{expression}\" fires in {name} {one} of each {whole}, not every {step} {name}s: the step restarts with \
             each {whole} ({})",
            example(expression)
        ),
        _ => format!(
            "\"{expression}\" does not fire every {step} {name}s: the step restarts with each {whole} ({})",
            example(expression)
        ),
    };
    let meant = match values.len() {
        1..=4 => values.join(","),
        _ => format!("{}-{}/{step}", values[0], unit.max),
    };
    let wish = interval(index, step, fields).map_or_else(String::new, |every| {
        format!("for an even interval write \"@every {every}\"; ")
    });
    Some(Lint {
        code: "W234",
        message,
        hint: Some(format!("{wish}if it is meant, write {meant} for the {name}")),
    })
}

/// The step of this field, if it does not divide the field and the field comes round while the larger ones allow it.
fn uneven(index: usize, fields: &[CronField; 6]) -> Option<u64> {
    /// Every second or third day is written as a step by custom, and off by a day at the end of a month at most.
    const CUSTOMARY_DAYS: u64 = 6;
    let (field, unit) = (fields.get(index)?, UNITS.get(index)?);
    let step = field.open_step.filter(|step| (unit.max - unit.min + 1) % step != 0)?;
    let comes_round = match index {
        // Within one fixed minute, hour or month the sequence never restarts.
        0..=2 => fields.get(index + 1).is_some_and(|larger| larger.bits.count_ones() > 1),
        3 => step > CUSTOMARY_DAYS,
        _ => true,
    };
    comes_round.then_some(step)
}

/// The interval that a step of this field means if nothing else restricts the expression.
fn interval(index: usize, step: u64, fields: &[CronField; 6]) -> Option<String> {
    let (suffix, times) = match index {
        0 => ("s", 1),
        1 => ("m", 1),
        2 => ("h", 1),
        3 => ("h", 24),
        _ => return None,
    };
    let larger = fields.get(index + 1..)?;
    larger
        .iter()
        .all(|field| field.star)
        .then(|| format!("{}{suffix}", step.saturating_mul(times)))
}
