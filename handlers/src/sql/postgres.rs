//! PostgreSQL: connection, parameters, rows, and `pg_cancel_backend`.
//!
//! The server says which types a statement's placeholders have; values are sent as these types (see `postgres_types`), so
//! that a text may stand for an instant or a number as in any other database.

use std::str::FromStr;

use futures_util::TryStreamExt;
use serde_json::Value;
use sqlx::encode::{Encode, IsNull};
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArgumentBuffer, PgArguments, PgConnectOptions, PgConnection, PgRow, PgTypeInfo};
use sqlx::{Arguments, Column, ConnectOptions, Either, Executor, Postgres, Row, SqlSafeStr, Statement, Type, ValueRef};

use super::failure::Failure;
use super::postgres_types::{from_binary, to_binary};
use super::rows::ResultRows;
use super::statement::{BoundStatement, Changed, text_of};

/// Ends the statement of one connection over another.
#[derive(Clone)]
pub(super) struct PostgresCanceller {
    options: PgConnectOptions,
    process: i32,
}

impl PostgresCanceller {
    pub(super) async fn cancel(&self) -> Result<(), sqlx::Error> {
        let mut connection = self.options.connect().await?;
        let cancel = sqlx::query("SELECT pg_cancel_backend($1)").bind(self.process);
        cancel.execute(&mut connection).await.map(drop)
    }
}

/// Connects.
pub(super) async fn open(url: &str) -> Result<(PgConnection, PostgresCanceller), Failure> {
    let options = PgConnectOptions::from_str(url)?.disable_statement_logging();
    let options = options.application_name("runner");
    let mut connection = options.connect().await?;
    let process = sqlx::query_scalar("SELECT pg_backend_pid()");
    let canceller = PostgresCanceller {
        process: process.fetch_one(&mut connection).await?,
        options,
    };
    Ok((connection, canceller))
}

/// A value in the binary form of its type.
struct Parameter {
    kind: PgTypeInfo,
    bytes: Option<Vec<u8>>,
}

impl Type<Postgres> for Parameter {
    fn type_info() -> PgTypeInfo {
        // Never asked for: `produces` has the type of each value.
        <str as Type<Postgres>>::type_info()
    }
}

impl Encode<'_, Postgres> for Parameter {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        let Some(bytes) = &self.bytes else {
            return Ok(IsNull::Yes);
        };
        buffer.extend_from_slice(bytes);
        Ok(IsNull::No)
    }

    fn produces(&self) -> Option<PgTypeInfo> {
        Some(self.kind.clone())
    }
}

/// The values as the types that the server expects.
async fn arguments(connection: &mut PgConnection, statement: &BoundStatement<'_>) -> Result<PgArguments, Failure> {
    let mut arguments = PgArguments::default();
    if statement.values.is_empty() {
        return Ok(arguments);
    }
    let prepared = connection.prepare(text_of(statement).into_sql_str()).await?;
    let kinds = match prepared.parameters() {
        Some(Either::Left(kinds)) => kinds.to_vec(),
        Some(Either::Right(_)) | None => Vec::new(),
    };
    let (given, expected) = (statement.values.len(), kinds.len());
    if given != expected {
        return Err(Failure::placeholders(expected, given));
    }
    for (index, (value, kind)) in statement.values.iter().zip(kinds).enumerate() {
        let bytes = match value {
            Value::Null => None,
            value => Some(
                to_binary(value, oid(&kind), &kind.to_string())
                    .map_err(|why| Failure::Final(format!("parameter {}: {why}", index + 1)))?,
            ),
        };
        let added = arguments.add(Parameter { kind, bytes });
        added.map_err(|e| Failure::Final(format!("parameter {}: {e}", index + 1)))?;
    }
    Ok(arguments)
}

fn oid(kind: &PgTypeInfo) -> u32 {
    kind.oid().map_or(0, |oid| oid.0)
}

pub(super) async fn execute(connection: &mut PgConnection, statement: &BoundStatement<'_>) -> Result<Changed, Failure> {
    let arguments = arguments(connection, statement).await?;
    let done = sqlx::query_with(text_of(statement), arguments)
        .execute(connection)
        .await?;
    Ok(Changed {
        rows: done.rows_affected(),
        last_insert_id: None,
    })
}

pub(super) async fn query(
    connection: &mut PgConnection,
    statement: &BoundStatement<'_>,
    max_rows: u32,
) -> Result<ResultRows, Failure> {
    let arguments = arguments(connection, statement).await?;
    let mut rows = ResultRows::default();
    let mut stream = sqlx::query_with(text_of(statement), arguments).fetch(connection);
    while let Some(row) = stream.try_next().await? {
        if rows.count == 0 {
            rows.columns = row.columns().iter().map(|column| column.name().to_owned()).collect();
        }
        let values: Result<Vec<_>, _> = (0..row.len()).map(|index| value(&row, index)).collect();
        rows.push(values?, max_rows);
    }
    Ok(rows)
}

fn value(row: &PgRow, index: usize) -> Result<Value, Failure> {
    let raw = row.try_get_raw(index)?;
    if raw.is_null() {
        return Ok(Value::Null);
    }
    let kind = raw.type_info().into_owned();
    let column = || row.column(index).name().to_owned();
    let bytes = raw
        .as_bytes()
        .map_err(|e| Failure::Final(format!("column {}: {e}", column())))?;
    from_binary(bytes, oid(&kind)).ok_or_else(|| {
        let name = column();
        Failure::Final(format!(
            "column {name} has the type {kind}, which has no form in JSON here; write {name}::text"
        ))
    })
}
