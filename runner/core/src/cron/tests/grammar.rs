//! The grammar: what a text means bit by bit, and what is said about suspicious ones.

use proptest::prelude::*;

use super::expression;
use crate::cron::parse::Plan;
use crate::cron::{Expression, lint};

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
        assert_eq!(bits(&format!("0 0 * * {weekday}"))[5], expected, "{weekday}");
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
        let codes: Vec<_> = lint(&expression(text)).iter().map(|lint| lint.code).collect();
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
