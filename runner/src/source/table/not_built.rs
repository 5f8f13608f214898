//! The table in a database that this program has no driver for: every reading says which feature is missing.

use async_trait::async_trait;

use super::edit::{RowStore, RowValues, WriteError};
use super::store::{Store, TableError, TableRow};

/// Stands for a database whose driver is this feature of Cargo, which the program was built without.
pub struct NotBuilt(pub &'static str);

impl NotBuilt {
    fn error(&self) -> TableError {
        let feature = self.0;
        TableError::Database(format!("this program was built without the feature `{feature}`"))
    }
}

#[async_trait]
impl Store for NotBuilt {
    async fn rows(&mut self) -> Result<Vec<TableRow>, TableError> {
        Err(self.error())
    }

    async fn migrate(&mut self) -> Result<bool, TableError> {
        Err(self.error())
    }
}

#[async_trait]
impl RowStore for NotBuilt {
    async fn rows_of(&mut self, _: &str) -> Result<Vec<TableRow>, TableError> {
        Err(self.error())
    }

    async fn update(&mut self, _: &TableRow, _: &RowValues) -> Result<bool, WriteError> {
        Err(WriteError::Unreachable(self.error()))
    }

    async fn insert(&mut self, _: Option<&str>, _: &RowValues) -> Result<Option<String>, WriteError> {
        Err(WriteError::Unreachable(self.error()))
    }

    async fn delete(&mut self, _: &TableRow) -> Result<bool, WriteError> {
        Err(WriteError::Unreachable(self.error()))
    }

    async fn close(&mut self) {}
}
