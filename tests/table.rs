//! The table in real servers: the manual's own DDL and INSERT, unchanged, and a server that goes away.

use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use runner::source::{self, Catalog, Login, Server, Settings, SourceState, TableError, TableSettings};
use runner_core::clock::SystemClock;
use runner_sdk::Functions;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::kit::{self, Dialect, SqlDb};

const CREATE: &str = include_str!("data/table/create.sql");
const INSERT: &str = include_str!("data/table/insert.sql");

pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(MariaDb): a_row_of_the_manual_is_live_in_mariadb, odd_tables_are_read_in_mariadb,
            a_table_that_is_missing_in_mariadb_is_told_and_made, a_table_that_never_answers_is_given_up;
        needs(MariaDb): a_server_that_goes_away_takes_no_schedule_with_it;
        needs(Postgres): rows_are_live_in_postgres;
    ]
}

fn settings(db: &SqlDb) -> TableSettings {
    let server = Server {
        host: "127.0.0.1".to_owned(),
        port: db.port,
        login: Login::fixed(db.user(), "root"),
        database: db.name.clone(),
        // A few readings long, so that each test also sees connections replaced.
        max_lifetime: Some(Duration::from_millis(500)),
    };
    match db.dialect {
        Dialect::MariaDb => TableSettings::MySql(server),
        Dialect::Postgres => TableSettings::Postgres(server),
        Dialect::Sqlite => panic!("a file is no server"),
    }
}

async fn start(db: &SqlDb) -> (Catalog, DropGuard) {
    let zone = TimeZone::get("Asia/Shanghai").expect("a zone");
    let settings = Settings {
        table: Some(settings(db)),
        zone_name: "Asia/Shanghai".to_owned(),
        zone,
        sync_interval: Duration::from_millis(200),
        ..Settings::empty()
    };
    let stop = CancellationToken::new();
    let catalog = Catalog::start(settings, Functions::default(), Arc::new(SystemClock), stop.clone()).await;
    (catalog, stop.drop_guard())
}

async fn schedules(catalog: &Catalog, count: usize) {
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

/// Tables that people made themselves: other types, another character set, zero dates, odd values.
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
    let told: Vec<String> = plan
        .problems
        .iter()
        .map(|p| format!("{} {}", p.origin.place, p.code))
        .collect();
    assert_eq!(told, ["sys_crontab id -3 D101"]);
}

async fn a_table_that_is_missing_in_mariadb_is_told_and_made() {
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

async fn a_table_that_never_answers_is_given_up() {
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
    // Nothing of the answer that was given up is mistaken for a later one.
    db.execute("DROP VIEW sys_crontab").await;
    db.execute(CREATE).await;
    db.execute(INSERT).await;
    schedules(&catalog, 1).await;
}

async fn a_server_that_goes_away_takes_no_schedule_with_it() {
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
    let nobody = match settings {
        TableSettings::Postgres(server) => TableSettings::Postgres(Server {
            database: "nowhere".to_owned(),
            ..server
        }),
        other => other,
    };
    assert!(matches!(source::migrate(&nobody).await, Err(TableError::Database(e)) if e.contains("nowhere")));
}
