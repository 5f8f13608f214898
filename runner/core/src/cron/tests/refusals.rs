//! Refused texts: code, position, reason and hint.

use super::expression;
use crate::cron::{CronError, Expression};

/// Text, code, the part pointed at, message and hint.
const REFUSED: &[(&str, &str, &str, &str, &str)] = &[
    ("0 25 * * *", "E203", "25", "hour 25 is not in 0-23", ""),
    (
        "0 24 * * *",
        "E203",
        "24",
        "hour 24 is not in 0-23",
        "midnight is hour 0",
    ),
    (
        "60 0 * * *",
        "E203",
        "60",
        "minute 60 is not in 0-59",
        "the full minute is 0",
    ),
    ("0 0 0 * *", "E203", "0", "day 0 is not in 1-31", ""),
    ("0 0 1-32 * *", "E203", "32", "day 32 is not in 1-31", ""),
    (
        "0 0 * * 8",
        "E203",
        "8",
        "weekday 8 is not in 0-7",
        "0 is Sunday, 6 is Saturday",
    ),
    (
        "0 0 * * 1,8,2",
        "E203",
        "8",
        "weekday 8 is not in 0-7",
        "0 is Sunday, 6 is Saturday",
    ),
    (
        "0 22-4 * * *",
        "E203",
        "22-4",
        "hour 22-4 runs backwards",
        "write 22-23,0-4",
    ),
    (
        "0 0 * * FRI-MON",
        "E203",
        "FRI-MON",
        "weekday FRI-MON runs backwards",
        "write 5-6,0-1",
    ),
    ("0 0 * * 7-1", "E203", "7-1", "weekday 7-1 runs backwards", "write 0-1"),
    (
        "0 0 * * SUNDAY",
        "E203",
        "SUNDAY",
        "weekday \"SUNDAY\" is neither a number nor a name of three letters",
        "write SUN",
    ),
    ("a * * * *", "E203", "a", "minute \"a\" is not a number", ""),
    ("-1 * * * *", "E203", "-1", "minute \"-1\" lacks a number", ""),
    ("1- * * * *", "E203", "1-", "minute \"1-\" lacks a number", ""),
    ("5-* * * * *", "E203", "*", "minute \"*\" is not a number", ""),
    ("1-2-3 * * * *", "E203", "1-2-3", "minute \"1-2-3\" has two hyphens", ""),
    ("1/2/3 * * * *", "E203", "1/2/3", "minute \"1/2/3\" has two steps", ""),
    (
        "*/0 * * * *",
        "E203",
        "0",
        "step \"0\" of the minute is not a number from 1 up",
        "",
    ),
    (
        "*/x * * * *",
        "E203",
        "x",
        "step \"x\" of the minute is not a number from 1 up",
        "",
    ),
    ("0 0 L * *", "E203", "L", "L (the last day) is not supported", ""),
    ("0 0 L-3 * *", "E203", "L-3", "L (the last day) is not supported", ""),
    ("0 0 * * 5L", "E203", "5L", "L (the last day) is not supported", ""),
    (
        "0 0 15W * *",
        "E203",
        "15W",
        "W (the nearest working day) is not supported",
        "",
    ),
    (
        "0 0 * * 5#2",
        "E203",
        "5#2",
        "# (the n-th weekday of the month) is not supported",
        "",
    ),
    ("H H(0-7) * * *", "E203", "H", "H (a hashed value) is not supported", ""),
    (
        "0 0 13 * +FRI",
        "E203",
        "+FRI",
        "+ (both day fields at once) is not supported",
        "",
    ),
    (
        "0 0 * *",
        "E205",
        "0 0 * *",
        "4 fields, expected 5 (minute hour day month weekday) or 6 with seconds first",
        "",
    ),
    (
        "0 0 * * * * 2027",
        "E205",
        "0 0 * * * * 2027",
        "7 fields, expected 5 (minute hour day month weekday) or 6 with seconds first",
        "a year field is not supported",
    ),
    (
        "",
        "E205",
        "",
        "0 fields, expected 5 (minute hour day month weekday) or 6 with seconds first",
        "",
    ),
    (
        " @daily",
        "E205",
        " @daily",
        "1 field, expected 5 (minute hour day month weekday) or 6 with seconds first",
        "remove the white space before @",
    ),
    (
        "@Daily",
        "E203",
        "@Daily",
        "unknown descriptor \"@Daily\"",
        "did you mean \"@daily\"?",
    ),
    (
        "@daily ",
        "E203",
        "@daily ",
        "unknown descriptor \"@daily \"",
        "did you mean \"@daily\"?",
    ),
    (
        "@every",
        "E203",
        "@every",
        "\"@every\" names no distance",
        "write for example \"@every 1h30m\"",
    ),
    (
        "@every 5",
        "E203",
        "5",
        "duration \"5\" lacks a unit; write for example 5s",
        "",
    ),
    (
        "@every 1d",
        "E203",
        "1d",
        "unknown unit \"d\" in duration \"1d\"; units are ns us ms s m h",
        "",
    ),
    (
        "TZ=UTC",
        "E203",
        "TZ=UTC",
        "nothing follows the time zone",
        "put a space after the zone, then the fields",
    ),
    (
        "TZ=Nowhere/Else * * * * *",
        "E210",
        "Nowhere/Else",
        "unknown time zone \"Nowhere/Else\"",
        "",
    ),
    ("TZ=UTC 0 99 * * *", "E203", "99", "hour 99 is not in 0-23", ""),
];

#[test]
fn refusals_have_code_position_reason_and_hint() {
    for (text, code, part, message, hint) in REFUSED {
        let error = Expression::parse(text).expect_err(text);
        assert_eq!(error.code(), *code, "{text}");
        assert_eq!(&text[error.span()], *part, "{text}");
        assert_eq!(error.to_string(), *message, "{text}");
        assert_eq!(error.hint().unwrap_or_default(), *hint, "{text}");
    }
}

#[test]
fn an_expression_that_never_fires_can_be_refused_by_its_loader() {
    let error = CronError::never(&expression("0 0 30 2 *").to_string());
    assert_eq!((error.code(), error.span()), ("E204", 0..10));
    assert_eq!(error.to_string(), "never matches");
}
