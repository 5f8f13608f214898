//! The grammar: what a text means bit by bit, which texts are refused, and what the refusal says.

use proptest::prelude::*;

use super::expression;
use crate::cron::parse::Plan;
use crate::cron::{CronError, Expression, lint};

/// The sets of the six fields, seconds first.
fn bits(text: &str) -> [u64; 6] {
    match expression(text).plan() {
        Plan::Calendar { fields, .. } => fields.map(|field| field.bits),
        Plan::Every(_) => panic!("{text} is @every"),
    }
}

fn set(values: impl IntoIterator<Item = u32>) -> u64 {
    values.into_iter().fold(0, |bits, value| bits | 1 << value)
}

#[test]
fn fields_mean_what_go_reads_in_them() {
    for (minute, expected) in [
        ("*", set(0..60)),
        ("?", set(0..60)),
        ("*/1", set(0..60)),
        ("*-5", set(0..60)),
        ("*-", set(0..60)),
        ("*-5-7/20", set([0, 20, 40])),
        ("7", set([7])),
        ("007", set([7])),
        ("+7", set([7])),
        ("5/15", set([5, 20, 35, 50])),
        ("10-20/5", set([10, 15, 20])),
        ("10-20/+5", set([10, 15, 20])),
        ("*/61", set([0])),
        ("*/9223372036854775807", set([0])),
        ("1,,2,", set([1, 2])),
        (",", 0),
        ("59,0-2", set([0, 1, 2, 59])),
    ] {
        assert_eq!(bits(&format!("{minute} * * * *"))[1], expected, "{minute}");
    }
    assert_eq!(bits("0 0 * jan-MAR,Dec *")[4], set([1, 2, 3, 12]));
    assert_eq!(bits("0 0 * 1-feb *")[4], set([1, 2]));
    assert_eq!(bits("30 0 0 * * *"), bits("30 0 0 * * ?"));
    assert_eq!(bits("30 0 0 * * *")[0], set([30]));
}

#[test]
fn seven_is_sunday_without_changing_what_a_star_or_an_open_step_means() {
    for (weekday, expected) in [
        ("7", set([0])),
        ("5-7", set([0, 5, 6])),
        ("0-7", set(0..7)),
        ("sun-7", set(0..7)),
        ("1-7/2", set([0, 1, 3, 5])),
        ("7/2", set([0])),
        ("*/2", set([0, 2, 4, 6])),
        ("1/2", set([1, 3, 5])),
        ("MON-fri", set(1..6)),
    ] {
        assert_eq!(
            bits(&format!("0 0 * * {weekday}"))[5],
            expected,
            "{weekday}"
        );
    }
}

#[test]
fn descriptors_are_the_fields_that_they_stand_for() {
    for (descriptor, fields) in [
        ("@yearly", "0 0 1 1 *"),
        ("@annually", "0 0 1 1 *"),
        ("@monthly", "0 0 1 * *"),
        ("@weekly", "0 0 * * 0"),
        ("@daily", "0 0 * * *"),
        ("@midnight", "0 0 * * *"),
        ("@hourly", "0 * * * *"),
    ] {
        assert_eq!(expression(descriptor).plan(), expression(fields).plan());
    }
    for (text, seconds) in [
        ("@every 1h30m", 5_400),
        ("@every 2.9s", 2),
        ("@every 100ms", 1),
        ("@every 0", 1),
        ("@every -5m", 1),
        ("TZ=Asia/Tokyo @every 5m", 300),
    ] {
        let every = expression(text).every().unwrap();
        assert_eq!(every.as_secs(), seconds, "{text}");
    }
}

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
    (
        "0 0 * * 7-1",
        "E203",
        "7-1",
        "weekday 7-1 runs backwards",
        "write 0-1",
    ),
    (
        "0 0 * * SUNDAY",
        "E203",
        "SUNDAY",
        "weekday \"SUNDAY\" is neither a number nor a name of three letters",
        "write SUN",
    ),
    ("a * * * *", "E203", "a", "minute \"a\" is not a number", ""),
    (
        "-1 * * * *",
        "E203",
        "-1",
        "minute \"-1\" lacks a number",
        "",
    ),
    (
        "1- * * * *",
        "E203",
        "1-",
        "minute \"1-\" lacks a number",
        "",
    ),
    (
        "5-* * * * *",
        "E203",
        "*",
        "minute \"*\" is not a number",
        "",
    ),
    (
        "1-2-3 * * * *",
        "E203",
        "1-2-3",
        "minute \"1-2-3\" has two hyphens",
        "",
    ),
    (
        "1/2/3 * * * *",
        "E203",
        "1/2/3",
        "minute \"1/2/3\" has two steps",
        "",
    ),
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
    (
        "0 0 L * *",
        "E203",
        "L",
        "L (the last day) is not supported",
        "",
    ),
    (
        "0 0 L-3 * *",
        "E203",
        "L-3",
        "L (the last day) is not supported",
        "",
    ),
    (
        "0 0 * * 5L",
        "E203",
        "5L",
        "L (the last day) is not supported",
        "",
    ),
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
    (
        "H H(0-7) * * *",
        "E203",
        "H",
        "H (a hashed value) is not supported",
        "",
    ),
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
    (
        "TZ=UTC 0 99 * * *",
        "E203",
        "99",
        "hour 99 is not in 0-23",
        "",
    ),
];

