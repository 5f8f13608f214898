//! Where a source saves what was last in force, for a restart while the source is unreachable or broken.
//!
//! Only the trait; `cli` implements it with a store that instances share.

use std::fmt;

use async_trait::async_trait;

/// The most bytes of one text; what does not fit is left out. A little less than a store accepts, because sealing adds
/// some bytes.
pub const MAX_KEPT: usize = 8 * 1024 * 1024 - 1024;

/// Why a text is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateStoreError {
    /// The store gave no answer: it can be asked again.
    Away(String),
    /// There is one, but it is not authentic.
    Spoiled(String),
}

/// Storage for texts by kind and name. Reasons are for people.
#[async_trait]
pub trait StateStore: Send + Sync {
    /// Saves a text, replacing the one of this kind and name.
    ///
    /// # Errors
    ///
    /// Why it could not.
    async fn put(&self, kind: &'static str, name: &str, body: Vec<u8>) -> Result<(), String>;

    /// The text of this kind and name, if there is one.
    ///
    /// # Errors
    ///
    /// Why that is not known.
    async fn get(&self, kind: &'static str, name: &str) -> Result<Option<Vec<u8>>, StateStoreError>;

    /// Whether it can be written, not only read: a command that only reads changes nothing.
    fn writes(&self) -> bool {
        true
    }
}

impl fmt::Debug for dyn StateStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keep")
    }
}
