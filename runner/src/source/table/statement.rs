//! The statements that read the table, for the columns that it has: every value as text, within its bound.
//!
//! The differences of a database are its [`Words`]. Names of columns come from the table itself and are among the known
//! ones.

use super::columns::{Column, Columns};
use super::store::{MAX_CELL, MAX_ID, MAX_PAYLOAD, MAX_ROWS};

/// The table.
pub const TABLE: &str = "sys_crontab";

/// One row more than is used, to detect that there are more.
const LIMIT: usize = MAX_ROWS + 1;

/// The most bytes of name and status of a row whose text is not read.
const HEAD_CELL: u64 = 255;

/// Expressions of one database.
pub trait SqlDialect: Send + Sync {
    /// A quoted name, so that it cannot be a key word.
    fn quoted(&self, name: &str) -> String;

    /// The expression as text, whatever its type.
    fn cast(&self, expression: &str) -> String;

    /// The column as text, whatever its type.
    fn text(&self, column: &Column) -> String {
        self.cast(&self.quoted(&column.name))
    }

    /// The size of a column in bytes; that of its text if it is neither text nor bytes.
    fn size(&self, column: &Column) -> String;

    /// Whether the column contains bytes rather than text.
    fn bytes(&self, column: &Column) -> ByteColumn;

    /// The hexadecimal digits of a column that holds bytes.
    fn hex(&self, column: &Column) -> String;

    /// The first characters of a text.
    fn beginning(&self, text: &str, characters: usize) -> String;
}

/// Whether a column holds bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ByteColumn {
    /// Never.
    No,
    /// Always.
    Yes,
    /// In those rows where this condition holds.
    Where(String),
}

/// The columns of [`rows`] and [`heads`], by position; sizes follow in the order of the columns.
pub mod at {
    pub const ID: usize = 0;
    pub const NAME: usize = 1;
    pub const KIND: usize = 2;
    pub const SPEC: usize = 3;
    pub const PAYLOAD: usize = 4;
    pub const STATUS: usize = 5;
    /// `x` if the payload is in hexadecimal digits.
    pub const FORM: usize = 6;
    /// From `NAME` on.
    pub const SIZES: usize = 7;
}

/// How many bytes of text each row has that would be read, ordered by id.
pub fn sizes(words: &dyn SqlDialect, columns: &Columns) -> String {
    let terms: Vec<String> = cells(columns)
        .iter()
        .map(|(column, most)| {
            let size = words.size(column);
            format!("COALESCE(CASE WHEN {size} > {most} THEN 0 ELSE {size} END, 0)")
        })
        .collect();
    let total = words.cast(&format!("({})", terms.join(" + ")));
    format!("SELECT {total} {} LIMIT {LIMIT}", from(words, columns))
}

/// The first rows, or all, with each text that is within its bound.
pub fn rows(words: &dyn SqlDialect, columns: &Columns, first: Option<usize>) -> String {
    select(words, columns, None, first.unwrap_or(LIMIT))
}

/// The rows of which this condition holds, at most two: enough to see that there is more than one.
pub fn rows_where(words: &dyn SqlDialect, columns: &Columns, condition: &str) -> String {
    select(words, columns, Some(condition), 2)
}

fn select(words: &dyn SqlDialect, columns: &Columns, condition: Option<&str>, limit: usize) -> String {
    let mut selected = vec![id(words, columns)];
    let (payload, form) = either(words, &columns.payload);
    for (column, most) in cells(columns) {
        let value = if *column == columns.payload {
            payload.clone()
        } else {
            words.text(column)
        };
        selected.push(bounded(words, column, &value, most));
    }
    selected.push(form);
    let sizes = cells(columns).map(|(column, _)| words.cast(&words.size(column)));
    selected.extend(sizes);
    let from = from_where(words, columns, condition);
    format!("SELECT {} {from} LIMIT {limit}", selected.join(", "))
}

/// The rows after the first ones: their ids, and which of them are on.
pub fn heads(words: &dyn SqlDialect, columns: &Columns, first: usize) -> String {
    let head = |column: &Column| bounded(words, column, &words.text(column), HEAD_CELL);
    let none = || words.cast("NULL");
    let mut selected = vec![id(words, columns), head(&columns.name), none(), none(), none()];
    selected.push(head(&columns.status));
    selected.resize_with(at::SIZES + cells(columns).len(), none);
    let limit = LIMIT.saturating_sub(first);
    let from = from(words, columns);
    format!("SELECT {} {from} LIMIT {limit} OFFSET {first}", selected.join(", "))
}

/// The columns that have a bound, in the order of [`at`], with the bound.
pub fn cells(columns: &Columns) -> [(&Column, u64); 5] {
    [
        (&columns.name, MAX_CELL),
        (&columns.kind, MAX_CELL),
        (&columns.spec, MAX_CELL),
        (&columns.payload, MAX_PAYLOAD),
        (&columns.status, MAX_CELL),
    ]
}

/// The id as it is read.
pub fn id(words: &dyn SqlDialect, columns: &Columns) -> String {
    words.beginning(&either(words, &columns.id).0, MAX_ID + 1)
}

/// The value as text or in hexadecimal digits, and which of the two.
pub fn either(words: &dyn SqlDialect, column: &Column) -> (String, String) {
    match words.bytes(column) {
        ByteColumn::No => (words.text(column), words.cast("'t'")),
        ByteColumn::Yes => (words.hex(column), words.cast("'x'")),
        ByteColumn::Where(blob) => {
            let case = |yes: &str, no: &str| format!("CASE WHEN {blob} THEN {yes} ELSE {no} END");
            (case(&words.hex(column), &words.text(column)), case("'x'", "'t'"))
        }
    }
}

fn bounded(words: &dyn SqlDialect, column: &Column, value: &str, most: u64) -> String {
    format!("CASE WHEN {} > {most} THEN NULL ELSE {value} END", words.size(column))
}

/// Rows that are not marked as deleted, ordered by id.
fn from(words: &dyn SqlDialect, columns: &Columns) -> String {
    from_where(words, columns, None)
}

fn from_where(words: &dyn SqlDialect, columns: &Columns, condition: Option<&str>) -> String {
    let live = live(words, columns);
    let conditions: Vec<&str> = live.as_deref().into_iter().chain(condition).collect();
    let only = match conditions.is_empty() {
        true => String::new(),
        false => format!(" WHERE {}", conditions.join(" AND ")),
    };
    let (table, id) = (words.quoted(TABLE), words.quoted(&columns.id.name));
    format!("FROM {table}{only} ORDER BY {table}.{id}")
}

/// The condition that a row is not marked as deleted, if rows can be. Tables whose mark cannot be NULL have a zero in it
/// instead.
pub fn live(words: &dyn SqlDialect, columns: &Columns) -> Option<String> {
    let mark = columns.deleted_at.as_ref()?;
    let zero = words.beginning(&words.text(mark), "0000-00-00".len());
    let mark = words.quoted(&mark.name);
    Some(format!(
        "({mark} IS NULL OR {zero} IN ('', '0', 'false', '0000-00-00'))"
    ))
}
