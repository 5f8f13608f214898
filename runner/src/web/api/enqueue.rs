//! Enqueues a task: a function of the manifests by its name, or a task of a type. A call with an `Idempotency-Key` may be
//! repeated: its id follows from the key, and the broker accepts an id once. A key that comes again with something else is refused,
//! as far as the first task is there to compare it with.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::http::StatusCode;
use bytes::Bytes;
use jiff::Timestamp;
use runner_core::function::FunctionOptions;
use runner_core::task::{BY_HAND, OnConflict, QueueName, Run, Task, TaskId, Unique, UniqueKey, UniqueScope};
use runner_queue::{Delivery, Refusal, TaskInfo};
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;

use super::endpoint::{ApiCall, Created};
use super::problem::ApiProblem;
use crate::diagnose::TaskFacts;
use crate::objects::{EnqueuedObject, ReasonWriter};
use crate::text::{hex, nearest};
use crate::web::act::Audit;

/// How long a key or a stated id is refused from the call on, whatever happens to its task.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);

/// Headers of tasks that only this program writes begin so.
const OWN_HEADERS: &str = "runner-";

/// Types of tasks that only this program enqueues begin so: what they may do needs another right than that of tasks.
const OWN_TYPES: &str = "runner:";

/// The longest duration, in seconds: a hundred years.
const LONGEST: u64 = 100 * 366 * 86_400;

/// A task to enqueue: `function` or `type`, and options; those that are left out are as the manifest or code says.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewTask {
    /// A function of the manifests, by its name.
    function: Option<String>,
    /// A task type; none may begin with `runner:`.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// The payload, any JSON; left out, that of the function's manifest, or none.
    #[schema(value_type = Option<serde_json::Value>)]
    payload: Option<Box<RawValue>>,
    /// The queue.
    queue: Option<String>,
    /// Its id, unique within the queue; random if left out. A second call with it adds nothing for a day.
    id: Option<String>,
    /// Not before this long from now.
    delay_seconds: Option<u64>,
    /// Not before this instant, RFC 3339.
    #[schema(format = DateTime)]
    run_at: Option<String>,
    /// Retries after the first failure.
    max_retry: Option<u32>,
    /// The time limit of an attempt.
    timeout_seconds: Option<u64>,
    /// No attempt after this instant, RFC 3339.
    #[schema(format = DateTime)]
    deadline: Option<String>,
    /// How long it is kept after its success.
    retention_seconds: Option<u64>,
    /// The group that it waits in to be combined with others.
    group: Option<String>,
    /// Headers of the task; none may begin with `runner-`.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// Refuse a second task like it.
    unique: Option<UniqueTask>,
}

/// What makes a task unique.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UniqueTask {
    /// For how long.
    #[schema(minimum = 1)]
    seconds: u64,
    /// What two tasks of a queue and type must share; left out, their payload.
    key: Option<String>,
    /// `all`: until it has succeeded; `pending`: while it waits. `all` if left out.
    scope: Option<String>,
    /// What happens to a task that waits: `keep` it and refuse this one, `replace` it, or `reschedule` it. `keep` if left out.
    on_conflict: Option<String>,
}

/// `POST /tasks`
pub async fn enqueue(call: ApiCall, new: NewTask) -> Result<Created<EnqueuedObject>, ApiProblem> {
    // The payload that a manifest gives may have changed since the first call.
    let compared = new.payload.is_some() || new.function.is_none();
    let mut task = task_of(&call, new)?;
    can_run(&call, &task)?;
    let by_key = match (&task.id, call.idempotency_key()?) {
        (None, Some(key)) => {
            let id = TaskId::new(derived_id(&call, &task.kind, key));
            task.id = Some(id.map_err(|why| ApiProblem::bad_value("Idempotency-Key", why))?);
            true
        }
        _ => false,
    };
    let before = EarlierCall {
        kind: task.kind.clone(),
        payload: compared.then(|| task.payload.clone().unwrap_or_default()),
        by_key,
    };
    let id = task.id.clone();
    let queue = task.queue.clone();
    let shown = id.as_ref().map_or("(new)", TaskId::as_str);
    let audit = Audit::intent(&call.cx, "task.enqueue", format!("{queue}/{shown} {}", task.kind)).logged_only();
    let delivery = Delivery {
        task,
        remember: if id.is_some() { REMEMBERED } else { Duration::ZERO },
    };
    let answer = call.app.broker.enqueue_once(&[delivery]).await;
    let answer = answer.map(|all| all.into_iter().next());
    audit.outcome(match &answer {
        Ok(Some(Ok(_))) => "done",
        Ok(Some(Err(Refusal::Received | Refusal::IdTaken))) => "repeated",
        Ok(_) => "refused",
        Err(_) => "unknown",
    });
    match (answer?, id) {
        (Some(Ok(enqueued)), _) => Ok(Created {
            at: task_address(&queue, &enqueued.id),
            body: EnqueuedObject::new(&enqueued, &call.app.settings.zone),
            new: true,
        }),
        (Some(Err(Refusal::Received | Refusal::IdTaken)), Some(id)) => before.answer(&call, &queue, &id).await,
        (Some(Err(refusal)), _) => Err(refusal.into()),
        (None, _) => Err(ApiProblem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "api_internal",
            "the broker gave no answer",
        )),
    }
}

