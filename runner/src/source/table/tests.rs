//! Rows by example, and the table in a SQLite file.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Executor};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use runner_core::clock::SystemClock;
use runner_core::cron::DstRule;
use runner_core::function::Functions;
use runner_core::schedule::{CatchUpPolicy, Overlap, Plan};

use super::row::{self, RowReading};
use super::rows::{RowChange, Rows};
use super::store::{Cell, MAX_ROWS, RowFault, TableRow, Unread};
use crate::source::{Catalog, ScheduleContext, SourceSettings, SourceState, TableSettings};

fn context() -> ScheduleContext {
    let zone = jiff::tz::TimeZone::get("Asia/Shanghai").unwrap();
    ScheduleContext {
        rabbitmq: vec!["main".to_owned()],
        zone_name: "Asia/Shanghai".into(),
        zone,
        dst: DstRule::default(),
        vet: Default::default(),
    }
}

/// Row 7 of these columns; `~` is NULL.
fn row(kind: &str, spec: &str, payload: &str, status: &str) -> TableRow {
    let cell = |text: &str| -> Cell { Ok((text != "~").then(|| text.to_owned())) };
    TableRow {
        id: "7".into(),
        name: cell("每日数据统计"),
        kind: cell(kind),
        spec: cell(spec),
        payload: cell(payload).map(|text| text.map(String::into_bytes)),
        status: cell(status),
        fault: None,
    }
}

