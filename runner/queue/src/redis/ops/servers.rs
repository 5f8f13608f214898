//! The seam's `Presence`: reports of worker processes, and the list of these.

use std::time::Duration;

use async_trait::async_trait;
use prost::Message as _;
use redis::Value;
use runner_core::task::{QueueName, TaskId};

use crate::redis::RedisBroker;
use crate::redis::format::scripts::Script;
use crate::redis::format::wire::{Instant, QueuePriority, ServerMessage, WorkerMessage};
use crate::redis::format::{convert, keys, reply};
use crate::redis::net::conn::RoundTrip;
use crate::redis::net::fault;
use crate::redis::ops::partial::PartialFailure;
use crate::{BrokerError, BrokerResult, Claims as _, Presence, ServerInfo, ServerStatus, ServerView, Working};

/// How many servers are listed; more than a page can show.
const MAX_SERVERS: usize = 1000;

#[async_trait]
impl Presence for RedisBroker {
    async fn heartbeat(&self, server: &ServerInfo, working: &[Working], ttl: Duration) -> BrokerResult<()> {
        const DOING: &str = "report a worker";
        self.claims_as(&server.host, server.pid);
        let (info, work) = (
            keys::server(&server.host, server.pid, &server.id),
            keys::workers(&server.host, server.pid, &server.id),
        );
        let handlers = serde_json::to_vec(&server.handlers).map_err(|error| crate::BrokerError::Corrupt {
            doing: DOING,
            what: error.to_string(),
        })?;
        let ttl = convert::whole_seconds(ttl).max(1);
        let mut trip = self.conn.trip(DOING).await?;
        let own = keys::handlers(&server.host, server.pid, &server.id);
        let lists = [keys::QUEUES, keys::SERVERS, keys::WORKERS].map(str::to_owned);
        // A pattern is not the name of a queue.
        let queues: Vec<&String> = server.queues.keys().filter(|name| !name.contains('*')).collect();
        // In a cluster the lists and the descriptions are in different slots, and no script may touch both. A reader
        // that finds a listed server without a description leaves it out.
        if self.conn.is_cluster() {
            trip.script(Script::AddMembers, &lists[..1]).arg("");
            for queue in &queues {
                trip.arg(*queue);
            }
            trip.script(Script::AddMembers, &lists[1..2]).arg(ttl).arg(&info);
            trip.script(Script::AddMembers, &lists[2..]).arg(ttl).arg(&work);
            trip.script(Script::Heartbeat, &[info, work, own]).arg(ttl).arg(0);
        } else {
            // The same in one step: an idle worker sends little else.
            let [listed, servers, workers] = lists;
            trip.script(Script::Heartbeat, &[info, work, own, listed, servers, workers])
                .arg(ttl)
                .arg(queues.len());
            for queue in &queues {
                trip.arg(*queue);
            }
        }
        trip.arg(message_of(server).encode_to_vec()).arg(handlers);
        for task in working {
            trip.arg(task.id.as_str()).arg(worker_of(server, task).encode_to_vec());
        }
        any(trip).await
    }

    async fn leave(&self, server: &ServerInfo) -> BrokerResult<()> {
        let (info, work) = (
            keys::server(&server.host, server.pid, &server.id),
            keys::workers(&server.host, server.pid, &server.id),
        );
        let own = keys::handlers(&server.host, server.pid, &server.id);
        let mut trip = self.conn.trip("remove a worker from the list").await?;
        // The lists first: a reader between these commands must not find a listed server without a description.
        trip.command("ZREM").arg(keys::SERVERS).arg(&info);
        trip.command("ZREM").arg(keys::WORKERS).arg(&work);
        trip.command("DEL").arg(info).arg(work).arg(own);
        any(trip).await
    }

