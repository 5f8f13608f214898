//! Turns the results of the statements into rows, within the bound of all rows together. Knows no database.

use sqlx::{ColumnIndex, Decode, Type};

use super::columns::{Column, Columns};
use super::statement::{self, at};
use super::store::{Cell, MAX_ROWS, MAX_TEXT, RowFault, TableRow, Unread};
use crate::text::unhex;

/// A row of the statement that names the columns.
pub fn column<R>(row: &R) -> Option<Column>
where
    R: sqlx::Row,
    usize: ColumnIndex<R>,
    for<'r> Option<String>: Decode<'r, R::Database> + Type<R::Database>,
{
    let text = |index| cell(row, index).ok().flatten();
    Some(Column {
        name: text(0)?,
        kind: text(1)?.to_lowercase(),
    })
}

/// A row of the statement that asks for sizes.
pub fn number<R>(row: &R) -> u64
where
    R: sqlx::Row,
    usize: ColumnIndex<R>,
    for<'r> Option<String>: Decode<'r, R::Database> + Type<R::Database>,
{
    size(row, 0)
}

/// How many of the first rows may be read with these sizes; `None` if all of them.
pub fn first(sizes: impl Iterator<Item = u64>) -> Option<usize> {
    let mut total = 0_u64;
    for (count, size) in sizes.take(MAX_ROWS).enumerate() {
        total = total.saturating_add(size);
        if total > MAX_TEXT {
            return Some(count);
        }
    }
    None
}

/// A row of the statements that read rows.
pub fn row<R>(row: &R, columns: &Columns) -> TableRow
where
    R: sqlx::Row,
    usize: ColumnIndex<R>,
    for<'r> Option<String>: Decode<'r, R::Database> + Type<R::Database>,
{
    let bounds = statement::cells(columns).map(|(_, most)| most);
    let bounded = |index: usize| -> Cell {
        let place = index - at::NAME;
        match (size(row, at::SIZES + place), bounds[place]) {
            (bytes, most) if bytes > most => Err(Unread::TooLong { bytes, most }),
            _ => cell(row, index),
        }
    };
    let form = cell(row, at::FORM).ok().flatten();
    let payload = bounded(at::PAYLOAD).and_then(|text| match (text, form.as_deref()) {
        (Some(digits), Some("x")) => match unhex(&digits) {
            Some(bytes) => Ok(Some(bytes)),
            None => Err(Unread::NoText("its digits are not hexadecimal".to_owned())),
        },
        (text, _) => Ok(text.map(String::into_bytes)),
    });
    TableRow {
        id: cell(row, at::ID).ok().flatten().unwrap_or_default(),
        name: bounded(at::NAME),
        kind: bounded(at::KIND),
        spec: bounded(at::SPEC),
        payload,
        status: bounded(at::STATUS),
        fault: None,
    }
}

impl TableRow {
    /// The row without its text, which exceeds the bound.
    #[must_use]
    pub fn beyond(self) -> Self {
        Self {
            kind: Ok(None),
            spec: Ok(None),
            payload: Ok(None),
            fault: Some(RowFault::Beyond),
            ..self
        }
    }
}

/// How much text was read; the sizes that were asked for may have changed before the rows arrive.
#[derive(Debug, Default)]
pub struct Budget(u64);

impl Budget {
    /// The row, without its text if that exceeds the bound.
    pub fn grant(&mut self, row: TableRow) -> TableRow {
        self.0 = self.0.saturating_add(row.size());
        match self.0 > MAX_TEXT {
            true => row.beyond(),
            false => row,
        }
    }
}

fn size<R>(row: &R, index: usize) -> u64
where
    R: sqlx::Row,
    usize: ColumnIndex<R>,
    for<'r> Option<String>: Decode<'r, R::Database> + Type<R::Database>,
{
    let text = cell(row, index).ok().flatten();
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Whatever type the driver reports: the statement has converted it to text.
fn cell<R>(row: &R, index: usize) -> Cell
where
    R: sqlx::Row,
    usize: ColumnIndex<R>,
    for<'r> Option<String>: Decode<'r, R::Database> + Type<R::Database>,
{
    let value = row.try_get_unchecked::<Option<String>, usize>(index);
    value.map_err(|error| {
        Unread::NoText(match error {
            sqlx::Error::ColumnDecode { source, .. } => source.to_string(),
            other => other.to_string(),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;

    #[test]
    fn only_as_many_rows_are_read_as_there_is_room_for() {
        assert_eq!(first([1, 2, 3].into_iter()), None);
        assert_eq!(first(std::iter::repeat_n(MIB as u64, 64)), None);
        assert_eq!(first(std::iter::repeat_n(MIB as u64, 80)), Some(64));
        assert_eq!(first([u64::MAX, 1].into_iter()), Some(0));
    }

    #[test]
    fn rows_that_have_grown_since_they_were_measured_are_cut_too() {
        let row = |id: usize| TableRow {
            id: id.to_string(),
            name: Ok(Some("n".to_owned())),
            kind: Ok(Some("t".to_owned())),
            spec: Ok(Some("@daily".to_owned())),
            payload: Ok(Some(vec![b'1'; MIB])),
            status: Ok(Some("1".to_owned())),
            fault: None,
        };
        let mut budget = Budget::default();
        let read: Vec<TableRow> = (0..70).map(|id| budget.grant(row(id))).collect();
        assert!(read[..63].iter().all(|row| row.fault.is_none()));
        assert!(
            read[63..]
                .iter()
                .all(|row| row.fault == Some(RowFault::Beyond) && row.payload == Ok(None))
        );
        assert!(read.iter().map(TableRow::size).sum::<u64>() <= MAX_TEXT + 1000);
    }
}
