//! Which servers claim tasks of a queue, according to their reports, and what follows for a type in a queue.

use std::collections::BTreeMap;

use jiff::Timestamp;
use runner_core::task::{QueueName, TaskState, TypePattern, priority_of};
use runner_queue::{Pause, QueueInfo, ServerStatus, ServerView};

use super::reason::Reason;
use super::{ReasonCode, meant};
use crate::health::BrokerFault;

/// What is known of the broker and of its servers.
#[derive(Debug, Clone, Default)]
pub struct BrokerFacts {
    /// The present, by the broker's clock.
    pub now: Timestamp,
    /// The live servers; `None` if that is not known.
    pub servers: Option<Vec<ServerView>>,
    /// The queues that were read: that of the task, and those that come before it.
    pub queues: Vec<QueueInfo>,
    /// Who paused queues, as far as that is known.
    pub pauses: BTreeMap<QueueName, Pause>,
    /// Why the broker takes no writes.
    pub fault: Option<BrokerFault>,
    /// Queues that a worker with these settings would serve, names or patterns, and those that exist. Given
    /// by commands that may run before any worker does.
    pub expected: Option<Vec<String>>,
}

impl BrokerFacts {
    pub(super) fn queue(&self, name: &QueueName) -> Option<&QueueInfo> {
        self.queues.iter().find(|queue| queue.name == *name)
    }

    pub(super) fn refuses(&self) -> Option<Reason> {
        let fault = self.fault.as_ref()?;
        let reason = Reason::new(ReasonCode::BrokerRefuses).with("since", fault.since);
        Some(reason.with("code", fault.code).with("why", fault.why.as_str()))
    }

    pub(super) fn paused(&self, queue: &QueueName) -> Option<Reason> {
        let paused = self.queue(queue).is_some_and(|queue| queue.paused);
        let known = self.pauses.get(queue).map(|pause| format!(" ({pause})"));
        paused.then(|| {
            let reason = Reason::new(ReasonCode::QueuePaused).with("queue", queue.as_str());
            reason.with("pause", known.unwrap_or_default())
        })
    }

    /// Why no server takes tasks of this type from this queue.
    pub(super) fn not_taken(&self, queue: &QueueName, kind: &str) -> Option<Reason> {
        let servers = self.servers.as_deref()?;
        let of_queue = |code| Reason::new(code).with("queue", queue.as_str());
        if servers.is_empty() {
            return Some(match self.expected.as_deref() {
                Some(expected) if !covered(expected, queue) => {
                    of_queue(ReasonCode::QueueNew).with_some("meant", meant(queue.as_str(), expected))
                }
                _ => of_queue(ReasonCode::NoWorker),
            });
        }
        let serving: Vec<&ServerView> = servers.iter().filter(|s| s.info.serves(queue.as_str())).collect();
        if serving.is_empty() {
            let served: Vec<String> = servers.iter().flat_map(|s| s.info.queues.keys().cloned()).collect();
            let meant = meant(queue.as_str(), &served);
            return Some(of_queue(ReasonCode::QueueNotServed).with_some("meant", meant));
        }
        let claiming: Vec<&&ServerView> = serving.iter().filter(|s| claims(s)).collect();
        if claiming.is_empty() {
            let names: Vec<String> = serving.iter().map(|server| name_of(server)).collect();
            return Some(of_queue(ReasonCode::ServersStopped).with("servers", names.join(", ")));
        }
        let handled = claiming.iter().any(|server| handles(server, kind));
        (!handled).then(|| of_queue(ReasonCode::TypeNotHandled).with("type", kind))
    }

    /// Why servers that take such tasks have not taken this one yet.
    pub(super) fn not_yet_taken(&self, queue: &QueueName, kind: &str) -> Option<Reason> {
        let servers = self.servers.as_deref()?.iter();
        let takers: Vec<&ServerView> = servers
            .filter(|s| s.info.serves(queue.as_str()) && claims(s) && handles(s, kind))
            .collect();
        let sum = |of: fn(&ServerView) -> u32| takers.iter().map(|server| u64::from(of(server))).sum::<u64>();
        let (active, slots) = (sum(|s| s.info.active), sum(|s| s.info.concurrency));
        let about = |code| Reason::new(code).with("queue", queue.as_str());
        if takers.is_empty() {
            return None;
        }
        if active >= slots {
            let reason = about(ReasonCode::WorkersBusy).with("active", active);
            return Some(reason.with("slots", slots));
        }
        let ahead = self.higher_queues(&takers, queue);
        if !ahead.is_empty() {
            return Some(about(ReasonCode::HigherQueues).with("queues", ahead.join(", ")));
        }
        let pending = self.queue(queue).and_then(|q| q.counts.get(&TaskState::Pending));
        Some(about(ReasonCode::WaitsItsTurn).with("pending", pending.copied().unwrap_or_default()))
    }

    /// Queues with pending tasks that come before this one on every server that takes from it.
    fn higher_queues(&self, takers: &[&ServerView], queue: &QueueName) -> Vec<String> {
        let comes_first = |other: &&QueueInfo| {
            let pending = other.counts.get(&TaskState::Pending).copied().unwrap_or_default();
            pending > 0
                && !other.paused
                && takers.iter().all(|server| {
                    let named = || server.info.queues.iter().map(|(name, n)| (name.as_str(), *n));
                    server.info.strict_priority && priority_of(&other.name, named()) > priority_of(queue, named())
                })
        };
        let ahead = self.queues.iter().filter(comes_first);
        ahead.map(|queue| queue.name.to_string()).collect()
    }
}

/// Whether a live server serves this queue.
#[must_use]
pub fn is_served(servers: &[ServerView], queue: &str) -> bool {
    servers.iter().any(|server| server.info.serves(queue))
}

/// `host:pid`.
pub(super) fn name_of(server: &ServerView) -> String {
    format!("{}:{}", server.info.host, server.info.pid)
}

fn claims(server: &ServerView) -> bool {
    server.info.status == ServerStatus::Active
}

/// Whether a server may run this type; one that lists nothing may run anything.
fn handles(server: &ServerView, kind: &str) -> bool {
    let handlers = &server.info.handlers;
    handlers.is_empty() || handlers.iter().any(|pattern| TypePattern::parse(pattern).matches(kind))
}

fn covered(names: &[String], queue: &QueueName) -> bool {
    priority_of(queue, names.iter().map(|name| (name.as_str(), 1))).is_some()
}
