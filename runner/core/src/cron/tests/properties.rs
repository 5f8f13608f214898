//! Properties of any expression, zone and rule, seconds included.

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use proptest::test_runner::Config;

use super::{cases, expression, fires, instant, zone};
use crate::cron::{DstRule, Expression};

const ZONES: [&str; 8] = [
    "UTC",
    "America/New_York",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "America/Santiago",
    "Africa/Casablanca",
    "Europe/Dublin",
    "Africa/Monrovia",
];

fn text() -> impl Strategy<Value = String> {
    let field = |min: u8, max: u8| {
        prop_oneof![
            3 => Just("*".to_owned()),
            3 => (min..=max).prop_map(|n| n.to_string()),
            1 => (min..=max, 1..=max).prop_map(|(n, step)| format!("{n}/{step}")),
            1 => (min..=max, min..=max).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
        ]
    };
    let seconds = prop_oneof![2 => Just(String::new()), 1 => field(0, 59).prop_map(|f| f + " ")];
    let day = prop_oneof![2 => Just("*".to_owned()), 1 => field(1, 31)];
    let month = prop_oneof![4 => Just("*".to_owned()), 1 => field(1, 12)];
    (seconds, field(0, 59), field(0, 23), day, month, field(0, 7))
        .prop_map(|(s, a, b, c, d, e)| format!("{s}{a} {b} {c} {d} {e}"))
}

/// Any instant of a century and a half, to the nanosecond, often near a change of clock.
fn place() -> impl Strategy<Value = (&'static str, Timestamp)> {
    let seconds = -3_000_000_000..3_000_000_000_i64;
    let near = -200_000..200_000_i64;
    let nanos = prop_oneof![Just(0), 0..1_000_000_000_i32];
    (prop::sample::select(&ZONES[..]), seconds, any::<bool>(), near, nanos).prop_map(
        |(name, seconds, close, delta, nanos)| {
            let at = Timestamp::from_second(seconds).unwrap();
            let change = zone(name).following(at).next().map(|c| c.timestamp());
            let at = change.filter(|_| close).unwrap_or(at);
            let shift = SignedDuration::new(delta, nanos);
            (name, at + shift)
        },
    )
}

fn rule() -> impl Strategy<Value = DstRule> {
    prop_oneof![Just(DstRule::Vixie), Just(DstRule::Go)]
}

proptest! {
    #![proptest_config(Config { cases: cases(2_000), failure_persistence: None, ..Config::default() })]

    #[test]
    fn next_and_prev_undo_each_other(text in text(), (name, at) in place(), dst in rule()) {
        let (parsed, zone) = (expression(&text), zone(name));
        prop_assume!(!parsed.never_fires());
        let next = parsed.next(at, &zone, dst).unwrap();
        prop_assert!(next > at, "next {next} of {text} is not after {at} in {name}");
        prop_assert_eq!(next.subsec_nanosecond(), 0);
        let prev = parsed.prev(at, &zone, dst).unwrap();
        prop_assert!(prev < at, "prev {prev} of {text} is not before {at} in {name}");
        let after_prev = parsed.next(prev, &zone, dst).unwrap();
        let before_next = parsed.prev(next, &zone, dst).unwrap();
        // Only `at` itself may lie between its two neighbours.
        if after_prev == next {
            prop_assert_eq!(before_next, prev, "{} in {} around {}", text, name, at);
        } else {
            prop_assert_eq!((after_prev, before_next), (at, at), "{} in {}", text, name);
        }
    }

    #[test]
    fn occurrences_rise_strictly_and_a_later_start_finds_the_same(
        text in text(), (name, at) in place(), dst in rule(),
    ) {
        let (parsed, zone) = (expression(&text), zone(name));
        let found = fires(&parsed, at, &zone, dst, 20);
        prop_assert!(parsed.never_fires() == found.is_empty());
        prop_assert!(found.is_sorted_by(|a, b| a < b), "{} in {} from {}: {:?}", text, name, at, found);
        for pair in found.windows(2) {
            let between = pair[0] + pair[1].duration_since(pair[0]) / 2;
            prop_assert_eq!(parsed.next(between, &zone, dst), Some(pair[1]));
        }
    }

    #[test]
    fn every_counts_from_where_it_is_asked(seconds in 1..1_000_000_u32, (name, at) in place()) {
        let (parsed, zone) = (expression(&format!("@every {seconds}s")), zone(name));
        let next = parsed.next(at, &zone, DstRule::Vixie).unwrap();
        let ahead = next.duration_since(at);
        let distance = SignedDuration::from_secs(seconds.into());
        prop_assert!(ahead <= distance && ahead > distance - SignedDuration::from_secs(1));
        prop_assert_eq!(parsed.next(next, &zone, DstRule::Go), Some(next + distance));
        prop_assert_eq!(parsed.prev(next, &zone, DstRule::Go), Some(next - distance));
        prop_assert!(parsed.prev(at, &zone, DstRule::Go).unwrap() < at);
    }
}

