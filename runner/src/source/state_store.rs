//! Where a source keeps what was last in force, so that a restart knows it while the source is away or broken.
//!
//! Only the question; the answer, in a store that instances share, is given by whoever wires the program.

use std::fmt;

use async_trait::async_trait;

/// The most bytes of one text; what does not fit is left out. A little below what a store takes, for whoever seals it.
pub const MAX_KEPT: usize = 8 * 1024 * 1024 - 1024;

/// Why a text is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateStoreError {
    /// The store gave no answer: it can be asked again.
    Away(String),
    /// There is one, and it cannot be trusted.
    Spoiled(String),
}

/// A place for texts by kind and name. Reasons are for people.
#[async_trait]
pub trait StateStore: Send + Sync {
    /// Keeps a text in place of the one of this kind and name.
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

    /// Whether it is for keeping too, and not only for reading: a command that looks changes nothing.
    fn writes(&self) -> bool {
        true
    }
}

impl fmt::Debug for dyn StateStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keep")
    }
}
