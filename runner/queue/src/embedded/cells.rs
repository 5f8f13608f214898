//! Values on their way into statements and out of rows.

use std::borrow::Cow;

use bytes::Bytes;
use rusqlite::ToSql;
use rusqlite::types::{ToSqlOutput, ValueRef};

use super::link::SqlError;

/// What a statement is given for one place.
#[derive(Debug)]
pub(super) enum Bound {
    Null,
    Number(i64),
    Text(Cow<'static, str>),
    Blob(Bytes),
}

impl ToSql for Bound {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Number(number) => ValueRef::Integer(*number),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Blob(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

impl From<i64> for Bound {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<bool> for Bound {
    fn from(is: bool) -> Self {
        Self::Number(i64::from(is))
    }
}

impl From<String> for Bound {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<&'static str> for Bound {
    fn from(text: &'static str) -> Self {
        Self::Text(text.into())
    }
}

impl From<Bytes> for Bound {
    fn from(bytes: Bytes) -> Self {
        Self::Blob(bytes)
    }
}

impl From<Vec<u8>> for Bound {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Blob(bytes.into())
    }
}

impl<T: Into<Self>> From<Option<T>> for Bound {
    fn from(some: Option<T>) -> Self {
        some.map_or(Self::Null, Into::into)
    }
}

/// One value of a row. Text that is not UTF-8 is kept as the bytes that it is.
#[derive(Debug)]
pub(super) enum Cell {
    Null,
    Number(i64),
    Real(f64),
    Text(String),
    Blob(Vec<u8>),
}

impl From<ValueRef<'_>> for Cell {
    fn from(value: ValueRef<'_>) -> Self {
        match value {
            ValueRef::Null => Self::Null,
            ValueRef::Integer(number) => Self::Number(number),
            ValueRef::Real(number) => Self::Real(number),
            ValueRef::Text(text) => match std::str::from_utf8(text) {
                Ok(text) => Self::Text(text.to_owned()),
                Err(_) => Self::Blob(text.to_owned()),
            },
            ValueRef::Blob(bytes) => Self::Blob(bytes.to_owned()),
        }
    }
}

/// A row that was read, apart from its statement.
#[derive(Debug)]
pub(super) struct Row(pub(super) Box<[Cell]>);

impl Row {
    /// The value at a place, counted from 0.
    ///
    /// # Errors
    ///
    /// When there is none, or one of another kind.
    pub(super) fn try_get<'r, T: Take<'r>>(&'r self, place: usize) -> Result<T, SqlError> {
        let cell = self.0.get(place);
        cell.and_then(T::take)
            .ok_or_else(|| SqlError::Decode(format!("column {place} does not hold {}", T::WHAT).into()))
    }
}

impl Row {
    /// The bytes at a place, be they text or not; none of what has no bytes.
    pub(super) fn bytes(&self, place: usize) -> &[u8] {
        match self.0.get(place) {
            Some(Cell::Text(text)) => text.as_bytes(),
            Some(Cell::Blob(bytes)) => bytes,
            _ => &[],
        }
    }
}

/// What can be read from a [`Cell`].
pub(super) trait Take<'r>: Sized {
    /// For error texts.
    const WHAT: &'static str;

    /// `None` if the cell holds something else.
    fn take(cell: &'r Cell) -> Option<Self>;
}

macro_rules! take {
    ($kind:ty, $what:literal, $pattern:pat => $value:expr) => {
        impl<'r> Take<'r> for $kind {
            const WHAT: &'static str = $what;

            fn take(cell: &'r Cell) -> Option<Self> {
                match cell {
                    $pattern => Some($value),
                    _ => None,
                }
            }
        }
    };
}

take!(i64, "a whole number", Cell::Number(number) => *number);
take!(bool, "a truth value", Cell::Number(number) => *number != 0);
take!(f64, "a number", Cell::Real(number) => *number);
take!(String, "text", Cell::Text(text) => text.clone());
take!(&'r str, "text", Cell::Text(text) => text);
take!(Vec<u8>, "bytes", Cell::Blob(bytes) => bytes.clone());

impl<'r, T: Take<'r>> Take<'r> for Option<T> {
    const WHAT: &'static str = T::WHAT;

    fn take(cell: &'r Cell) -> Option<Self> {
        match cell {
            Cell::Null => Some(None),
            some => T::take(some).map(Some),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_cell_is_read_as_what_it_holds_and_as_nothing_else() {
        let row = Row([
            Cell::Number(1),
            Cell::Text("x".into()),
            Cell::Null,
            Cell::Blob(vec![0xff]),
        ]
        .into());
        assert_eq!(row.try_get::<i64>(0).unwrap(), 1);
        assert!(row.try_get::<bool>(0).unwrap());
        assert_eq!(row.try_get::<Option<&str>>(1).unwrap(), Some("x"));
        assert_eq!(row.try_get::<Option<i64>>(2).unwrap(), None);
        assert!(row.try_get::<i64>(2).is_err());
        assert!(row.try_get::<String>(3).is_err());
        assert!(row.try_get::<i64>(4).is_err());
    }

    #[test]
    fn text_that_is_none_is_kept_as_bytes() {
        let cell = Cell::from(ValueRef::Text(&[b'a', 0xff]));
        assert!(matches!(cell, Cell::Blob(bytes) if bytes == [b'a', 0xff]));
    }
}
