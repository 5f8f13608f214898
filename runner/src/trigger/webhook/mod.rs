//! Triggers that are called over HTTP. The web server takes the requests; what a call means is decided here.
//!
//! A hook is served by every process with a web server, whatever else it does. `source` keeps the table of hooks and their
//! secrets, `credential` says who may call, `call` makes a task of a call.

mod call;
mod credential;
mod source;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use runner_client::{Client, WaitError};
use runner_core::clock::Clock;
use runner_core::task::{QueueName, TaskId, TaskState};
use runner_core::trigger::{HookMethod, MAX_BODY, TriggerDefinition, TriggerKind, WebhookTrigger};
use runner_queue::{Broker, Delivery, Refusal};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::credential::Decoy;
pub(super) use self::source::WebhookSource;
use super::settings::SecretReader;
use super::{Board, Intake, ListenState, MessageCounts};
use crate::health::Health;
use crate::telemetry::Telemetry;

/// How long a call waits for the broker before it is refused: a sender repeats it.
const ACCEPT: Duration = Duration::from_secs(5);

/// How long the first calls wait for the manifests to be read.
const START: Duration = Duration::from_secs(5);

/// How soon a broker that failed is asked again for a result.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// A call of a hook.
#[derive(Debug)]
pub struct HookCall<'a> {
    /// The function in the path.
    pub function: &'a str,
    /// The id of the trigger in the path, if it is there.
    pub trigger: Option<&'a str>,
    /// The method of the request.
    pub method: &'a str,
    /// The text after `?` in the address.
    pub query: &'a str,
    /// The headers of the request.
    pub headers: &'a HeaderMap,
    /// The address of the client.
    pub client: String,
    /// The body.
    pub body: Bytes,
}

/// The result of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookAnswer {
    /// There is a task for it.
    Accepted(AcceptedCall),
    /// The sender wants to see this text: it tests the address.
    Challenge(String),
}

/// A call that has a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptedCall {
    /// The task's id.
    pub id: TaskId,
    /// Its queue.
    pub queue: QueueName,
    /// Whether the task was there before: the call is a repetition.
    pub repeated: bool,
    /// How long the caller waits for the result.
    pub wait: Option<Duration>,
}

/// Why a call is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookRefusal {
    /// The status of the answer.
    pub status: StatusCode,
    /// A stable code.
    pub code: &'static str,
    /// In one sentence.
    pub message: String,
    /// Methods that are accepted, if the method was wrong.
    pub allow: Option<String>,
}

impl HookRefusal {
    /// With this status, code and sentence.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            allow: None,
        }
    }

    /// The one answer to everything that proves nothing: hooks that do not exist answer like those that do.
    fn unauthorized() -> Self {
        let message = "no hook at this address accepts this credential";
        Self::new(StatusCode::UNAUTHORIZED, "hook_unauthorized", message)
    }
}

/// What is known of a task after a wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookResult {
    /// It succeeded.
    Completed(Bytes),
    /// It failed and will not be retried.
    Failed,
    /// It has not ended.
    NotYet(TaskState),
    /// It ended so long ago that nothing is left of it.
    Gone,
    /// The broker does not say.
    Unknown,
}

/// One hook.
struct Hook {
    trigger: Arc<TriggerDefinition>,
    /// Those that can be read.
    secrets: Vec<String>,
    /// Why another one cannot.
    fault: Option<String>,
    counts: Arc<MessageCounts>,
    /// Whether the broker took no tasks of its last call.
    holding: AtomicBool,
}

impl Hook {
    fn spec(&self) -> Option<&WebhookTrigger> {
        spec(&self.trigger)
    }
}

/// Hooks by function.
#[derive(Default)]
struct HookTable {
    by_function: BTreeMap<String, Vec<Arc<Hook>>>,
    longest_body: usize,
    /// Whether a web server called them when it was made.
    served: bool,
}