    async fn servers(&self) -> BrokerResult<Vec<ServerView>> {
        const DOING: &str = "list the workers";
        let mut trip = self.conn.trip(DOING).await?;
        trip.script(Script::LiveMembers, &[keys::SERVERS]).arg(MAX_SERVERS);
        // Read only to remove the dead ones.
        trip.script(Script::LiveMembers, &[keys::WORKERS]).arg(1);
        let members = trip.each().await?.into_iter().next();
        let members = reply::list(members.ok_or_else(|| fault::odd_answer(DOING))??);
        let mut trip = self.conn.trip(DOING).await?;
        for key in members.into_iter().filter_map(reply::text) {
            if let Some((work, own)) = keys::beside_server(&key) {
                trip.command("GET").arg(key);
                trip.command("HVALS").arg(work);
                trip.command("GET").arg(own);
            }
        }
        let (mut views, mut failures) = (Vec::new(), PartialFailure::default());
        let mut answers = trip.each().await?.into_iter().map(|answer| match answer {
            Err(BrokerError::Corrupt { .. }) => None,
            answer => failures.answer(answer),
        });
        while let (Some(info), Some(work), Some(own)) = (answers.next(), answers.next(), answers.next()) {
            // One that vanished meanwhile, that cannot be read or whose node is unreachable is left out, as asynq's own
            // tools do.
            let answered = info.zip(work).zip(own);
            views.extend(answered.and_then(|((info, work), own)| view_of(info, work, own)));
        }
        drop(answers);
        failures.unless(!views.is_empty())?;
        views.sort_by(|a, b| {
            let order = |v: &ServerView| (v.info.host.clone(), v.info.pid, v.info.id.clone());
            order(a).cmp(&order(b))
        });
        Ok(views)
    }
}

/// Sends the parts of a server's report: they are on several nodes of a cluster, and any of these may be unreachable.
async fn any(trip: RoundTrip<'_>) -> BrokerResult<()> {
    let mut failures = PartialFailure::default();
    let answers = trip.each().await?.into_iter();
    let answered = answers.filter_map(|answer| failures.answer(answer)).count();
    failures.unless(answered > 0)
}

fn message_of(server: &ServerInfo) -> ServerMessage {
    let number = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
    ServerMessage {
        host: server.host.clone(),
        pid: number(server.pid),
        server_id: server.id.clone(),
        concurrency: number(server.concurrency),
        queues: server
            .queues
            .iter()
            .map(|(name, priority)| QueuePriority {
                name: Some(name.clone()),
                priority: Some(number(*priority)),
            })
            .collect(),
        strict_priority: server.strict_priority,
        status: match server.status {
            ServerStatus::Active => "active",
            ServerStatus::Stopped => "stopped",
            ServerStatus::Closed => "closed",
        }
        .to_owned(),
        start_time: Some(server.started_at.into()),
        active_worker_count: number(server.active),
    }
}

/// The payload is left out: it may hold secrets, and the task has it anyway.
fn worker_of(server: &ServerInfo, task: &Working) -> WorkerMessage {
    WorkerMessage {
        host: server.host.clone(),
        pid: i32::try_from(server.pid).unwrap_or(i32::MAX),
        server_id: server.id.clone(),
        task_id: task.id.to_string(),
        task_type: task.kind.clone(),
        task_payload: bytes::Bytes::new(),
        queue: task.queue.to_string(),
        start_time: Some(task.started_at.into()),
        deadline: Some(task.deadline.into()),
    }
}

fn view_of(info: Value, work: Value, own: Value) -> Option<ServerView> {
    let message = ServerMessage::decode(&reply::bytes(info)?[..]).ok()?;
    let number = |n: i32| u32::try_from(n).unwrap_or_default();
    let instant = |at: Option<Instant>| at.unwrap_or_default().timestamp();
    let handlers = reply::bytes(own)
        .and_then(|json| serde_json::from_slice(&json).ok())
        .unwrap_or_default();
    let info = ServerInfo {
        host: message.host,
        pid: number(message.pid),
        id: message.server_id,
        concurrency: number(message.concurrency),
        queues: message
            .queues
            .into_iter()
            .map(|q| (q.name.unwrap_or_default(), number(q.priority.unwrap_or_default())))
            .collect(),
        strict_priority: message.strict_priority,
        status: match message.status.as_str() {
            "stopped" => ServerStatus::Stopped,
            "closed" => ServerStatus::Closed,
            _ => ServerStatus::Active,
        },
        started_at: instant(message.start_time),
        active: number(message.active_worker_count),
        handlers,
    };
    let mut working: Vec<Working> = reply::list(work)
        .into_iter()
        .filter_map(|value| WorkerMessage::decode(&reply::bytes(value)?[..]).ok())
        .filter_map(|worker| {
            Some(Working {
                id: TaskId::new(worker.task_id).ok()?,
                kind: worker.task_type,
                queue: QueueName::new(worker.queue).ok()?,
                started_at: instant(worker.start_time),
                deadline: instant(worker.deadline),
            })
        })
        .collect();
    working.sort_by(|a, b| (a.started_at, &a.id).cmp(&(b.started_at, &b.id)));
    Some(ServerView { info, working })
}
