//! A statement as it is run: its fixed text, the values for its placeholders, and what it changed.

use runner_core::function::RowBounds;
use serde_json::Value;
use sqlx::AssertSqlSafe;

/// A statement and the values for its placeholders.
pub(super) struct BoundStatement<'s> {
    pub(super) text: &'s str,
    pub(super) values: Vec<Value>,
    pub(super) expect_rows: RowBounds,
}

/// What a statement changed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Changed {
    pub(super) rows: u64,
    pub(super) last_insert_id: Option<i64>,
}

/// The text of a statement for the driver. It is part of a manifest and holds no values.
pub(super) fn text_of(statement: &BoundStatement<'_>) -> AssertSqlSafe<String> {
    AssertSqlSafe(statement.text.to_owned())
}
