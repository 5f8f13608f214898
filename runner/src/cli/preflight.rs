//! Warnings about a task that is enqueued by hand, and why it was refused, beyond what the broker says.

use std::sync::Arc;
use std::time::Duration;

use runner_core::function::Functions;
use runner_core::task::{FUNCTION_PREFIX, QueueName, Task, TaskId, TaskState};
use runner_queue::{Broker, Enqueued, InspectTasks, Refusal};
use runner_sdk::Registry;
use tokio::time::Instant;

use super::exit::BadData;
use super::parts::Registrar;
use super::{CommandContext, assemble, print};
use crate::diagnose::{BrokerFacts, FunctionFacts, Reason, ReasonCode, TaskFacts, why_new_task, why_task};
use crate::facts;
use crate::source::{self, Catalog, Rejected, TypeOptions};

/// Within this time a server has read a file and announced its function: a second for each, on a busy machine.
const ANNOUNCED: Duration = Duration::from_secs(3);

/// How often that is looked for.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// A task that was enqueued.
pub(super) struct SentTask {
    /// Where it is.
    pub(super) broker: Arc<dyn Broker>,
    /// Its id and queue.
    pub(super) enqueued: Enqueued,
    /// The queues that existed before: one that this task has made may be a typing error.
    pub(super) queues_before: Vec<QueueName>,
}

/// Warnings about a task that was just enqueued, most important first: its type and payload by the manifests here, its queue
/// by the servers.
pub(super) async fn warnings(context: &CommandContext, here: &Manifests, task: &Task, sent: &SentTask) -> Vec<Reason> {
    let mut found = why_new_task(&task.kind, &here.facts(task));
    found.extend(reasons_to_wait(context, here, task, sent).await);
    found.retain(Reason::is_warning);
    // A wrong function name says more than that no server has the function.
    let of_function = found.iter().any(|reason| reason.code == ReasonCode::NoFunction);
    found.retain(|reason| !(of_function && reason.code == ReasonCode::TypeNotHandled));
    found
}

