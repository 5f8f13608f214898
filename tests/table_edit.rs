//! Rows edited in real servers: what is written to the byte, writers at the same time, a user without the right to it.

use std::sync::Arc;
use std::time::Duration;

use runner::source::{
    Catalog, DatabaseLogin, EditError, RowEditor, RowFields, SourceSettings, TableSettings, WriteError,
};
use runner_core::clock::SystemClock;
use runner_core::function::Functions;
use runner_core::schedule::ScheduleId;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::kit::{self, Dialect, SqlDb};
use crate::table;

pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(MariaDb): rows_are_edited_in_mariadb, one_of_two_writers_is_refused_in_mariadb,
            a_user_without_the_right_is_refused_in_mariadb, odd_columns_are_written_in_mariadb;
        needs(Postgres): rows_are_edited_in_postgres, one_of_two_writers_is_refused_in_postgres,
            a_user_without_the_right_is_refused_in_postgres, odd_columns_are_written_in_postgres;
    ]
}

async fn start(table: TableSettings) -> (Catalog, DropGuard) {
    let settings = SourceSettings {
        table: Some(table),
        writable: true,
        // Only what is asked for is read.
        sync_interval: Duration::from_secs(3600),
        ..SourceSettings::default()
    };
    let stop = CancellationToken::new();
    let catalog = Catalog::start(settings, Functions::default(), Arc::new(SystemClock), stop.clone()).await;
    (catalog, stop.drop_guard())
}

fn editor(catalog: &Catalog) -> &RowEditor {
    catalog.editor().expect("a table that may be written")
}

/// Quotes, backslashes, what looks like a literal of the database, and characters of four bytes.
fn odd(spec: &str) -> RowFields {
    RowFields {
        name: "\u{1f600} it's \"quoted\" \\ $t$ x\u{a0}".to_owned(),
        kind: "t".to_owned(),
        spec: spec.to_owned(),
        zone: "Europe/Berlin".to_owned(),
        payload: "{\"a\": \"'; DROP TABLE sys_crontab; -- \\\\ $t$ \u{1f600}\"}".to_owned(),
        options: "{\"retry\": 3}".to_owned(),
        enabled: true,
    }
}

async fn rows_are_edited_in_mariadb() {
    let db = kit::mariadb().fresh_db().await;
    db.execute(include_str!("data/table/create.sql")).await;
    rows_are_edited(&db).await;
}

async fn rows_are_edited_in_postgres() {
    let db = kit::postgres().fresh_db().await;
    db.execute(include_str!("../runner/migrations/postgres/0001_sys_crontab.sql"))
        .await;
    rows_are_edited(&db).await;
}

async fn rows_are_edited(db: &SqlDb) {
    let (catalog, _stop) = start(table::settings(db)).await;
    let editor = editor(&catalog);
    let wanted = odd("0 2 * * *");
    let row = editor.create(None, &wanted).await.expect("a row").after.expect("a row");
    assert_eq!((row.id.as_str(), &row.fields), ("db:1", &wanted));
    let plan = catalog.plan();
    let definition = &plan.schedules[&row.id];
    assert_eq!(
        (definition.timing.zone_name.as_str(), definition.task.max_retry),
        ("Europe/Berlin", 3)
    );
    assert_eq!(
        db.column("SELECT updated_at IS NOT NULL FROM sys_crontab").await.len(),
        1
    );
    let large = RowFields {
        payload: format!("{{\"large\": \"{}\"}}", "\u{e9}'\\".repeat(13_000)),
        options: String::new(),
        zone: String::new(),
        ..row.fields.clone()
    };
    let row = editor
        .update(&row.id, &row.version, &large)
        .await
        .expect("a change")
        .after
        .expect("a row");
    assert_eq!(row.fields, large);
    // Differs in case and in a space at the end only, which collations do not see.
    for name in ["A", "a", "a "] {
        let wanted = RowFields {
            name: name.to_owned(),
            ..row.fields.clone()
        };
        let now = editor.row(&row.id).await.expect("the row");
        let after = editor
            .update(&row.id, &now.version, &wanted)
            .await
            .expect("a change")
            .after;
        assert_eq!(after.expect("a row").fields.name, name);
    }
    let now = editor.row(&row.id).await.expect("the row");
    editor.switch(&row.id, Some(&now.version), false).await.expect("off");
    assert!(!catalog.plan().schedules[&row.id].enabled);
    let now = editor.row(&row.id).await.expect("the row");
    editor.delete(&row.id, Some(&now.version)).await.expect("gone");
    assert_eq!(db.column("SELECT id FROM sys_crontab").await.len(), 0);
    let too_long = RowFields {
        name: "n".repeat(101),
        ..odd("@daily")
    };
    let refused = editor
        .create(None, &too_long)
        .await
        .expect_err("a column of 100 characters");
    assert!(
        matches!(&refused, EditError::Write(WriteError::Rejected(_))),
        "{refused:?}"
    );
}

