//! MySQL and MariaDB: connection, parameters, values of rows, and `KILL QUERY`.

use std::str::FromStr;

use futures_util::TryStreamExt;
use serde_json::Value;
use sqlx::mysql::{MySqlArguments, MySqlConnectOptions, MySqlConnection, MySqlRow, MySqlValueRef};
use sqlx::query::Query;
use sqlx::{
    AssertSqlSafe, Column, ConnectOptions, Either, Executor, MySql, Row, SqlSafeStr, Statement, TypeInfo, ValueRef,
};

use super::failure::Failure;
use super::rows::{ResultRows, bytes_to_json, float_to_json};
use super::statement::{BoundStatement, Changed, text_of};

/// Ends the statement of one connection over another.
#[derive(Clone)]
pub(super) struct MySqlCanceller {
    options: MySqlConnectOptions,
    connection: u64,
}

impl MySqlCanceller {
    pub(super) async fn cancel(&self) -> Result<(), sqlx::Error> {
        let mut connection = self.options.connect().await?;
        let statement = format!("KILL QUERY {}", self.connection);
        connection.execute(AssertSqlSafe(statement)).await.map(drop)
    }
}

/// Connects. Instants are in UTC on this connection.
pub(super) async fn open(url: &str) -> Result<(MySqlConnection, MySqlCanceller), Failure> {
    let url = url.replacen("mariadb:", "mysql:", 1);
    let options = MySqlConnectOptions::from_str(&url)?.disable_statement_logging();
    // The mode of the server decides what its SQL means, not the driver.
    let options = options.pipes_as_concat(false).no_engine_substitution(false);
    let mut connection = options.connect().await?;
    let connection_id = sqlx::query_scalar("SELECT CAST(CONNECTION_ID() AS UNSIGNED)");
    let canceller = MySqlCanceller {
        connection: connection_id.fetch_one(&mut connection).await?,
        options,
    };
    Ok((connection, canceller))
}

fn bound(statement: &BoundStatement<'_>) -> Query<'static, MySql, MySqlArguments> {
    let mut query = sqlx::query(text_of(statement)).persistent(false);
    for value in &statement.values {
        query = match value {
            Value::Null => query.bind(None::<String>),
            Value::Bool(flag) => query.bind(*flag),
            Value::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(number), _) => query.bind(number),
                (None, Some(number)) => query.bind(number),
                (None, None) => query.bind(number.as_f64()),
            },
            Value::String(text) => query.bind(text.clone()),
            Value::Array(_) | Value::Object(_) => query.bind(value.to_string()),
        };
    }
    query
}

/// What an error means. The driver reports a wrong number of values as it does a broken connection, before it sends anything:
/// only the server's count tells them apart.
async fn explain(connection: &mut MySqlConnection, statement: &BoundStatement<'_>, failure: Failure) -> Failure {
    let Failure::Sql(sqlx::Error::Protocol(_)) = failure else {
        return failure;
    };
    let prepared = connection.prepare(text_of(statement).into_sql_str()).await;
    let given = statement.values.len();
    match prepared.as_ref().map(Statement::parameters) {
        Ok(Some(Either::Right(expected))) if expected != given => Failure::placeholders(expected, given),
        _ => failure,
    }
}

pub(super) async fn execute(
    connection: &mut MySqlConnection,
    statement: &BoundStatement<'_>,
) -> Result<Changed, Failure> {
    match bound(statement).execute(&mut *connection).await {
        Ok(done) => Ok(Changed {
            rows: done.rows_affected(),
            last_insert_id: i64::try_from(done.last_insert_id()).ok().filter(|id| *id > 0),
        }),
        Err(error) => Err(explain(connection, statement, error.into()).await),
    }
}

pub(super) async fn query(
    connection: &mut MySqlConnection,
    statement: &BoundStatement<'_>,
    max_rows: u32,
) -> Result<ResultRows, Failure> {
    match fetch(connection, statement, max_rows).await {
        Ok(rows) => Ok(rows),
        Err(failure) => Err(explain(connection, statement, failure).await),
    }
}

async fn fetch(
    connection: &mut MySqlConnection,
    statement: &BoundStatement<'_>,
    max_rows: u32,
) -> Result<ResultRows, Failure> {
    let mut rows = ResultRows::default();
    let mut stream = bound(statement).fetch(connection);
    while let Some(row) = stream.try_next().await? {
        if rows.count == 0 {
            rows.columns = row.columns().iter().map(|column| column.name().to_owned()).collect();
        }
        rows.push(values(&row)?, max_rows);
    }
    Ok(rows)
}

fn values(row: &MySqlRow) -> Result<Vec<Value>, sqlx::Error> {
    (0..row.len()).map(|index| value(row, index)).collect()
}

fn value(row: &MySqlRow, index: usize) -> Result<Value, sqlx::Error> {
    let raw: MySqlValueRef<'_> = row.try_get_raw(index)?;
    if raw.is_null() {
        return Ok(Value::Null);
    }
    let name = raw.type_info().name().to_owned();
    Ok(match name.as_str() {
        "TINYINT" | "SMALLINT" | "MEDIUMINT" | "INT" | "BIGINT" | "BOOLEAN" => {
            row.try_get_unchecked::<i64, _>(index)?.into()
        }
        _ if name.ends_with("UNSIGNED") || name == "YEAR" || name == "BIT" => {
            row.try_get_unchecked::<u64, _>(index)?.into()
        }
        "FLOAT" => float_to_json(row.try_get_unchecked::<f32, _>(index)?.into()),
        "DOUBLE" => float_to_json(row.try_get_unchecked::<f64, _>(index)?),
        "DATE" | "DATETIME" | "TIMESTAMP" => date_time(row.try_get_unchecked(index)?, name == "DATE"),
        "TIME" => time(row.try_get_unchecked(index)?),
        // Decimal numbers arrive as text and stay so, with every digit.
        _ => bytes_to_json(row.try_get_unchecked::<&[u8], _>(index)?),
    })
}

/// The length of the rest, then year, month, day, hour, minute, second and microseconds; what is zero at the end is left out.
fn date_time(bytes: &[u8], date_only: bool) -> Value {
    let byte = |index: usize| bytes.get(index + 1).copied().unwrap_or_default();
    let year = u16::from_le_bytes([byte(0), byte(1)]);
    let date = format!("{year:04}-{:02}-{:02}", byte(2), byte(3));
    if date_only {
        return date.into();
    }
    let time = format!("{:02}:{:02}:{:02}", byte(4), byte(5), byte(6));
    let micros = u32::from_le_bytes([byte(7), byte(8), byte(9), byte(10)]);
    format!("{date} {time}{}", fraction(micros)).into()
}

/// The length of the rest, then a sign, days, hour, minute, second and microseconds.
fn time(bytes: &[u8]) -> Value {
    let byte = |index: usize| bytes.get(index + 1).copied().unwrap_or_default();
    let sign = if byte(0) == 1 { "-" } else { "" };
    let days = u32::from_le_bytes([byte(1), byte(2), byte(3), byte(4)]);
    let hours = days.saturating_mul(24).saturating_add(byte(5).into());
    let micros = u32::from_le_bytes([byte(8), byte(9), byte(10), byte(11)]);
    format!("{sign}{hours:02}:{:02}:{:02}{}", byte(6), byte(7), fraction(micros)).into()
}

fn fraction(micros: u32) -> String {
    match micros {
        0 => String::new(),
        micros => format!(".{micros:06}"),
    }
}
