//! The connection to the table's database: closed while idle, dropped silently, and through a pooling proxy.

use std::sync::Arc;
use std::time::Duration;

use runner::source::{Catalog, DatabaseLogin, DatabaseServer, SourceSettings, SourceState, TableSettings};
use runner_core::clock::SystemClock;
use runner_core::function::Functions;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::kit::{self, Dialect, Forward, SqlDb};
use crate::table;

const CREATE: &str = include_str!("data/table/create.sql");
const INSERT: &str = include_str!("data/table/insert.sql");

/// The tests of this module.
pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(MariaDb): a_connection_of_mariadb_that_was_closed_costs_no_reading,
            a_dead_connection_costs_no_reading, only_statements_that_proxies_know_are_sent_to_mariadb,
            a_server_that_takes_no_writes_is_read;
        needs(Postgres): a_connection_of_postgres_that_was_closed_costs_no_reading;
        needs(PgBouncer): rows_are_read_through_a_pool_of_transactions;
    ]
}

/// Reads only on request, over a persistent connection.
async fn start(table: TableSettings, port: u16) -> (Catalog, DropGuard) {
    let stays = |server: DatabaseServer| DatabaseServer {
        port,
        max_lifetime: None,
        ..server
    };
    let table = match table {
        TableSettings::MySql(server) => TableSettings::MySql(stays(server)),
        TableSettings::Postgres(server) => TableSettings::Postgres(stays(server)),
        other => other,
    };
    let settings = SourceSettings {
        table: Some(table),
        sync_interval: Duration::from_secs(3600),
        ..SourceSettings::default()
    };
    let stop = CancellationToken::new();
    let catalog = Catalog::start(settings, Functions::default(), Arc::new(SystemClock), stop.clone()).await;
    assert_eq!(catalog.statuses()[0].state, SourceState::Loaded);
    (catalog, stop.drop_guard())
}

/// Adds a row and reads: it must appear at once.
async fn sees_another_row(catalog: &Catalog, db: &SqlDb) {
    let before = catalog.plan().schedules.len();
    db.execute("INSERT INTO sys_crontab (name, type, spec, status) VALUES ('n', 't', '@daily', 1)")
        .await;
    assert!(catalog.sync().await);
    assert_eq!(catalog.statuses()[0].state, SourceState::Loaded);
    assert_eq!(catalog.plan().schedules.len(), before + 1);
}

/// Closes the connection, three times: `ids` are those of all connections to the database except the querying one.
async fn closed_while_idle(db: &SqlDb, ids: &str, kill: &str) {
    let (catalog, _stop) = start(table::settings(db), db.port).await;
    let connections = || async { db.column(ids).await.into_iter().flatten().collect::<Vec<String>>() };
    for _ in 0..3 {
        // Earlier query connections may take a moment to end, so wait for an answer with only one.
        let connection = kit::eventually("one connection is connection", || async {
            let there = connections().await;
            <[String; 1]>::try_from(there).map_err(|there| format!("{there:?}"))
        })
        .await;
        db.execute(&kill.replace('?', &connection[0])).await;
        kit::eventually("it is gone", || async {
            let there = connections().await;
            (!there.contains(&connection[0]))
                .then_some(())
                .ok_or(format!("{there:?}"))
        })
        .await;
        sees_another_row(&catalog, db).await;
    }
}

async fn a_connection_of_mariadb_that_was_closed_costs_no_reading() {
    let db = kit::mariadb().fresh_db().await;
    db.execute(CREATE).await;
    let others =
        "SELECT CAST(id AS CHAR) FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()";
    closed_while_idle(&db, others, "KILL ?").await;
}

async fn a_connection_of_postgres_that_was_closed_costs_no_reading() {
    let db = kit::postgres().fresh_db().await;
    assert_eq!(runner::source::migrate(&table::settings(&db)).await, Ok(true));
    let others =
        "SELECT pid::text FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    closed_while_idle(&db, others, "SELECT pg_terminate_backend(?)::text").await;
}

