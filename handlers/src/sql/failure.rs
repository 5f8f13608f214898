//! What an error of a database means for the task: try again, never again, or wait for a corrected setting.

use runner_core::chain::chain;
use runner_sdk::{Ctx, TaskError};
use sqlx::error::DatabaseError;
use sqlx::mysql::MySqlDatabaseError;

use crate::exhausted;
use crate::misconfigured::misconfigured;

/// Why statements did not come to their end.
#[derive(Debug)]
pub(super) enum Failure {
    /// The database or the way to it.
    Sql(sqlx::Error),
    /// Something that stays so at every attempt.
    Final(String),
}

impl Failure {
    /// The statement has another number of placeholders than its parameters.
    pub(super) fn placeholders(expected: usize, given: usize) -> Self {
        Self::Final(format!(
            "the statement has {expected} placeholders, and params {given} values"
        ))
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

/// What it means.
enum Meaning {
    Retry,
    Final,
    Setting,
}

impl Failure {
    /// The error of the task; `connection` is the name of the connection.
    pub(super) fn into_error(self, connection: &str, cx: &Ctx) -> TaskError {
        let error = match self {
            Self::Final(text) => return TaskError::skip(text),
            Self::Sql(error) => error,
        };
        if let Some(cause) = exhausted::cause(&error) {
            return exhausted::put_off(&format!("connection {connection}: {cause}"), cx);
        }
        let text = format!("connection {connection}: {}", chain(&error));
        match meaning(&error) {
            Meaning::Retry => TaskError::retry(text),
            Meaning::Final => TaskError::skip(text),
            Meaning::Setting => misconfigured(text, cx),
        }
    }
}

fn meaning(error: &sqlx::Error) -> Meaning {
    match error {
        sqlx::Error::Database(error) => of_database(error.as_ref()),
        sqlx::Error::Configuration(_) | sqlx::Error::Tls(_) => Meaning::Setting,
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::Encode(_) => Meaning::Final,
        _ => Meaning::Retry,
    }
}

fn of_database(error: &dyn DatabaseError) -> Meaning {
    if let Some(error) = error.try_downcast_ref::<MySqlDatabaseError>() {
        return of_mysql(error.number());
    }
    let code = error.code().unwrap_or_default();
    if error.try_downcast_ref::<sqlx::sqlite::SqliteError>().is_some() {
        return of_sqlite(&code);
    }
    of_postgres(&code)
}

/// Numbers of MySQL and MariaDB.
fn of_mysql(number: u16) -> Meaning {
    match number {
        // Lock wait timeout, deadlock, a row changed since it was read, a lock that is not free (NOWAIT), a conflict in a
        // cluster, too many connections (in all, of a user), shutdown, connection killed, statement interrupted, time limit of a
        // statement (MySQL, MariaDB), read-only server during a failover, node of a cluster that is not ready.
        1205 | 1213 | 1020 | 3572 | 3101 | 1040 | 1203 | 1226 | 1053 | 1927 | 1317 | 3024 | 1969 | 1290 | 1836
        | 1047 => Meaning::Retry,
        // No memory, disk or table full.
        1037 | 1041 | 1021 | 1114 => Meaning::Retry,
        // Access denied (to a database, for a user), unknown database, host not allowed.
        1044 | 1045 | 1049 | 1130 | 1698 => Meaning::Setting,
        _ => Meaning::Final,
    }
}

/// SQLSTATE classes of PostgreSQL.
fn of_postgres(state: &str) -> Meaning {
    match state {
        // Serialization failure, deadlock, lock not available, cancelled, shutdown, crash, starting up, idle session ended.
        "40001" | "40P01" | "55P03" | "57014" | "57P01" | "57P02" | "57P03" | "57P04" | "57P05" | "25006" => {
            Meaning::Retry
        }
        // A violation of the protocol is a fault of the statement, such as a placeholder without a value.
        "08P01" => Meaning::Final,
        "3D000" => Meaning::Setting,
        _ => match state.get(..2) {
            // Connection exceptions, insufficient resources, system errors such as those of a disk.
            Some("08" | "53" | "58") => Meaning::Retry,
            Some("28") => Meaning::Setting,
            _ => Meaning::Final,
        },
    }
}

/// Result codes of SQLite, of which the low byte is the class.
fn of_sqlite(code: &str) -> Meaning {
    match code.parse::<u32>().map(|code| code & 0xff) {
        // Busy, locked, out of memory, interrupted, disk error, disk full, protocol of locks.
        Ok(5 | 6 | 7 | 9 | 10 | 13 | 15) => Meaning::Retry,
        // Permission, read-only file, cannot open, not a database.
        Ok(3 | 8 | 14 | 26) => Meaning::Setting,
        _ => Meaning::Final,
    }
}