/// Why it waits. That no server has its function counts only once servers had the time to announce it: its file may have
/// been saved a moment ago. A task that a worker took meanwhile does not wait.
#[allow(clippy::disallowed_methods)] // between two looks, of which there is a last one
async fn reasons_to_wait(context: &CommandContext, here: &Manifests, task: &Task, sent: &SentTask) -> Vec<Reason> {
    let (broker, enqueued) = (&*sent.broker, &sent.enqueued);
    let name = task.kind.strip_prefix(FUNCTION_PREFIX);
    let defined = name.is_some_and(|name| here.functions.get(name).is_some());
    let began = Instant::now();
    loop {
        let facts = expected(context, sent).await;
        let reasons = why_task(&TaskFacts::to_enqueue(task, facts.now), &facts);
        let unknown = reasons.iter().any(|reason| reason.code == ReasonCode::TypeNotHandled);
        if !(unknown && defined) || began.elapsed() >= ANNOUNCED {
            return reasons;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
        let now = broker.task(&enqueued.queue, &enqueued.id).await;
        let waits = [TaskState::Pending, TaskState::Scheduled, TaskState::Aggregating];
        if now.is_ok_and(|now| now.is_none_or(|now| !waits.contains(&now.state))) {
            return Vec::new();
        }
    }
}

/// The facts about the queue, and what will be served here. A user without the right to ask gets none.
async fn expected(context: &CommandContext, sent: &SentTask) -> BrokerFacts {
    let Ok(facts) = facts::of_queue(&*sent.broker, &sent.enqueued.queue).await else {
        return BrokerFacts {
            now: context.clock.now(),
            ..BrokerFacts::default()
        };
    };
    let own = context
        .settings()
        .map(|settings| settings.worker.queues.keys().map(ToString::to_string));
    let mut expected: Vec<String> = own.into_iter().flatten().collect();
    expected.extend(sent.queues_before.iter().map(ToString::to_string));
    BrokerFacts {
        expected: Some(expected),
        ..facts
    }
}

/// The current state of the manifests here.
pub(super) struct Manifests {
    pub(super) functions: Functions,
    pub(super) types: TypeOptions,
    /// Functions of files with errors.
    pub(super) rejected: Vec<Rejected>,
}

impl Manifests {
    /// Reads them.
    pub(super) async fn read(context: &CommandContext) -> anyhow::Result<Self> {
        let manifests_only = source::SourceSettings {
            table: None,
            ..assemble::sources(context.settings()?, source::Code::default())
        };
        let loaded = Catalog::load_once(manifests_only, context.clock.clone()).await;
        let functions = Functions::new(loaded.functions);
        Ok(Self {
            types: loaded.types,
            functions,
            rejected: loaded.rejected,
        })
    }

    /// The same with the options that the type `kind` states in code. If the handlers of the program cannot be set up, the task is
    /// enqueued without them, which standard error says.
    pub(super) async fn with_types_in_code(self, kind: &str, registrars: Vec<Registrar>) -> Self {
        if kind.starts_with(FUNCTION_PREFIX) || registrars.is_empty() {
            return self;
        }
        let (typed, failed) = assemble::typed_tasks(registrars).await;
        if let (Some(error), false) = (failed, typed.knows(kind)) {
            print::note(&format!(
                "warning: the handlers of this program could not be set up, so options that {kind} has in code do not apply: {error:#}"
            ));
        }
        Self {
            types: self.types.with_code(assemble::type_options(&typed)),
            ..self
        }
    }

    /// # Errors
    ///
    /// [`BadData`]: the schema of the function does not accept the payload.
    pub(super) fn accept(&self, kind: &str, payload: &[u8]) -> Result<(), BadData> {
        match self.functions.payload_fault(kind, payload) {
            Some(fault) => Err(BadData(format!("{kind}: {fault}"))),
            None => Ok(()),
        }
    }

    fn facts(&self, task: &Task) -> FunctionFacts<'_> {
        let broken = self.rejected.iter();
        let called = task.kind.strip_prefix(FUNCTION_PREFIX);
        let called = called.and_then(|name| self.functions.get(name));
        let payload_fault = called.and_then(|f| Some(f.kind.payload_fault(task.payload.as_deref()?)?.why));
        FunctionFacts {
            functions: &self.functions,
            broken: broken.map(|r| (r.name.clone(), r.origin.place.clone())).collect(),
            built_in: runner_handlers::register(Registry::new())
                .build()
                .is_ok_and(|handlers| handlers.knows(&task.kind)),
            payload_fault,
        }
    }
}

/// The refusal, and which task blocks this one.
pub(super) async fn refusal(broker: &dyn InspectTasks, task: &Task, refusal: &Refusal) -> String {
    let other = match refusal {
        Refusal::Duplicate => broker.lock_holder(task).await.ok().flatten(),
        Refusal::IdTaken => task.id.clone(),
        Refusal::Received | Refusal::Invalid(_) => None,
    };
    let Some(other) = other else {
        return refusal.to_string();
    };
    let state = state(broker, task, &other).await;
    match refusal {
        Refusal::Duplicate => format!(
            "{refusal}: {other} in queue {} ({state}) holds the lock of this type and {}",
            task.queue,
            if task.unique.as_ref().is_some_and(|unique| unique.key.is_some()) {
                "key"
            } else {
                "payload"
            }
        ),
        _ => format!("{refusal}: {other} in queue {} ({state})", task.queue),
    }
}

async fn state(broker: &dyn InspectTasks, task: &Task, id: &TaskId) -> String {
    match broker.task(&task.queue, id).await {
        Ok(Some(info)) => info.state.to_string(),
        Ok(None) => "gone; a lock that it left stays until its time is over".to_owned(),
        Err(_) => "in a state that cannot be read".to_owned(),
    }
}
