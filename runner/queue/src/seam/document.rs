//! Documents: texts that instances keep in the store for each other and for themselves after a restart.
//!
//! The store knows nothing of what they say. They are few, small next to tasks, and gone when their time is over.

use std::time::Duration;

use async_trait::async_trait;

use super::BrokerResult;

/// The longest document, in bytes: ten thousand rows with payloads fit, and one write of it holds up a store for tens of
/// milliseconds at most.
pub const MAX_DOCUMENT: usize = 8 * 1024 * 1024;

/// Documents of one kind in one answer, those kept for the longest time first: more instances than anyone runs.
pub const MAX_DOCUMENTS: usize = 64;

/// What instances ask of a store that they share.
#[async_trait]
pub trait Documents {
    /// Keeps a document for `ttl`, in place of the one of this kind and name.
    async fn keep_document(&self, kind: &'static str, name: &str, body: Vec<u8>, ttl: Duration) -> BrokerResult<()>;

    /// Keeps a document that is there for `ttl` from now; whether it is there.
    async fn renew_document(&self, kind: &'static str, name: &str, ttl: Duration) -> BrokerResult<bool>;

    /// One document, if it is there.
    async fn document(&self, kind: &'static str, name: &str) -> BrokerResult<Option<Vec<u8>>>;

    /// Names and documents of a kind, at most [`MAX_DOCUMENTS`].
    async fn documents(&self, kind: &'static str) -> BrokerResult<Vec<(String, Vec<u8>)>>;

    /// Drops a document, if it is there.
    async fn drop_document(&self, kind: &'static str, name: &str) -> BrokerResult<()>;
}
