//! Durations: Go's notation both ways, its limits, and our extensions.

use std::time::Duration;

use proptest::prelude::*;

use crate::duration::{DurationError, format, parse, parse_go};

#[test]
fn gos_notation_is_read_and_written_as_go_does() {
    for (text, nanos, written) in [
        ("0", 0, "0s"),
        ("0s", 0, "0s"),
        ("1h30m", 5_400_000_000_000, "1h30m0s"),
        ("90m", 5_400_000_000_000, "1h30m0s"),
        ("2.5s", 2_500_000_000, "2.5s"),
        ("+.5m", 30_000_000_000, "30s"),
        ("1.h", 3_600_000_000_000, "1h0m0s"),
        ("1m0.25s", 60_250_000_000, "1m0.25s"),
        ("1ns", 1, "1ns"),
        ("1500us", 1_500_000, "1.5ms"),
        ("3µs", 3_000, "3µs"),
        ("3μs", 3_000, "3µs"),
        ("30m1h", 5_400_000_000_000, "1h30m0s"),
        (
            "9223372036854775807ns",
            9_223_372_036_854_775_807,
            "2562047h47m16.854775807s",
        ),
        ("0.3333333333333333333h", 1_199_999_999_999, "19m59.999999999s"),
    ] {
        let got = parse_go(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(got, Duration::from_nanos(nanos), "{text}");
        assert_eq!(format(got), written, "{text}");
    }
}

#[test]
fn days_and_weeks_are_an_extension() {
    assert_eq!(parse("1w2d").unwrap(), Duration::from_hours(24 * 9));
    assert_eq!(parse("1d12h").unwrap(), Duration::from_hours(36));
    let error = parse_go("1d").unwrap_err();
    assert_eq!(
        error.to_string(),
        "unknown unit \"d\" in duration \"1d\"; units are ns us ms s m h"
    );
}

#[test]
fn texts_that_are_not_durations_are_refused() {
    type Expected = fn(&DurationError) -> bool;
    let cases: [(&str, Expected); 13] = [
        ("", |e| matches!(e, DurationError::Empty)),
        ("-", |e| matches!(e, DurationError::Empty)),
        ("5", |e| matches!(e, DurationError::MissingUnit(_))),
        ("1h5", |e| matches!(e, DurationError::MissingUnit(_))),
        (".", |e| matches!(e, DurationError::NotANumber(_))),
        (".s", |e| matches!(e, DurationError::NotANumber(_))),
        ("h", |e| matches!(e, DurationError::NotANumber(_))),
        (" 5m", |e| matches!(e, DurationError::NotANumber(_))),
        ("5 m", |e| matches!(e, DurationError::UnknownUnit { .. })),
        ("5M", |e| matches!(e, DurationError::UnknownUnit { .. })),
        ("5分", |e| matches!(e, DurationError::UnknownUnit { .. })),
        ("-5m", |e| matches!(e, DurationError::Negative(_))),
        ("9223372036854775808ns", |e| matches!(e, DurationError::TooLong(_))),
    ];
    for (text, expected) in cases {
        let error = parse(text).unwrap_err();
        assert!(expected(&error), "{text:?} gave {error:?}");
    }
    let long = "9".repeat(10_000) + "h";
    assert!(matches!(parse(&long), Err(DurationError::TooLong(_))));
    assert!(parse("2562048h").is_err());
}

proptest! {
    #[test]
    fn formatted_durations_parse_back(nanos in 0..=i64::MAX.unsigned_abs()) {
        let duration = Duration::from_nanos(nanos);
        prop_assert_eq!(parse_go(&format(duration)).unwrap(), duration);
    }

    #[test]
    fn no_text_panics(text in "[-+]?[0-9.a-zµ]{0,30}") {
        let _: Result<Duration, DurationError> = parse(&text);
    }
}
