//! One field of a cron text: a comma list of stars, numbers, names and ranges, with steps.
//!
//! Accepts exactly what Go's standard cron parser accepts, oddities included (`+5`, `*-5`, empty items), plus 7 for Sunday.
//! Extensions of other cron dialects are refused by name.

use super::error::{CronError, span_of};
use crate::duration::excerpt;

/// What a field counts.
#[derive(Debug)]
pub(super) struct Unit {
    pub name: &'static str,
    pub min: u64,
    /// The end of `*` and of `N/step`.
    pub max: u64,
    /// The highest number accepted: above `max` only for weekdays, where 7 is Sunday again.
    pub top: u64,
    /// Three-letter names of the values from `min` on, lower case.
    pub names: &'static [&'static str],
}

impl Unit {
    const fn plain(name: &'static str, min: u64, max: u64) -> Self {
        let (top, names): (u64, &[&str]) = (max, &[]);
        Self {
            name,
            min,
            max,
            top,
            names,
        }
    }
}

/// The six fields in the order of the text.
pub(super) static UNITS: [Unit; 6] = [
    Unit::plain("second", 0, 59),
    Unit::plain("minute", 0, 59),
    Unit::plain("hour", 0, 23),
    Unit::plain("day", 1, 31),
    Unit {
        names: &[
            "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
        ],
        ..Unit::plain("month", 1, 12)
    },
    Unit {
        top: 7,
        names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
        ..Unit::plain("weekday", 0, 6)
    },
];

/// The values of a field, and those details of its text that matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct CronField {
    /// One bit per value.
    pub bits: u64,
    /// A star without a step above 1 is among the items.
    pub star: bool,
    /// A star with such a step is among the items.
    pub stepped_star: bool,
    /// Sunday was written as 7.
    pub seven: bool,
    /// A question mark is among the items.
    pub question: bool,
    /// The step of a field that is nothing but `*/step`, or `N/step` without an end.
    pub open_step: Option<u64>,
}

/// Reads one field. `text` is a slice of `whole`, which the error's span refers to.
pub(super) fn parse(whole: &str, text: &str, unit: &'static Unit) -> Result<CronField, CronError> {
    let mut field = CronField::default();
    for item in text.split(',').filter(|item| !item.is_empty()) {
        let item = Item { whole, item, unit };
        item.add_to(&mut field)?;
    }
    field.open_step = field.open_step.filter(|_| !text.contains(','));
    Ok(field)
}

struct Item<'a> {
    whole: &'a str,
    item: &'a str,
    unit: &'static Unit,
}

impl<'a> Item<'a> {
    fn add_to(&self, field: &mut CronField) -> Result<(), CronError> {
        let mut pieces = self.item.split('/');
        let range = pieces.next().unwrap_or_default();
        let step = pieces.next();
        if pieces.next().is_some() {
            return Err(self.error(self.item, format!("{} has two steps", self.shown())));
        }
        let step = step.map(|step| self.step(step)).transpose()?;
        let mut ends = range.split('-');
        let low = ends.next().unwrap_or_default();
        let unit = self.unit;
        if low == "*" || low == "?" {
            // Go's parser ignores everything after a star's hyphen.
            field.question |= low == "?";
            field.open_step = step.filter(|step| *step > 1);
            let step = step.unwrap_or(1);
            field.bits |= spread(unit.min, unit.max, step);
            field.star |= step == 1;
            field.stepped_star |= step > 1;
            return Ok(());
        }
        let high = ends.next();
        if ends.next().is_some() {
            return Err(self.error(self.item, format!("{} has two hyphens", self.shown())));
        }
        let start = self.value(low)?;
        let end = match (high, step) {
            (Some(high), _) => self.value(high)?,
            (None, Some(_)) => {
                field.open_step = step.filter(|step| *step > 1);
                unit.max.max(start)
            }
            (None, None) => start,
        };
        if start > end {
            return Err(self.backwards(range, start, end));
        }
        let bits = spread(start, end, step.unwrap_or(1));
        if unit.top > unit.max && bits >> unit.top & 1 == 1 {
            field.seven = true;
            field.bits |= 1;
        }
        field.bits |= bits & spread(unit.min, unit.max, 1);
        Ok(())
    }

