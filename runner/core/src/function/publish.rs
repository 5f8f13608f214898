//! The kind `publish` as data: one message, to RabbitMQ or to a channel or stream of Redis.
//!
//! Where it goes (connection, exchange, stream, channel) is fixed: a payload chooses what a message says and its routing key.

use std::collections::BTreeMap;

use super::{EnqueuePayload, FunctionTemplate};

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishSpec {
    /// The name of a connection of the settings: of `rabbitmq.connections` or of `redis_connections`, as the target says.
    pub connection: String,
    /// Where it goes.
    pub target: PublishTarget,
    /// Headers of a message, or further fields of an entry.
    pub headers: BTreeMap<String, FunctionTemplate>,
    /// The body.
    pub body: EnqueuePayload,
}

/// Where a message goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublishTarget {
    /// An exchange of RabbitMQ.
    Exchange(ExchangeTarget),
    /// A channel of Redis: those who listen at that moment get the message.
    Channel {
        /// Its name.
        channel: String,
    },
    /// A stream of Redis.
    Stream {
        /// Its key.
        stream: String,
        /// Roughly how many entries are left in it; the oldest go.
        max_len: Option<u32>,
    },
}

/// An exchange of RabbitMQ, and how messages are given to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExchangeTarget {
    /// Its name; empty: the default one, which takes names of queues as routing keys.
    pub exchange: String,
    /// The routing key.
    pub routing_key: FunctionTemplate,
    /// The type of the body; `None`: as the body is.
    pub content_type: Option<String>,
    /// Whether queues keep it over a restart of the server.
    pub persistent: bool,
    /// Whether a message that reaches no queue is an error.
    pub mandatory: bool,
}

impl PublishSpec {
    /// Whether a field of the payload is part of the message.
    #[must_use]
    pub fn uses_payload(&self) -> bool {
        let key = match &self.target {
            PublishTarget::Exchange(target) => Some(&target.routing_key),
            PublishTarget::Channel { .. } | PublishTarget::Stream { .. } => None,
        };
        let mut texts = self.headers.values().chain(key);
        self.body.uses_payload() || texts.any(FunctionTemplate::uses_payload)
    }
}