#[test]
fn refusals_say_what_where_and_what_instead() {
    for (text, code, part, message, hint) in REFUSED {
        let error = Expression::parse(text).expect_err(text);
        assert_eq!(error.code(), *code, "{text}");
        assert_eq!(&text[error.span()], *part, "{text}");
        assert_eq!(error.to_string(), *message, "{text}");
        assert_eq!(error.hint().unwrap_or_default(), *hint, "{text}");
    }
}

#[test]
fn expressions_that_never_fire_are_known_at_once() {
    for (text, never) in [
        ("0 0 30 2 *", true),
        ("0 0 31 4,6,9,11 *", true),
        (", * * * *", true),
        ("* * , * *", true),
        ("* * * * ,", true),
        ("0 0 29 2 *", false),
        ("0 0 31 2,3 *", false),
        ("0 0 30 2 1", false), // or on Mondays
        ("* * , * 1", false),
        ("@every 1h", false),
    ] {
        assert_eq!(expression(text).never_fires(), never, "{text}");
    }
    let error = CronError::never(&expression("0 0 30 2 *"));
    assert_eq!((error.code(), error.span()), ("E204", 0..10));
    assert_eq!(error.to_string(), "never matches");
}

#[test]
fn suspicious_expressions_are_pointed_out() {
    for (text, expected) in [
        ("* 0 * * *", &["W230"][..]),
        ("* * 0 * * *", &["W230", "W250"]),
        ("* 0 0 * * *", &["W230", "W250"]),
        ("* 9-17 * * *", &[]),
        ("0 0 */2 * 1", &["W231"]),
        ("0 0 1 * */2", &["W231"]),
        ("0 0 13 * 5", &[]),
        ("0 0 */2 * *", &[]),
        ("0 0 * * 7", &["W250"]),
        ("0 0 * * 5-7", &["W250"]),
        ("0 0 0 * * *", &["W250"]),
        ("0 0 * * 0", &[]),
        ("@daily", &[]),
        ("@every 5m", &[]),
    ] {
        let codes: Vec<_> = lint(&expression(text))
            .iter()
            .map(|lint| lint.code)
            .collect();
        assert_eq!(codes, expected, "{text}");
    }
}

#[test]
fn an_expression_shows_the_text_it_was_given() {
    for text in ["  0   6 *\t* * ", "TZ=Asia/Tokyo @daily", "@every 90m"] {
        let parsed: Expression = text.parse().unwrap();
        assert_eq!(parsed.to_string(), text);
    }
}

proptest! {
    /// A list means the union of its items, whatever they are.
    #[test]
    fn a_list_is_the_union_of_its_items(
        items in prop::collection::vec("(\\*|[0-5]?[0-9](-5[0-9])?)(/[1-9][0-9]?)?", 1..6),
    ) {
        let items: Vec<_> = items
            .into_iter()
            .filter(|item| Expression::parse(&format!("{item} * * * *")).is_ok())
            .collect();
        let union = items.iter().fold(0, |union, item| union | bits(&format!("{item} * * * *"))[1]);
        prop_assert_eq!(bits(&format!("{}, * * * *", items.join(",")))[1], union);
    }
}