impl HookTable {
    /// The hook of this address. A function with several needs the id of one.
    fn find(&self, function: &str, trigger: Option<&str>) -> Option<&Arc<Hook>> {
        let all = self.by_function.get(function)?;
        match trigger {
            Some(id) => all.iter().find(|hook| {
                let own = hook.trigger.id.as_str().strip_prefix(function);
                own.and_then(|rest| rest.strip_prefix(':')) == Some(id)
            }),
            None => all.first().filter(|_| all.len() == 1),
        }
    }
}

/// The parts that [`Hooks::new`] takes.
pub struct HookParts {
    /// Takes the tasks.
    pub broker: Arc<dyn Broker>,
    /// Gets failures of the broker.
    pub health: Arc<Health>,
    /// Takes the spans of what is enqueued.
    pub telemetry: Telemetry,
    /// Compared with the times in signatures.
    pub clock: Arc<dyn Clock>,
    /// Where states are noted.
    pub board: Arc<Board>,
    /// Reads secrets.
    pub secrets: SecretReader,
    /// Ends waiting for the broker.
    pub stop: CancellationToken,
}

/// The hooks of this process.
pub struct Hooks {
    intake: Intake,
    clock: Arc<dyn Clock>,
    board: Arc<Board>,
    secrets: SecretReader,
    client: Client,
    decoy: Decoy,
    /// `None` until the manifests were read.
    table: watch::Sender<Option<Arc<HookTable>>>,
    /// Whether a web server calls them.
    served: AtomicBool,
    changed: Notify,
    stop: CancellationToken,
}

impl Hooks {
    /// None yet.
    #[must_use]
    pub fn new(parts: HookParts) -> Self {
        Self {
            intake: Intake::new(Arc::clone(&parts.broker), parts.health, parts.telemetry),
            clock: parts.clock,
            board: parts.board,
            secrets: parts.secrets,
            client: Client::over(parts.broker),
            decoy: Decoy::new(),
            table: watch::Sender::new(None),
            served: AtomicBool::new(false),
            changed: Notify::new(),
            stop: parts.stop,
        }
    }

    /// Says that a web server calls them from now on.
    pub fn serve(&self) {
        self.served.store(true, Ordering::Relaxed);
        self.changed.notify_one();
    }

    /// The longest body that any hook takes: longer ones are not read. The same for hooks that do not exist.
    #[must_use]
    pub fn longest_body(&self) -> usize {
        let longest = self.table.borrow().as_ref().map_or(0, |table| table.longest_body);
        longest.max(MAX_BODY)
    }

