//! Durations in Go's notation (`1h30m`, `2.5s`), optionally with days and weeks, and back to text.
//!
//! Integer arithmetic only, bounded as in Go by 2⁶³ nanoseconds (about 292 years).

use std::fmt::Write as _;
use std::time::Duration;

/// The longest quoted part of a user's text in a message, in characters; enough to recognise it.
const EXCERPT: usize = 40;

const MICROSECOND: u64 = 1_000;
const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const WEEK: u64 = 7 * DAY;

/// A text that is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Nothing, or only a sign.
    #[error("empty duration; write for example 1h30m")]
    Empty,
    /// A part does not begin with a number.
    #[error("\"{0}\" is not a duration; write for example 1h30m")]
    NotANumber(String),
    /// A number without a unit.
    #[error("duration \"{0}\" lacks a unit; write for example {0}s")]
    MissingUnit(String),
    /// An unknown unit.
    #[error("unknown unit \"{unit}\" in duration \"{text}\"; units are {known}")]
    UnknownUnit {
        /// The unit as written.
        unit: String,
        /// The whole text.
        text: String,
        /// The known units.
        known: &'static str,
    },
    /// Too long to count in nanoseconds.
    #[error("duration \"{0}\" is longer than 292 years")]
    TooLong(String),
    /// Below zero where only a length makes sense.
    #[error("duration \"{0}\" is negative")]
    Negative(String),
}

/// Reads Go's notation: a sequence of decimal numbers, each with a unit `ns us µs ms s m h`.
///
/// # Errors
///
/// [`DurationError`]; negative durations are refused as well.
pub fn parse_go(text: &str) -> Result<Duration, DurationError> {
    unsigned(text, false)
}

/// Reads Go's notation with two more units: `d` of 24 hours and `w` of seven such days.
///
/// # Errors
///
/// As [`parse_go`].
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    unsigned(text, true)
}

fn unsigned(text: &str, days: bool) -> Result<Duration, DurationError> {
    let nanos = parse_signed(text, days)?;
    let nanos = u64::try_from(nanos).map_err(|_| DurationError::Negative(excerpt(text)))?;
    Ok(Duration::from_nanos(nanos))
}

/// Nanoseconds, with a sign, as Go reads them; `days` adds `d` and `w`.
pub(crate) fn parse_signed(text: &str, days: bool) -> Result<i64, DurationError> {
    let too_long = || DurationError::TooLong(excerpt(text));
    let negative = text.starts_with('-');
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(DurationError::Empty);
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (whole, after) = digits(rest);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => digits(after),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(DurationError::NotANumber(excerpt(text)));
        }
        let end = after
            .find(|c: char| c == '.' || c.is_ascii_digit())
            .unwrap_or(after.len());
        let (name, after) = after.split_at(end);
        let unit = unit(name, text, days)?;
        let value = if whole.is_empty() {
            0
        } else {
            whole.parse::<u64>().map_err(|_| too_long())?
        };
        let part = value
            .checked_mul(unit)
            .and_then(|nanos| nanos.checked_add(fraction_of(fraction, unit)));
        total = part.and_then(|part| total.checked_add(part)).ok_or_else(too_long)?;
        rest = after;
    }
    let limit = i64::MAX.unsigned_abs() + u64::from(negative);
    if total > limit {
        return Err(too_long());
    }
    Ok(if negative {
        0_i64.wrapping_sub_unsigned(total)
    } else {
        0_i64.wrapping_add_unsigned(total)
    })
}

fn digits(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit());
    text.split_at(end.unwrap_or(text.len()))
}

/// The decimal fraction of a unit; digits below a nanosecond are dropped.
fn fraction_of(digits: &str, unit: u64) -> u64 {
    let mut nanos: u128 = 0;
    let mut scale: u128 = 1;
    // 18 digits are below a nanosecond for every unit, and stay far from 2¹²⁸.
    for digit in digits.bytes().take(18) {
        nanos = nanos * 10 + u128::from(digit - b'0');
        scale *= 10;
    }
    u64::try_from(nanos * u128::from(unit) / scale).unwrap_or(0)
}

fn unit(name: &str, text: &str, days: bool) -> Result<u64, DurationError> {
    Ok(match name {
        "" => return Err(DurationError::MissingUnit(excerpt(text))),
        "ns" => 1,
        "us" | "µs" | "μs" => MICROSECOND,
        "ms" => MILLISECOND,
        "s" => SECOND,
        "m" => MINUTE,
        "h" => HOUR,
        "d" if days => DAY,
        "w" if days => WEEK,
        _ => {
            return Err(DurationError::UnknownUnit {
                unit: excerpt(name),
                text: excerpt(text),
                known: if days { "ns us ms s m h d w" } else { "ns us ms s m h" },
            });
        }
    })
}

/// Go's text for a duration: `1h30m0s`, `1.5s`, `250ms`, `0s`.
#[must_use]
pub fn format(duration: Duration) -> String {
    let nanos = duration.subsec_nanos();
    let seconds = duration.as_secs();
    if seconds == 0 {
        let (scale, unit) = match nanos {
            0 => return "0s".to_owned(),
            1..1_000 => (1, "ns"),
            1_000..1_000_000 => (1_000, "µs"),
            _ => (1_000_000, "ms"),
        };
        return format!("{}{unit}", decimal(u64::from(nanos), scale));
    }
    let (minutes, second) = (seconds / 60, seconds % 60);
    let second = decimal(second * SECOND + u64::from(nanos), SECOND);
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{second}s"),
        (0, minute) => format!("{minute}m{second}s"),
        (hour, minute) => format!("{hour}h{minute}m{second}s"),
    }
}

/// `value / scale`, a power of ten, without trailing zeros.
fn decimal(value: u64, scale: u64) -> String {
    let whole = value / scale;
    let rest = value % scale;
    if rest == 0 {
        return whole.to_string();
    }
    let width = scale.ilog10() as usize;
    let digits = format!("{rest:0width$}");
    format!("{whole}.{}", digits.trim_end_matches('0'))
}

/// A user's text for a message: short, one line, control characters visible.
pub(crate) fn excerpt(text: &str) -> String {
    let mut out = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == EXCERPT {
            out.push('…');
            break;
        }
        if c.is_control() {
            // Writing to a String cannot fail.
            write!(out, "{}", c.escape_default()).ok();
        } else {
            out.push(c);
        }
    }
    out
}
