//! Pending tasks that no worker claims: their types, from the oldest tasks of each queue and the live workers.

use std::time::Duration;

use futures_util::future::try_join_all;
use jiff::Timestamp;
use runner_core::task::QueueName;
use serde::Serialize;

use super::{Broker, BrokerResult, KnownTypes, QueueInfo, ServerStatus, ServerView};

/// A type is reported once a task of it has waited for this long.
pub const UNCLAIMED_AFTER: Duration = Duration::from_secs(60);

/// The most queues that are checked, longest wait first: about a millisecond of the store each.
const QUEUES: usize = 50;

/// The oldest tasks of a queue that are checked.
const LOOKED_AT: usize = 1_000;

/// Types in an answer.
const TYPES: usize = 100;

/// A task type with tasks waiting in a queue that no worker claims.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unclaimed {
    /// The queue.
    pub queue: QueueName,
    /// The type.
    #[serde(rename = "type")]
    pub kind: String,
    /// How many, among the oldest thousand tasks of the queue.
    pub count: u64,
    /// Since when the oldest has waited.
    pub oldest: Timestamp,
}

/// What [`unclaimed`] found, and what its bounds left out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UnclaimedTypes {
    /// The types, oldest first: at most a hundred.
    pub types: Vec<Unclaimed>,
    /// Further types that were found.
    pub types_left_out: usize,
    /// Queues with tasks that have waited for as long and that were not searched: those that have waited least.
    pub queues_left_out: usize,
}

/// The types of tasks that have waited for longer than [`UNCLAIMED_AFTER`] in these queues, oldest first, although
/// their queue is not paused: no worker that serves the queue lists them, and none works on one of them. Whether a Go
/// worker knows a type is visible only while it works on it.
///
/// # Errors
///
/// As any call.
pub async fn unclaimed(broker: &dyn Broker, queues: &[QueueInfo]) -> BrokerResult<UnclaimedTypes> {
    let (late, queues_left_out) = late(queues);
    if late.is_empty() {
        return Ok(UnclaimedTypes::default());
    }
    let (now, servers) = (broker.now().await?, broker.servers().await?);
    let servers: Vec<KnowingServers> = servers.iter().map(KnowingServers::of).collect();
    let since = now.checked_sub(UNCLAIMED_AFTER).unwrap_or(Timestamp::MIN);
    let mut found = Vec::new();
    // Together: one after the other they would be as many round trips.
    let looks = late.iter().map(|queue| broker.pending_types(&queue.name, LOOKED_AT));
    let waiting = try_join_all(looks).await?;
    for (queue, types) in late.iter().zip(waiting) {
        for waiting in types {
            if let Some(oldest) = waiting.oldest.filter(|oldest| *oldest <= since)
                && !is_taken(&servers, &queue.name, &waiting.kind)
            {
                found.push(Unclaimed {
                    queue: queue.name.clone(),
                    kind: waiting.kind,
                    count: waiting.count,
                    oldest,
                });
            }
        }
    }
    found.sort_by_key(|unclaimed| unclaimed.oldest);
    let types_left_out = found.len().saturating_sub(TYPES);
    found.truncate(TYPES);
    Ok(UnclaimedTypes {
        types: found,
        types_left_out,
        queues_left_out,
    })
}

/// The queues that are looked at, and how many others have tasks that wait as long.
fn late(queues: &[QueueInfo]) -> (Vec<&QueueInfo>, usize) {
    let is_late = |queue: &&QueueInfo| !queue.paused && queue.latency >= UNCLAIMED_AFTER;
    let mut late: Vec<&QueueInfo> = queues.iter().filter(is_late).collect();
    late.sort_by_key(|queue| std::cmp::Reverse(queue.latency));
    let left_out = late.len().saturating_sub(QUEUES);
    late.truncate(QUEUES);
    (late, left_out)
}

/// A server with its types, read once: they may be thousands.
struct KnowingServers<'a> {
    server: &'a ServerView,
    types: KnownTypes,
}

impl<'a> KnowingServers<'a> {
    fn of(server: &'a ServerView) -> Self {
        let none: [&str; 0] = [];
        let types = KnownTypes::new(server.info.handlers.iter().map(String::as_str), none);
        Self { server, types }
    }
}

