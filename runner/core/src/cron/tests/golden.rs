//! Known answers: the table of our daylight saving rule, and vectors made by a Go scheduler.

use jiff::civil::DateTime;
use serde_json::Value;

use super::{expression, fires, instant, zone};
use crate::cron::{DstRule, Expression};

/// Expression, zone, civil start, and the first occurrences with their offsets.
const OURS: &[(&str, &str, &str, &str)] = &[
    (
        "30 2 * * *",
        "America/New_York",
        "2026-03-08T00:10",
        "03-08T03:00-04 03-09T02:30-04",
    ),
    (
        "*/10 2 * * *",
        "America/New_York",
        "2026-03-08T00:10",
        "03-08T03:00-04 03-09T02:00-04",
    ),
    (
        "30 1-3 * * *",
        "America/New_York",
        "2026-03-08T00:10",
        "03-08T01:30-05 03-08T03:00-04 03-08T03:30-04",
    ),
    (
        "0 */2 * * *",
        "America/New_York",
        "2026-03-08T00:10",
        "03-08T03:00-04 03-08T04:00-04 03-08T06:00-04",
    ),
    (
        "*/30 * * * *",
        "America/New_York",
        "2026-03-08T01:10",
        "03-08T01:30-05 03-08T03:00-04 03-08T03:30-04",
    ),
    (
        "30 1 * * *",
        "America/New_York",
        "2026-11-01T00:10",
        "11-01T01:30-04 11-02T01:30-05",
    ),
    (
        "15 1-2 * * *",
        "America/New_York",
        "2026-11-01T00:10",
        "11-01T01:15-04 11-01T02:15-05 11-02T01:15-05",
    ),
    (
        "*/30 1 * * *",
        "America/New_York",
        "2026-11-01T00:10",
        "11-01T01:00-04 11-01T01:30-04 11-02T01:00-05",
    ),
    (
        "*/30 * * * *",
        "America/New_York",
        "2026-11-01T00:40",
        "11-01T01:00-04 11-01T01:30-04 11-01T01:00-05 11-01T01:30-05 11-01T02:00-05",
    ),
    (
        "0 0 * * *",
        "America/Santiago",
        "2026-09-05T12:00",
        "09-06T01:00-03 09-07T00:00-03",
    ),
    (
        "15 2 * * *",
        "Australia/Lord_Howe",
        "2026-10-03T12:00",
        "10-04T02:30+11 10-05T02:15+11",
    ),
    (
        "0 0 13 * 5",
        "UTC",
        "2026-11-01T00:00",
        "11-06T00:00+00 11-13T00:00+00 11-20T00:00+00",
    ),
    // The first of November is itself one of the odd days; "from" is therefore just after it.
    (
        "0 0 */2 * 1",
        "UTC",
        "2026-11-01T00:00",
        "11-02T00:00+00 11-03T00:00+00 11-05T00:00+00",
    ),
];

#[test]
fn our_rule_gives_the_known_instants_around_changes_of_the_clock() {
    for (text, zone_name, from, expected) in OURS {
        let zone = zone(zone_name);
        let start = zone.to_timestamp(from.parse::<DateTime>().unwrap()).unwrap();
        let expected: Vec<_> = expected
            .split(' ')
            .map(|when| instant(&format!("2026-{when}")))
            .collect();
        let got = fires(&expression(text), start, &zone, DstRule::Vixie, expected.len());
        assert_eq!(got, expected, "{text} in {zone_name} from {from}");
    }
}

fn vectors() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/asynq-vectors/cron.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn the_go_rule_gives_the_instants_that_a_go_scheduler_gives() {
    let vectors = vectors();
    let cases = vectors["next_times"].as_array().unwrap();
    assert!(cases.len() >= 30, "only {} vectors", cases.len());
    for case in cases {
        let text = case["spec"].as_str().unwrap();
        let from = instant(case["from"].as_str().unwrap());
        let zone = zone(case["scheduler_location"].as_str().unwrap());
        let listed = case["next"].as_array().unwrap();
        let expected: Vec<_> = listed
            .iter()
            .map(|when| when.as_str().unwrap())
            .filter(|when| *when != "never")
            .map(instant)
            .collect();
        let parsed = expression(text);
        assert_eq!(parsed.never_fires(), expected.is_empty(), "{text}");
        let got = fires(&parsed, from, &zone, DstRule::Go, expected.len().max(1));
        assert_eq!(got, expected, "{text} from {from}");
    }
}

/// Texts that Go refuses and we accept on purpose.
const EXTENSIONS: [&str; 1] = [
    "* * * * * *", // six fields, seconds first
];

#[test]
fn texts_that_go_refuses_are_refused_except_for_our_extensions() {
    let vectors = vectors();
    let cases = vectors["invalid"].as_array().unwrap();
    assert!(cases.len() >= 14, "only {} vectors", cases.len());
    for case in cases {
        let text = case["spec"].as_str().unwrap();
        let parsed = Expression::parse(text);
        assert_eq!(parsed.is_ok(), EXTENSIONS.contains(&text), "{text:?}: {parsed:?}");
    }
}
