//! Parsers for values on the command line; each error says what is allowed.

use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{Timestamp, civil};
use runner_core::duration::{self, DurationError};

/// `90s`, `1h30m`, `2d`.
pub fn length(text: &str) -> Result<Duration, String> {
    duration::parse(text).map_err(|e| match e {
        DurationError::Negative(_) => "it must not be negative".to_owned(),
        e => format!("{e}; for example 90s, 1h30m or 2d"),
    })
}

/// A length of at least a second, in whole seconds: tasks keep no fraction of one.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let length = kept(text)?;
    if length.is_zero() {
        return Err("it must be at least 1s".to_owned());
    }
    Ok(length)
}

/// The same, or nothing.
pub fn kept(text: &str) -> Result<Duration, String> {
    let length = length(text)?;
    if length.subsec_nanos() != 0 {
        let at_least = if length.as_secs() == 0 { "at least 1s and " } else { "" };
        return Err(format!(
            "it must be {at_least}whole seconds; a fraction would be dropped"
        ));
    }
    Ok(length)
}

/// How often: 0 or more.
pub fn times(text: &str) -> Result<u32, String> {
    if text.starts_with('-') {
        return Err("it must not be negative".to_owned());
    }
    text.parse()
        .map_err(|_| format!("it must be a whole number from 0 to {}", u32::MAX))
}

/// `KEY=VALUE`.
pub fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}

/// An instant with an offset, or a wall-clock time in `zone`.
///
/// # Errors
///
/// When it is neither; the error says what is allowed.
pub fn instant(text: &str, zone: &TimeZone) -> Result<Timestamp, String> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    let wall = text.parse::<civil::DateTime>();
    let zoned = wall.and_then(|wall| wall.to_zoned(zone.clone()));
    let shown = format!("{text:?} is not an instant; for example 2026-11-22T10:00:00+08:00 or 2026-11-22T10:00");
    zoned.map(|z| z.timestamp()).map_err(|_| shown)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_a_task_would_not_keep_is_refused() {
        assert_eq!(seconds("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(kept("0"), Ok(Duration::ZERO));
        for (text, part) in [
            ("500ms", "at least 1s"),
            ("1500ms", "fraction"),
            ("0", "at least 1s"),
            ("-5s", "negative"),
        ] {
            assert!(seconds(text).is_err_and(|e| e.contains(part)), "{text}");
        }
        assert!(kept("500ms").is_err());
        assert!(times("-1").is_err_and(|e| e.contains("negative")) && times("x").is_err());
    }

    #[test]
    fn instants_with_and_without_an_offset() {
        let zone = TimeZone::get("Asia/Shanghai").unwrap();
        let expected: Timestamp = "2026-11-22T02:00:00Z".parse().unwrap();
        for text in [
            "2026-11-22T10:00:00+08:00",
            "2026-11-22T02:00:00Z",
            "2026-11-22T10:00",
            "2026-11-22 10:00:00",
        ] {
            assert_eq!(instant(text, &zone), Ok(expected), "{text}");
        }
        assert!(instant("tomorrow", &zone).is_err());
    }
}
