//! Texts that other schedulers read differently: AWS, whose six fields end in a year, and Quartz, which counts weekdays
//! from 1 for Sunday.

use super::Expression;
use super::calendar::ones;
use super::field::{CronField, UNITS};
use super::warning::{Lint, example};

/// The weekdays, 0 for Sunday.
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

/// Translates the fields of an AWS text (minute hour day month weekday year). A `?` as its day or weekday identifies it.
pub(super) fn from_aws(parts: &[&str]) -> Option<String> {
    let [minute, hour, day, month, weekday, _year] = parts else {
        return None;
    };
    if *day != "?" && *weekday != "?" {
        return None;
    }
    let star = |part: &str| if part == "?" { "*".to_owned() } else { part.to_owned() };
    let weekday = named_from_quartz(weekday).unwrap_or_else(|| star(weekday));
    Some(format!("{minute} {hour} {} {} {weekday}", star(day), star(month)))
}

/// The replacement for `cron(…)` or `rate(…)`; `None` for any other text.
pub(super) fn in_parentheses(text: &str) -> Option<String> {
    let lower = text.trim().to_ascii_lowercase();
    let inside = |name: &str| {
        lower
            .strip_prefix(name)?
            .trim_start()
            .strip_prefix('(')?
            .strip_suffix(')')
    };
    if inside("cron").is_some() {
        let fields = text
            .trim()
            .split_once('(')
            .map_or("", |(_, rest)| rest.trim_end_matches(')'));
        let parts = parts(fields);
        let meant = from_aws(&parts).unwrap_or_else(|| parts.join(" "));
        return Some(format!("write \"{meant}\""));
    }
    let (count, unit) = inside("rate")?.trim().split_once(' ')?;
    let every = match (count.parse::<u32>().ok()?, unit.trim().trim_end_matches('s')) {
        (count, "minute") => format!("{count}m"),
        (count, "hour") => format!("{count}h"),
        (count, "day") => format!("{}h", u64::from(count) * 24),
        _ => return None,
    };
    Some(format!("write \"@every {every}\""))
}

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

/// A list of Quartz weekday numbers, by name. `None` without a number, or with one that Quartz does not have.
fn named_from_quartz(text: &str) -> Option<String> {
    let mut numbers = false;
    let mut value = |text: &str| match text.parse::<usize>() {
        Ok(number) => {
            numbers = true;
            WEEKDAYS.get(number.checked_sub(1)?).map(|name| (*name).to_owned())
        }
        Err(_) => Some(text.to_owned()),
    };
    let mut items = Vec::new();
    for item in text.split(',') {
        let (range, step) = item
            .split_once('/')
            .map_or((item, None), |(range, step)| (range, Some(step)));
        let ends: Option<Vec<String>> = range.split('-').map(&mut value).collect();
        let range = ends?.join("-");
        items.push(match step {
            Some(step) => format!("{range}/{step}"),
            None => range,
        });
    }
    numbers.then(|| items.join(","))
}

/// The fields of a text, without its zone.
fn parts(text: &str) -> Vec<&str> {
    text.split_whitespace().filter(|part| !part.contains('=')).collect()
}

/// A value of a field as people write it.
pub(super) fn shown(index: usize, value: u32) -> String {
    let weekday = WEEKDAYS.get(value as usize).filter(|_| index == 5);
    weekday.map_or_else(|| value.to_string(), |name| (*name).to_owned())
}
