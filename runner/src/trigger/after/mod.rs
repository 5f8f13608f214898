//! Triggers that follow other functions: what a broker asks when a task has ended, and the loop that moves on what a cluster
//! has written down.
//!
//! Nothing is listened to here: the broker enqueues the next task in the step that ends the one before, so that neither a lost
//! answer nor the end of a process loses or doubles it.

mod ended;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use runner_core::trigger::{AfterTrigger, FollowOn, TriggerDefinition, TriggerKind};
use runner_queue::{Broker, Delivery, EndedTask, FollowUps, TaskEnd};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::ended::to_delivery;
use super::{Board, EventSource, ListenState, MessageCounts, TriggerParts};
use crate::background::{self, BackgroundLoop};
use crate::health::Health;

/// How often what was written down is moved on, where anything follows anything; else rarely, for what was written before
/// the manifests changed.
const EVERY: Duration = Duration::from_secs(1);
const RARELY: Duration = Duration::from_secs(30);

type Triggers = Arc<Vec<Arc<TriggerDefinition>>>;

/// The triggers in force by the types of the tasks that they follow.
#[derive(Default)]
struct Index {
    of: Triggers,
    by_type: BTreeMap<String, Vec<Arc<TriggerDefinition>>>,
}

impl Index {
    fn new(of: Triggers) -> Self {
        let mut by_type: BTreeMap<String, Vec<Arc<TriggerDefinition>>> = BTreeMap::new();
        for trigger in of.iter().filter(|trigger| trigger.enabled) {
            for kind in spec(trigger).into_iter().flat_map(|spec| spec.follows.keys()) {
                by_type.entry(kind.clone()).or_default().push(Arc::clone(trigger));
            }
        }
        Self { of, by_type }
    }
}

/// Which tasks follow others, by the triggers that are in force at the moment of the question.
pub struct AfterTriggers {
    triggers: watch::Receiver<Triggers>,
    board: Arc<Board>,
    index: RwLock<Arc<Index>>,
}

impl AfterTriggers {
    /// By every set of triggers that is in force; what happens to them is noted on the board.
    #[must_use]
    pub fn new(triggers: watch::Receiver<Triggers>, board: Arc<Board>) -> Self {
        Self {
            triggers,
            board,
            index: RwLock::default(),
        }
    }

    /// Made again when the manifests have changed, by the first caller: a task must not end by an old set.
    fn index(&self) -> Arc<Index> {
        let now = Arc::clone(&self.triggers.borrow());
        let known = Arc::clone(&self.index.read().unwrap_or_else(PoisonError::into_inner));
        if Arc::ptr_eq(&known.of, &now) {
            return known;
        }
        let new = Arc::new(Index::new(now));
        *self.index.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&new);
        new
    }
}

impl FollowUps for AfterTriggers {
    fn any(&self) -> bool {
        !self.index().by_type.is_empty()
    }

    fn follow(&self, kind: &str) -> bool {
        self.index().by_type.contains_key(kind)
    }

    fn after(&self, ended: &EndedTask<'_>) -> Vec<Delivery> {
        let index = self.index();
        let mut all = Vec::new();
        for trigger in index.by_type.get(&ended.task.kind).into_iter().flatten() {
            let Some(spec) = spec(trigger).filter(|spec| is_meant(spec.on, ended.end)) else {
                continue;
            };
            match to_delivery(trigger, spec, ended) {
                Ok(delivery) => {
                    let counts = self.board.listens(trigger, ListenState::Listening);
                    MessageCounts::add(&counts.enqueued, 1);
                    all.push(delivery);
                }
                Err(why) => {
                    tracing::warn!(
                        trigger = trigger.id.as_str(),
                        code = "trigger_bad_message",
                        task = %ended.task.id,
                        error = %why,
                        help = "correct the payload of the trigger; the task that ended can be run again",
                        "nothing follows this task"
                    );
                    self.board.listens(trigger, ListenState::Listening);
                    self.board.bad(trigger, &format!("{}: {why}", ended.task.id));
                }
            }
        }
        all
    }
}

fn is_meant(on: FollowOn, end: TaskEnd) -> bool {
    match on {
        FollowOn::Success => end == TaskEnd::Succeeded,
        FollowOn::Failure => end == TaskEnd::Failed,
        FollowOn::Any => true,
    }
}

/// What a trigger of this kind says.
fn spec(trigger: &TriggerDefinition) -> Option<&AfterTrigger> {
    match &trigger.kind {
        TriggerKind::After(spec) => Some(spec),
        TriggerKind::RabbitMq(_)
        | TriggerKind::RedisStream(_)
        | TriggerKind::Webhook(_)
        | TriggerKind::File(_)
        | TriggerKind::Start => None,
    }
}

/// Notes these triggers on the board, and moves on what a cluster has written down.
pub(super) struct AfterSource {
    board: Arc<Board>,
    any: watch::Sender<bool>,
    wake: Arc<Notify>,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl AfterSource {
    pub(super) fn new(parts: &TriggerParts) -> Self {
        let (any, receiver) = watch::channel(false);
        let stop = CancellationToken::new();
        let role = MoveOn {
            broker: Arc::clone(&parts.broker),
            health: Arc::clone(&parts.health),
            any: receiver,
        };
        let wake = Arc::new(Notify::new());
        let (woken, ending) = (Arc::clone(&wake), stop.clone());
        let task = tokio::spawn(async move { background::run(role, &woken, &ending).await });
        Self {
            board: Arc::clone(&parts.board),
            any,
            wake,
            stop,
            task: Some(task),
        }
    }
}

#[async_trait]
impl EventSource for AfterSource {
    fn takes(&self, trigger: &TriggerDefinition) -> bool {
        spec(trigger).is_some()
    }

    fn adopt(&mut self, triggers: Vec<Arc<TriggerDefinition>>) {
        self.any.send_replace(!triggers.is_empty());
        self.wake.notify_one();
        for trigger in triggers {
            self.board.listens(&trigger, ListenState::Listening);
        }
    }

    async fn end(&mut self) {
        self.stop.cancel();
        if let Some(task) = self.task.take() {
            drop(task.await);
        }
    }
}

struct MoveOn {
    broker: Arc<dyn Broker>,
    health: Arc<Health>,
    any: watch::Receiver<bool>,
}

#[async_trait]
impl BackgroundLoop for MoveOn {
    fn name(&self) -> &'static str {
        "tasks that follow others"
    }

    fn every(&self) -> Duration {
        RARELY
    }

    async fn turn(&mut self) -> Option<Duration> {
        if let Err(error) = self.broker.move_followers().await {
            self.health.failed("move on tasks that follow others", &error);
        }
        self.any.borrow().then_some(EVERY)
    }
}
