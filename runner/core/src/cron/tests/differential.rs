//! Comparison with two other engines, where they are right. Known differences are listed and asserted, so that a release
//! that changes its behaviour is noticed.
//!
//! Left out of the generated comparison on purpose:
//! - of `croner`: `N/step`, an error there, and the days around changes of clock, where its rule
//!   is neither of our two;
//! - of `cron`: weekdays as numbers (1 is Sunday there), both day fields at once (both must match
//!   there), and zones other than UTC, where its occurrences can go back in time.

use std::str::FromStr;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use proptest::test_runner::Config;

use super::{cases, expression, fires, instant, zone};
use crate::cron::{DstRule, Expression};

const ZONES: [&str; 5] = [
    "UTC",
    "Asia/Shanghai",
    "America/New_York",
    "Europe/Berlin",
    "Australia/Lord_Howe",
];

const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// The answer of `croner` to [`Expression::next`].
fn croner_next(text: &str, at: Timestamp, zone: &TimeZone) -> Timestamp {
    let cron = croner::Cron::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let next = cron.find_next_occurrence(&at.to_zoned(zone.clone()), false);
    next.unwrap_or_else(|error| panic!("{text} from {at}: {error}"))
        .timestamp()
}

/// The answer of `cron` in UTC; it requires a field of seconds.
fn cron_next(text: &str, at: Timestamp) -> Timestamp {
    let schedule = cron::Schedule::from_str(&format!("0 {text}")).unwrap_or_else(|error| panic!("{text}: {error}"));
    let start = chrono::DateTime::from_timestamp(at.as_second(), 0).unwrap();
    let next = schedule.after(&start).next().unwrap();
    Timestamp::from_second(next.timestamp()).unwrap()
}

fn field(min: u8, max: u8) -> impl Strategy<Value = String> {
    prop_oneof![
        2 => Just("*".to_owned()),
        3 => (min..=max).prop_map(|n| n.to_string()),
        1 => (min..=max, min..=max).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
        1 => (2..=max / 2).prop_map(|step| format!("*/{step}")),
        1 => prop::collection::vec(min..=max, 2..5)
            .prop_map(|list| list.iter().map(u8::to_string).collect::<Vec<_>>().join(",")),
    ]
}

fn start() -> impl Strategy<Value = Timestamp> {
    (946_684_800..2_145_916_800_i64).prop_map(|at| Timestamp::from_second(at).unwrap())
}

/// Whether the zone changes its clock within two days of `at`.
fn near_change(at: Timestamp, zone: &TimeZone) -> bool {
    let days = SignedDuration::from_hours(48);
    let next = zone.following(at - days).next();
    next.is_some_and(|change| change.timestamp() < at + days)
}

proptest! {
    #![proptest_config(Config { cases: cases(1_000), failure_persistence: None, ..Config::default() })]

    #[test]
    fn croner_agrees_away_from_changes_of_clock(
        fields in (field(0, 59), field(0, 23), field(1, 31), field(1, 12), field(0, 7)),
        name in prop::sample::select(&ZONES[..]),
        at in start(),
    ) {
        let (minute, hour, day, month, weekday) = fields;
        let text = format!("{minute} {hour} {day} {month} {weekday}");
        let (parsed, zone) = (expression(&text), zone(name));
        prop_assume!(!parsed.never_fires());
        let next = parsed.next(at, &zone, DstRule::Vixie).unwrap();
        let theirs = croner_next(&text, at, &zone);
        let close = [at, next, theirs].into_iter().any(|at| near_change(at, &zone));
        prop_assert!(close || next == theirs, "{text} in {name} from {at}: {next}, {theirs}");
    }

    #[test]
    fn cron_agrees_in_utc(
        fields in (field(0, 59), field(0, 23), field(1, 31), field(1, 12)),
        weekday in prop::option::of(prop::sample::subsequence(&WEEKDAYS[..], 1..6)),
        at in start(),
    ) {
        let (minute, hour, day, month) = fields;
        let text = match weekday {
            Some(weekdays) => format!("{minute} {hour} * {month} {}", weekdays.join(",")),
            None => format!("{minute} {hour} {day} {month} *"),
        };
        let (parsed, utc) = (expression(&text), zone("UTC"));
        prop_assume!(!parsed.never_fires());
        for dst in [DstRule::Vixie, DstRule::Go] {
            prop_assert_eq!(parsed.next(at, &utc, dst), Some(cron_next(&text, at)), "{} from {}", text, at);
        }
    }
}

