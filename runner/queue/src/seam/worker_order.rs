//! What an operator ordered one worker, or all workers of a host, to do: a document in the store, which workers read every
//! few seconds. Workers in Go take no orders.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{BrokerResult, Documents, ServerInfo};

/// How long an order is kept after a worker last obeyed it, or after it was given.
pub const ORDERS_KEPT_FOR: Duration = Duration::from_secs(30 * 24 * 3600);

const KIND: &str = "worker-order";

/// Whom an order is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderTarget {
    /// One worker until it ends, by the random id of its start.
    Worker(String),
    /// All workers of a host, also those that start there later.
    Host(String),
}

impl OrderTarget {
    /// Both that a worker obeys, its own first.
    #[must_use]
    pub fn of(worker: &ServerInfo) -> [Self; 2] {
        [Self::Worker(worker.id.clone()), Self::Host(worker.host.clone())]
    }

    fn of_name(name: &str) -> Option<Self> {
        match name.split_once('/')? {
            ("worker", id) => Some(Self::Worker(id.to_owned())),
            ("host", host) => Some(Self::Host(host.to_owned())),
            _ => None,
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Worker(id) => format!("worker/{id}"),
            Self::Host(host) => format!("host/{host}"),
        }
    }
}

/// What is ordered; `None` where nothing is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct WorkerOrder {
    /// Whether it is to claim no tasks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
    /// How many tasks it runs at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// Who gave the order.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub by: String,
    /// When.
    #[serde(default)]
    pub at: Timestamp,
}

impl WorkerOrder {
    /// This order, and another where this one says nothing.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            paused: self.paused.or(other.paused),
            concurrency: self.concurrency.or(other.concurrency),
            ..self
        }
    }

    /// Whether it orders nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.paused.is_none() && self.concurrency.is_none()
    }

    /// Orders to claim no tasks.
    pub fn pause(&mut self) {
        self.paused = Some(true);
    }

    /// Takes a pause back. `host` is the order for the host of the one worker that this order is for, and empty for an order of a
    /// host: only against a pause of the host something is ordered, so that the worker obeys a later one.
    pub fn resume(&mut self, host: &Self) {
        self.paused = (host.paused == Some(true)).then_some(false);
    }

    /// All orders with whom they are for, those that are kept longest first; at most
    /// [`MAX_DOCUMENTS`](super::MAX_DOCUMENTS).
    ///
    /// # Errors
    ///
    /// As [`Documents::documents`].
    pub async fn all(store: &dyn Documents) -> BrokerResult<Vec<(OrderTarget, Self)>> {
        let documents = store.documents(KIND).await?;
        let read = |(name, body): (String, Vec<u8>)| {
            let order: Self = serde_json::from_slice(&body).ok()?;
            (!order.is_empty()).then_some((OrderTarget::of_name(&name)?, order))
        };
        Ok(documents.into_iter().filter_map(read).collect())
    }

    /// The order for a target, empty if there is none. One of another form orders nothing.
    ///
    /// # Errors
    ///
    /// As [`Documents::document`].
    pub async fn read(store: &dyn Documents, target: &OrderTarget) -> BrokerResult<Self> {
        let body = store.document(KIND, &target.name()).await?;
        Ok(body
            .and_then(|body| serde_json::from_slice(&body).ok())
            .unwrap_or_default())
    }

    /// Gives the order, in place of an earlier one.
    ///
    /// # Errors
    ///
    /// As [`Documents::keep_document`].
    pub async fn write(&self, store: &dyn Documents, target: &OrderTarget) -> BrokerResult<()> {
        if self.is_empty() {
            return store.drop_document(KIND, &target.name()).await;
        }
        // Plain data, which always has a text.
        let body = serde_json::to_vec(self).unwrap_or_default();
        store.keep_document(KIND, &target.name(), body, ORDERS_KEPT_FOR).await
    }

    /// Keeps the order for a target for its whole time again.
    ///
    /// # Errors
    ///
    /// As [`Documents::renew_document`].
    pub async fn renew(store: &dyn Documents, target: &OrderTarget) -> BrokerResult<bool> {
        store.renew_document(KIND, &target.name(), ORDERS_KEPT_FOR).await
    }
}
