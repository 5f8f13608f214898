//! The outer grammar of a cron text: zone prefix, descriptors, and the split into fields.

use std::time::Duration;

use jiff::tz::TimeZone;

use super::calendar::Calendar;
use super::dialect;
use super::error::{CronError, span_of};
use super::field::{self, CronField, UNITS};
use super::zone::find_zone;
use crate::duration::{self, excerpt};

/// The longest accepted text, in bytes. Real ones have tens; a list of every minute has 170.
const MAX_TEXT: usize = 4096;

const DESCRIPTORS: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

/// The parts of a cron text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parsed {
    pub zone: Option<Prefix>,
    pub plan: ParsedRule,
}

/// The zone prefix of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Prefix {
    /// As written; `UTC` for an empty name.
    pub name: String,
    /// `None` for `Local`, which means the caller's zone.
    pub zone: Option<TimeZone>,
}

/// The rule in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ParsedRule {
    /// A distance, at least a second, in whole seconds.
    Every(Duration),
    /// Fields.
    Calendar {
        calendar: Calendar,
        /// How it was written, seconds first; the seconds are a bare 0 when `seconds` is false.
        fields: Box<[CronField; 6]>,
        seconds: bool,
    },
}

pub(super) fn parse(whole: &str) -> Result<Parsed, CronError> {
    if whole.len() > MAX_TEXT {
        let message = format!("{} bytes long, the limit is {MAX_TEXT}", whole.len());
        return Err(CronError::new(CronError::BAD_FIELD, 0..whole.len(), message));
    }
    let (zone, rest) = prefix(whole)?;
    if let Some(hint) = dialect::in_parentheses(rest) {
        let message = "fields in the form of AWS, in parentheses, are not understood".to_owned();
        return Err(CronError::new(CronError::BAD_FIELD, span_of(whole, rest), message).with_hint(hint));
    }
    let plan = if rest.starts_with('@') {
        descriptor(whole, rest)?
    } else {
        fields(whole, rest)?
    };
    Ok(Parsed { zone, plan })
}

/// Splits off `CRON_TZ=Zone ` or `TZ=Zone `; one space ends the name.
fn prefix(whole: &str) -> Result<(Option<Prefix>, &str), CronError> {
    let after = whole.strip_prefix("CRON_TZ=");
    let Some(after) = after.or_else(|| whole.strip_prefix("TZ=")) else {
        return Ok((None, whole));
    };
    let Some((name, rest)) = after.split_once(' ') else {
        let message = "nothing follows the time zone".to_owned();
        return Err(CronError::new(CronError::BAD_FIELD, 0..whole.len(), message)
            .with_hint("put a space after the zone, then the fields"));
    };
    let zone = if name == "Local" {
        None
    } else {
        let found = find_zone(name).map_err(|unknown| {
            let error = CronError::new(CronError::UNKNOWN_ZONE, span_of(whole, name), unknown.reason());
            match unknown.suggestion {
                Some(better) => error.with_hint(format!("did you mean \"{better}\"?")),
                None => error,
            }
        })?;
        Some(found)
    };
    let name = if name.is_empty() { "UTC" } else { name }.to_owned();
    Ok((Some(Prefix { name, zone }), rest.trim()))
}

fn descriptor(whole: &str, text: &str) -> Result<ParsedRule, CronError> {
    if let Some((_, fields_text)) = DESCRIPTORS.iter().find(|(name, _)| *name == text) {
        return fields(fields_text, fields_text);
    }
    let bad = |part, message| CronError::new(CronError::BAD_FIELD, span_of(whole, part), message);
    if let Some(distance) = text.strip_prefix("@every ") {
        let nanos = duration::parse_signed(distance, false).map_err(|error| bad(distance, error.to_string()))?;
        // Go raises anything below a second, even a negative distance, to one second.
        let seconds = u64::try_from(nanos / 1_000_000_000).unwrap_or(0).max(1);
        return Ok(ParsedRule::Every(Duration::from_secs(seconds)));
    }
    let name = text.trim_end().to_ascii_lowercase();
    if name.starts_with("@every") {
        let message = format!("\"{}\" names no distance", excerpt(text));
        return Err(bad(text, message).with_hint("write for example \"@every 1h30m\""));
    }
    let error = bad(text, format!("unknown descriptor \"{}\"", excerpt(text)));
    Err(match DESCRIPTORS.iter().find(|(known, _)| *known == name) {
        Some((known, _)) => error.with_hint(format!("did you mean \"{known}\"?")),
        None => error.with_hint("known are @yearly @annually @monthly @weekly @daily @midnight @hourly @every"),
    })
}

fn fields(whole: &str, text: &str) -> Result<ParsedRule, CronError> {
    // One more than allowed proves the error, and bounds the list.
    let parts: Vec<&str> = text.split_whitespace().take(UNITS.len() + 1).collect();
    let seconds = parts.len() == UNITS.len();
    if !seconds && parts.len() != UNITS.len() - 1 {
        return Err(field_count(whole, text, &parts));
    }
    let mut read = [CronField {
        bits: 1,
        ..CronField::default()
    }; 6];
    let skipped = usize::from(!seconds);
    for ((slot, unit), part) in read.iter_mut().zip(&UNITS).skip(skipped).zip(&parts) {
        *slot = field::parse(whole, part, unit).map_err(|error| match dialect::from_aws(&parts) {
            Some(meant) => error.with_hint(format!(
                "the first of six fields is seconds; for the rule of AWS write \"{meant}\""
            )),
            None => error,
        })?;
    }
    let [second, minute, hour, day, month, weekday] = read;
    let calendar = Calendar {
        seconds: second.bits,
        minutes: minute.bits,
        hours: hour.bits,
        days: (!day.star).then_some(day.bits),
        months: month.bits,
        weekdays: (!weekday.star).then_some(weekday.bits),
    };
    Ok(ParsedRule::Calendar {
        calendar,
        fields: Box::new(read),
        seconds,
    })
}

fn field_count(whole: &str, text: &str, parts: &[&str]) -> CronError {
    let count = text.split_whitespace().count();
    let message = format!(
        "{count} {}, expected 5 (minute hour day month weekday) or 6 with seconds first",
        if count == 1 { "field" } else { "fields" }
    );
    let error = CronError::new(CronError::FIELD_COUNT, span_of(whole, text), message);
    if parts.len() > UNITS.len() {
        error.with_hint("a year field is not supported")
    } else if parts.first().is_some_and(|part| part.starts_with('@')) {
        error.with_hint("remove the white space before @")
    } else {
        error
    }
}
