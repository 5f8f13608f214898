//! Rows by example, and the table in a SQLite file. Here are the row and the file that the tests change.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod file;
mod restart;
mod row;
mod rows;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Executor};
use tokio_util::sync::CancellationToken;

use runner_core::clock::SystemClock;
use runner_core::cron::DstRule;
use runner_core::function::Functions;

use super::store::{Cell, TableRow};
use crate::source::{Catalog, ScheduleContext, SourceSettings, TableSettings};

fn context() -> ScheduleContext {
    let zone = jiff::tz::TimeZone::get("Asia/Shanghai").unwrap();
    ScheduleContext {
        rabbitmq: vec!["main".to_owned()],
        redis: vec!["main".to_owned()],
        channels: Vec::new(),
        zone_name: "Asia/Shanghai".into(),
        zone,
        dst: DstRule::default(),
        vet: Default::default(),
        semaphores: runner_core::limit::SemaphoreReach::Everywhere,
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

/// A table in a SQLite file.
struct File {
    dir: tempfile::TempDir,
}

impl File {
    /// A place where no file is yet.
    fn empty() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { dir }
    }

    /// A file with the table, in which these statements have been executed.
    async fn with(statements: &[&str]) -> Self {
        let file = Self::empty();
        file.execute(include_str!("../../../../migrations/sqlite/0100_sys_crontab.sql"))
            .await;
        for statement in statements {
            file.execute(statement).await;
        }
        file
    }

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

/// The row of the manual.
const INSERT: &str = include_str!("../../../../../tests/data/table/insert.sql");
