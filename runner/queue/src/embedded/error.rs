//! Errors of this room, and their mapping to errors of the seam.

use std::sync::Arc;

use rusqlite::ErrorCode;

use crate::{BoxError, BrokerError};

/// An error of a statement, a row or the file.
#[derive(Debug, thiserror::Error)]
pub(super) enum SqlError {
    /// From SQLite.
    #[error(transparent)]
    Sqlite(rusqlite::Error),
    /// A row holds a value that this program does not understand.
    #[error("{0}")]
    Decode(BoxError),
    /// A value cannot be encoded.
    #[error("{0}")]
    Encode(BoxError),
    /// An expected row is missing.
    #[error("a row is missing")]
    RowNotFound,
    /// A write panicked. Only this write fails, not the others in its transaction.
    #[error("the program broke down while it wrote this")]
    Panicked,
    /// The path no longer leads to the file that was opened.
    #[error("{0}")]
    Replaced(String),
    /// The statement cannot run: all connections are busy, or the file is closed.
    #[error("{0}")]
    Unavailable(&'static str),
}

/// A value that does not fit its column is damage of the file, not an error of SQLite.
impl From<rusqlite::Error> for SqlError {
    fn from(error: rusqlite::Error) -> Self {
        match error {
            rusqlite::Error::QueryReturnedNoRows => Self::RowNotFound,
            rusqlite::Error::InvalidColumnType(_, column, holds) => {
                Self::Decode(format!("column {column} holds {}", holds.to_string().to_lowercase()).into())
            }
            rusqlite::Error::FromSqlConversionFailure(place, _, cause) => {
                Self::Decode(format!("column {place}: {cause}").into())
            }
            rusqlite::Error::Utf8Error(place, cause) => Self::Decode(format!("column {place}: {cause}").into()),
            rusqlite::Error::IntegralValueOutOfRange(place, number) => {
                Self::Decode(format!("column {place} holds {number}, which is out of range").into())
            }
            other => Self::Sqlite(other),
        }
    }
}

impl SqlError {
    /// SQLite's code, if it is an error of SQLite.
    pub(super) fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Sqlite(error) => error.sqlite_error_code(),
            _ => None,
        }
    }
}

/// Maps an error of this room to the seam's.
pub(super) fn broker_error(doing: &'static str, cause: SqlError) -> BrokerError {
    shared_error(doing, &Arc::new(cause))
}

/// The same for an error that several callers share.
pub(super) fn shared_error(doing: &'static str, cause: &Arc<SqlError>) -> BrokerError {
    let source: BoxError = Box::new(Arc::clone(cause));
    match &**cause {
        SqlError::Sqlite(rusqlite::Error::SqliteFailure(e, _)) => match e.code {
            // Temporary: another process or the machine blocks the file.
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::OutOfMemory
            | ErrorCode::OperationInterrupted
            | ErrorCode::SystemIoFailure
            | ErrorCode::FileLockingProtocolFailed => BrokerError::Unreachable { doing, source },
            ErrorCode::DiskFull => BrokerError::Full { doing, source },
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => BrokerError::Corrupt {
                doing,
                what: format!("the file is not a sound database: {cause}"),
            },
            _ => BrokerError::Refused { doing, source },
        },
        SqlError::Decode(e) => BrokerError::Corrupt {
            doing,
            what: e.to_string(),
        },
        SqlError::Replaced(what) => BrokerError::Replaced {
            doing,
            what: what.clone(),
        },
        SqlError::Unavailable(_) => BrokerError::Unreachable { doing, source },
        _ => BrokerError::Refused { doing, source },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rusqlite::Connection;

    use super::*;

    #[test]
    fn a_value_that_does_not_fit_its_column_is_damage() {
        let conn = Connection::open_in_memory().unwrap();
        let of = |text: &str| {
            let read: rusqlite::Result<String> = conn.query_row(text, [], |row| row.get(0));
            broker_error("try", read.unwrap_err().into())
        };
        for (text, said) in [
            ("SELECT 7 AS id", "column id holds integer"),
            ("SELECT NULL AS id", "column id holds null"),
            ("SELECT CAST(x'61ff' AS TEXT)", "column 0: invalid utf-8"),
        ] {
            let error = of(text);
            assert_eq!(error.code(), "broker_corrupt", "{error}");
            assert!(error.to_string().contains(said), "{error}");
        }
        let missing = of("SELECT 'x' WHERE 0");
        assert_eq!(missing.code(), "broker_refused", "{missing}");
    }
}
