//! One row: what it means, and what is said about it.

use std::time::Duration;

use runner_core::schedule::{CatchUpPolicy, Overlap};

use super::{context, row};
use crate::source::table::row::{RowReading, read as read_row};
use crate::source::table::store::{RowFault, TableRow, Unread};

fn read(row: &TableRow) -> RowReading {
    read_row(row, &context())
}

#[test]
fn the_row_of_the_manual_means_what_it_says() {
    let read = read(&row("task:daily-stats", "0 1 * * *", r#"{"date":"today"}"#, "1"));
    assert_eq!(read.problems, []);
    let d = read.definition.unwrap();
    assert_eq!(
        (d.id.as_str(), d.name.as_str(), d.enabled),
        ("db:7", "每日数据统计", true)
    );
    assert_eq!(d.origin.place, "sys_crontab id 7");
    assert_eq!(
        (d.timing.zone_name.as_str(), d.overlap),
        ("Asia/Shanghai", Overlap::Allow)
    );
    assert_eq!(d.task.kind, "task:daily-stats");
    assert_eq!(d.task.payload.as_deref(), Some(br#"{"date":"today"}"#.as_slice()));
}

#[test]
fn a_payload_is_kept_byte_for_byte() {
    for text in [
        r#" { "b" : 1.10, "a":"\u00e9" } "#,
        "[1, 2]",
        "\"x\"",
        "5",
        "null",
        "1e400",
        "{}",
        "date=today",
        r#"{"a":1"#,
    ] {
        let read = read(&row("t", "@daily", text, "1"));
        let payload = read.definition.and_then(|d| d.task.payload);
        assert_eq!(payload.as_deref(), Some(text.as_bytes()), "{text}");
    }
    let bytes = TableRow {
        payload: Ok(Some(vec![0x81, 0xa1, b'a', 1])),
        ..row("t", "@daily", "~", "1")
    };
    let task = read(&bytes).definition.unwrap().task;
    assert_eq!(task.payload.as_deref(), Some([0x81, 0xa1, b'a', 1].as_slice()));
    // A string in an array is text of JSON too.
    let bytes = TableRow {
        payload: Ok(Some(b"[\"\xff\"]".to_vec())),
        ..row("t", "@daily", "~", "1")
    };
    let read_bytes = read(&bytes);
    let task = read_bytes.definition.unwrap().task;
    assert_eq!(task.payload.as_deref(), Some(&b"[\"\xff\"]"[..]));
    let expected =
        "payload is not valid JSON: byte 0xff at line 1 column 3 is not UTF-8; its bytes are passed on unchanged";
    assert_eq!(read_bytes.problems[0].message, expected);
    for text in ["~", "", "  "] {
        assert_eq!(
            read(&row("t", "@daily", text, "1")).definition.unwrap().task.payload,
            None
        );
    }
}

#[test]
fn what_says_neither_on_nor_off_is_off_and_named() {
    for (status, on) in [
        ("1", Some(true)),
        ("0", Some(false)),
        ("1.0", Some(true)),
        ("0.00", Some(false)),
        ("TRUE", Some(true)),
        ("t", Some(true)),
        ("False", Some(false)),
        ("\u{1}", Some(true)),
        ("\0", Some(false)),
        (" 1 ", Some(true)),
        ("2", None),
        ("-1", None),
        ("127", None),
        ("ON", None),
        ("enabled", None),
        ("Y", None),
        ("", None),
        ("nan", None),
        ("~", None),
    ] {
        let read = read(&row("t", "@daily", "~", status));
        assert_eq!(read.definition.unwrap().enabled, on.unwrap_or(false), "{status}");
        let reported: Vec<String> = read
            .problems
            .iter()
            .map(|p| format!("{} {}", p.code, p.message))
            .collect();
        let value = if status == "~" { "NULL" } else { status };
        match on {
            Some(_) => assert_eq!(reported, [""; 0], "{status}"),
            None => assert!(
                reported.len() == 1 && reported[0].starts_with("W252 ") && reported[0].contains(value),
                "{reported:?}"
            ),
        }
    }
}

#[test]
fn options_ride_in_the_payload_and_leave_it() {
    let payload = r#"{"date": "today", "_runner": {"timezone":"America/New_York","overlap":"skip",
        "catch_up":"none","queue":"critical","retry":5,"timeout":"10m","retention":"1h","jitter":"30s"}, "n":[1, 2]}"#;
    let read = read(&row("t", "@daily", payload, "1"));
    assert_eq!(read.problems, []);
    let d = read.definition.unwrap();
    assert_eq!(
        (d.timing.zone_name.as_str(), d.overlap),
        ("America/New_York", Overlap::Skip)
    );
    assert_eq!(
        (d.catch_up.policy, d.jitter),
        (CatchUpPolicy::None, Duration::from_secs(30))
    );
    assert_eq!((d.task.queue.as_str(), d.task.max_retry), ("critical", 5));
    assert_eq!(
        (d.task.timeout, d.task.retention),
        (Some(Duration::from_secs(600)), Duration::from_secs(3600))
    );
    assert_eq!(
        d.task.payload.as_deref(),
        Some(br#"{"date":"today","n":[1, 2]}"#.as_slice())
    );
}

#[test]
fn what_is_wrong_with_a_row_is_reported() {
    for (row, expected) in bad_rows().into_iter().chain(unread_rows()) {
        let mut reported: Vec<String> = read(&row)
            .problems
            .iter()
            .map(|p| format!("{} {}", p.code, p.message))
            .collect();
        reported.sort_by_key(|t| expected.iter().position(|e| t.contains(e)));
        assert_eq!(reported.len(), expected.len(), "{reported:?} {expected:?}");
        assert!(
            reported.iter().zip(&expected).all(|(t, e)| t.contains(e)),
            "{reported:?} {expected:?}"
        );
    }
}

/// Rows, and all problems of each, in any order.
fn bad_rows() -> Vec<(TableRow, Vec<&'static str>)> {
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let cut = format!("{{\"a\":\"{}", "x".repeat(65_535 - 6));
    let control = "a\nb";
    vec![
        (row("~", "@daily", "~", "1"), vec!["D101 type is empty"]),
        (row(control, "@daily", "~", "1"), vec!["D101 type \"a\\nb\" must be"]),
        (row("t", "  ", "~", "1"), vec!["D102 spec is empty"]),
        (row("t", "~", "~", "1"), vec!["D102 spec is empty"]),
        (
            row("t", "0 25 * * *", "~", "1"),
            vec!["E203 spec \"0 25 * * *\": hour 25 is not in 0-23"],
        ),
        (row("t", "0 0 30 2 *", "~", "1"), vec!["E204 "]),
        (row("t", "* * *", "~", "1"), vec!["E205 "]),
        (row("t", "CRON_TZ=Mars/Base 0 2 * * *", "~", "1"), vec!["E210 "]),
        (
            row("t", "@daily", r#"{"date":"today""#, "1"),
            vec![
                "W253 payload is not valid JSON: EOF while parsing an object at line 1 column 15; its bytes are passed on",
            ],
        ),
        (row("t", "@daily", "plain", "1"), vec!["W253 payload is not valid JSON"]),
        (
            row("t", "@daily", r#"{"_runner":{"queue":"low"},}"#, "1"),
            vec!["the options in its _runner would be lost"],
        ),
        (
            row("t", "@daily", &deep, "1"),
            vec!["D105 payload is nested deeper than 64"],
        ),
        (row("t", "@daily", &cut, "1"), vec!["cut off by the column"]),
        (
            row("t", "@daily", r#"{"a":1,"a":2}"#, "1"),
            vec!["W251 payload has the key \"a\" twice"],
        ),
        (row("t", "30 0 0 * * 7", "~", "1"), vec!["W250 "]),
        (
            row("t", "@daily", r#"{"_runner":{"overlap":"skip","catch_up":"all"}}"#, "1"),
            vec!["W224 catch_up all with overlap skip"],
        ),
        (
            row("t", "@daily", r#"{"_runner":5}"#, "1"),
            vec!["E108 _runner must be a map, found number 5"],
        ),
        (
            row(
                "t",
                "60 * * * *",
                r#"{"_runner":{"overlap":"no","queu":"x","retry":-1}}"#,
                "1",
            ),
            vec![
                "E217 _runner.overlap must be",
                "E110 unknown key \"queu\" in _runner",
                "E160 _runner.retry",
                "E203 ",
            ],
        ),
        (
            row("t", "CRON_TZ=UTC 0 2 * * *", r#"{"_runner":{"timezone":"UTC"}}"#, "1"),
            vec!["E211 "],
        ),
    ]
}

/// The same of rows that were not read as a whole.
fn unread_rows() -> Vec<(TableRow, Vec<&'static str>)> {
    vec![
        (
            TableRow {
                spec: Err(Unread::NoText("invalid utf-8".into())),
                ..row("t", "@daily", "~", "1")
            },
            vec!["D106 column spec is not text: invalid utf-8"],
        ),
        (
            TableRow {
                payload: Err(Unread::TooLong {
                    bytes: 2_000_000,
                    most: 1_048_576,
                }),
                ..row("t", "@daily", "~", "1")
            },
            vec!["D116 column payload has 2000000 bytes, and at most 1048576 are read"],
        ),
        (
            TableRow {
                fault: Some(RowFault::Beyond),
                ..row("~", "~", "~", "1")
            },
            vec!["D117 the rows before it have 64 MiB of text already"],
        ),
    ]
}

#[test]
fn the_caret_stands_inside_the_spec() {
    let shown = read(&row("t", "0 25 * * *", "~", "1")).problems[0].to_string();
    assert!(shown.contains("\n  1 | 0 25 * * *\n    |   ^^"), "{shown}");
}