    fn step(&self, text: &'a str) -> Result<u64, CronError> {
        match text.parse::<i64>().ok().and_then(|n| u64::try_from(n).ok()) {
            Some(step) if step > 0 => Ok(step),
            _ => {
                self.refuse_dialect(text)?;
                let message = format!(
                    "step {} of the {} is not a number from 1 up",
                    quoted(text),
                    self.unit.name
                );
                Err(self.error(text, message))
            }
        }
    }

    fn value(&self, text: &'a str) -> Result<u64, CronError> {
        let unit = self.unit;
        let named = unit.names.iter().zip(unit.min..);
        for (name, value) in named {
            if name.eq_ignore_ascii_case(text) {
                return Ok(value);
            }
        }
        let digits = text.strip_prefix('+').unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            self.refuse_dialect(text)?;
            return Err(self.not_a_value(text));
        }
        let value = digits.parse::<u64>().unwrap_or(u64::MAX);
        if (unit.min..=unit.top).contains(&value) {
            return Ok(value);
        }
        let Unit { name, min, top, .. } = unit;
        let message = format!("{name} {} is not in {min}-{top}", excerpt(text));
        let error = self.error(text, message);
        Err(match (*name, value) {
            ("hour", 24) => error.with_hint("midnight is hour 0"),
            ("minute" | "second", 60) => error.with_hint(format!("the full {name} is 0")),
            ("weekday", _) => error.with_hint("0 is Sunday, 6 is Saturday"),
            _ => error,
        })
    }

    fn not_a_value(&self, text: &'a str) -> CronError {
        let unit = self.unit;
        if text.is_empty() {
            let message = format!("{} lacks a number", self.shown());
            return self.error(self.item, message);
        }
        let (name, what) = (unit.name, quoted(text));
        let message = if unit.names.is_empty() {
            format!("{name} {what} is not a number")
        } else {
            format!("{name} {what} is neither a number nor a name of three letters")
        };
        let error = self.error(text, message);
        let start = text.get(..3).unwrap_or_default();
        match unit.names.iter().find(|name| name.eq_ignore_ascii_case(start)) {
            Some(name) => error.with_hint(format!("write {}", name.to_ascii_uppercase())),
            None => error,
        }
    }

    /// Refuses extensions of other dialects by name.
    fn refuse_dialect(&self, text: &'a str) -> Result<(), CronError> {
        let upper = text.to_ascii_uppercase();
        let digits_before = |suffix: char| {
            let rest = upper.strip_suffix(suffix);
            rest.is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit()))
        };
        let what = if upper.contains('#') {
            "# (the n-th weekday of the month)"
        } else if upper == "LW" || digits_before('W') {
            "W (the nearest working day)"
        } else if digits_before('L') {
            "L (the last day)"
        } else if upper == "H" || upper.starts_with("H(") {
            "H (a hashed value)"
        } else if upper.strip_prefix('+').is_some_and(is_letters) {
            "+ (both day fields at once)"
        } else {
            return Ok(());
        };
        Err(self.error(self.item, format!("{what} is not supported")))
    }

    fn backwards(&self, range: &'a str, start: u64, end: u64) -> CronError {
        let Unit { name, min, max, .. } = self.unit;
        let message = format!("{name} {} runs backwards", excerpt(range));
        let span = |from: u64, to: u64| match from {
            from if from > to => String::new(),
            from if from == to => from.to_string(),
            from => format!("{from}-{to}"),
        };
        let (up, down) = (span(start, *max), span(*min, end));
        let comma = if up.is_empty() { "" } else { "," };
        let hint = format!("write {up}{comma}{down}");
        self.error(range, message).with_hint(hint)
    }

    fn error(&self, part: &'a str, message: String) -> CronError {
        CronError::new(CronError::BAD_FIELD, span_of(self.whole, part), message)
    }

    fn shown(&self) -> String {
        format!("{} {}", self.unit.name, quoted(self.item))
    }
}

fn is_letters(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphabetic())
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", excerpt(text))
}

/// Every `step`-th value from `start` to `end`, both below 64, as bits.
fn spread(start: u64, end: u64, step: u64) -> u64 {
    let mut bits = 0;
    let mut value = start;
    while value <= end {
        bits |= 1 << value;
        value = value.saturating_add(step);
    }
    bits
}