/// Whether a worker takes tasks of this type from this queue.
fn is_taken(servers: &[KnowingServers<'_>], queue: &QueueName, kind: &str) -> bool {
    servers.iter().any(|KnowingServers { server, types }| {
        let serves = server.info.serves(queue.as_str()) && server.info.status == ServerStatus::Active;
        (serves && types.has(kind))
            || server
                .working
                .iter()
                .any(|task| task.queue == *queue && task.kind == kind)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use super::*;
    use crate::{RunBy, ServerInfo, Working};

    fn server(handlers: &[&str], working: &[&str]) -> ServerView {
        let (queue, now) = (QueueName::default(), Timestamp::UNIX_EPOCH);
        ServerView {
            info: ServerInfo {
                host: "host".to_owned(),
                pid: 1,
                id: "id".to_owned(),
                concurrency: 1,
                queues: BTreeMap::from([("default".to_owned(), 1)]),
                strict_priority: false,
                status: ServerStatus::Active,
                started_at: now,
                active: 0,
                handlers: handlers.iter().map(|&kind| kind.to_owned()).collect(),
            },
            working: working
                .iter()
                .map(|&kind| Working {
                    id: runner_core::task::TaskId::new(kind).unwrap(),
                    kind: kind.to_owned(),
                    queue: queue.clone(),
                    started_at: now,
                    deadline: now,
                })
                .collect(),
        }
    }

    #[test]
    fn queues_beyond_the_bound_are_counted_and_are_those_that_have_waited_least() {
        let queue = |number: u64, latency: Duration, paused| QueueInfo {
            name: QueueName::new(format!("q{number}")).unwrap(),
            counts: BTreeMap::new(),
            paused,
            latency,
            processed_today: 0,
            failed_today: 0,
            processed: 0,
            failed: 0,
        };
        let bound = u64::try_from(QUEUES).unwrap();
        let waits = |number: u64| UNCLAIMED_AFTER + Duration::from_secs(number);
        let mut queues: Vec<QueueInfo> = (0..bound + 2).map(|n| queue(n, waits(n), false)).collect();
        queues.push(queue(900, waits(900), true));
        queues.push(queue(901, UNCLAIMED_AFTER - Duration::from_nanos(1), false));
        let (late, left_out) = late(&queues);
        assert_eq!((late.len(), left_out), (QUEUES, 2));
        let (first, last) = (late.first().unwrap(), late.last().unwrap());
        assert_eq!((first.latency, last.latency), (waits(bound + 1), waits(2)));
    }

    #[test]
    fn a_type_is_taken_where_a_server_of_the_queue_knows_it_or_works_on_it() {
        let default = QueueName::default();
        let mut servers = [server(&["a", "b:*"], &[]), server(&[], &["go"])];
        let knowing = [KnowingServers::of(&servers[0]), KnowingServers::of(&servers[1])];
        assert!(is_taken(&knowing, &default, "a"));
        assert!(is_taken(&knowing, &default, "b:c"));
        assert!(is_taken(&knowing, &default, "go"));
        assert!(!is_taken(&knowing, &default, "c"));
        assert!(!is_taken(&knowing, &QueueName::new("low").unwrap(), "a"));
        servers[0].info.status = ServerStatus::Stopped;
        assert!(!is_taken(&[KnowingServers::of(&servers[0])], &default, "a"));
    }

    #[test]
    fn who_runs_a_task_is_what_servers_say() {
        let (queue, low) = (QueueName::default(), QueueName::new("low").unwrap());
        let id = |id: &str| runner_core::task::TaskId::new(id).unwrap();
        let servers = [server(&["a"], &["mine"]), server(&[], &["theirs"])];
        assert_eq!(RunBy::of(&servers, &queue, &id("mine")), RunBy::Own);
        assert_eq!(RunBy::of(&servers, &queue, &id("theirs")), RunBy::Go(&servers[1]));
        assert_eq!(RunBy::of(&servers, &queue, &id("new")), RunBy::Unknown(&servers[1]));
        assert_eq!(RunBy::of(&servers, &low, &id("theirs")), RunBy::Own);
        assert_eq!(RunBy::of(&servers[..1], &queue, &id("new")), RunBy::Own);
    }
}
