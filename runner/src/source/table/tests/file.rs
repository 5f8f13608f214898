//! The table in a SQLite file: read, changed, replaced, removed.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use runner_core::clock::SystemClock;

use super::{File, INSERT, catalog};
use crate::source::table::migrate;
use crate::source::{Catalog, SourceState, TableSettings};

async fn until(catalog: &Catalog, what: &str, holds: impl Fn(&runner_core::schedule::Plan) -> bool) {
    let mut plan = catalog.watch();
    let came = plan.wait_for(|p| holds(p));
    let came = tokio::time::timeout(Duration::from_secs(10), came).await.is_ok();
    assert!(came, "{what}: {:?} {:?}", catalog.plan(), catalog.statuses());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_of_a_file_is_live_changes_and_goes() {
    let file = File::empty();
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
    let file = File::with(&[INSERT]).await;
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
    let (file, other) = (File::with(&[INSERT]).await, File::with(&[]).await);
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
    let file = File::with(&[]).await;
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
    let file = File::empty();
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
    let file = File::empty();
    let table = file.settings().table.unwrap();
    assert_eq!(migrate(&table).await, Ok(true));
    assert_eq!(migrate(&table).await, Ok(false));
    let nowhere = TableSettings::Sqlite {
        path: Path::new("/proc/nonexistent/x.db").to_owned(),
    };
    assert!(migrate(&nowhere).await.is_err());
}
