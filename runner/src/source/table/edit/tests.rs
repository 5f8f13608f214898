//! What is written of fields, and edits of a table in a SQLite file.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _, Row as _};
use tokio_util::sync::{CancellationToken, DropGuard};

use runner_core::clock::SystemClock;
use runner_core::function::Functions;
use runner_core::schedule::ScheduleId;

use super::*;
use crate::source::{Catalog, SourceSettings, TableSettings};

fn fields(kind: &str, spec: &str, payload: &str) -> RowFields {
    RowFields {
        name: "a \u{1f600} 'name' \"x\" \\".to_owned(),
        kind: kind.to_owned(),
        spec: spec.to_owned(),
        payload: payload.to_owned(),
        enabled: true,
        ..RowFields::default()
    }
}

fn stored(payload: &str) -> TableRow {
    TableRow {
        payload: Ok(Some(payload.as_bytes().to_vec())),
        status: Ok(Some("1".to_owned())),
        ..blank("7")
    }
}

#[test]
fn a_payload_is_shown_without_its_options_and_written_with_them() {
    let row = stored(r#"{"date": "today", "_runner": {"timezone": "Asia/Tokyo", "retry": 3}}"#);
    let shown = RowFields::of(&row);
    assert_eq!(shown.payload, r#"{"date": "today"}"#);
    assert_eq!(
        (shown.zone.as_str(), shown.options.as_str()),
        ("Asia/Tokyo", r#"{"retry": 3}"#)
    );
    assert_eq!(
        shown.values(Some(&row)).unwrap(),
        RowValues::default(),
        "nothing is changed"
    );
    let moved = RowFields {
        zone: "UTC".to_owned(),
        ..shown.clone()
    };
    let written = moved.values(Some(&row)).unwrap().payload.flatten().unwrap();
    assert_eq!(
        written,
        r#"{"date": "today", "_runner": {"timezone": "UTC", "retry": 3}}"#
    );
    let bare = RowFields {
        zone: String::new(),
        options: String::new(),
        ..shown
    };
    let written = bare.values(Some(&row)).unwrap().payload.flatten().unwrap();
    assert_eq!(written, r#"{"date": "today"}"#);
    // As a browser sends it.
    let lines = stored("{\n  \"a\": 1\n}");
    let sent = RowFields {
        payload: "{\r\n  \"a\": 1\r\n}".to_owned(),
        ..RowFields::of(&lines)
    };
    assert_eq!(sent.values(Some(&lines)).unwrap(), RowValues::default());
    let empty = RowFields {
        zone: "UTC".to_owned(),
        ..RowFields::default()
    };
    let written = empty.values(None).unwrap().payload.flatten().unwrap();
    assert_eq!(written, r#"{"_runner":{"timezone": "UTC"}}"#);
}

#[test]
fn fields_that_cannot_be_one_payload_are_refused_with_their_field() {
    let refused = |payload: &str, zone: &str, options: &str| {
        let fields = RowFields {
            payload: payload.to_owned(),
            zone: zone.to_owned(),
            options: options.to_owned(),
            ..RowFields::default()
        };
        let problems = fields.values(None).unwrap_err();
        RowField::of(&problems[0]).as_str()
    };
    assert_eq!(refused("[1]", "UTC", ""), "payload");
    assert_eq!(refused("no json", "", r#"{"retry": 1}"#), "payload");
    assert_eq!(refused(r#"{"_runner": {}}"#, "UTC", ""), "payload");
    assert_eq!(refused("", "", "[]"), "options");
    assert_eq!(refused("", "", "{"), "options");
    assert_eq!(refused("", "UTC", r#"{"timezone": "UTC"}"#), "options");
}

#[test]
fn a_version_changes_with_every_part_of_a_row() {
    let row = stored("{}");
    let others = [
        TableRow {
            name: Ok(Some(String::new())),
            ..row.clone()
        },
        TableRow {
            kind: Ok(Some(String::new())),
            ..row.clone()
        },
        TableRow {
            payload: Ok(None),
            ..row.clone()
        },
        TableRow {
            payload: Ok(Some(b"{} ".to_vec())),
            ..row.clone()
        },
        TableRow {
            status: Ok(Some("0".to_owned())),
            ..row.clone()
        },
        TableRow {
            id: "8".to_owned(),
            ..row.clone()
        },
    ];
    let mut versions: Vec<String> = others.iter().map(fields::version).collect();
    versions.push(fields::version(&row));
    versions.sort();
    versions.dedup();
    assert_eq!(versions.len(), others.len() + 1);
    assert_eq!(fields::version(&row), fields::version(&row.clone()));
}

struct Edited {
    dir: tempfile::TempDir,
    catalog: Catalog,
    _stop: DropGuard,
}

impl Edited {
    /// A table that these statements have made.
    async fn with(statements: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows.db");
        sql(&path, statements).await;
        let settings = SourceSettings {
            table: Some(TableSettings::Sqlite { path }),
            writable: true,
            // Only what is asked for is read.
            sync_interval: std::time::Duration::from_secs(3600),
            ..SourceSettings::default()
        };
        let stop = CancellationToken::new();
        let catalog = Catalog::start(settings, Functions::default(), Arc::new(SystemClock), stop.clone()).await;
        Self {
            dir,
            catalog,
            _stop: stop.drop_guard(),
        }
    }

    fn editor(&self) -> &RowEditor {
        self.catalog.editor().unwrap()
    }

    async fn sql(&self, text: &str) -> Vec<String> {
        sql(&self.dir.path().join("rows.db"), text).await
    }
}

async fn sql(path: &std::path::Path, text: &str) -> Vec<String> {
    let mut connection = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .connect()
        .await
        .unwrap();
    let rows = connection
        .fetch_all(sqlx::raw_sql(AssertSqlSafe(text.to_owned())))
        .await;
    let rows = rows.unwrap_or_else(|error| panic!("{text}: {error}"));
    rows.iter()
        .map(|row| {
            row.try_get_unchecked::<Option<String>, usize>(0)
                .unwrap()
                .unwrap_or_default()
        })
        .collect()
}

const TABLE: &str = include_str!("../../../../migrations/sqlite/0100_sys_crontab.sql");

#[tokio::test]
async fn a_row_is_made_changed_switched_and_deleted() {
    let edited = Edited::with(TABLE).await;
    let editor = edited.editor();
    let made = editor
        .create(None, &fields("t", "0 2 * * *", "{\"a\": \"'; DROP TABLE x; --\"}"))
        .await
        .unwrap();
    let row = made.after.unwrap();
    assert_eq!((row.id.as_str(), made.before), ("db:1", None));
    let plan = edited.catalog.plan();
    assert_eq!(
        plan.schedules[&row.id].name, "a \u{1f600} 'name' \"x\" \\",
        "it is in force at once"
    );
    let wanted = RowFields {
        spec: "0 3 * * *".to_owned(),
        ..row.fields.clone()
    };
    let changed = editor.update(&row.id, &row.version, &wanted).await.unwrap();
    let after = changed.after.unwrap();
    assert_eq!((changed.before.unwrap(), &after.fields), (row.clone(), &wanted));
    let stale = editor.update(&row.id, &row.version, &row.fields).await.unwrap_err();
    assert_eq!(stale, EditError::Changed(Box::new(after.clone())));
    let off = editor.switch(&row.id, None, false).await.unwrap().after.unwrap();
    assert!(!off.fields.enabled && !edited.catalog.plan().schedules[&row.id].enabled);
    let again = editor.switch(&row.id, None, false).await.unwrap();
    assert_eq!(again.before, again.after);
    let stale = editor.delete(&row.id, Some(&after.version)).await.unwrap_err();
    assert!(matches!(stale, EditError::Changed(_)), "{stale:?}");
    let gone = editor.delete(&row.id, Some(&off.version)).await.unwrap();
    assert_eq!((gone.before, gone.after), (Some(off), None));
    assert!(edited.sql("SELECT id FROM sys_crontab").await.is_empty());
    let nothing = editor.update(&row.id, "", &wanted).await.unwrap_err();
    assert_eq!(nothing, EditError::Gone(row.id));
}

#[tokio::test]
async fn a_row_that_would_not_be_in_force_is_not_written() {
    let edited = Edited::with(TABLE).await;
    let editor = edited.editor();
    let code = |error: EditError| match error {
        EditError::Invalid(problems) => (problems[0].code.clone(), RowField::of(&problems[0]).as_str()),
        other => panic!("{other:?}"),
    };
    for (bad, expected) in [
        (fields("", "@daily", ""), ("D101", "type")),
        (fields("t", "", ""), ("D102", "spec")),
        (fields("t", "61 * * * *", ""), ("E205", "spec")),
        (
            RowFields {
                zone: "Mars/Base".to_owned(),
                ..fields("t", "@daily", "")
            },
            ("E210", "zone"),
        ),
        (
            RowFields {
                options: r#"{"retry": "x"}"#.to_owned(),
                ..fields("t", "@daily", "")
            },
            ("", "options"),
        ),
        (fields("t", "@daily", &"[".repeat(300_000)), ("D118", "payload")),
        (fields("t\0", "@daily", ""), ("D119", "name")),
    ] {
        let (found, field) = code(editor.create(None, &bad).await.unwrap_err());
        assert_eq!(field, expected.1, "{found}");
        assert!(
            expected.0.is_empty() || expected.1 == "spec" || found == expected.0,
            "{found}"
        );
        assert!(editor.check(None, &bad).definition.is_none());
    }
    assert!(edited.sql("SELECT id FROM sys_crontab").await.is_empty());
}

#[tokio::test]
async fn columns_that_are_not_edited_stay_as_they_are() {
    let table = "CREATE TABLE sys_crontab (id TEXT PRIMARY KEY, name TEXT, type TEXT, spec TEXT, payload BLOB, status TEXT, \
         owner TEXT, updated_at INTEGER, deleted_at TEXT); \
         INSERT INTO sys_crontab VALUES ('k''1', 'n', 't', '@daily', NULL, 'true', 'ann', 5, NULL), \
         ('bytes', 'n', 't', '@daily', X'81ff', '1', 'ann', 5, NULL);";
    let edited = Edited::with(table).await;
    let editor = edited.editor();
    let id = ScheduleId::row("k'1");
    let row = editor.row(&id).await.unwrap();
    let wanted = RowFields {
        name: "m".to_owned(),
        ..row.fields.clone()
    };
    let after = editor.update(&id, &row.version, &wanted).await.unwrap().after.unwrap();
    let all = "SELECT id || name || type || spec || ifnull(payload, '-') || status || owner || updated_at \
         FROM sys_crontab WHERE id <> 'bytes'";
    assert_eq!(edited.sql(all).await[0], "k'1mt@daily-trueann5");
    editor.delete(&id, Some(&after.version)).await.unwrap();
    assert_eq!(
        edited
            .sql("SELECT count(*) FROM sys_crontab WHERE deleted_at IS NOT NULL")
            .await,
        ["1"]
    );
    assert_eq!(editor.row(&id).await.unwrap_err(), EditError::Gone(id));
    let bytes = ScheduleId::row("bytes");
    let row = editor.row(&bytes).await.unwrap();
    assert!(!row.is_text);
    assert_eq!(
        editor.update(&bytes, &row.version, &wanted).await.unwrap_err(),
        EditError::NoText
    );
    editor.switch(&bytes, Some(&row.version), false).await.unwrap();
    assert_eq!(
        edited
            .sql("SELECT hex(payload) || status FROM sys_crontab WHERE id = 'bytes'")
            .await,
        ["81FF0"]
    );
}

#[tokio::test]
async fn only_rows_with_an_id_of_their_own_are_edited() {
    let table = "CREATE TABLE sys_crontab (id INTEGER, name TEXT, type TEXT, spec TEXT, payload TEXT, status INTEGER); \
         INSERT INTO sys_crontab VALUES (1, 'a', 't', '@daily', NULL, 1), (1, 'b', 't', '@daily', NULL, 1);";
    let edited = Edited::with(table).await;
    let editor = edited.editor();
    let id = ScheduleId::row(1);
    assert_eq!(editor.delete(&id, None).await.unwrap_err(), EditError::SameId(id));
    for other in ["m:f:default", "code:x", "db:", "x"] {
        let id = ScheduleId::from_text(other);
        assert_eq!(editor.switch(&id, None, true).await.unwrap_err(), EditError::NoRow(id));
    }
}
