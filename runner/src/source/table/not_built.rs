//! The table in a database that this program has no driver for: every reading says which feature is missing.

use async_trait::async_trait;

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
