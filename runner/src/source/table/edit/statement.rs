//! The statements that change one row. Each is complete in itself and names the row by its id and by all that was read of it:
//! a row that someone else has changed meanwhile is not met.

use super::store::{ChangeWords, Longest, RowValues};
use crate::source::table::columns::{Column, Columns};
use crate::source::table::statement::{self, ByteColumn, TABLE};
use crate::source::table::store::TableRow;
use crate::text::hex;

/// The condition that a row has this id.
pub fn of_id(words: &dyn ChangeWords, columns: &Columns, id: &str) -> String {
    let exact = words.same(&statement::id(words, columns), id);
    match words.indexed_id(&columns.id, id) {
        Some(indexed) => format!("{indexed} AND {exact}"),
        None => exact,
    }
}

/// The condition that a row is still as it was read.
fn unchanged(words: &dyn ChangeWords, columns: &Columns, row: &TableRow) -> String {
    let texts = [
        (&columns.name, &row.name),
        (&columns.kind, &row.kind),
        (&columns.spec, &row.spec),
        (&columns.status, &row.status),
    ];
    let mut conditions: Vec<String> = statement::live(words, columns).into_iter().collect();
    conditions.push(of_id(words, columns, &row.id));
    for (column, cell) in texts {
        match cell {
            Ok(Some(text)) => conditions.push(words.same(&words.text(column), text)),
            Ok(None) => conditions.push(format!("{} IS NULL", words.quoted(&column.name))),
            // What was not read is not written either.
            Err(_) => (),
        }
    }
    match &row.payload {
        Ok(Some(bytes)) => conditions.push(same_bytes(words, &columns.payload, bytes)),
        Ok(None) => conditions.push(format!("{} IS NULL", words.quoted(&columns.payload.name))),
        Err(_) => (),
    }
    conditions.join(" AND ")
}

/// A payload is read as text or in digits.
fn same_bytes(words: &dyn ChangeWords, column: &Column, bytes: &[u8]) -> String {
    let (value, _) = statement::either(words, column);
    let digits = words.same(&value, &hex(bytes));
    let text = std::str::from_utf8(bytes).ok().map(|text| words.same(&value, text));
    match (words.bytes(column), text) {
        (ByteColumn::No, Some(text)) => text,
        (ByteColumn::Where(_), Some(text)) => format!("({text} OR {digits})"),
        _ => digits,
    }
}

/// The columns that are given a value, and these.
fn assigned(words: &dyn ChangeWords, columns: &Columns, values: &RowValues) -> Vec<(String, String)> {
    let texts = [
        (&columns.name, &values.name),
        (&columns.kind, &values.kind),
        (&columns.spec, &values.spec),
    ];
    let mut found: Vec<(String, String)> = Vec::new();
    for (column, text) in texts {
        if let Some(text) = text {
            found.push((words.quoted(&column.name), value(words, column, text)));
        }
    }
    if let Some(payload) = &values.payload {
        let new = payload.as_deref().map(|text| value(words, &columns.payload, text));
        let new = new.unwrap_or_else(|| "NULL".to_owned());
        found.push((words.quoted(&columns.payload.name), new));
    }
    if let Some(on) = values.status {
        found.push((words.quoted(&columns.status.name), words.switch(&columns.status, on)));
    }
    found
}

fn value(words: &dyn ChangeWords, column: &Column, text: &str) -> String {
    match words.bytes(column) {
        ByteColumn::Yes => words.bytes_literal(text.as_bytes()),
        _ => words.literal(text),
    }
}

fn stamp(words: &dyn ChangeWords, column: Option<&Column>) -> Option<(String, String)> {
    let column = column?;
    Some((words.quoted(&column.name), words.now(column)?))
}

/// Changes these columns of a row that is still as it was read.
pub fn update(words: &dyn ChangeWords, columns: &Columns, row: &TableRow, values: &RowValues) -> String {
    let mut set = assigned(words, columns, values);
    set.extend(stamp(words, columns.updated_at.as_ref()));
    let set: Vec<String> = set.iter().map(|(name, value)| format!("{name} = {value}")).collect();
    let only = unchanged(words, columns, row);
    format!("UPDATE {} SET {} WHERE {only}", words.quoted(TABLE), set.join(", "))
}

/// Adds a row; where the database can, the statement returns its id.
pub fn insert(words: &dyn ChangeWords, columns: &Columns, id: Option<&str>, values: &RowValues) -> String {
    let id = id.map(|id| (words.quoted(&columns.id.name), value(words, &columns.id, id)));
    let mut given: Vec<(String, String)> = id.into_iter().collect();
    let mut values = values.clone();
    // The default of the column, which need not allow NULL.
    values.payload = values.payload.filter(Option::is_some);
    given.extend(assigned(words, columns, &values));
    given.extend(stamp(words, columns.created_at.as_ref()));
    given.extend(stamp(words, columns.updated_at.as_ref()));
    let (names, values): (Vec<String>, Vec<String>) = given.into_iter().unzip();
    let returning = match words.returns_ids() {
        true => format!(" RETURNING {}", statement::id(words, columns)),
        false => String::new(),
    };
    let (table, names, values) = (words.quoted(TABLE), names.join(", "), values.join(", "));
    format!("INSERT INTO {table} ({names}) VALUES ({values}){returning}")
}

/// Removes a row that is still as it was read, or marks it as deleted. `Err` with the type of the mark if none is known for it.
pub fn delete(words: &dyn ChangeWords, columns: &Columns, row: &TableRow) -> Result<String, String> {
    let (table, only) = (words.quoted(TABLE), unchanged(words, columns, row));
    let Some(mark) = &columns.deleted_at else {
        return Ok(format!("DELETE FROM {table} WHERE {only}"));
    };
    let value = words.deletion_mark(mark).ok_or_else(|| mark.kind.clone())?;
    Ok(format!(
        "UPDATE {table} SET {} = {value} WHERE {only}",
        words.quoted(&mark.name)
    ))
}

/// Why a text would be cut by its column.
pub fn too_long(words: &dyn ChangeWords, columns: &Columns, values: &RowValues) -> Option<String> {
    let payload = values.payload.clone().flatten();
    let texts = [
        (&columns.name, "name", &values.name),
        (&columns.kind, "type", &values.kind),
        (&columns.spec, "spec", &values.spec),
        (&columns.payload, "payload", &payload),
    ];
    texts.into_iter().find_map(|(column, name, text)| {
        let (has, most, unit) = match (text.as_deref()?, words.longest(column)?) {
            (text, Longest::Characters(most)) => (text.chars().count(), most, "characters"),
            (text, Longest::Bytes(most)) => (text.len(), most, "bytes"),
        };
        (has > most).then(|| format!("{name} has {has} {unit}, and its column {} holds {most}", column.kind))
    })
}
