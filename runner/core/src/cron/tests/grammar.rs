//! The grammar: the bits that a text sets, and the warnings about suspicious ones.

use proptest::prelude::*;

use super::expression;
use crate::cron::parse::ParsedRule;
use crate::cron::{Expression, TIMING_LINTS, lint};

/// The sets of the six fields, seconds first.
fn bits(text: &str) -> [u64; 6] {
    match expression(text).plan() {
        ParsedRule::Calendar { fields, .. } => fields.map(|field| field.bits),
        ParsedRule::Every(_) => panic!("{text} is @every"),
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
fn descriptors_equal_their_fields() {
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
        ("0-59 0 * * *", &[]),
        ("* * 0 * * *", &["W230", "W250"]),
        ("* 0 0 * * *", &["W230", "W250"]),
        ("* 9-17 * * *", &[]),
        ("0 0 */2 * 1", &["W231"]),
        ("0 0 1 * MON,WED", &["W231"]),
        ("0 9 1-7 * MON", &["W231"]),
        ("0 0 13 * 5", &["W231"]),
        ("0 0 13 * ?", &[]),
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

/// The codes about the times of an expression, without W250.
fn lint_codes(text: &str) -> Vec<&'static str> {
    let found = lint(&expression(text));
    let all_hinted = found.iter().filter(|l| l.code != "W250").all(|l| l.hint.is_some());
    assert!(all_hinted, "{text}: {found:?}");
    found
        .iter()
        .map(|l| l.code)
        .filter(|code| TIMING_LINTS.contains(code))
        .collect()
}

#[test]
fn fields_in_the_order_of_aws_are_pointed_out() {
    for (text, meant) in [
        ("0 12 * * ? *", "0 12 * * *"),
        ("0/10 8-22 * * ? *", "0/10 8-22 * * *"),
        ("0 8 1 * ? *", "0 8 1 * *"),
        ("0 12 ? * 2 *", "0 12 * * MON"),
    ] {
        let found = lint(&expression(text)).into_iter().find(|l| l.code == "W232");
        let hint = found.and_then(|l| l.hint).unwrap_or_default();
        assert!(hint.contains(&format!("\"{meant}\"")), "{text}: {hint}");
    }
    // Texts that the grammar refuses get the same hint.
    for (text, meant) in [
        ("0 18 ? * MON-FRI *", "write \"0 18 * * MON-FRI\""),
        ("15 10 * * ? 2030", "write \"15 10 * * *\""),
        ("cron(0 12 * * ? *)", "write \"0 12 * * *\""),
        ("cron(0 12 * * 1)", "write \"0 12 * * 1\""),
        ("rate(5 minutes)", "write \"@every 5m\""),
        ("Rate(1 day)", "write \"@every 24h\""),
    ] {
        let hint = Expression::parse(text).unwrap_err().hint().unwrap_or_default();
        assert!(hint.ends_with(meant), "{text}: {hint}");
    }
    // The forms of Quartz and Spring for the same times as here.
    for text in [
        "0 0 12 * * ?",
        "0 0 12 ? * *",
        "0 0/5 14 * * ?",
        "0 12 ? * MON",
        "0 0 12 1 * ?",
    ] {
        assert_eq!(lint_codes(text), [""; 0], "{text}");
    }
    assert_eq!(lint_codes("0 ? * * *"), ["W232"]);
}

#[test]
fn weekdays_counted_as_quartz_does_are_pointed_out() {
    for (text, quartz, here) in [
        ("0 0 12 ? * 2-6", "0 0 12 ? * MON-FRI", "0 0 12 ? * TUE,WED,THU,FRI,SAT"),
        ("0 0 3 ? * 1", "0 0 3 ? * SUN", "0 0 3 ? * MON"),
        ("0 30 6 ? * 2,4,6", "0 30 6 ? * MON,WED,FRI", "0 30 6 ? * TUE,THU,SAT"),
        ("CRON_TZ=Asia/Tokyo 0 3 ? * 7", "0 3 ? * SAT", "0 3 ? * SUN"),
    ] {
        let found = lint(&expression(text)).into_iter().find(|l| l.code == "W233");
        let hint = found.and_then(|l| l.hint).unwrap_or_default();
        for meant in [quartz, here] {
            assert!(hint.contains(&format!("\"{meant}\"")), "{text}: {hint}");
            assert_eq!(lint_codes(meant), [""; 0], "{meant}");
        }
    }
    // Quartz has no 0 and needs the ?; all seven days are the same however they are counted.
    for text in ["0 0 12 * * 2-6", "0 0 12 ? * 0", "0 0 12 ? * 1-7", "0 0 12 ? * TUE-SAT"] {
        assert_eq!(lint_codes(text), [""; 0], "{text}");
    }
}

#[test]
fn steps_that_do_not_come_out_even_are_pointed_out() {
    for (text, parts) in [
        ("*/45 * * * *", ["\"@every 45m\"", "0,45 for the minute"]),
        ("*/90 * * * *", ["\"@every 90m\"", "write 0 for the minute"]),
        ("0/7 * * * *", ["\"@every 7m\"", "0-59/7 for the minute"]),
        ("0 */5 * * *", ["\"@every 5h\"", "0-23/5 for the hour"]),
        ("0 */36 * * *", ["\"@every 36h\"", "write 0 for the hour"]),
        ("*/45 * * * * *", ["\"@every 45s\"", "0,45 for the second"]),
        ("0 0 */10 * *", ["\"@every 240h\"", "1,11,21,31 for the day"]),
        ("*/45 9-17 * * *", ["if it is meant", "0,45 for the minute"]),
        ("0 0 1 */5 *", ["if it is meant", "1,6,11 for the month"]),
        ("0 0 * * */2", ["if it is meant", "SUN,TUE,THU,SAT for the weekday"]),
    ] {
        assert_eq!(lint_codes(text), ["W234"], "{text}");
        let found = lint(&expression(text)).into_iter().find(|l| l.code == "W234");
        let hint = found.and_then(|l| l.hint).unwrap_or_default();
        assert!(parts.iter().all(|parts| hint.contains(parts)), "{text}: {hint}");
    }
    for text in [
        "*/15 * * * *",
        "0/30 * * * *",
        "*/60 * * * *",
        "0 */6 * * *",
        "0 */24 * * *",
        "0-59/45 * * * *",
        "0,45 * * * *",
        "10-50/7 * * * *",
        "*/45 3 * * *",
        "0 0 */2 * *",
        "0 0 1 */3 *",
        "*/1 * * * *",
        "0 9-17/3 * * *",
        "*/10,45 * * * *",
    ] {
        assert_eq!(lint_codes(text), [""; 0], "{text}");
    }
}

#[test]
fn a_warning_explains_what_happens_and_never_varies() {
    let message = |text: &str| lint(&expression(text)).remove(0).message;
    let aws = message("0 12 * * ? *");
    assert!(aws.contains("00:12, 01:12, 02:12, 03:12, …"), "{aws}");
    assert_eq!(aws, message("0 12 * * ? *"));
    let quartz = message("0 0 12 ? * 2-6");
    assert!(quartz.contains("Tue 2 12:00, Wed 3 12:00"), "{quartz}");
    let step = message("*/90 * * * *");
    assert!(
        step.contains("minute 0 of each hour") && step.contains("00:00, 01:00"),
        "{step}"
    );
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
