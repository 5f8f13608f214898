//! Presence: the list of live workers, and what they run.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use runner_core::task::{QueueName, TaskId, covers};
use serde::{Deserialize, Serialize};

use super::BrokerResult;

/// What a worker process reports about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerInfo {
    /// Host name.
    pub host: String,
    /// Process id.
    pub pid: u32,
    /// Random, new for each start.
    pub id: String,
    /// How many tasks it runs at once.
    pub concurrency: u32,
    /// Queue name to priority, as configured; a name with `*` stands for every queue that it matches.
    pub queues: BTreeMap<String, u32>,
    /// Whether higher priorities always come first.
    pub strict_priority: bool,
    /// What it is doing.
    pub status: ServerStatus,
    /// When it started.
    pub started_at: Timestamp,
    /// Tasks in flight.
    pub active: u32,
    /// Task types it has handlers for: exact names, and prefixes ending in `*`. Empty for a Go worker.
    pub handlers: Vec<String>,
}

impl ServerInfo {
    /// `host:pid`, as decisions, run records and pages name it.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}:{}", self.host, self.pid)
    }

    /// Whether it takes tasks from this queue: by its name, or by a pattern with `*`.
    #[must_use]
    pub fn serves(&self, queue: &str) -> bool {
        self.queues.contains_key(queue) || self.queues.keys().any(|name| covers(name, queue))
    }
}

/// What a worker process is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServerStatus {
    /// Takes tasks.
    Active,
    /// Takes no new tasks; everything else continues.
    Stopped,
    /// Shutting down.
    Closed,
}

/// A task in flight, as its worker reports it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Working {
    /// Task id.
    pub id: TaskId,
    /// Task type.
    pub kind: String,
    /// Its queue.
    pub queue: QueueName,
    /// When the worker took it.
    pub started_at: Timestamp,
    /// When the attempt must end.
    pub deadline: Timestamp,
}

/// A worker process and its tasks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServerView {
    /// The process.
    pub info: ServerInfo,
    /// Its tasks.
    pub working: Vec<Working>,
}

/// Which worker runs an active task, according to the servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunBy<'a> {
    /// A worker of this program. Also assumed if no server lists the task and no Go worker serves its queue.
    Own,
    /// This Go worker, which supports only a cancellation of the attempt.
    Go(&'a ServerView),
    /// No server lists it yet, and this Go worker serves the queue: those list a task some seconds after its start.
    Unknown(&'a ServerView),
}

impl<'a> RunBy<'a> {
    /// Looks for the task in the servers' lists. A server without handlers is one in Go.
    #[must_use]
    pub fn of(servers: &'a [ServerView], queue: &QueueName, id: &TaskId) -> Self {
        let runs = |task: &Working| task.id == *id && task.queue == *queue;
        let is_go = |server: &ServerView| server.info.handlers.is_empty();
        match servers.iter().find(|server| server.working.iter().any(runs)) {
            Some(server) if is_go(server) => Self::Go(server),
            Some(_) => Self::Own,
            None => {
                let mut go = servers.iter().filter(|server| is_go(server));
                let may = go.find(|server| server.info.queues.contains_key(queue.as_str()));
                may.map_or(Self::Own, Self::Unknown)
            }
        }
    }
}

/// Reports of workers, and questions about them.
#[async_trait]
pub trait Presence: Send + Sync {
    /// Reports that this server is alive and what it works on; it is forgotten `ttl` after the last report. Claims of
    /// this broker are noted as this server's from then on, unless a claimant is set. Lists the server's queues (not
    /// patterns), so that the queues of a flushed store are known again.
    async fn heartbeat(&self, server: &ServerInfo, working: &[Working], ttl: Duration) -> BrokerResult<()>;

    /// Removes this server from the list.
    async fn leave(&self, server: &ServerInfo) -> BrokerResult<()>;

    /// Whether only this server can take back its tasks, although its leases are over: no other one is listed, and none
    /// can take anything back before it was listed for a while ([`Presence::lists_first`]). For stores on this host;
    /// `false` where another server could act unseen.
    async fn is_alone(&self, server: &ServerInfo) -> BrokerResult<bool> {
        let _ = server;
        Ok(false)
    }

    /// Whether a server must be listed for a while, without a gap, before it takes back tasks of others: servers that
    /// rely on [`Presence::is_alone`] must see it first. It sends a heartbeat only when it has just extended its own
    /// leases.
    fn lists_first(&self) -> bool {
        false
    }

    /// Live servers and what they work on.
    async fn servers(&self) -> BrokerResult<Vec<ServerView>>;
}
