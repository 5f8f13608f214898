//! What takes messages: a connection of the settings, as far as functions see it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use runner_core::function::{PublishSpec, PublishTarget};
use runner_sdk::{BoxFuture, Bytes};

/// A message that is ready to be sent.
#[derive(Clone, PartialEq, Eq)]
pub struct OutgoingMessage {
    /// Its id, the same for each attempt of a task; at most 255 bytes.
    pub id: String,
    /// Where it goes.
    pub to: Addressed,
    /// Headers, or further fields of an entry.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

/// Where a message goes.
#[derive(Clone, PartialEq, Eq)]
pub enum Addressed {
    /// To an exchange of RabbitMQ.
    Exchange {
        /// Its name.
        exchange: String,
        /// At most 255 bytes.
        routing_key: String,
        /// The type of the body.
        content_type: String,
        /// Whether queues keep it over a restart.
        persistent: bool,
        /// Whether it must reach a queue.
        mandatory: bool,
    },
    /// To those who listen to a channel of Redis.
    Channel(String),
    /// To the end of a stream of Redis.
    Stream {
        /// Its key.
        stream: String,
        /// Roughly how many entries are left.
        max_len: Option<u32>,
    },
}

/// A message that the server has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// What the server said, in a few words.
    pub said: String,
}

/// Why a message was not confirmed: what happened, a code, what helps; never a password nor the content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishFailure {
    /// The words.
    pub why: String,
    /// Whether the same message will never be taken.
    pub lasting: bool,
}

/// Sends messages over one connection.
pub trait MessagePublisher: Send + Sync {
    /// Returns when the server has confirmed the message, or why it did not.
    fn publish(&self, message: OutgoingMessage) -> BoxFuture<'_, Result<Published, PublishFailure>>;
}

/// One connection.
#[derive(Clone)]
pub struct Publisher(Arc<dyn MessagePublisher>);

impl Publisher {
    /// Over this connection.
    pub fn new(publisher: impl MessagePublisher + 'static) -> Self {
        Self(Arc::new(publisher))
    }

    pub(super) fn publish(&self, message: OutgoingMessage) -> BoxFuture<'_, Result<Published, PublishFailure>> {
        self.0.publish(message)
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// All connections, by the names that manifests use.
#[derive(Debug, Clone, Default)]
pub struct PublishConnections {
    /// Those to RabbitMQ.
    pub rabbitmq: BTreeMap<String, Publisher>,
    /// Those to Redis.
    pub redis: BTreeMap<String, Publisher>,
}

impl PublishConnections {
    /// The connection of a function.
    pub(crate) fn of(&self, spec: &PublishSpec) -> Option<&Publisher> {
        let all = match spec.target {
            PublishTarget::Exchange(_) => &self.rabbitmq,
            PublishTarget::Channel { .. } | PublishTarget::Stream { .. } => &self.redis,
        };
        all.get(&spec.connection)
    }
}
