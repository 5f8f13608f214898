//! Documents: texts that instances keep in the store for each other and for themselves after a restart.
//!
//! The store does not know what they contain. They are few, small compared with tasks, and expire.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use super::BrokerResult;

/// The longest document, in bytes: ten thousand rows with payloads fit, and one write of it blocks a store for tens of
/// milliseconds at most.
pub const MAX_DOCUMENT: usize = 8 * 1024 * 1024;

/// Documents of one kind in one answer, those that expire last first: more instances than any installation has.
pub const MAX_DOCUMENTS: usize = 64;

/// Names of documents in one answer, those that expire last first.
pub const MAX_DOCUMENT_NAMES: usize = 10_000;

/// The name of a document, and the end of its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentName {
    /// Unique within its kind.
    pub name: String,
    /// Its end, to the second at least.
    pub expires: Timestamp,
}

/// Documents in the store that instances share.
#[async_trait]
pub trait Documents: Send + Sync {
    /// Stores a document for `ttl`, replacing one of this kind and name.
    async fn keep_document(&self, kind: &'static str, name: &str, body: Vec<u8>, ttl: Duration) -> BrokerResult<()>;

    /// Extends the time of an existing document to `ttl` from now. Returns whether it exists.
    async fn renew_document(&self, kind: &'static str, name: &str, ttl: Duration) -> BrokerResult<bool>;

    /// One document, if it exists.
    async fn document(&self, kind: &'static str, name: &str) -> BrokerResult<Option<Vec<u8>>>;

    /// Names and documents of a kind, at most [`MAX_DOCUMENTS`].
    async fn documents(&self, kind: &'static str) -> BrokerResult<Vec<(String, Vec<u8>)>>;

    /// Names of a kind whose time ends after `after`, those that end last first, at most [`MAX_DOCUMENT_NAMES`]. One whose
    /// document is gone may be among them.
    async fn document_names(&self, kind: &'static str, after: Timestamp) -> BrokerResult<Vec<DocumentName>>;

    /// The documents with these names that exist, in the order of the names, of which at most [`MAX_DOCUMENTS`] are read.
    async fn documents_named(&self, kind: &'static str, names: &[String]) -> BrokerResult<Vec<(String, Vec<u8>)>>;

    /// Deletes a document, if it exists.
    async fn drop_document(&self, kind: &'static str, name: &str) -> BrokerResult<()>;
}