/// Refuses a task that would never run, or whose payload does not fit its function.
fn can_run(call: &ApiCall, task: &Task) -> Result<(), ApiProblem> {
    let now = call.cx.locale.now;
    if let Some(reason) = TaskFacts::to_enqueue(task, now).never_runs(now) {
        let writer = ReasonWriter {
            now,
            zone: &call.app.settings.zone,
        };
        let detail = writer.sentence(&reason);
        return Err(ApiProblem::new(StatusCode::UNPROCESSABLE_ENTITY, "", detail).code(reason.code.as_str()));
    }
    let payload = task.payload.clone().unwrap_or_default();
    if let Some(fault) = call.app.catalog.payload_fault(&task.kind, &payload) {
        return Err(ApiProblem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "api_payload",
            format!("{}: {fault}", task.kind),
        ));
    }
    Ok(())
}

/// What is compared with the task that an earlier call enqueued under the same id.
struct EarlierCall {
    kind: String,
    /// Not compared if `None`.
    payload: Option<Bytes>,
    /// Whether the id follows from a key; else it was stated.
    by_key: bool,
}

impl EarlierCall {
    /// The answer to a call that repeats it.
    ///
    /// # Errors
    ///
    /// The task that has the id is another one: 422 for a key, 409 for a stated id.
    async fn answer(
        &self,
        call: &ApiCall,
        queue: &QueueName,
        id: &TaskId,
    ) -> Result<Created<EnqueuedObject>, ApiProblem> {
        let found = call.app.broker.glance(queue, id).await?;
        if let Some(found) = &found
            && let Some(what) = self.difference(found)
        {
            return Err(match self.by_key {
                true => ApiProblem::new(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    "api_key_reused",
                    format!("an earlier call with this Idempotency-Key enqueued task {id}, with another {what}"),
                )
                .hint("a key is for one task: repeat it with the same body, or take another key"),
                false => ApiProblem::conflict(format!("queue {queue} has a task {id}, with another {what}"))
                    .code("api_id_taken"),
            });
        }
        Ok(Created {
            at: task_address(queue, id),
            body: EnqueuedObject::repeated(queue, id, found.map(|task| task.state)),
            new: false,
        })
    }

    /// In what the task that was found is another one.
    fn difference(&self, found: &TaskInfo) -> Option<&'static str> {
        let record = &found.record;
        let whole = record.payload.len() as u64 == found.payload_bytes;
        let other = |payload: &Bytes| !whole || !same_json(payload, &record.payload);
        match &self.payload {
            _ if record.kind != self.kind => Some("type"),
            Some(payload) if other(payload) => Some("payload"),
            _ => None,
        }
    }
}

/// Whether two payloads say the same; blanks and the order of keys do not count.
fn same_json(one: &[u8], other: &[u8]) -> bool {
    let parsed = |bytes| serde_json::from_slice::<serde_json::Value>(bytes).ok();
    one == other || matches!((parsed(one), parsed(other)), (Some(one), Some(other)) if one == other)
}

/// What follows from a key: another text for each caller, and for each type of tasks or schedule that it is for.
pub(super) fn derived_id(call: &ApiCall, purpose: &str, key: &str) -> String {
    let digest = Sha256::new()
        .chain_update(call.cx.name())
        .chain_update([0])
        .chain_update(purpose)
        .chain_update([0])
        .chain_update(key)
        .finalize();
    format!("api-{}", hex(&digest[..16]))
}

/// Where a task is, below the root of the API.
pub(super) fn task_address(queue: &QueueName, id: &TaskId) -> String {
    let segment = |text: &str| crate::access::segment(text.as_bytes());
    format!("/tasks/{}/{}", segment(queue.as_str()), segment(id.as_str()))
}

