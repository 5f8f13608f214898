//! Triggers that read streams of Redis, each as a consumer of a group.
//!
//! One task and one connection for each trigger (`listening`). An entry is acknowledged when its task is durable. What a consumer
//! held when it died is taken over by another one; receipts make one task of it.

mod bad;
mod batch;
mod entry;
mod fault;
mod group;
mod listening;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use runner_core::trigger::{RedisStreamTrigger, TriggerDefinition, TriggerId, TriggerKind};
use runner_queue::redis::{RedisClient, RedisSettings};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{Board, ConnectionFault, END, EventSource, Intake, ListenState, TriggerParts};

/// How the names of our consumers begin.
const CONSUMERS: &str = "runner:";

/// The pause after a failure; doubled with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What all triggers share.
#[derive(Clone)]
struct Shared {
    intake: Intake,
    board: Arc<Board>,
    clients: Arc<RedisClients>,
    instance: Arc<str>,
    /// How the names of this process as a consumer begin; no other process ever has them.
    consumer: Arc<str>,
}

/// All triggers of this kind.
pub(super) struct RedisStreams {
    shared: Shared,
    running: BTreeMap<TriggerId, Started>,
    /// Triggers that are to end and may not have ended yet.
    ending: BTreeMap<TriggerId, JoinHandle<()>>,
    /// How many were started.
    started: u64,
}

/// The clients of all connections.
struct RedisClients {
    settings: BTreeMap<String, RedisSettings>,
    made: Mutex<BTreeMap<String, Arc<RedisClient>>>,
}

impl RedisClients {
    /// The client of a connection; why there is none. A file that is missing now may be there at the next attempt. May block.
    fn client(&self, name: &str) -> Result<Arc<RedisClient>, ConnectionFault> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = made.get(name) {
            return Ok(Arc::clone(client));
        }
        let settings = self.settings.get(name).ok_or_else(|| fault::unknown_connection(name))?;
        let client = Arc::new(RedisClient::lazy(settings).map_err(|error| fault::of(&error))?);
        made.insert(name.to_owned(), Arc::clone(&client));
        Ok(client)
    }
}

/// A trigger that reads.
struct Started {
    trigger: Arc<TriggerDefinition>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl RedisStreams {
    pub(super) fn new(parts: &TriggerParts, intake: &Intake) -> Self {
        let unique = runner_core::task::TaskId::random();
        Self {
            shared: Shared {
                intake: intake.clone(),
                board: Arc::clone(&parts.board),
                instance: parts.instance.as_str().into(),
                consumer: format!("{CONSUMERS}{}:{unique}", parts.instance).into(),
                clients: Arc::new(RedisClients {
                    settings: parts.settings.redis.clone(),
                    made: Mutex::default(),
                }),
            },
            running: BTreeMap::new(),
            ending: BTreeMap::new(),
            started: 0,
        }
    }

    /// Starts a trigger once its predecessor has ended.
    fn start(&mut self, trigger: Arc<TriggerDefinition>, before: Option<JoinHandle<()>>) {
        let Some(spec) = spec(&trigger).cloned() else { return };
        self.shared.board.listens(&trigger, ListenState::Starting);
        let stop = CancellationToken::new();
        // Two triggers may share a group, and a predecessor that was given up may still be about to leave it.
        self.started += 1;
        let consumer = format!("{}:{}:{}", self.shared.consumer, trigger.id, self.started);
        let shared = self.shared.clone();
        let reading = listening::StreamTriggerTask::new(Arc::clone(&trigger), spec, shared, consumer);
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            if let Some(before) = before {
                ended(before).await;
            }
            reading.run(stopped).await;
        });
        self.running.insert(trigger.id.clone(), Started { trigger, stop, task });
    }
}

async fn ended(task: JoinHandle<()>) {
    let abort = task.abort_handle();
    if timeout(END, task).await.is_err() {
        abort.abort();
    }
}

#[async_trait]
impl EventSource for RedisStreams {
    fn takes(&self, trigger: &TriggerDefinition) -> bool {
        spec(trigger).is_some()
    }

    fn adopt(&mut self, triggers: Vec<Arc<TriggerDefinition>>) {
        let stays = |one: &Started| triggers.iter().any(|trigger| trigger.does_the_same(&one.trigger));
        let over: Vec<TriggerId> = self
            .running
            .iter()
            .filter(|(_, one)| !stays(one))
            .map(|(id, _)| id.clone())
            .collect();
        self.ending.retain(|_, task| !task.is_finished());
        for (id, one) in over.iter().filter_map(|id| self.running.remove_entry(id)) {
            one.stop.cancel();
            self.ending.insert(id, one.task);
        }
        for trigger in triggers {
            if !self.running.contains_key(&trigger.id) {
                let before = self.ending.remove(&trigger.id);
                self.start(trigger, before);
            }
        }
    }

    async fn end(&mut self) {
        let all = std::mem::take(&mut self.running);
        for one in all.values() {
            one.stop.cancel();
        }
        let running = all.into_values().map(|one| one.task);
        let tasks = running.chain(std::mem::take(&mut self.ending).into_values());
        futures_util::future::join_all(tasks.map(ended)).await;
    }
}

/// What a trigger of this kind says.
fn spec(trigger: &TriggerDefinition) -> Option<&RedisStreamTrigger> {
    match &trigger.kind {
        TriggerKind::RedisStream(spec) => Some(spec),
        TriggerKind::RabbitMq(_)
        | TriggerKind::Webhook(_)
        | TriggerKind::After(_)
        | TriggerKind::File(_)
        | TriggerKind::Start => None,
    }
}