/// As behind a firewall that dropped the connection's state.
async fn a_dead_connection_costs_no_reading() {
    let db = kit::mariadb().fresh_db().await;
    db.execute(CREATE).await;
    let forward = Forward::start("127.0.0.1:0", db.port).await;
    let (catalog, _stop) = start(table::settings(&db), forward.address.port()).await;
    sees_another_row(&catalog, &db).await;
    forward.silence();
    sees_another_row(&catalog, &db).await;
}

/// A proxy such as ProxySQL pins a connection to one server at a SET that it cannot parse, and at prepared statements.
async fn only_statements_that_proxies_know_are_sent_to_mariadb() {
    let db = kit::mariadb().fresh_db().await;
    db.execute(CREATE).await;
    let user = format!("u_{}", db.name);
    db.execute(&format!(
        "CREATE USER {user}@'%' IDENTIFIED BY 'p'; GRANT SELECT ON {}.* TO {user}@'%'",
        db.name
    ))
    .await;
    db.execute("SET GLOBAL log_output = 'TABLE'; SET GLOBAL general_log = 1")
        .await;
    let TableSettings::MySql(server) = table::settings(&db) else {
        panic!("{:?}", db.dialect)
    };
    let server = DatabaseServer {
        login: DatabaseLogin::fixed(&user, "p"),
        ..server
    };
    let (catalog, _stop) = start(TableSettings::MySql(server), db.port).await;
    sees_another_row(&catalog, &db).await;
    let sent =
        format!("SELECT CONCAT(command_type, ' ', argument) FROM mysql.general_log WHERE user_host LIKE '%{user}%'");
    let sent: Vec<String> = db.column(&sent).await.into_iter().flatten().collect();
    db.execute("SET GLOBAL general_log = 0").await;
    let known = [
        "Connect ",
        "Query SET NAMES utf8mb4",
        "Query SHOW COLUMNS FROM ",
        "Query SELECT ",
    ];
    let unknown: Vec<&String> = sent
        .iter()
        .filter(|one| !known.iter().any(|k| one.starts_with(k)))
        .collect();
    assert!(sent.len() >= 7 && unknown.is_empty(), "{unknown:?} of {sent:?}");
}

/// As after a failover: rows are read wherever the name leads.
async fn a_server_that_takes_no_writes_is_read() {
    let server = kit::mariadb::start();
    let db = server.fresh_db().await;
    db.execute(CREATE).await;
    db.execute(INSERT).await;
    let user = format!("u_{}", db.name);
    db.execute(&format!(
        "CREATE USER {user}@'%' IDENTIFIED BY 'p'; GRANT SELECT ON {}.* TO {user}@'%'",
        db.name
    ))
    .await;
    let TableSettings::MySql(reached) = table::settings(&db) else {
        panic!("{:?}", db.dialect)
    };
    let reached = DatabaseServer {
        login: DatabaseLogin::fixed(&user, "p"),
        ..reached
    };
    let (catalog, _stop) = start(TableSettings::MySql(reached), db.port).await;
    db.execute("SET GLOBAL read_only = 1").await;
    assert!(catalog.sync().await);
    assert_eq!(catalog.statuses()[0].state, SourceState::Loaded);
    assert_eq!(catalog.plan().schedules.len(), 1);
}

async fn rows_are_read_through_a_pool_of_transactions() {
    let db = kit::postgres().fresh_db().await;
    let pool = kit::pgbouncer::start(&db);
    assert_eq!(db.dialect, Dialect::Postgres);
    let TableSettings::Postgres(server) = table::settings(&db) else {
        panic!("{:?}", db.dialect)
    };
    let through = TableSettings::Postgres(DatabaseServer {
        port: pool.port,
        ..server
    });
    assert_eq!(runner::source::migrate(&through).await, Ok(true));
    let (catalog, _stop) = start(through, pool.port).await;
    for _ in 0..3 {
        sees_another_row(&catalog, &db).await;
        // Session settings of the pool's own connection are those of another connection to us.
        db.execute("SELECT pg_terminate_backend(pid)::text FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
            .await;
    }
}