/// Our occurrences and croner's, from one start.
struct Difference {
    text: &'static str,
    zone: &'static str,
    from: &'static str,
    ours: &'static [&'static str],
    theirs: &'static [&'static str],
}

const CRONER: &[Difference] = &[
    // croner fires only the first of several missing times; the one in the middle is lost.
    Difference {
        text: "30 1-3 * * *",
        zone: "America/New_York",
        from: "2026-03-08T05:10:00Z",
        ours: &["01:30-05", "03:00-04", "03:30-04"],
        theirs: &["01:30-05", "03:30-04"],
    },
    // An hour range beside the repeated hour fires twice.
    Difference {
        text: "15 1-2 * * *",
        zone: "America/New_York",
        from: "2026-11-01T04:10:00Z",
        ours: &["01:15-04", "02:15-05"],
        theirs: &["01:15-04", "01:15-05", "02:15-05"],
    },
];

#[test]
fn croner_differs_around_changes_of_clock_in_the_known_ways() {
    for case in CRONER {
        let zone = zone(case.zone);
        let from = instant(case.from);
        let date = from.to_zoned(zone.clone()).date();
        let on_date = |clocks: &[&str]| -> Vec<Timestamp> {
            let texts = clocks.iter().map(|clock| format!("{date}T{clock}"));
            texts.map(|text| instant(&text)).collect()
        };
        let parsed = expression(case.text);
        let ours = fires(&parsed, from, &zone, DstRule::Vixie, case.ours.len());
        assert_eq!(ours, on_date(case.ours), "{}", case.text);
        let mut theirs = Vec::new();
        for _ in case.theirs {
            let last = theirs.last().copied().unwrap_or(from);
            theirs.push(croner_next(case.text, last, &zone));
        }
        assert_eq!(theirs, on_date(case.theirs), "{}", case.text);
    }
}

#[test]
fn cron_differs_in_grammar_in_the_known_ways() {
    assert!(cron::Schedule::from_str("0 9 * * 1").is_err(), "five fields");
    assert!(cron::Schedule::from_str("0 0 9 * * 0").is_err(), "0 is Sunday");
    let utc = zone("UTC");
    let from = instant("2026-11-01T00:00:00Z"); // a Sunday
    let next = |text: &str| expression(text).next(from, &utc, DstRule::Vixie).unwrap();
    // 1 is Sunday there.
    assert_eq!(next("0 9 * * 1"), instant("2026-11-02T09:00:00Z"));
    assert_eq!(cron_next("0 9 * * 1", from), instant("2026-11-01T09:00:00Z"));
    // Both day fields must match there.
    assert_eq!(next("0 0 13 * FRI"), instant("2026-11-06T00:00:00Z"));
    assert_eq!(cron_next("0 0 13 * FRI", from), instant("2026-11-13T00:00:00Z"));
}

#[test]
fn croner_reads_a_few_texts_otherwise() {
    assert!(croner::Cron::from_str("5/15 * * * *").is_err());
    assert!(croner::Cron::from_str("*-5 * * * *").is_err());
    assert!(croner::Cron::from_str("0 0 L * *").is_ok());
    assert!(Expression::parse("5/15 * * * *").is_ok());
    assert!(Expression::parse("*-5 * * * *").is_ok());
    assert!(Expression::parse("0 0 L * *").is_err());
}
