//! Writes over a connection to any of the databases: one statement each, and what its answer means.

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, ColumnIndex, Database, Decode, Executor, Row as _, Type};

use super::statement;
use super::store::{ChangeResult, RowStore, RowValues, WriteError};
use crate::source::table::columns::Columns;
use crate::source::table::connection::{Answering, TableConnection};
use crate::source::table::reading;
use crate::source::table::statement::rows_where;
use crate::source::table::store::{TIMEOUT, TableError, TableRow, in_time};

/// The answer to a write.
struct Written {
    /// How many rows it met.
    rows: u64,
    /// The id of a new row, if the database returns it.
    id: Option<String>,
}

impl<D> TableConnection<D>
where
    D: Database,
    D::QueryResult: ChangeResult,
    for<'c> &'c mut D::Connection: Executor<'c, Database = D>,
    usize: ColumnIndex<D::Row>,
    for<'r> Option<String>: Decode<'r, D> + Type<D>,
{
    async fn writable(&mut self) -> Result<(Answering<D>, Columns), WriteError> {
        let answering = in_time(self.answering()).await;
        answering.map_err(WriteError::Unreachable)
    }

    /// Sends a statement that writes. It is never sent twice.
    async fn write(&mut self, mut over: Answering<D>, text: String, returns: bool) -> Result<Written, WriteError> {
        let statement = sqlx::raw_sql(AssertSqlSafe(text));
        let sent = async {
            Ok(match returns {
                true => {
                    let rows = over.connection.fetch_all(statement).await?;
                    let id = rows
                        .first()
                        .map(|row| row.try_get_unchecked::<Option<String>, usize>(0));
                    Written {
                        rows: rows.len() as u64,
                        id: id.transpose()?.flatten(),
                    }
                }
                false => {
                    let result = over.connection.execute(statement).await?;
                    Written {
                        rows: result.rows(),
                        id: result.new_id(),
                    }
                }
            })
        };
        let written = match tokio::time::timeout(TIMEOUT, sent).await {
            Ok(Ok(written)) => written,
            Ok(Err(error)) => return Err(self.meaning(&error)),
            Err(_) => return Err(WriteError::Unknown(TableError::Timeout.to_string())),
        };
        self.keep(over);
        Ok(written)
    }

    fn meaning(&self, error: &sqlx::Error) -> WriteError {
        match error {
            sqlx::Error::Database(database) if (self.dialect().forbidden)(database.as_ref()) => {
                WriteError::Forbidden(database.message().to_owned())
            }
            sqlx::Error::Database(database) if (self.dialect().busy)(database.as_ref()) => {
                WriteError::Unreachable(TableError::Database(database.message().to_owned()))
            }
            sqlx::Error::Database(database) => WriteError::Rejected(database.message().to_owned()),
            other => WriteError::Unknown(other.to_string()),
        }
    }
}

#[async_trait]
impl<D> RowStore for TableConnection<D>
where
    D: Database,
    D::QueryResult: ChangeResult,
    for<'c> &'c mut D::Connection: Executor<'c, Database = D>,
    usize: ColumnIndex<D::Row>,
    for<'r> Option<String>: Decode<'r, D> + Type<D>,
{
    async fn rows_of(&mut self, id: &str) -> Result<Vec<TableRow>, TableError> {
        in_time(async {
            let (mut over, columns) = self.answering().await?;
            let words = self.dialect().words;
            let text = rows_where(words, &columns, &statement::of_id(words, &columns, id));
            let found = over.connection.fetch_all(sqlx::raw_sql(AssertSqlSafe(text))).await;
            let found = found.map_err(|error| self.dialect().error(&error))?;
            self.keep(over);
            Ok(found.iter().map(|row| reading::row(row, &columns)).collect())
        })
        .await
    }

    async fn update(&mut self, before: &TableRow, values: &RowValues) -> Result<bool, WriteError> {
        let (over, columns) = self.writable().await?;
        let words = self.dialect().words;
        if let Some(why) = statement::too_long(words, &columns, values) {
            self.keep(over);
            return Err(WriteError::Rejected(why));
        }
        let text = statement::update(words, &columns, before, values);
        Ok(self.write(over, text, false).await?.rows > 0)
    }

    async fn insert(&mut self, id: Option<&str>, values: &RowValues) -> Result<Option<String>, WriteError> {
        let (over, columns) = self.writable().await?;
        let words = self.dialect().words;
        if let Some(why) = statement::too_long(words, &columns, values) {
            self.keep(over);
            return Err(WriteError::Rejected(why));
        }
        let text = statement::insert(words, &columns, id, values);
        let written = self.write(over, text, words.returns_ids()).await?;
        // As the database has it: a number may be written with zeros before it.
        Ok(written.id.or_else(|| id.map(str::to_owned)))
    }

    async fn delete(&mut self, before: &TableRow) -> Result<bool, WriteError> {
        let (over, columns) = self.writable().await?;
        let text = match statement::delete(self.dialect().words, &columns, before) {
            Ok(text) => text,
            Err(kind) => {
                self.keep(over);
                let why =
                    format!("rows are marked in deleted_at, and what to write there is not known of its type {kind}");
                return Err(WriteError::Rejected(why));
            }
        };
        Ok(self.write(over, text, false).await?.rows > 0)
    }

    async fn close(&mut self) {
        TableConnection::close(self).await;
    }
}
