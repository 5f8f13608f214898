//! Parsers for what people write on the command line; each error says what would be right.

use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{Timestamp, civil};
use runner_core::cron::duration;

/// `90s`, `1h30m`, `2d`.
pub fn length(text: &str) -> Result<Duration, String> {
    duration::parse(text).map_err(|e| format!("{e}; for example 90s, 1h30m or 2d"))
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
/// What would be right.
pub fn instant(text: &str, zone: &TimeZone) -> Result<Timestamp, String> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    let wall = text.parse::<civil::DateTime>();
    let zoned = wall.and_then(|wall| wall.to_zoned(zone.clone()));
    let shown = format!("{text:?} is no instant; for example 2026-11-22T10:00:00+08:00 or 2026-11-22T10:00");
    zoned.map(|z| z.timestamp()).map_err(|_| shown)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

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