#[test]
fn the_zone_of_the_prefix_wins_over_the_one_given() {
    let from = instant("2030-01-01T00:00:00Z");
    let tokyo = expression("CRON_TZ=Asia/Tokyo 0 9 * * *");
    let next = tokyo.next(from, &zone("America/New_York"), DstRule::Vixie);
    assert_eq!(next, Some(instant("2030-01-02T00:00:00Z")));
    let local = expression("TZ=Local 0 9 * * *");
    let next = local.next(from, &zone("America/New_York"), DstRule::Vixie);
    assert_eq!(next, Some(instant("2030-01-01T14:00:00Z")));
}

#[test]
fn rare_occurrences_are_found_across_centuries() {
    let leap = expression("0 0 29 2 *");
    let utc = zone("UTC");
    let next = leap.next(instant("2096-03-01T00:00:00Z"), &utc, DstRule::Vixie);
    assert_eq!(next, Some(instant("2104-02-29T00:00:00Z")));
    let prev = leap.prev(instant("2104-02-29T00:00:00Z"), &utc, DstRule::Go);
    assert_eq!(prev, Some(instant("2096-02-29T00:00:00Z")));
}

#[test]
fn a_far_occurrence_in_a_repeated_hour_is_found_from_both_sides() {
    let (yearly, new_york) = (expression("30 1 1 11 *"), zone("America/New_York"));
    let (first, second) = (instant("2026-11-01T01:30-04"), instant("2026-11-01T01:30-05"));
    let (early, late) = (instant("2025-12-01T00:00Z"), instant("2027-10-01T00:00Z"));
    assert_eq!(yearly.next(early, &new_york, DstRule::Go), Some(first));
    assert_eq!(yearly.next(first, &new_york, DstRule::Go), Some(second));
    assert_eq!(yearly.prev(late, &new_york, DstRule::Go), Some(second));
    assert_eq!(yearly.prev(late, &new_york, DstRule::Vixie), Some(first));
}

#[test]
fn a_day_that_a_zone_left_out_is_made_up_for_or_skipped_by_rule() {
    // Samoa had no 30 December 2011.
    let noon = expression("0 12 30 12 *");
    let (apia, from) = (zone("Pacific/Apia"), instant("2011-12-01T00:00:00Z"));
    assert_eq!(
        noon.next(from, &apia, DstRule::Vixie),
        Some(instant("2011-12-31T00:00:00+14:00"))
    );
    assert_eq!(
        noon.next(from, &apia, DstRule::Go),
        Some(instant("2012-12-30T12:00:00+14:00"))
    );
    assert_eq!(
        noon.prev(instant("2012-06-01T00:00:00Z"), &apia, DstRule::Go),
        Some(instant("2010-12-30T12:00:00-10:00"))
    );
}

#[test]
fn the_ends_of_time_are_ends_and_no_panics() {
    for text in [
        "* * * * * *",
        "0 0 29 2 *",
        "0 0 * * 1",
        "30 2 * * *",
        "@every 2562047h",
    ] {
        let parsed: Expression = expression(text);
        for name in ZONES {
            for dst in [DstRule::Vixie, DstRule::Go] {
                let zone = zone(name);
                assert_eq!(parsed.next(Timestamp::MAX, &zone, dst), None, "{text}");
                assert_eq!(parsed.prev(Timestamp::MIN, &zone, dst), None, "{text}");
                assert!(parsed.next(Timestamp::MIN, &zone, dst).is_some(), "{text}");
                assert!(parsed.prev(Timestamp::MAX, &zone, dst).is_some(), "{text}");
            }
        }
    }
}
