//! The table in real servers: the manual's own DDL and INSERT, unchanged, and a server that disappears.

use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use runner::source::{
    self, Catalog, DatabaseLogin, DatabaseServer, SourceSettings, SourceState, TableError, TableSettings,
};
use runner_core::clock::SystemClock;
use runner_core::function::Functions;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::kit::{self, Dialect, SqlDb};

const CREATE: &str = include_str!("data/table/create.sql");
const INSERT: &str = include_str!("data/table/insert.sql");

pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(MariaDb): a_row_of_the_manual_is_live_in_mariadb, odd_tables_are_read_in_mariadb,
            marks_bits_and_bytes_are_read_in_mariadb, text_without_bound_is_not_read_in_mariadb,
            a_missing_table_in_mariadb_is_reported_and_created, a_table_that_never_answers_times_out;
        needs(MariaDb): a_lost_database_server_removes_no_schedule;
        needs(Postgres): rows_are_live_in_postgres, marks_booleans_and_bytes_are_read_in_postgres,
            text_without_bound_is_not_read_in_postgres;
    ]
}

pub fn settings(db: &SqlDb) -> TableSettings {
    let server = DatabaseServer {
        host: "127.0.0.1".to_owned(),
        port: db.port,
        login: DatabaseLogin::fixed(db.user(), "root"),
        database: db.name.clone(),
        // A few readings long, so that each test also sees connections replaced.
        max_lifetime: Some(Duration::from_millis(500)),
    };
    match db.dialect {
        Dialect::MariaDb => TableSettings::MySql(server),
        Dialect::Postgres => TableSettings::Postgres(server),
        Dialect::Sqlite => panic!("a file is not a server"),
    }
}

async fn start(db: &SqlDb) -> (Catalog, DropGuard) {
    let zone = TimeZone::get("Asia/Shanghai").expect("a zone");
    let settings = SourceSettings {
        table: Some(settings(db)),
        zone_name: "Asia/Shanghai".to_owned(),
        zone,
        sync_interval: Duration::from_millis(200),
        ..SourceSettings::default()
    };
    let stop = CancellationToken::new();
    let catalog = Catalog::start(settings, Functions::default(), Arc::new(SystemClock), stop.clone()).await;
    (catalog, stop.drop_guard())
}

pub async fn schedules(catalog: &Catalog, count: usize) {
    kit::eventually("the rows", || async {
        let plan = catalog.plan();
        if plan.schedules.len() == count {
            return Ok(());
        }
        Err(format!("{:?} {:?}", plan.schedules.keys(), catalog.statuses()))
    })
    .await;
}

fn first(catalog: &Catalog) -> runner_core::schedule::Definition {
    catalog.plan().schedules.values().next().expect("a schedule").clone()
}

