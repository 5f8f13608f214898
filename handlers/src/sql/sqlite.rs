//! SQLite: connection, parameters, values of rows, and a flag that ends a statement.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::TryStreamExt;
use runner_core::function::SqlSpec;
use serde_json::Value;
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteConnectOptions, SqliteConnection, SqliteRow};
use sqlx::{Column, ConnectOptions, Row, Sqlite, TypeInfo, ValueRef};

use super::failure::Failure;
use super::rows::{ResultRows, bytes_to_json, float_to_json};
use super::statement::{BoundStatement, Changed, text_of};

/// Instructions of SQLite's machine between two looks at the flag: less than a millisecond.
const LOOK_EVERY: i32 = 10_000;

/// Ends the statement of one connection.
#[derive(Clone)]
pub(super) struct SqliteCanceller(Arc<AtomicBool>);

impl SqliteCanceller {
    pub(super) fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Opens the file, which must exist.
pub(super) async fn open(url: &str, spec: &SqlSpec) -> Result<(SqliteConnection, SqliteCanceller), Failure> {
    let options = SqliteConnectOptions::from_str(url)?.disable_statement_logging();
    let options = options.create_if_missing(false).read_only(spec.read_only);
    let mut connection = options.connect().await?;
    let cancelled = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&cancelled);
    let mut handle = connection.lock_handle().await?;
    handle.set_progress_handler(LOOK_EVERY, move || !flag.load(Ordering::Relaxed));
    drop(handle);
    Ok((connection, SqliteCanceller(cancelled)))
}

fn bound(statement: &BoundStatement<'_>) -> Query<'static, Sqlite, SqliteArguments> {
    let mut query = sqlx::query(text_of(statement)).persistent(false);
    for value in &statement.values {
        query = match value {
            Value::Null => query.bind(None::<String>),
            Value::Bool(flag) => query.bind(*flag),
            Value::Number(number) => match number.as_i64() {
                Some(number) => query.bind(number),
                None => query.bind(number.as_f64()),
            },
            Value::String(text) => query.bind(text.clone()),
            Value::Array(_) | Value::Object(_) => query.bind(value.to_string()),
        };
    }
    query
}

pub(super) async fn execute(
    connection: &mut SqliteConnection,
    statement: &BoundStatement<'_>,
) -> Result<Changed, Failure> {
    let done = bound(statement).execute(connection).await?;
    Ok(Changed {
        rows: done.rows_affected(),
        last_insert_id: Some(done.last_insert_rowid()).filter(|id| *id > 0),
    })
}

pub(super) async fn query(
    connection: &mut SqliteConnection,
    statement: &BoundStatement<'_>,
    max_rows: u32,
) -> Result<ResultRows, Failure> {
    let mut rows = ResultRows::default();
    let mut stream = bound(statement).fetch(connection);
    while let Some(row) = stream.try_next().await? {
        if rows.count == 0 {
            rows.columns = row.columns().iter().map(|column| column.name().to_owned()).collect();
        }
        let values: Result<Vec<_>, _> = (0..row.len()).map(|index| value(&row, index)).collect();
        rows.push(values?, max_rows);
    }
    Ok(rows)
}

fn value(row: &SqliteRow, index: usize) -> Result<Value, sqlx::Error> {
    let raw = row.try_get_raw(index)?;
    if raw.is_null() {
        return Ok(Value::Null);
    }
    let name = raw.type_info().name().to_owned();
    Ok(match name.as_str() {
        "INTEGER" => row.try_get_unchecked::<i64, _>(index)?.into(),
        "REAL" => float_to_json(row.try_get_unchecked(index)?),
        "BLOB" => bytes_to_json(row.try_get_unchecked(index)?),
        _ => row.try_get_unchecked::<String, _>(index)?.into(),
    })
}
