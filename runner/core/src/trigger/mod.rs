//! Triggers: what starts a function besides a schedule, as plain data.
//!
//! Neither reads manifests nor listens to anything: the source room creates triggers, the trigger room obeys them. One file
//! for each kind.

mod after;
mod file;
mod rabbitmq;
mod redis_stream;
mod webhook;

pub use after::{AFTER_HEADER, AfterTrigger, ENDED_VALUES, FOLLOW_REMEMBER, FollowOn};
pub use file::{DEFAULT_IN_FLIGHT, DEFAULT_STABLE, FILE_HEADER, FILE_VALUES, FileEnd, FileTrigger};
pub use rabbitmq::{
    BadMessage, Binding, BodyFormat, DEFAULT_CONNECTION, DEFAULT_PREFETCH, DEFAULT_REMEMBER, DeclareQueue,
    ExchangeType, MAX_BODY, MESSAGE_VALUES, RabbitMqTrigger,
};
pub use redis_stream::{DEFAULT_BATCH, DEFAULT_TAKE_OVER, ENTRY_VALUES, RedisStreamTrigger, StreamStart};
pub use webhook::{
    DEFAULT_TOLERANCE, HookBody, HookCredential, HookMethod, REQUEST_VALUES, SignatureForm, WebhookTrigger,
};

use std::fmt;
use std::sync::Arc;

use crate::function::{PayloadSchema, SchemaFault};
use crate::schedule::Origin;
use crate::task::Task;

/// The header of a task that names the trigger which enqueued it.
pub const TRIGGER_HEADER: &str = "runner-trigger";

/// The key of a manifest that runs its function when the service starts, and the id of that trigger.
pub const ON_START: &str = "on_start";

/// Identity of a trigger over all manifests: `<function>:<id>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TriggerId(Arc<str>);

impl TriggerId {
    /// The trigger of this function and id.
    #[must_use]
    pub fn new(function: &str, id: &str) -> Self {
        Self(format!("{function}:{id}").into())
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TriggerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What starts a function when something happens.
#[derive(Debug, Clone, PartialEq)]
pub struct TriggerDefinition {
    /// Which one it is.
    pub id: TriggerId,
    /// The function's name.
    pub function: String,
    /// Where it is written.
    pub origin: Origin,
    /// Whether its function is enabled; otherwise it does not listen.
    pub enabled: bool,
    /// What it listens to.
    pub kind: TriggerKind,
    /// What an event enqueues, without id; its payload is that of the function.
    pub task: Task,
    /// What that payload must be; `None`: anything.
    pub payload_schema: Option<PayloadSchema>,
}

impl TriggerDefinition {
    /// Whether it does the same as the other one, wherever they are written.
    #[must_use]
    pub fn does_the_same(&self, other: &Self) -> bool {
        (&self.id, self.enabled, &self.kind, &self.task, &self.payload_schema)
            == (
                &other.id,
                other.enabled,
                &other.kind,
                &other.task,
                &other.payload_schema,
            )
    }

    /// Why its function does not accept this payload.
    #[must_use]
    pub fn payload_fault(&self, payload: Option<&[u8]>) -> Option<SchemaFault> {
        self.payload_schema.as_ref()?.fault(payload.unwrap_or_default())
    }

    /// What it listens to, in a few words.
    #[must_use]
    pub fn describe(&self) -> String {
        match &self.kind {
            TriggerKind::RabbitMq(trigger) => format!("queue {} of {}", trigger.queue, trigger.connection),
            TriggerKind::RedisStream(trigger) => format!("stream {} of {}", trigger.stream, trigger.connection),
            TriggerKind::Webhook(trigger) => {
                let methods: Vec<&str> = trigger.methods.iter().map(|method| method.as_str()).collect();
                format!("{} /hooks/{}", methods.join(" "), self.id.as_str().replace(':', "/"))
            }
            TriggerKind::After(trigger) => format!("{} of {}", trigger.on.as_str(), trigger.function),
            TriggerKind::File(trigger) => format!("{}/{}", trigger.dir.display(), trigger.pattern),
            TriggerKind::Start => "starts of the service".to_owned(),
        }
    }
}

/// What a trigger listens to.
#[derive(Debug, Clone, PartialEq)]
pub enum TriggerKind {
    /// A queue of RabbitMQ.
    RabbitMq(RabbitMqTrigger),
    /// A stream of Redis.
    RedisStream(RedisStreamTrigger),
    /// Calls over HTTP.
    Webhook(WebhookTrigger),
    /// Ends of tasks of another function.
    After(AfterTrigger),
    /// Files of a directory.
    File(FileTrigger),
    /// Starts of the service.
    Start,
}

impl TriggerKind {
    /// Its key in a manifest.
    #[must_use]
    pub const fn key(&self) -> &'static str {
        match self {
            Self::RabbitMq(_) => "rabbitmq",
            Self::RedisStream(_) => "redis_stream",
            Self::Webhook(_) => "webhook",
            Self::After(_) => "after",
            Self::File(_) => "file",
            Self::Start => ON_START,
        }
    }

    /// Which of its kind an event of it is, for runs that it starts, as far as the definition says: the queue, the stream, the
    /// function, the files.
    #[must_use]
    pub fn event(&self) -> String {
        match self {
            Self::RabbitMq(trigger) => trigger.queue.to_string(),
            Self::RedisStream(trigger) => trigger.stream.to_string(),
            Self::Webhook(_) | Self::Start => String::new(),
            Self::After(trigger) => trigger.function.clone(),
            Self::File(trigger) => trigger.dir.join(&trigger.pattern).to_string_lossy().into_owned(),
        }
    }
}
