//! Warnings about expressions that look as if they were written for AWS or Quartz. Not here: how such texts are
//! translated (`dialect`).

use super::Expression;
use super::calendar::ones;
use super::dialect::{WEEKDAYS, from_aws, named_from_quartz, parts};
use super::field::{CronField, UNITS};
use super::warning::{Lint, example};

/// A `?` where only AWS has one.
pub(super) fn aws(expression: &Expression, fields: &[CronField; 6], seconds: bool) -> Option<Lint> {
    let index = [4, 2, 1, 0].into_iter().find(|index| fields[*index].question)?;
    let text = expression.to_string();
    let parts = parts(&text);
    let meant = if seconds { from_aws(&parts) } else { None };
    let name = UNITS[index].name;
    let (first, likely) = match meant {
        Some(meant) => (
            "the first of six fields is seconds here, in AWS the last one is years",
            format!("for the rule of AWS write \"{meant}\"; "),
        ),
        None => ("a ? in this field is a star", String::new()),
    };
    Some(Lint {
        code: "W232",
        message: format!(
            "\"{expression}\" has a ? for the {name}: {first} ({})",
            example(expression)
        ),
        hint: Some(format!("{likely}if it is meant, write * in place of the ?")),
    })
}

/// Numbered weekdays beside a `?`, which only dialects that count from 1 use.
pub(super) fn quartz_weekdays(expression: &Expression, fields: &[CronField; 6]) -> Option<Lint> {
    /// All seven, however they are counted.
    const ALL: u64 = 0x7f;
    let [.., day, month, weekday] = fields;
    if !day.question || month.question || weekday.star || weekday.bits & ALL == ALL {
        return None;
    }
    let text = expression.to_string();
    let parts = parts(&text);
    let (last, before) = parts.split_last()?;
    let named = named_from_quartz(last)?;
    let here: Vec<&str> = ones(weekday.bits)
        .filter_map(|day| WEEKDAYS.get(day as usize).copied())
        .collect();
    let before = before.join(" ");
    Some(Lint {
        code: "W233",
        message: format!(
            "\"{expression}\" counts weekdays from 0 for Sunday; Quartz and the schedulers built on it count from 1 for Sunday, as AWS does ({})",
            example(expression)
        ),
        hint: Some(format!(
            "for the rule of Quartz write \"{before} {named}\"; if it is meant, write \"{before} {}\"",
            here.join(",")
        )),
    })
}