async fn a_row_of_the_manual_is_live_in_mariadb() {
    let db = kit::mariadb().fresh_db().await;
    db.execute(CREATE).await;
    let (catalog, _stop) = start(&db).await;
    assert_eq!(catalog.statuses()[0].state, SourceState::Loaded);
    db.execute(INSERT).await;
    schedules(&catalog, 1).await;
    let d = first(&catalog);
    assert_eq!(
        (d.id.as_str(), d.name.as_str(), d.enabled),
        ("db:1", "每日数据统计", true)
    );
    assert_eq!(
        (d.task.kind.as_str(), d.timing.text.as_str()),
        ("task:daily-stats", "0 1 * * *")
    );
    assert_eq!(d.timing.zone_name, "Asia/Shanghai");
    assert_eq!(d.task.payload.as_deref(), Some(br#"{"date":"today"}"#.as_slice()));
    db.execute("UPDATE sys_crontab SET status = 0").await;
    kit::eventually("off", || async {
        if first(&catalog).enabled { Err("on") } else { Ok(()) }
    })
    .await;
    db.execute("DELETE FROM sys_crontab").await;
    schedules(&catalog, 0).await;
}

/// Tables with other types, another character set, zero dates, odd values.
async fn odd_tables_are_read_in_mariadb() {
    let db = kit::mariadb().fresh_db().await;
    db.execute(
        "CREATE TABLE sys_crontab (id int PRIMARY KEY, name char(20) NULL, type varchar(50) NULL, spec text, \
         payload json, status tinyint(1), updated_at datetime NULL) CHARSET latin1;",
    )
    .await;
    db.execute(
        "SET sql_mode = ''; INSERT INTO sys_crontab VALUES (1, 'caf\u{e9}', 't', '@daily', '{\"a\": 1}', 1, '0000-00-00'), \
         (2, NULL, 't', '@hourly', NULL, 2, NULL), (-3, 'x', NULL, '@daily', NULL, 1, NULL), \
         (10, 'y', 't', 'CRON_TZ=UTC 5 * * * *', NULL, NULL, NULL);",
    )
    .await;
    let (catalog, _stop) = start(&db).await;
    let plan = catalog.plan();
    let ids: Vec<(&str, bool)> = plan.schedules.iter().map(|(id, d)| (id.as_str(), d.enabled)).collect();
    assert_eq!(ids, [("db:1", true), ("db:10", false), ("db:2", false)]);
    assert_eq!(first(&catalog).name, "caf\u{e9}");
    assert_eq!(first(&catalog).task.payload.as_deref(), Some(br#"{"a": 1}"#.as_slice()));
    let problems: Vec<String> = plan
        .problems
        .iter()
        .map(|p| format!("{} {}", p.place, p.code))
        .collect();
    let expected = [
        "sys_crontab id -3 D101",
        "sys_crontab id 10 W252",
        "sys_crontab id 2 W252",
    ];
    assert_eq!(problems, expected);
}

/// The content of the table: each schedule with whether it is enabled, and each problem.
async fn said(db: &SqlDb) -> (Vec<(String, bool)>, Vec<String>) {
    let settings = SourceSettings {
        table: Some(settings(db)),
        ..SourceSettings::default()
    };
    let loaded = Catalog::load_once(settings, Arc::new(SystemClock)).await;
    let state = &loaded.statuses[0].state;
    assert_eq!(*state, SourceState::Loaded);
    let on =
        |(id, d): (&runner_core::schedule::ScheduleId, &runner_core::schedule::Definition)| (id.to_string(), d.enabled);
    let problems = |p: &runner_core::schedule::Problem| format!("{} {}", p.place, p.code);
    let plan = &loaded.plan;
    let problems = plan.problems.iter().filter(|p| p.code != "W240").map(problems);
    (plan.schedules.iter().map(on).collect(), problems.collect())
}

fn ids(expected: &[(&str, bool)]) -> Vec<(String, bool)> {
    expected.iter().map(|(id, on)| ((*id).to_owned(), *on)).collect()
}

async fn marks_bits_and_bytes_are_read_in_mariadb() {
    let db = kit::mariadb().fresh_db().await;
    db.execute(
        "CREATE TABLE sys_crontab (id binary(16) PRIMARY KEY, name varchar(100), type varchar(50), spec varchar(100), \
         payload blob, status bit(1) NOT NULL DEFAULT b'1', deleted_at datetime(3) NULL); \
         INSERT INTO sys_crontab (id, name, type, spec, payload, status, deleted_at) VALUES \
         (unhex('8190f5a2b3c4aef8899aabbccddeeff0'), 'a', 't', '@daily', unhex('81a16101'), b'1', NULL), \
         (unhex('8290f5a2b3c4aef8899aabbccddeeff0'), 'b', 't', '@daily', NULL, b'0', NULL), \
         (unhex('8390f5a2b3c4aef8899aabbccddeeff0'), 'c', 't', '@daily', NULL, b'1', '2026-01-02 03:04:05.678')",
    )
    .await;
    let (first, second) = (
        "db:8190f5a2b3c4aef8899aabbccddeeff0",
        "db:8290f5a2b3c4aef8899aabbccddeeff0",
    );
    let problems = vec!["sys_crontab id 8190f5a2b3c4aef8899aabbccddeeff0 W253".to_owned()];
    assert_eq!(said(&db).await, (ids(&[(first, true), (second, false)]), problems));
    // Without a key, and with flags that are numbers or cannot be NULL.
    db.execute(
        "DROP TABLE sys_crontab; CREATE TABLE sys_crontab (id int NOT NULL DEFAULT 0, name varchar(100), type varchar(50), \
         spec varchar(100), payload text, status varchar(10), deleted_at bigint NOT NULL DEFAULT 0); \
         INSERT INTO sys_crontab (id, name, type, spec, status, deleted_at) VALUES (0, 'one', 't', '@daily', '1', 0), \
         (0, 'two', 't', '@daily', '1', 0), (3, 'three', 't', '@daily', 'TRUE', 0), (4, 'four', 't', '@daily', 'ON', 0), \
         (5, 'five', 't', '@daily', '1', 1767323045)",
    )
    .await;
    let problems = vec!["sys_crontab id 0 D114".to_owned(), "sys_crontab id 4 W252".to_owned()];
    assert_eq!(said(&db).await, (ids(&[("db:3", true), ("db:4", false)]), problems));
    db.execute(
        "SET sql_mode = ''; ALTER TABLE sys_crontab DROP COLUMN deleted_at, ADD COLUMN deleted_at datetime NOT NULL",
    )
    .await;
    assert_eq!(
        said(&db).await.0,
        ids(&[("db:3", true), ("db:4", false), ("db:5", true)])
    );
}

async fn text_without_bound_is_not_read_in_mariadb() {
    let db = kit::mariadb().fresh_db().await;
    db.execute(CREATE).await;
    db.execute(
        "ALTER TABLE sys_crontab MODIFY payload longtext; \
         INSERT INTO sys_crontab (id, name, type, spec, payload) SELECT seq, 'n', 't', '@daily', \
         CONCAT('\"', REPEAT('x', 1048574), '\"') FROM seq_1_to_65; \
         INSERT INTO sys_crontab (id, name, type, spec, payload) VALUES (66, 'long', 't', '@daily', REPEAT('x', 1048577))",
    )
    .await;
    too_many_rows_are_reported(&db).await;
}

async fn too_many_rows_are_reported(db: &SqlDb) {
    let (found, problems) = said(db).await;
    assert_eq!(found.len(), 63);
    let expected: Vec<String> = (64..=66).map(|id| format!("sys_crontab id {id} D117")).collect();
    assert_eq!(problems, expected);
    db.execute("DELETE FROM sys_crontab WHERE id < 65").await;
    let problems = vec!["sys_crontab id 66 D116".to_owned()];
    assert_eq!(said(db).await, (ids(&[("db:65", true)]), problems));
}

async fn text_without_bound_is_not_read_in_postgres() {
    let db = kit::postgres().fresh_db().await;
    assert_eq!(source::migrate(&settings(&db)).await, Ok(true));
    db.execute(
        "INSERT INTO sys_crontab (name, type, spec, payload) SELECT 'n', 't', '@daily', '\"' || repeat('x', 1048574) || '\"' \
         FROM generate_series(1, 65); \
         INSERT INTO sys_crontab (name, type, spec, payload) VALUES ('long', 't', '@daily', repeat('x', 1048577))",
    )
    .await;
    too_many_rows_are_reported(&db).await;
}

async fn marks_booleans_and_bytes_are_read_in_postgres() {
    let db = kit::postgres().fresh_db().await;
    db.execute(
        "CREATE TABLE sys_crontab (id bytea PRIMARY KEY, name text, type text, spec text, payload bytea, status boolean, \
         \"Deleted_At\" timestamptz); \
         INSERT INTO sys_crontab VALUES ('\\x8190', 'a', 't', '@daily', '\\x81a16101', true, NULL), \
         ('\\x8290', 'b', 't', '@daily', NULL, false, NULL), ('\\x8390', 'c', 't', '@daily', NULL, NULL, NULL), \
         ('\\x8490', 'd', 't', '@daily', NULL, true, now())",
    )
    .await;
    let problems = vec![
        "sys_crontab id 8190 W253".to_owned(),
        "sys_crontab id 8390 W252".to_owned(),
    ];
    let expected = [("db:8190", true), ("db:8290", false), ("db:8390", false)];
    assert_eq!(said(&db).await, (ids(&expected), problems));
    db.execute(
        "DROP TABLE sys_crontab; CREATE DOMAIN label AS text; \
         CREATE TABLE sys_crontab (id uuid, name label, type label, spec label, payload json, status bit(1), deleted_at int); \
         INSERT INTO sys_crontab VALUES ('8190f5a2-b3c4-4ef8-899a-abbccddeeff0', 'a', 't', '@daily', '{}', B'1', 0), \
         (NULL, 'b', 't', '@daily', '{}', B'1', 0), (NULL, 'c', 't', '@daily', '{}', B'1', 0)",
    )
    .await;
    let problems = vec!["sys_crontab, no id D113".to_owned()];
    let expected = [("db:8190f5a2-b3c4-4ef8-899a-abbccddeeff0", true)];
    assert_eq!(said(&db).await, (ids(&expected), problems));
    db.execute("ALTER TABLE sys_crontab DROP COLUMN status").await;
    let settings = SourceSettings {
        table: Some(settings(&db)),
        ..SourceSettings::default()
    };
    let loaded = Catalog::load_once(settings, Arc::new(SystemClock)).await;
    let reason = loaded.statuses[0].state.reason().unwrap_or_default();
    assert!(
        reason.contains("has no column status; its columns are id, name"),
        "{reason}"
    );
}

async fn a_missing_table_in_mariadb_is_reported_and_created() {
    let db = kit::mariadb().fresh_db().await;
    let (catalog, _stop) = start(&db).await;
    let status = &catalog.statuses()[0];
    let SourceState::Unavailable { reason, .. } = &status.state else {
        panic!("{status:?}")
    };
    assert!(reason.contains("runner migrate"), "{reason}");
    assert_eq!(catalog.plan().problems[0].code, "D108");
    let settings = settings(&db);
    assert_eq!(source::migrate(&settings).await, Ok(true));
    assert_eq!(source::migrate(&settings).await, Ok(false));
    db.execute(INSERT).await;
    schedules(&catalog, 1).await;
    assert_eq!(catalog.plan().problems, []);
}

async fn a_table_that_never_answers_times_out() {
    let db = kit::mariadb().fresh_db().await;
    db.execute("CREATE TABLE one (id int); INSERT INTO one VALUES (1)")
        .await;
    db.execute(
        "CREATE VIEW sys_crontab AS SELECT id, 'n' AS name, 't' AS type, '@daily' AS spec, '' AS payload, \
         SLEEP(60) AS status FROM one",
    )
    .await;
    let begun = tokio::time::Instant::now();
    let (catalog, _stop) = start(&db).await;
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    kit::eventually("given up", || async {
        match catalog.statuses().remove(0).state {
            SourceState::Unavailable { reason, .. } if reason == "no answer within 5s" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    // The late answer is not mistaken for that of a later query.
    db.execute("DROP VIEW sys_crontab").await;
    db.execute(CREATE).await;
    db.execute(INSERT).await;
    schedules(&catalog, 1).await;
}

async fn a_lost_database_server_removes_no_schedule() {
    let server = kit::mariadb::start();
    let db = server.fresh_db().await;
    db.execute(CREATE).await;
    db.execute(INSERT).await;
    let (catalog, _stop) = start(&db).await;
    assert_eq!(catalog.plan().schedules.len(), 1);
    drop(server);
    kit::eventually("stale", || async {
        match catalog.statuses().remove(0).state {
            SourceState::Stale { .. } => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert_eq!(catalog.plan().schedules.len(), 1);
    // At the start too: no rows, no panic, no long wait.
    let begun = tokio::time::Instant::now();
    let (cold, _stop) = start(&db).await;
    assert!(begun.elapsed() < Duration::from_secs(4));
    assert!(matches!(cold.statuses()[0].state, SourceState::Unavailable { .. }));
}

async fn rows_are_live_in_postgres() {
    let db = kit::postgres().fresh_db().await;
    let settings = settings(&db);
    let (catalog, _stop) = start(&db).await;
    assert_eq!(catalog.plan().problems[0].code, "D108");
    assert_eq!(source::migrate(&settings).await, Ok(true));
    assert_eq!(source::migrate(&settings).await, Ok(false));
    db.execute(&INSERT.replace('`', "")).await;
    schedules(&catalog, 1).await;
    let d = first(&catalog);
    assert_eq!(
        (d.id.as_str(), d.name.as_str(), d.enabled),
        ("db:1", "每日数据统计", true)
    );
    assert_eq!(d.task.payload.as_deref(), Some(br#"{"date":"today"}"#.as_slice()));
    db.execute("ALTER TABLE sys_crontab ALTER COLUMN payload TYPE jsonb USING payload::jsonb; UPDATE sys_crontab SET status = 2")
        .await;
    kit::eventually("off", || async {
        if first(&catalog).enabled { Err("on") } else { Ok(()) }
    })
    .await;
    let missing = match settings {
        TableSettings::Postgres(server) => TableSettings::Postgres(DatabaseServer {
            database: "nowhere".to_owned(),
            ..server
        }),
        other => other,
    };
    assert!(matches!(source::migrate(&missing).await, Err(TableError::Database(e)) if e.contains("nowhere")));
}