fn task_of(call: &ApiCall, new: NewTask) -> Result<Task, ApiProblem> {
    let types = call.app.catalog.type_options();
    let (mut task, defaults) = match (new.function, new.kind) {
        (Some(name), None) => {
            let (function, _) = call
                .app
                .catalog
                .function(&name)
                .ok_or_else(|| no_function(call, &name))?;
            let mut task = Task::new(function.task_type()).started_by(BY_HAND, "");
            task.payload.clone_from(&function.payload);
            (task, types.of_function(&function))
        }
        (None, Some(kind)) => {
            let defaults = types.of(&kind);
            (Task::new(kind), defaults)
        }
        (Some(_), Some(_)) | (None, None) => {
            return Err(ApiProblem::bad_value("function", "name either a function or a type"));
        }
    };
    if task.kind.starts_with(OWN_TYPES) {
        let why = format!("{:?} is one that only this program enqueues", task.kind);
        return Err(ApiProblem::bad_value("type", why));
    }
    if let Some(payload) = new.payload {
        task.payload = Some(Bytes::from(String::from(Box::<str>::from(payload))));
    }
    task.run = match (new.delay_seconds, new.run_at) {
        (None, None) => Run::Now,
        (Some(delay), None) => Run::In(seconds("delay_seconds", delay)?),
        (None, Some(at)) => Run::At(written("run_at", &at)?),
        (Some(_), Some(_)) => {
            return Err(ApiProblem::bad_value(
                "run_at",
                "delay_seconds and run_at exclude each other",
            ));
        }
    };
    task.deadline = new.deadline.map(|at| written("deadline", &at)).transpose()?;
    task.id = name(new.id, "id", TaskId::new)?;
    task.group = new.group;
    if let Some(own) = new.headers.keys().find(|key| key.starts_with(OWN_HEADERS)) {
        let why = format!("{own:?} is one that only this program writes");
        return Err(ApiProblem::bad_value("headers", why));
    }
    task.headers.extend(new.headers);
    let length = |name, value: Option<u64>| value.map(|value| seconds(name, value)).transpose();
    let stated = FunctionOptions {
        queue: name(new.queue, "queue", QueueName::new)?,
        max_retry: new.max_retry,
        timeout: length("timeout_seconds", new.timeout_seconds)?,
        retention: length("retention_seconds", new.retention_seconds)?,
        unique: new.unique.map(unique).transpose()?,
    };
    stated.or(&defaults).apply(&mut task);
    let header = |name: &str| call.headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(parent) = header("traceparent") {
        task = task.traced(parent, header("tracestate"));
    }
    task.check()
        .map_err(|why| ApiProblem::new(StatusCode::UNPROCESSABLE_ENTITY, "api_bad_value", why.to_string()))?;
    Ok(task)
}

fn no_function(call: &ApiCall, name: &str) -> ApiProblem {
    let functions = call.app.catalog.functions();
    let meant = nearest(name, functions.iter().map(|(function, _)| function.name.as_str()));
    let gone = ApiProblem::gone("function", name);
    match meant {
        Some(meant) => gone.hint(format!("did you mean {meant}?")),
        None => gone,
    }
}

fn name<N, E: std::fmt::Display>(
    text: Option<String>,
    key: &str,
    new: impl Fn(String) -> Result<N, E>,
) -> Result<Option<N>, ApiProblem> {
    text.map(|text| new(text).map_err(|why| ApiProblem::bad_value(key, why)))
        .transpose()
}

pub(super) fn seconds(name: &str, seconds: u64) -> Result<Duration, ApiProblem> {
    match seconds {
        0..=LONGEST => Ok(Duration::from_secs(seconds)),
        _ => Err(ApiProblem::bad_value(
            name,
            format!("at most {LONGEST} seconds are possible"),
        )),
    }
}

pub(super) fn written(name: &str, text: &str) -> Result<Timestamp, ApiProblem> {
    text.parse()
        .map_err(|_| ApiProblem::bad_value(name, "it must be an instant such as 2026-11-22T10:00:00+08:00"))
}

fn unique(new: UniqueTask) -> Result<Unique, ApiProblem> {
    let scope = word("unique.scope", new.scope, &UniqueScope::WORDS)?;
    Ok(Unique {
        ttl: seconds("unique.seconds", new.seconds)?,
        key: new.key.map(UniqueKey::Text),
        scope,
        on_conflict: word("unique.on_conflict", new.on_conflict, &OnConflict::WORDS)?,
    })
}

fn word<T: Copy + Default>(name: &str, given: Option<String>, words: &[(&str, T)]) -> Result<T, ApiProblem> {
    let Some(given) = given else { return Ok(T::default()) };
    let found = words.iter().find(|(word, _)| *word == given);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        ApiProblem::bad_value(name, format!("{given:?} is not one of {}", all.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_are_compared_by_what_they_say() {
        assert!(same_json(b"", b"") && same_json(br#"{"a":1,"b":[2]}"#, br#"{ "b": [2], "a": 1 }"#));
        assert!(!same_json(b"1", b"2") && !same_json(b"", b"null") && !same_json(b"[1,2]", b"[2,1]"));
        let deep = "[".repeat(100_000);
        assert!(same_json(deep.as_bytes(), deep.as_bytes()) && !same_json(deep.as_bytes(), b"["));
    }
}
