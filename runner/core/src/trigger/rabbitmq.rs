//! A trigger that listens to a queue of RabbitMQ.

use std::time::Duration;

use crate::template::{JsonTemplate, Template};

/// The connection of a trigger that names none.
pub const DEFAULT_CONNECTION: &str = "main";

/// Messages that a trigger holds where it says nothing: enough for batches of a few hundred tasks.
pub const DEFAULT_PREFETCH: u16 = 500;

/// How long a message is known where a trigger says nothing: redeliveries come after minutes, outages last hours.
pub const DEFAULT_REMEMBER: Duration = Duration::from_secs(24 * 3600);

/// The longest body where a trigger says nothing: a message is no place for files.
pub const MAX_BODY: usize = 1 << 20;

/// The values of a message that templates can name: `message.body`. Those inside of `body` and `headers` as well.
pub const MESSAGE_VALUES: [&str; 13] = [
    "body",
    "headers",
    "routing_key",
    "exchange",
    "message_id",
    "correlation_id",
    "content_type",
    "timestamp",
    "type",
    "app_id",
    "reply_to",
    "priority",
    "redelivered",
];

/// One task for each message of a queue.
#[derive(Debug, Clone, PartialEq)]
pub struct RabbitMqTrigger {
    /// The name of a connection of the settings.
    pub connection: String,
    /// The queue.
    pub queue: String,
    /// What must be there before it consumes.
    pub declare: DeclareQueue,
    /// The exchange that the queue is bound to, besides what others bound it to.
    pub bind: Option<Binding>,
    /// How many messages it holds that are not acknowledged yet.
    pub prefetch: u16,
    /// What identifies a message; `None`: its message id, if it has one.
    pub dedupe: Option<Template>,
    /// How long a message is known by that; a repetition within this time is acknowledged and does nothing.
    pub remember: Duration,
    /// What bodies must be.
    pub format: BodyFormat,
    /// The payload; `None`: the body.
    pub payload: Option<JsonTemplate>,
    /// The longest body in bytes.
    pub max_bytes: usize,
    /// What to do with a message of which no task can be made.
    pub bad_messages: BadMessage,
}

/// What must be there before a trigger consumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeclareQueue {
    /// The queue, made by its owner.
    #[default]
    Passive,
    /// Nothing: queue, exchange and binding are made.
    Create {
        /// Whether one consumer at a time gets messages, so that their order holds over instances.
        single_active_consumer: bool,
    },
}

/// How a queue gets its messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// The exchange.
    pub exchange: String,
    /// Its type, where it is made.
    pub kind: ExchangeType,
    /// Routing keys; one binding each.
    pub routing_keys: Vec<String>,
}

/// The type of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ExchangeType {
    /// By patterns of the routing key.
    #[default]
    Topic,
    /// By the routing key.
    Direct,
    /// Every message.
    Fanout,
}

impl ExchangeType {
    /// All types, by their words.
    pub const WORDS: [(&'static str, Self); 3] = [
        ("topic", Self::Topic),
        ("direct", Self::Direct),
        ("fanout", Self::Fanout),
    ];
}

/// What the body of a message must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BodyFormat {
    /// JSON text.
    #[default]
    Json,
    /// Any bytes.
    Bytes,
}

/// What to do with a message of which no task can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadMessage {
    /// It is kept by the runner, among the last ones, and acknowledged.
    Keep,
    /// It is rejected: the dead-letter exchange of the queue gets it. A queue without one loses it.
    DeadLetter,
    /// It is acknowledged.
    Drop,
}

impl BadMessage {
    /// All of them, by their words.
    pub const WORDS: [(&'static str, Self); 3] = [
        ("keep", Self::Keep),
        ("dead_letter", Self::DeadLetter),
        ("drop", Self::Drop),
    ];
}