async fn one_of_two_writers_is_refused_in_mariadb() {
    let db = kit::mariadb().fresh_db().await;
    db.execute(include_str!("data/table/create.sql")).await;
    one_of_two_writers_is_refused(&db).await;
}

async fn one_of_two_writers_is_refused_in_postgres() {
    let db = kit::postgres().fresh_db().await;
    db.execute(include_str!("../runner/migrations/postgres/0001_sys_crontab.sql"))
        .await;
    one_of_two_writers_is_refused(&db).await;
}

/// Two processes save what they have seen, twenty times: each time exactly one is refused, whatever the clock says.
async fn one_of_two_writers_is_refused(db: &SqlDb) {
    let (one, _stop_one) = start(table::settings(db)).await;
    let (other, _stop_other) = start(table::settings(db)).await;
    let mut row = editor(&one)
        .create(None, &odd("@daily"))
        .await
        .expect("a row")
        .after
        .expect("a row");
    for turn in 0..20 {
        let named = |who: &str| RowFields {
            name: format!("{who} {turn}"),
            ..row.fields.clone()
        };
        let (first, second) = (named("one"), named("other"));
        let (first, second) = tokio::join!(
            editor(&one).update(&row.id, &row.version, &first),
            editor(&other).update(&row.id, &row.version, &second)
        );
        let (written, refused) = match (first, second) {
            (Ok(written), Err(refused)) | (Err(refused), Ok(written)) => (written, refused),
            both => panic!("{both:?}"),
        };
        let after = written.after.expect("a row");
        assert_eq!(refused, EditError::Changed(Box::new(after.clone())), "turn {turn}");
        row = after;
    }
}

async fn a_user_without_the_right_is_refused_in_mariadb() {
    let db = kit::mariadb().fresh_db().await;
    db.execute(include_str!("data/table/create.sql")).await;
    let name = &db.name;
    db.execute(&format!(
        "CREATE USER reader_{name}@'%' IDENTIFIED BY 'root'; GRANT SELECT ON {name}.* TO reader_{name}@'%';"
    ))
    .await;
    a_user_without_the_right_is_refused(&db, &format!("reader_{name}")).await;
}

async fn a_user_without_the_right_is_refused_in_postgres() {
    let db = kit::postgres().fresh_db().await;
    db.execute(include_str!("../runner/migrations/postgres/0001_sys_crontab.sql"))
        .await;
    let name = &db.name;
    db.execute(&format!(
        "CREATE ROLE reader_{name} LOGIN PASSWORD 'root'; GRANT SELECT ON sys_crontab TO reader_{name};"
    ))
    .await;
    a_user_without_the_right_is_refused(&db, &format!("reader_{name}")).await;
}

