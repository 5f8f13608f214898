//! The seam's `Actions`: on one task, on a whole list, on a queue.
//!
//! A script acts on at most [`BATCH`] tasks, a call on at most [`MAX_ACTED`]; longer lists are processed
//! call by call.

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use redis::Value;
use runner_core::task::{QueueName, TaskId, TaskState, check_payload};

use crate::redis::RedisBroker;
use crate::redis::format::scripts::Script;
use crate::redis::format::{convert, keys, reply};
use crate::redis::net::fault;
use crate::{Acted, Action, ActionError, Actions, BrokerError, BrokerResult, MAX_ACTED, RemoveError};

/// Tasks a script call, during which Redis does nothing else: about 3 ms.
const BATCH: usize = 250;

/// Milliseconds after which a script that looks for tasks in a long list leaves the rest for the next one.
const SCRIPT_MS: u64 = 5;

const DOING: &str = "act on a task";

/// How often an edit is tried because another client changed the task meanwhile.
const EDITS: usize = 5;

/// The name of an action in the scripts.
fn word(action: Action) -> &'static str {
    match action {
        Action::Run => "run",
        Action::Archive => "archive",
        Action::Delete => "delete",
    }
}

#[async_trait]
impl Actions for RedisBroker {
    async fn act(&self, queue: &QueueName, id: &TaskId, action: Action) -> Result<(), ActionError> {
        self.act_on_bytes(queue, id.as_str().as_bytes(), id, action).await
    }

    async fn act_all(&self, queue: &QueueName, state: TaskState, action: Action) -> Result<Acted, ActionError> {
        self.act_on_list(queue, state, None, action).await
    }

    async fn act_before(
        &self,
        queue: &QueueName,
        state: TaskState,
        action: Action,
        before: Timestamp,
        most: usize,
    ) -> Result<Acted, ActionError> {
        action.check(state)?;
        let bound = match state {
            TaskState::Pending => before.as_nanosecond().to_string(),
            TaskState::Archived => before.as_second().to_string(),
            _ => String::new(),
        };
        let most = most.clamp(1, MAX_ACTED);
        self.act_on_first(queue, (state, None), action, most, &bound).await
    }

    async fn act_each(
        &self,
        queue: &QueueName,
        ids: &[TaskId],
        state: TaskState,
        action: Action,
    ) -> Result<u64, ActionError> {
        action.check(state)?;
        let mut rest = &ids[..ids.len().min(MAX_ACTED)];
        let mut changed = 0;
        while !rest.is_empty() {
            let some = &rest[..rest.len().min(BATCH)];
            let mut trip = self.conn.trip("act on some tasks").await?;
            trip.script(Script::ActEach, &[keys::part(queue.as_str(), "pending")])
                .arg(keys::queue(queue.as_str()))
                .arg(keys::own(queue.as_str()))
                .arg(state.as_str())
                .arg(word(action))
                .arg(SCRIPT_MS);
            for id in some {
                trip.arg(id.as_str());
            }
            let mut answer = reply::list(trip.one().await?).into_iter();
            let looked = usize::try_from(answer.next().map_or(0, reply::count)).unwrap_or_default();
            if looked == 0 {
                return Err(fault::odd_answer("act on some tasks").into());
            }
            changed += answer.next().map_or(0, reply::count);
            rest = &rest[looked.min(rest.len())..];
        }
        Ok(changed)
    }

    async fn act_group(&self, queue: &QueueName, group: &str, action: Action) -> Result<Acted, ActionError> {
        self.act_on_list(queue, TaskState::Aggregating, Some(group), action)
            .await
    }

    async fn update_payload(&self, queue: &QueueName, id: &TaskId, payload: Bytes) -> Result<(), ActionError> {
        const DOING: &str = "change the payload of a task";
        check_payload(&payload)?;
        let key = keys::task(queue.as_str(), id.as_str());
        for _ in 0..EDITS {
            let mut trip = self.conn.trip(DOING).await?;
            trip.command("HGET").arg(&key).arg("msg");
            let Some(message) = reply::bytes(trip.one().await?) else {
                return Err(ActionError::NotFound(id.clone(), queue.clone()));
            };
            let edited = convert::with_payload(message.clone(), queue, id.as_str().as_bytes(), payload.clone());
            let edited = edited.map_err(|what| BrokerError::Corrupt {
                doing: DOING,
                what: format!("{key}: {what}"),
            })?;
            let mut trip = self.conn.trip(DOING).await?;
            // Optimistic: the script writes only if the message is still the one that was read. Decoding protobuf in
            // Lua to change one field would be slower and duplicate `convert`.
            trip.script(Script::UpdatePayload, &[&key]).arg(message).arg(edited);
            let answer = ActionReply::of(trip.one().await?);
            match answer.word.as_str() {
                "ok" => return Ok(()),
                "missing" => return Err(ActionError::NotFound(id.clone(), queue.clone())),
                "changed" => {}
                _ => return Err(answer.wrong_state(id, "edited", DOING)),
            }
        }
        let source = format!("others changed the task {EDITS} times meanwhile").into();
        Err(BrokerError::Unreachable { doing: DOING, source }.into())
    }

    async fn delete_raw(&self, queue: &QueueName, id: &[u8]) -> Result<(), ActionError> {
        let shown = String::from_utf8_lossy(id).into_owned();
        let shown = TaskId::new(shown).or_else(|_| TaskId::new("?"));
        let shown = shown.map_err(|_| fault::odd_answer(DOING))?;
        self.act_on_bytes(queue, id, &shown, Action::Delete).await
    }