    /// Enqueues the task of a call.
    ///
    /// # Errors
    ///
    /// [`HookRefusal`].
    pub async fn receive(&self, call: HookCall<'_>) -> Result<HookAnswer, HookRefusal> {
        let Some(table) = self.table().await else {
            let message = "the manifests have not been read yet";
            return Err(HookRefusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "hook_starting",
                message,
            ));
        };
        let hook = table.find(call.function, call.trigger);
        let given = hook.and_then(|hook| Some((&hook.spec()?.credential, &hook.secrets[..])));
        let proof = credential::check(given, &self.decoy, call.headers, &call.body, self.clock.now());
        let (Some(hook), Some(proof)) = (hook, proof) else {
            if let Some(hook) = hook {
                MessageCounts::add(&hook.counts.refused, 1);
            }
            return Err(HookRefusal::unauthorized());
        };
        let Some(spec) = hook.spec() else {
            return Err(HookRefusal::unauthorized());
        };
        if let Some(challenge) = call::challenge(spec, &call) {
            return Ok(HookAnswer::Challenge(challenge));
        }
        let delivery = call::to_delivery(&hook.trigger, spec, &proof, call).inspect_err(|refusal| {
            self.board.bad(&hook.trigger, &refusal.message);
        })?;
        self.enqueue(hook, spec, delivery).await
    }

    async fn table(&self) -> Option<Arc<HookTable>> {
        let mut table = self.table.subscribe();
        let known = tokio::time::timeout(START, table.wait_for(Option::is_some)).await;
        known.ok()?.ok()?.clone()
    }

    /// Whether it is still in the table: the state of one that was removed must not come back.
    fn is_current(&self, hook: &Arc<Hook>) -> bool {
        let table = self.table.borrow();
        let all = table
            .as_ref()
            .and_then(|table| table.by_function.get(&hook.trigger.function));
        all.is_some_and(|all| all.iter().any(|one| Arc::ptr_eq(one, hook)))
    }

    async fn enqueue(
        &self,
        hook: &Arc<Hook>,
        spec: &WebhookTrigger,
        delivery: Delivery,
    ) -> Result<HookAnswer, HookRefusal> {
        let queue = delivery.task.queue.clone();
        let id = delivery.task.id.clone();
        let deliveries = [delivery];
        let waiting = |error: &runner_queue::BrokerError| {
            hook.holding.store(true, Ordering::Relaxed);
            if self.is_current(hook) {
                self.board.listens(&hook.trigger, ListenState::Holding(error.code()));
            }
        };
        let answers = self.intake.accept(&deliveries, &self.stop, waiting);
        let answer = tokio::time::timeout(ACCEPT, answers).await.ok().flatten();
        let answer = answer.and_then(|answers| answers.into_iter().next());
        let Some(answer) = answer else {
            let message = "the broker takes no tasks at the moment; repeat the call";
            return Err(HookRefusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "hook_broker_unavailable",
                message,
            ));
        };
        if hook.holding.swap(false, Ordering::Relaxed) && self.is_current(hook) {
            self.board.listens(&hook.trigger, ListenState::Listening);
        }
        let accepted = |id: TaskId, repeated| {
            let counter = if repeated {
                &hook.counts.repeated
            } else {
                &hook.counts.enqueued
            };
            MessageCounts::add(counter, 1);
            HookAnswer::Accepted(AcceptedCall {
                id,
                queue: queue.clone(),
                repeated,
                wait: spec.wait,
            })
        };
        match (answer, id) {
            (Ok(enqueued), _) => Ok(accepted(enqueued.id, false)),
            (Err(Refusal::Received | Refusal::IdTaken), Some(id)) => Ok(accepted(id, true)),
            (Err(refusal), _) => {
                self.board.bad(&hook.trigger, &refusal.to_string());
                let (status, code) = (StatusCode::UNPROCESSABLE_ENTITY, "hook_bad_payload");
                Err(HookRefusal::new(status, code, refusal.to_string()))
            }
        }
    }

    /// The result of an accepted call, as soon as its task has ended; at most after the wait of its hook.
    #[allow(clippy::disallowed_methods)] // a named back-off that the wait of the hook ends
    pub async fn result(&self, accepted: &AcceptedCall, patience: Duration) -> HookResult {
        let task = self.client.task(accepted.queue.clone(), accepted.id.clone());
        let until = Instant::now() + patience;
        loop {
            match task.wait(until.saturating_duration_since(Instant::now())).await {
                Ok(result) => return HookResult::Completed(result.bytes),
                Err(WaitError::Failed(_)) => return HookResult::Failed,
                Err(WaitError::NotYet(state)) => return HookResult::NotYet(state),
                Err(WaitError::Gone) => return HookResult::Gone,
                Err(_) if Instant::now() + LOOK_AGAIN >= until => return HookResult::Unknown,
                // A broker that is away for a moment must not end the wait.
                Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
            }
        }
    }
}

fn spec(trigger: &TriggerDefinition) -> Option<&WebhookTrigger> {
    match &trigger.kind {
        TriggerKind::Webhook(spec) => Some(spec),
        TriggerKind::RabbitMq(_)
        | TriggerKind::RedisStream(_)
        | TriggerKind::After(_)
        | TriggerKind::File(_)
        | TriggerKind::Start => None,
    }
}

fn allowed(methods: &[HookMethod]) -> String {
    let words: Vec<&str> = methods.iter().map(|method| method.as_str()).collect();
    words.join(", ")
}