async fn a_user_without_the_right_is_refused(db: &SqlDb, user: &str) {
    let mut settings = table::settings(db);
    if let TableSettings::MySql(server) | TableSettings::Postgres(server) = &mut settings {
        server.login = DatabaseLogin::fixed(user, "root");
    }
    let (catalog, _stop) = start(settings).await;
    let refused = editor(&catalog)
        .create(None, &odd("@daily"))
        .await
        .expect_err("no right");
    assert!(
        matches!(&refused, EditError::Write(WriteError::Forbidden(_))),
        "{refused:?}"
    );
    assert_eq!(db.column("SELECT id FROM sys_crontab").await.len(), 0);
}

async fn odd_columns_are_written_in_mariadb() {
    let db = kit::mariadb().fresh_db().await;
    db.execute(
        "CREATE TABLE sys_crontab (id binary(2) PRIMARY KEY, name varchar(20) CHARSET latin1, type varchar(50), spec text, \
         payload blob, status bit(1), owner varchar(9), updated_at datetime(3), deleted_at datetime NULL); \
         INSERT INTO sys_crontab VALUES (X'01ab', 'caf\u{e9}', 't', '@daily', NULL, b'1', 'ann', NULL, NULL), \
         (X'01ac', 'other', 't', '@daily', NULL, b'1', 'bob', NULL, NULL);",
    )
    .await;
    odd_columns_are_written(
        &db,
        "01ab",
        "SELECT CONCAT(CAST(payload AS CHAR), status + 0, owner) FROM sys_crontab \
         WHERE id = X'01ab' AND updated_at IS NOT NULL",
    )
    .await;
}

async fn odd_columns_are_written_in_postgres() {
    let db = kit::postgres().fresh_db().await;
    db.execute(
        "CREATE TABLE sys_crontab (id uuid PRIMARY KEY, name text, type varchar(50), spec text, payload jsonb, \
         status boolean, owner text, updated_at timestamptz, deleted_at timestamptz); \
         INSERT INTO sys_crontab VALUES \
         ('00000000-0000-0000-0000-0000000000ab', 'caf\u{e9}', 't', '@daily', NULL, true, 'ann', NULL, NULL), \
         ('00000000-0000-0000-0000-0000000000ac', 'other', 't', '@daily', NULL, true, 'bob', NULL, NULL);",
    )
    .await;
    let seen = "SELECT payload::text || status::int || owner FROM sys_crontab \
         WHERE updated_at IS NOT NULL";
    odd_columns_are_written(&db, "00000000-0000-0000-0000-0000000000ab", seen).await;
}

async fn odd_columns_are_written(db: &SqlDb, key: &str, seen: &str) {
    let (catalog, _stop) = start(table::settings(db)).await;
    let editor = editor(&catalog);
    let id = ScheduleId::row(key);
    let row = editor.row(&id).await.expect("the row");
    assert_eq!(row.fields.name, "caf\u{e9}");
    let wanted = RowFields {
        payload: "{\"a\": 1}".to_owned(),
        enabled: false,
        ..row.fields.clone()
    };
    let row = editor
        .update(&id, &row.version, &wanted)
        .await
        .expect("a change")
        .after
        .expect("a row");
    assert_eq!(row.fields, wanted);
    assert_eq!(db.column(seen).await, [Some("{\"a\": 1}0ann".to_owned())]);
    editor.delete(&id, Some(&row.version)).await.expect("gone");
    let marked = "SELECT owner FROM sys_crontab WHERE deleted_at IS NOT NULL";
    assert_eq!(db.column(marked).await, [Some("ann".to_owned())]);
    assert_eq!(catalog.plan().schedules.len(), 1);
    let id = match db.dialect {
        Dialect::MariaDb => "7fff",
        _ => "00000000-0000-0000-0000-00000000ffff",
    };
    let row = editor.row(&ScheduleId::row(id)).await.expect_err("no such row");
    assert!(matches!(row, EditError::Gone(_)), "{row:?}");
}