    /// One call's part of removing a queue. Its name is removed last, so that an interrupted removal can be
    /// continued.
    async fn remove_queue(&self, queue: &QueueName, force: bool) -> Result<Acted, RemoveError> {
        const DOING: &str = "remove a queue";
        let mut trip = self.conn.trip(DOING).await?;
        trip.command("SISMEMBER").arg(keys::QUEUES).arg(queue.as_str());
        if reply::number(trip.one().await?) != Some(1) {
            return Err(RemoveError::Unknown(queue.clone()));
        }
        let mut acted = Acted::default();
        // Several scripts rather than one long one: Redis serves other clients in between.
        for _ in 0..MAX_ACTED / BATCH {
            let mut trip = self.conn.trip(DOING).await?;
            trip.script(Script::RemoveQueue, &[keys::part(queue.as_str(), "pending")])
                .arg(keys::queue(queue.as_str()))
                .arg(keys::own(queue.as_str()))
                .arg(u8::from(force))
                .arg(BATCH);
            let ActionReply { word, rest } = ActionReply::of(trip.one().await?);
            let (queue, tasks) = (queue.clone(), reply::count(rest));
            match word.as_str() {
                "active" => return Err(RemoveError::Active { queue, tasks }),
                "full" => return Err(RemoveError::NotEmpty { queue, tasks }),
                "more" | "gone" => acted.tasks += tasks,
                _ => return Err(fault::odd_answer(DOING).into()),
            }
            acted.more = word == "more";
            if !acted.more {
                let mut trip = self.conn.trip(DOING).await?;
                // If a producer used the name again just before this, its next call or a heartbeat lists the queue again.
                trip.command("SREM").arg(keys::QUEUES).arg(queue.as_str());
                trip.one().await?;
                break;
            }
        }
        Ok(acted)
    }

    async fn pause_queue(&self, queue: &QueueName) -> BrokerResult<bool> {
        let mut trip = self.conn.trip("pause a queue").await?;
        trip.script(Script::PauseQueue, &[keys::part(queue.as_str(), "paused")]);
        Ok(reply::number(trip.one().await?) == Some(1))
    }

    async fn resume_queue(&self, queue: &QueueName) -> BrokerResult<bool> {
        let mut trip = self.conn.trip("resume a queue").await?;
        trip.command("DEL").arg(keys::part(queue.as_str(), "paused"));
        Ok(reply::number(trip.one().await?) == Some(1))
    }
}

impl RedisBroker {
    /// `shown`: the id for people.
    async fn act_on_bytes(
        &self,
        queue: &QueueName,
        bytes: &[u8],
        shown: &TaskId,
        action: Action,
    ) -> Result<(), ActionError> {
        let key = keys::task_of(queue.as_str(), bytes);
        let mut trip = self.conn.trip(DOING).await?;
        trip.script(Script::Act, &[&key])
            .arg(keys::queue(queue.as_str()))
            .arg(keys::own(queue.as_str()))
            .arg(bytes)
            .arg(word(action));
        let answer = ActionReply::of(trip.one().await?);
        match answer.word.as_str() {
            "ok" => Ok(()),
            "missing" => Err(ActionError::NotFound(shown.clone(), queue.clone())),
            _ => Err(answer.wrong_state(shown, action.done(), DOING)),
        }
    }

    async fn act_on_list(
        &self,
        queue: &QueueName,
        state: TaskState,
        group: Option<&str>,
        action: Action,
    ) -> Result<Acted, ActionError> {
        action.check(state)?;
        let mut acted = Acted::default();
        for _ in 0..MAX_ACTED / BATCH {
            let part = self.act_on_first(queue, (state, group), action, BATCH, "").await?;
            acted.tasks += part.tasks;
            acted.more = part.more;
            if !acted.more {
                break;
            }
        }
        Ok(acted)
    }

    /// One script: on the first tasks of a list or group, of those that were there by the bound.
    async fn act_on_first(
        &self,
        queue: &QueueName,
        (state, group): (TaskState, Option<&str>),
        action: Action,
        most: usize,
        bound: &str,
    ) -> Result<Acted, ActionError> {
        let mut trip = self.conn.trip("act on a list of tasks").await?;
        trip.script(Script::ActAll, &[keys::part(queue.as_str(), "pending")])
            .arg(keys::queue(queue.as_str()))
            .arg(keys::own(queue.as_str()))
            .arg(state.as_str())
            .arg(word(action))
            .arg(most)
            .arg(group.unwrap_or_default())
            .arg(bound);
        let mut answer = reply::list(trip.one().await?).into_iter();
        let tasks = answer.next().map_or(0, reply::count);
        let more = answer.next().map_or(0, reply::count) > 0;
        Ok(Acted { tasks, more })
    }
}

/// The first word of an answer, and the rest.
struct ActionReply {
    word: String,
    rest: Value,
}

impl ActionReply {
    fn of(value: Value) -> Self {
        let mut row = reply::list(value).into_iter();
        Self {
            word: row.next().and_then(reply::text).unwrap_or_default(),
            rest: row.next().unwrap_or_default(),
        }
    }

    /// The answer `state` and the state.
    fn wrong_state(self, id: &TaskId, done: &'static str, doing: &'static str) -> ActionError {
        match reply::text(self.rest).and_then(|word| word.parse().ok()) {
            Some(state) => ActionError::WrongState {
                id: id.clone(),
                state,
                done,
            },
            None => fault::odd_answer(doing).into(),
        }
    }
}
