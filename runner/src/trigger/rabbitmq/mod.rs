//! Triggers that listen to queues of RabbitMQ.
//!
//! One supervisor for each connection that a trigger uses (`connection`), one channel for each trigger (`consumer`). Recovery
//! is our own: after any error connection, queues and consumers are made again. A message is acknowledged when its task is
//! durable, never when it ran.

mod connection;
mod consumer;
mod message;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use runner_core::trigger::{RabbitMqTrigger, TriggerDefinition, TriggerKind};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{Board, END, EventSource, Intake, ListenState, TriggerParts};
use crate::messaging::{ConnectionFault, RabbitMqSettings};

/// The pause after a failure; doubled with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause, so that a server that returned is noticed within it.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How long the server may take to answer one call.
const ANSWER: Duration = Duration::from_secs(10);

/// What all connections share.
#[derive(Clone)]
struct Shared {
    intake: Intake,
    board: Arc<Board>,
    instance: Arc<str>,
}

/// All connections to RabbitMQ.
pub(super) struct RabbitMq {
    shared: Shared,
    settings: BTreeMap<String, RabbitMqSettings>,
    connections: BTreeMap<String, Supervisor>,
}

/// A connection and its triggers.
struct Supervisor {
    triggers: watch::Sender<Vec<Arc<TriggerDefinition>>>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl RabbitMq {
    pub(super) fn new(parts: &TriggerParts, intake: &Intake) -> Self {
        Self {
            shared: Shared {
                intake: intake.clone(),
                board: Arc::clone(&parts.board),
                instance: parts.instance.as_str().into(),
            },
            settings: parts.settings.rabbitmq.clone(),
            connections: BTreeMap::new(),
        }
    }

    fn supervise(&mut self, name: &str, settings: RabbitMqSettings, triggers: Vec<Arc<TriggerDefinition>>) {
        let (sender, receiver) = watch::channel(triggers);
        let stop = CancellationToken::new();
        let one = connection::Supervised {
            name: name.to_owned(),
            settings,
            shared: self.shared.clone(),
        };
        let task = tokio::spawn(one.run(receiver, stop.clone()));
        let supervisor = Supervisor {
            triggers: sender,
            stop,
            task,
        };
        self.connections.insert(name.to_owned(), supervisor);
    }
}

#[async_trait]
impl EventSource for RabbitMq {
    fn takes(&self, trigger: &TriggerDefinition) -> bool {
        spec(trigger).is_some()
    }

    fn adopt(&mut self, triggers: Vec<Arc<TriggerDefinition>>) {
        let mut wanted: BTreeMap<String, Vec<Arc<TriggerDefinition>>> = BTreeMap::new();
        for trigger in triggers {
            let Some(spec) = spec(&trigger) else { continue };
            if self.settings.contains_key(&spec.connection) {
                wanted.entry(spec.connection.clone()).or_default().push(trigger);
            } else {
                let state = ListenState::Failing(unknown_connection(&spec.connection));
                self.shared.board.listens(&trigger, state);
            }
        }
        // A connection without triggers stays known: its supervisor closes it and waits.
        for (name, supervisor) in &self.connections {
            let triggers = wanted.remove(name).unwrap_or_default();
            supervisor.triggers.send_replace(triggers);
        }
        for (name, triggers) in wanted {
            if let Some(settings) = self.settings.get(&name).cloned() {
                self.supervise(&name, settings, triggers);
            }
        }
    }

    async fn end(&mut self) {
        for supervisor in self.connections.values() {
            supervisor.stop.cancel();
        }
        for supervisor in std::mem::take(&mut self.connections).into_values() {
            let abort = supervisor.task.abort_handle();
            if timeout(END, supervisor.task).await.is_err() {
                abort.abort();
            }
        }
    }
}

/// What a trigger of this kind says.
fn spec(trigger: &TriggerDefinition) -> Option<&RabbitMqTrigger> {
    match &trigger.kind {
        TriggerKind::RabbitMq(spec) => Some(spec),
        TriggerKind::RedisStream(_)
        | TriggerKind::Webhook(_)
        | TriggerKind::After(_)
        | TriggerKind::File(_)
        | TriggerKind::Start => None,
    }
}

fn unknown_connection(name: &str) -> ConnectionFault {
    ConnectionFault {
        code: "amqp_connection_unknown",
        why: format!("no connection {name:?} is defined under rabbitmq.connections"),
        hint: "define it in config.yaml and restart, or correct the connection in the manifest",
    }
}
