//! Events that run functions: what listens to them, and how an event becomes a task.
//!
//! A kind of trigger is a folder here with a type that implements [`EventSource`]; its definition is plain data in
//! `core::trigger`, its keys are read by `source::manifest::triggers`. What all kinds share: tasks are enqueued by [`Intake`],
//! which returns when they are durable, and only then may a source confirm its events; how each trigger and connection is
//! doing is noted on the [`Board`], which pages, commands and metrics show.

mod after;
mod board;
mod file;
mod identity;
mod intake;
mod kept;
mod kept_names;
#[cfg(feature = "amqp")]
mod rabbitmq;
mod redis_stream;
mod report;
mod settings;
mod start;
mod webhook;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use runner_core::clock::Clock;
use runner_core::trigger::TriggerDefinition;
use runner_queue::Broker;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use after::AfterTriggers;
pub use board::{Board, ConnectionStatus, ListenState, MessageCounts, TriggerStatus};
pub use file::FilesOfTasks;
pub use intake::Intake;
pub use kept::{SavedMessage, kept_message, messages_named};
pub use kept_names::{SavedNames, SavedOfTrigger};
pub use report::{ConnectionReport, FaultReport, InstanceReport, TriggerReport, reports};
pub use settings::{SecretReader, TriggerSettings};
pub use webhook::{AcceptedCall, HookAnswer, HookCall, HookParts, HookRefusal, HookResult, Hooks};

use crate::health::Health;
use crate::messaging::ConnectionFault;
use crate::telemetry::Telemetry;

/// What the end of listening may take: batches under way are enqueued and confirmed.
pub const LAST_BATCHES: Duration = Duration::from_secs(3);

/// What the end of one connection or trigger may take, so that it ends before its source is given up.
const END: Duration = Duration::from_millis(2500);

/// Something that watches for events of one kind of trigger.
#[async_trait]
pub trait EventSource: Send {
    /// Whether a trigger is of its kind.
    fn takes(&self, trigger: &TriggerDefinition) -> bool;

    /// The enabled triggers of its kind from now on. Those that are not among them any more, or do something else now, stop
    /// before their successors begin; what they have not enqueued yet stays with its sender. Must not wait for a peer.
    fn adopt(&mut self, triggers: Vec<Arc<TriggerDefinition>>);

    /// Stops all of them, within a few seconds.
    async fn end(&mut self);
}

/// What triggers work with.
pub struct TriggerParts {
    /// Takes the tasks.
    pub broker: Arc<dyn Broker>,
    /// The clock of the board.
    pub clock: Arc<dyn Clock>,
    /// Gets failures of the broker.
    pub health: Arc<Health>,
    /// Takes the spans of what is enqueued.
    pub telemetry: Telemetry,
    /// Where servers are.
    pub settings: TriggerSettings,
    /// Every set of triggers that is in force.
    pub triggers: watch::Receiver<Arc<Vec<Arc<TriggerDefinition>>>>,
    /// `host:pid` of this process, for those who look at connections from the other end.
    pub instance: String,
    /// Where states are noted.
    pub board: Arc<Board>,
    /// The hooks that the web server of this process serves.
    pub hooks: Arc<Hooks>,
    /// Whether this process listens to other programs; hooks are served without it.
    pub listens: bool,
}

/// Listens until `stop`; returns when everything has ended.
pub async fn run(mut parts: TriggerParts, stop: CancellationToken) {
    let intake = Intake::new(parts.broker.clone(), parts.health.clone(), parts.telemetry.clone());
    let mut sources = sources(&parts, &intake);
    let (broker, board, instance) = (parts.broker.clone(), parts.board.clone(), parts.instance.clone());
    let reporting = tokio::spawn(report::publish(broker, board, instance, stop.clone()));
    loop {
        let all = Arc::clone(&parts.triggers.borrow_and_update());
        parts.board.retain(&all);
        for source in &mut sources {
            let own = all.iter().filter(|trigger| source.takes(trigger));
            let (enabled, disabled): (Vec<_>, Vec<_>) = own.cloned().partition(|trigger| trigger.enabled);
            for trigger in disabled {
                parts.board.listens(&trigger, ListenState::Disabled);
            }
            source.adopt(enabled);
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            changed = parts.triggers.changed() => if changed.is_err() { break },
        }
    }
    let ends = sources.iter_mut().map(|source| source.end());
    futures_util::future::join_all(ends).await;
    // It ends by the same stop; that it panicked is logged where it did.
    drop(reporting.await);
}

fn sources(parts: &TriggerParts, intake: &Intake) -> Vec<Box<dyn EventSource>> {
    let mut all: Vec<Box<dyn EventSource>> = vec![
        Box::new(after::AfterSource::new(parts)),
        Box::new(webhook::WebhookSource::new(Arc::clone(&parts.hooks))),
    ];
    if parts.listens {
        all.extend(listening(parts, intake));
    }
    all
}

fn listening(parts: &TriggerParts, intake: &Intake) -> Vec<Box<dyn EventSource>> {
    vec![
        Box::new(file::FileSource::new(parts, intake)),
        Box::new(start::StartSource::new(parts, intake)),
        #[cfg(feature = "amqp")]
        Box::new(rabbitmq::RabbitMq::new(parts, intake)),
        Box::new(redis_stream::RedisStreams::new(parts, intake)),
    ]
}