fn read(row: &TableRow) -> RowReading {
    row::read(row, &context())
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

#[test]
fn a_bad_row_keeps_its_last_good_version_but_can_be_switched_off() {
    let mut rows = Rows::new(context());
    let now = Instant::now();
    rows.apply(vec![row("t", "@daily", "~", "1")], now);
    let step = rows.apply(vec![row("t", "0 25 * * *", "~", "1")], now);
    assert!(matches!(step.changes[..], [RowChange::Rejected { kept: true, .. }]));
    let part = rows.part();
    assert_eq!(
        (part.definitions[0].timing.text.as_str(), part.definitions[0].enabled),
        ("@daily", true)
    );
    let codes: Vec<&str> = part.problems.iter().map(|p| p.code.as_str()).collect();
    assert_eq!(codes, ["E203", "W104"]);
    assert!(
        rows.apply(vec![row("t", "0 25 * * *", "~", "1")], now)
            .changes
            .is_empty()
    );
    rows.apply(vec![row("t", "0 25 * * *", "~", "0")], now);
    assert!(!rows.part().definitions[0].enabled);
    rows.apply(vec![row("t", "0 5 * * *", "~", "1")], now);
    assert_eq!(
        (rows.part().problems.len(), rows.part().definitions[0].enabled),
        (0, true)
    );
}

#[test]
fn rows_of_one_id_are_an_error_and_the_version_in_force_stays() {
    let named = |id: &str, name: &str| TableRow {
        id: id.into(),
        name: Ok(Some(name.into())),
        ..row("t", "@daily", "~", "1")
    };
    let mut rows = Rows::new(context());
    let now = Instant::now();
    let three = || vec![named("0", "a"), named("0", "b"), named("", "c")];
    let step = rows.apply(three(), now);
    assert_eq!(step.changes.len(), 2, "{:?}", step.changes);
    assert!(rows.apply(three(), now).changes.is_empty(), "reported once");
    let part = rows.part();
    assert_eq!(part.definitions, []);
    let reported: Vec<String> = part.problems.iter().map(ToString::to_string).collect();
    assert!(
        reported[0].contains("D113") && reported[0].contains("1 row has no id (\"c\")"),
        "{reported:?}"
    );
    let expected = "2 rows have this id (\"a\", \"b\"); none of them is applied";
    assert!(
        reported[1].contains("D114") && reported[1].contains("id 0") && reported[1].contains(expected),
        "{reported:?}"
    );
    rows.apply(vec![named("0", "a")], now);
    assert_eq!((rows.part().definitions.len(), rows.part().problems.len()), (1, 0));
    rows.apply(vec![named("0", "a"), named("0", "b")], now);
    let part = rows.part();
    assert_eq!((part.definitions[0].name.as_str(), part.problems.len()), ("a", 2));
}

#[test]
fn most_rows_gone_must_be_gone_for_a_while_and_too_many_are_reported() {
    let many = |n: usize| {
        (0..n)
            .map(|i| TableRow {
                id: i.to_string(),
                ..row("t", "@daily", "~", "1")
            })
            .collect::<Vec<_>>()
    };
    let mut rows = Rows::new(context());
    let start = Instant::now();
    rows.apply(many(10), start);
    let step = rows.apply(many(1), start + Duration::from_secs(10));
    assert_eq!((step.changes.len(), rows.part().definitions.len()), (0, 10));
    assert!(step.again.is_some_and(|a| a < Duration::from_secs(3)));
    let step = rows.apply(many(1), start + Duration::from_secs(13));
    assert_eq!((step.changes.len(), rows.part().definitions.len()), (9, 1));
    rows.apply(many(MAX_ROWS + 1), start + Duration::from_secs(20));
    let part = rows.part();
    assert_eq!(
        (part.definitions.len(), part.problems[0].code.as_str()),
        (MAX_ROWS, "D107")
    );
}

#[test]
fn when_no_row_is_left_all_stay_for_the_guard_and_it_is_an_error() {
    let some = |ids: &[usize]| -> Vec<TableRow> {
        let one = |id: &usize| TableRow {
            id: id.to_string(),
            ..row("t", "@daily", "~", "1")
        };
        ids.iter().map(one).collect()
    };
    let guard = Duration::from_secs(60);
    let mut rows = Rows::new(context()).guarded(guard);
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let codes = |rows: &Rows| -> Vec<String> { rows.part().problems.into_iter().map(|p| p.code).collect() };
    rows.apply(some(&[1, 2]), start);
    let step = rows.apply(Vec::new(), at(1));
    assert_eq!(step.changes, [RowChange::Emptied { rows: 2, guard }]);
    assert_eq!(
        (rows.part().definitions.len(), codes(&rows)),
        (2, vec!["D110".to_owned()])
    );
    // They come back, and go again.
    assert_eq!(rows.apply(some(&[1, 2]), at(50)).changes, []);
    assert_eq!(codes(&rows), [""; 0]);
    assert_eq!(rows.apply(Vec::new(), at(55)).changes.len(), 1);
    assert_eq!(rows.apply(Vec::new(), at(114)).changes, []);
    assert_eq!(rows.part().definitions.len(), 2);
    let step = rows.apply(Vec::new(), at(116));
    assert_eq!(
        (step.changes.len(), step.changes.last()),
        (3, Some(&RowChange::AllGone(2)))
    );
    assert_eq!(
        (rows.part().definitions.len(), codes(&rows)),
        (0, vec!["D111".to_owned()])
    );
    rows.apply(some(&[3]), at(120));
    assert_eq!(codes(&rows), [""; 0]);
    // One row alone goes at once: that is how a person ends it.
    assert_eq!(
        rows.apply(Vec::new(), at(121)).changes,
        [RowChange::Removed("3".to_owned())]
    );
}

/// Saved state, in the memory of a test.
#[derive(Default)]
struct TestStore(std::sync::Mutex<std::collections::HashMap<String, Vec<u8>>>);

#[async_trait::async_trait]
impl crate::source::StateStore for TestStore {
    async fn put(&self, _: &'static str, name: &str, body: Vec<u8>) -> Result<(), String> {
        self.0.lock().unwrap().insert(name.to_owned(), body);
        Ok(())
    }

    async fn get(&self, _: &'static str, name: &str) -> Result<Option<Vec<u8>>, crate::source::StateStoreError> {
        Ok(self.0.lock().unwrap().get(name).cloned())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_without_the_table_fires_the_last_rows_until_it_can_be_read() {
    let file = File {
        dir: tempfile::tempdir().unwrap(),
    };
    file.execute(include_str!("../../../migrations/sqlite/0100_sys_crontab.sql"))
        .await;
    file.execute(INSERT).await;
    file.execute("INSERT INTO sys_crontab (name, type, spec, payload, status) VALUES ('b', 't', '@daily', '[1]', 2)")
        .await;
    let settings = SourceSettings {
        keep: Some(Arc::new(TestStore::default())),
        ..file.settings()
    };
    let (first, stop) = catalog(settings.clone()).await;
    // The last good version is kept, whatever happened to its row.
    file.execute("UPDATE sys_crontab SET spec = '0 25 * * *' WHERE id = 2")
        .await;
    assert!(first.sync().await);
    let before = first.plan().schedules.clone();
    drop((first, stop));
    file.execute("ALTER TABLE sys_crontab RENAME COLUMN spec TO spek").await;
    let (second, _stop) = catalog(settings.clone()).await;
    assert_eq!(second.plan().schedules, before);
    let status = &second.statuses()[0];
    assert!(
        matches!(&status.state, SourceState::Stale { reason, .. } if reason.contains("its rows of 20")),
        "{status:?}"
    );
    let plan = second.plan();
    let said = plan.problems.last().unwrap();
    assert_eq!(said.code, "D112");
    assert!(
        said.message.contains("the last known version of its 2 rows, of 20") && said.message.contains("+00:00, is"),
        "{said}"
    );
    let looked = Catalog::load_once(settings.clone(), Arc::new(SystemClock)).await;
    assert_eq!(
        looked.plan.schedules, before,
        "a command that lists them knows them too"
    );
    file.execute("ALTER TABLE sys_crontab RENAME COLUMN spek TO spec").await;
    file.execute("DELETE FROM sys_crontab WHERE id = 1").await;
    assert!(second.sync().await);
    assert_eq!(second.statuses()[0].state, SourceState::Loaded);
    assert!(
        second.plan().schedules.keys().all(|id| id.as_str() == "db:2"),
        "{:?}",
        second.plan()
    );
    assert!(second.plan().problems.iter().all(|p| p.code != "D112"));
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_were_all_deleted_before_a_restart_stay_for_the_guard() {
    let file = File {
        dir: tempfile::tempdir().unwrap(),
    };
    file.execute(include_str!("../../../migrations/sqlite/0100_sys_crontab.sql"))
        .await;
    file.execute(INSERT).await;
    file.execute("INSERT INTO sys_crontab (name, type, spec, status) VALUES ('b', 't', '@daily', 1)")
        .await;
    let settings = SourceSettings {
        keep: Some(Arc::new(TestStore::default())),
        ..file.settings()
    };
    let before = catalog(settings.clone()).await.0.plan().schedules.clone();
    assert_eq!(before.len(), 2);
    file.execute("DELETE FROM sys_crontab").await;
    let codes = |plan: &Plan| -> Vec<String> { plan.problems.iter().map(|p| p.code.clone()).collect() };
    let looked = Catalog::load_once(settings.clone(), Arc::new(SystemClock)).await;
    assert_eq!(
        (&looked.plan.schedules, codes(&looked.plan)),
        (&before, vec!["D110".to_owned()])
    );
    let (again, stop) = catalog(settings.clone()).await;
    assert_eq!(
        (&again.plan().schedules, codes(&again.plan())),
        (&before, vec!["D110".to_owned()])
    );
    drop((again, stop));
    // Once they were removed, nothing is left to be missed.
    let hasty = SourceSettings {
        mass_delete: Duration::ZERO,
        ..settings.clone()
    };
    let (last, stop) = catalog(hasty).await;
    assert_eq!(
        (last.plan().schedules.len(), codes(&last.plan())),
        (0, vec!["D111".to_owned()])
    );
    drop((last, stop));
    let looked = Catalog::load_once(settings, Arc::new(SystemClock)).await;
    assert_eq!((looked.plan.schedules.len(), codes(&looked.plan)), (0, Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_broken_at_a_restart_stays_as_it_was() {
    let file = File {
        dir: tempfile::tempdir().unwrap(),
    };
    file.execute(include_str!("../../../migrations/sqlite/0100_sys_crontab.sql"))
        .await;
    file.execute(INSERT).await;
    file.execute("INSERT INTO sys_crontab (name, type, spec, status) VALUES ('b', 't', '@daily', 1)")
        .await;
    let settings = SourceSettings {
        keep: Some(Arc::new(TestStore::default())),
        ..file.settings()
    };
    let before = catalog(settings.clone()).await.0.plan().schedules.clone();
    file.execute("UPDATE sys_crontab SET spec = '0 25 * * *' WHERE id = 2")
        .await;
    for _ in 0..2 {
        let (again, _stop) = catalog(settings.clone()).await;
        assert_eq!(again.plan().schedules, before);
        let plan = again.plan();
        let said = plan.problems.iter().find(|p| p.code == "W104").unwrap();
        assert!(said.message.contains("its last good version, of 20"), "{said}");
        assert_eq!(again.statuses()[0].state, SourceState::Loaded);
    }
    // Switching it off works as for any row, and so does repairing it.
    file.execute("UPDATE sys_crontab SET status = 2 WHERE id = 2").await;
    let (off, _stop) = catalog(settings.clone()).await;
    assert_eq!(off.plan().schedules.values().filter(|d| d.enabled).count(), 1);
    file.execute("UPDATE sys_crontab SET status = 1, spec = '@hourly' WHERE id = 2")
        .await;
    let (repaired, _stop) = catalog(settings).await;
    let specs: Vec<_> = repaired
        .plan()
        .schedules
        .values()
        .map(|d| d.timing.text.clone())
        .collect();
    assert_eq!(specs[1], "@hourly");
    assert!(repaired.plan().problems.iter().all(|p| p.code != "W104"));
}

struct File {
    dir: tempfile::TempDir,
}

impl File {
    fn path(&self) -> PathBuf {
        self.dir.path().join("runner.db")
    }

    fn settings(&self) -> SourceSettings {
        let table = Some(TableSettings::Sqlite { path: self.path() });
        SourceSettings {
            table,
            sync_interval: Duration::from_millis(100),
            ..SourceSettings::default()
        }
    }

    async fn execute(&self, sql: &str) {
        let mut connection = SqliteConnectOptions::new()
            .filename(self.path())
            .create_if_missing(true)
            .connect()
            .await
            .unwrap();
        connection
            .execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned())))
            .await
            .unwrap();
    }
}

async fn catalog(settings: SourceSettings) -> (Catalog, tokio_util::sync::DropGuard) {
    let stop = CancellationToken::new();
    let catalog = Catalog::start(settings, Functions::default(), Arc::new(SystemClock), stop.clone()).await;
    (catalog, stop.drop_guard())
}

async fn until(catalog: &Catalog, what: &str, holds: impl Fn(&runner_core::schedule::Plan) -> bool) {
    let mut plan = catalog.watch();
    let came = plan.wait_for(|p| holds(p));
    let came = tokio::time::timeout(Duration::from_secs(10), came).await.is_ok();
    assert!(came, "{what}: {:?} {:?}", catalog.plan(), catalog.statuses());
}

const INSERT: &str = include_str!("../../../../tests/data/table/insert.sql");

#[tokio::test(flavor = "multi_thread")]
async fn a_row_of_a_file_is_live_changes_and_goes() {
    let file = File {
        dir: tempfile::tempdir().unwrap(),
    };
    let (catalog, _stop) = catalog(file.settings()).await;
    assert_eq!(catalog.statuses()[0].state, SourceState::Loaded);
    file.execute(INSERT).await;
    until(&catalog, "insert", |p| p.schedules.values().any(|d| d.enabled)).await;
    let plan = catalog.plan();
    let (id, d) = plan.schedules.iter().next().unwrap();
    assert_eq!((id.as_str(), d.name.as_str()), ("db:1", "每日数据统计"));
    assert_eq!(d.task.payload.as_deref(), Some(br#"{"date":"today"}"#.as_slice()));
    file.execute("UPDATE sys_crontab SET status = 2").await;
    until(&catalog, "off", |p| p.schedules.values().all(|d| !d.enabled)).await;
    file.execute("DELETE FROM sys_crontab").await;
    until(&catalog, "gone", |p| p.schedules.is_empty()).await;
    file.execute(INSERT).await;
    until(&catalog, "again", |p| p.schedules.keys().any(|k| k.as_str() == "db:2")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_read_keeps_the_last_rows() {
    let file = File {
        dir: tempfile::tempdir().unwrap(),
    };
    file.execute(include_str!("../../../migrations/sqlite/0100_sys_crontab.sql"))
        .await;
    file.execute(INSERT).await;
    file.execute("INSERT INTO sys_crontab (name, type, spec, status) VALUES ('bytes', x'ff00', '@daily', 1)")
        .await;
    let (catalog, _stop) = catalog(file.settings()).await;
    assert_eq!(catalog.plan().schedules.len(), 1);
    assert_eq!(catalog.plan().problems[0].place, "sys_crontab id 2");
    file.execute("ALTER TABLE sys_crontab RENAME COLUMN spec TO spek").await;
    assert!(catalog.sync().await);
    let state = catalog.statuses()[0].state.clone();
    assert!(
        matches!(&state, SourceState::Stale { reason, .. } if reason.contains("spec")),
        "{state:?}"
    );
    assert_eq!(catalog.plan().schedules.len(), 1);
    file.execute("ALTER TABLE sys_crontab RENAME COLUMN spek TO spec").await;
    assert!(catalog.sync().await);
    assert_eq!(catalog.statuses()[0].state, SourceState::Loaded);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_replaced_is_read_again_and_one_that_was_removed_is_not_created() {
    let (file, other) = (
        File {
            dir: tempfile::tempdir().unwrap(),
        },
        File {
            dir: tempfile::tempdir().unwrap(),
        },
    );
    let table = include_str!("../../../migrations/sqlite/0100_sys_crontab.sql");
    for one in [&file, &other] {
        one.execute(table).await;
    }
    file.execute(INSERT).await;
    let (catalog, _stop) = catalog(file.settings()).await;
    assert_eq!(catalog.plan().schedules.len(), 1);
    for beside in ["-wal", "-shm"] {
        drop(std::fs::remove_file(format!("{}{beside}", file.path().display())));
    }
    other.execute(INSERT).await;
    other.execute("UPDATE sys_crontab SET id = 77").await;
    std::fs::rename(other.path(), file.path()).unwrap();
    until(&catalog, "of the other file", |p| {
        p.schedules.keys().any(|k| k.as_str() == "db:77")
    })
    .await;
    std::fs::remove_file(file.path()).unwrap();
    assert!(catalog.sync().await);
    let state = catalog.statuses()[0].state.clone();
    assert!(
        matches!(&state, SourceState::Stale { reason, .. } if reason.contains("was removed")),
        "{state:?}"
    );
    assert!(!file.path().exists());
    assert_eq!(catalog.plan().schedules.len(), 1, "the last known row stays in force");
}

#[tokio::test(flavor = "multi_thread")]
async fn text_without_bound_is_not_read_and_costs_its_own_rows() {
    let file = File {
        dir: tempfile::tempdir().unwrap(),
    };
    file.execute(include_str!("../../../migrations/sqlite/0100_sys_crontab.sql"))
        .await;
    // 66 payloads of 1 MiB, one of a byte more in front, and one that is not text behind.
    file.execute(
        "INSERT INTO sys_crontab (name, type, spec, payload, status) VALUES ('long', 't', '@daily', printf('%.*c', 1048577, '1'), 1); \
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 66) INSERT INTO sys_crontab (name, type, \
         spec, payload, status) SELECT 'n' || i, 't', '@daily', '\"' || printf('%.*c', 1048574, 'x') || '\"', 1 FROM n; \
         INSERT INTO sys_crontab (name, type, spec, payload, status) VALUES ('bytes', 't', '@daily', x'81a16101', 1)",
    )
    .await;
    let loaded = Catalog::load_once(file.settings(), Arc::new(SystemClock)).await;
    let reported: Vec<String> = loaded
        .plan
        .problems
        .iter()
        .filter(|p| p.code.starts_with('D'))
        .map(|p| format!("{} {}", p.place, p.code))
        .collect();
    // 63 of them and what else is in the rows are less than 64 MiB, 64 are more.
    let beyond = (65..=68).map(|id| format!("sys_crontab id {id} D117"));
    let expected: Vec<String> = ["sys_crontab id 1 D116".to_owned()].into_iter().chain(beyond).collect();
    assert_eq!(reported, expected);
    assert_eq!(loaded.plan.schedules.len(), 63);
    file.execute("DELETE FROM sys_crontab WHERE id BETWEEN 1 AND 67").await;
    let loaded = Catalog::load_once(file.settings(), Arc::new(SystemClock)).await;
    let only = loaded.plan.schedules.values().next().unwrap();
    assert_eq!(only.task.payload.as_deref(), Some([0x81, 0xa1, b'a', 1].as_slice()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_with_marks_of_deletion_and_keys_of_bytes_is_read() {
    let file = File {
        dir: tempfile::tempdir().unwrap(),
    };
    file.execute(
        "CREATE TABLE sys_crontab (id BLOB, name TEXT, type TEXT, spec TEXT, payload TEXT, status BOOLEAN, deleted_at DATETIME); \
         INSERT INTO sys_crontab VALUES (x'8190f5a2', 'a', 't', '@daily', NULL, TRUE, NULL), \
         (x'8290f5a2', 'b', 't', '@daily', NULL, x'01', 0), (x'8390f5a2', 'c', 't', '@daily', NULL, 1, '2026-01-02 03:04:05'), \
         (NULL, 'd', 't', '@daily', NULL, 1, NULL), ('7', 'e', 't', '@daily', NULL, 'on', NULL)",
    )
    .await;
    let plan = Catalog::load_once(file.settings(), Arc::new(SystemClock)).await.plan;
    let ids: Vec<(&str, bool)> = plan.schedules.iter().map(|(id, d)| (id.as_str(), d.enabled)).collect();
    assert_eq!(ids, [("db:7", false), ("db:8190f5a2", true), ("db:8290f5a2", true)]);
    let reported: Vec<String> = plan
        .problems
        .iter()
        .filter(|p| p.code != "W240")
        .map(|p| format!("{} {}", p.place, p.code))
        .collect();
    assert_eq!(reported, ["sys_crontab, no id D113", "sys_crontab id 7 W252"]);
}

#[tokio::test]
async fn migrating_says_whether_it_did_anything() {
    let file = File {
        dir: tempfile::tempdir().unwrap(),
    };
    let table = file.settings().table.unwrap();
    assert_eq!(super::migrate(&table).await, Ok(true));
    assert_eq!(super::migrate(&table).await, Ok(false));
    let nowhere = TableSettings::Sqlite {
        path: Path::new("/proc/nonexistent/x.db").to_owned(),
    };
    assert!(super::migrate(&nowhere).await.is_err());
}
