//! The columns of a table, and which of them are read or written. Each reading asks for them again: tables are altered.

use super::store::TableError;

/// A column of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name in the database.
    pub name: String,
    /// Its type in the words of the database, in lower case.
    pub kind: String,
}

/// The columns that are used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Columns {
    pub id: Column,
    pub name: Column,
    pub kind: Column,
    pub spec: Column,
    pub payload: Column,
    pub status: Column,
    /// When the row was deleted, in tables whose rows are only marked as deleted.
    pub deleted_at: Option<Column>,
    /// When the row was made; never read.
    pub created_at: Option<Column>,
    /// When it was last changed; never read.
    pub updated_at: Option<Column>,
}

impl Columns {
    /// Selects from all columns.
    ///
    /// # Errors
    ///
    /// If there are none, or one is missing that every row needs.
    pub fn of(all: &[Column]) -> Result<Self, TableError> {
        if all.is_empty() {
            return Err(TableError::NoTable);
        }
        let mut missing = Vec::new();
        let mut need = |name: &'static str| {
            let found = find(all, name);
            if found.is_none() {
                missing.push(name);
            }
            found.unwrap_or(&all[0]).clone()
        };
        let columns = Self {
            id: need("id"),
            name: need("name"),
            kind: need("type"),
            spec: need("spec"),
            payload: need("payload"),
            status: need("status"),
            deleted_at: find(all, "deleted_at").cloned(),
            created_at: find(all, "created_at").cloned(),
            updated_at: find(all, "updated_at").cloned(),
        };
        if missing.is_empty() {
            return Ok(columns);
        }
        let there: Vec<&str> = all.iter().map(|column| column.name.as_str()).collect();
        Err(TableError::NoColumn {
            missing: missing.join(", "),
            there: there.join(", "),
        })
    }
}

/// The column of this name, or else the one that differs in upper and lower case only.
fn find<'c>(all: &'c [Column], name: &str) -> Option<&'c Column> {
    let exact = all.iter().find(|column| column.name == name);
    exact.or_else(|| all.iter().find(|column| column.name.eq_ignore_ascii_case(name)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn table(names: &str) -> Vec<Column> {
        let column = |name: &str| Column {
            name: name.to_owned(),
            kind: "text".to_owned(),
        };
        names.split(' ').map(column).collect()
    }

    #[test]
    fn columns_are_found_whatever_else_there_is() {
        let found = Columns::of(&table("ID name NAME type spec payload status created_at Deleted_At")).unwrap();
        assert_eq!((found.id.name.as_str(), found.name.name.as_str()), ("ID", "name"));
        assert_eq!(found.deleted_at.unwrap().name, "Deleted_At");
        let found = Columns::of(&table("id name type spec payload status created_at updated_at")).unwrap();
        assert_eq!(found.deleted_at, None);
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = Columns::of(&table("id name type cron payload state")).unwrap_err();
        let expected =
            "table sys_crontab has no column spec, status; its columns are id, name, type, cron, payload, state";
        assert_eq!(error.to_string(), expected);
        assert_eq!(Columns::of(&[]), Err(TableError::NoTable));
    }
}
