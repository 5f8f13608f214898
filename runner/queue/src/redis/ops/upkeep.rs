//! The seam's `Upkeep`: due tasks, ended retentions, tasks that wait for a handler.
//!
//! Not here: how tasks with expired leases are taken back (`recover`), and the passes of a repair (`repair`).

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use runner_core::task::{QueueName, TypePattern};

use crate::redis::RedisBroker;
use crate::redis::format::scripts::Script;
use crate::redis::format::{convert, keys, reply};
use crate::redis::net::conn::RoundTrip;
use crate::redis::ops::partial::PartialFailure;
use crate::{ArchiveBounds, BrokerError, BrokerResult, Forwarded, Lists, Recovered, Repaired, Swept, Upkeep};

/// When the first task of a list is due.
enum FirstDue {
    None,
    Due,
    Later(Timestamp),
}

/// Asks for the first member of a sorted set, with its score.
fn first_of(trip: &mut RoundTrip<'_>, key: &str) {
    trip.command("ZRANGE").arg(key).arg(0).arg(0).arg("WITHSCORES");
}

/// Tasks a script call, during which Redis does nothing else.
const BATCH: usize = 500;

/// Bound on looks at the tasks of one queue that wait for a handler: 200 tasks each.
const MAX_LOOKS: usize = 1000;

/// Where the next look at the notes of waiting tasks continues, by queue.
#[derive(Default)]
pub(in crate::redis) struct NoteCursor(Mutex<BTreeMap<QueueName, String>>);

impl NoteCursor {
    fn begin(&self, queue: &QueueName) -> String {
        let places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        places.get(queue).map_or_else(|| "0".to_owned(), Clone::clone)
    }

    fn end(&self, queue: &QueueName, next: Option<String>) {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match next.filter(|next| next != "0") {
            Some(next) => places.insert(queue.clone(), next),
            None => places.remove(queue),
        };
    }
}

#[async_trait]
impl Upkeep for RedisBroker {
    async fn move_followers(&self) -> BrokerResult<usize> {
        if !self.conn.is_cluster() {
            return Ok(0);
        }
        let queues: Vec<QueueName> = self.all_names().await?.into_iter().collect();
        self.move_written(&queues).await
    }

    async fn narrow(&self, queues: &[QueueName], lists: Lists) -> BrokerResult<Vec<QueueName>> {
        let parts: &[&str] = match lists {
            Lists::Pending => &["pending"],
            Lists::Delayed => &["scheduled", "retry"],
            Lists::Active => &["active", "lease"],
            Lists::Ended => &["completed", "archived"],
            Lists::Grouped => &["groups", "aggregation_sets"],
            Lists::Any => &[
                "pending",
                "scheduled",
                "retry",
                "active",
                "lease",
                "completed",
                "archived",
                "groups",
                "aggregation_sets",
            ],
        };
        // Keys that a pass over these lists also cleans up, even if the lists are empty.
        let beside: &[fn(&str) -> String] = match lists {
            Lists::Ended => &[keys::waiting],
            Lists::Any => &[keys::waiting, keys::claims],
            _ => &[],
        };
        let mut trip = self.conn.trip("check which queues have tasks").await?;
        for queue in queues {
            trip.command("EXISTS");
            for part in parts {
                trip.arg(keys::part(queue.as_str(), part));
            }
            for key in beside {
                trip.arg(key(queue.as_str()));
            }
        }
        let (mut having, mut failures, mut looked) = (Vec::new(), PartialFailure::default(), false);
        for (queue, answer) in queues.iter().zip(trip.each().await?) {
            // A queue that could not be asked is left out: the next pass asks again, and its tasks lose only time.
            if let Some(there) = failures.part(queue, answer) {
                looked = true;
                having.extend((reply::count(there) > 0).then(|| queue.clone()));
            }
        }
        failures.unless(looked)?;
        Ok(having)
    }

    async fn forward(&self, queues: &[QueueName], limit: usize) -> BrokerResult<Forwarded> {
        let mut pass = Forwarded::default();
        let mut failures = PartialFailure::default();
        let mut open = Vec::new();
        for (queue, list, first) in self.first_due(queues, &mut failures).await? {
            match first {
                FirstDue::Due => open.push((queue, list, limit)),
                FirstDue::Later(at) => pass.next_due = [pass.next_due, Some(at)].into_iter().flatten().min(),
                FirstDue::None => {}
            }
        }
        while !open.is_empty() {
            let mut trip = self.conn.trip("forward due tasks").await?;
            for (queue, list, left) in &open {
                trip.script(Script::Forward, &[keys::part(queue.as_str(), "pending")])
                    .arg(keys::queue(queue.as_str()))
                    .arg(keys::own(queue.as_str()))
                    .arg(list)
                    .arg((*left).min(BATCH));
            }
            let answers = trip.each().await?;
            let mut again = Vec::new();
            for ((queue, list, left), answer) in open.into_iter().zip(answers) {
                let Some(answer) = failures.part(queue, answer) else {
                    continue;
                };
                let mut answer = reply::list(answer).into_iter();
                let moved = answer.next().map_or(0, reply::count);
                let taken = usize::try_from(answer.next().map_or(0, reply::count)).unwrap_or(0);
                let next_due = answer.next().and_then(reply::seconds);
                let due = answer.next().map_or(0, reply::count) > 0;
                let moved = usize::try_from(moved).unwrap_or(0);
                pass.moved += moved;
                self.repairs.add(&Repaired {
                    ghosts: taken.saturating_sub(moved),
                    ..Repaired::default()
                });
                let full = taken >= left.min(BATCH);
                let left = left - taken.min(left);
                if full && left > 0 {
                    again.push((queue, list, left));
                    continue;
                }
                pass.more |= full && due;
                pass.next_due = [pass.next_due, next_due].into_iter().flatten().min();
            }
            open = again;
        }
        self.forward_at_gates(queues, &mut pass, &mut failures).await?;
        failures.unless(pass != Forwarded::default())?;
        Ok(pass)
    }

    async fn next_lease_end(&self, queues: &[QueueName]) -> BrokerResult<Option<Timestamp>> {
        let mut trip = self.conn.trip("look for the next lease that ends").await?;
        for queue in queues {
            first_of(&mut trip, &keys::part(queue.as_str(), "lease"));
        }
        let (mut ends, mut answered, mut failures) = (Vec::new(), false, PartialFailure::default());
        for (queue, answer) in queues.iter().zip(trip.each().await?) {
            // The recovery repairs a key of the wrong type.
            if let Err(BrokerError::Corrupt { .. }) = answer {
                answered = true;
                ends.push(Timestamp::UNIX_EPOCH);
                continue;
            }
            if let Some(answer) = failures.part(queue, answer) {
                answered = true;
                ends.extend(reply::list(answer).into_iter().nth(1).and_then(reply::seconds));
            }
        }
        failures.unless(answered)?;
        Ok(ends.into_iter().min())
    }

    async fn recover(
        &self,
        queues: &[QueueName],
        grace: Duration,
        limit: usize,
        poison_after: u32,
    ) -> BrokerResult<Vec<Recovered>> {
        self.recover_expired(queues, grace, limit, poison_after).await
    }

    /// Workers are on any host: only their leases are known.
    async fn recover_dead(&self, _: Duration, _: usize, _: u32) -> BrokerResult<Vec<Recovered>> {
        Ok(Vec::new())
    }

    async fn sweep(&self, queues: &[QueueName], limit: usize, archive: ArchiveBounds) -> BrokerResult<Swept> {
        let mut pass = Swept::default();
        let mut failures = PartialFailure::default();
        for queue in queues {
            let mut left = limit;
            while left > 0 {
                let most = left.min(BATCH);
                let mut trip = self.conn.trip("delete expired tasks").await?;
                trip.script(Script::Sweep, &[keys::part(queue.as_str(), "completed")])
                    .arg(keys::queue(queue.as_str()))
                    .arg(keys::own(queue.as_str()))
                    .arg(most)
                    .arg(archive.most)
                    .arg(archive.keep.as_secs())
                    .arg(self.notes.begin(queue));
                let Some(answer) = failures.part(queue, trip.one().await) else {
                    break;
                };
                let mut answer = reply::list(answer).into_iter();
                let mut take = || usize::try_from(answer.next().map_or(0, reply::count)).unwrap_or(0);
                let (expired, trimmed, reported) = (take(), take(), take());
                self.notes.end(queue, answer.next().and_then(reply::text));
                pass.expired += expired;
                pass.trimmed += reported;
                // Fewer than asked for: nothing is left in this queue.
                if expired + trimmed < most {
                    break;
                }
                left -= most;
                pass.more |= left == 0;
            }
        }
        failures.unless(pass != Swept::default())?;
        Ok(pass)
    }

    async fn repair(&self, queues: &[QueueName], limit: usize) -> BrokerResult<Repaired> {
        let mut rounds = self.rounds.lock().await;
        // All three even if one fails: a queue that cannot be repaired, or a node that is away, must not keep the
        // others from being repaired for as long as that lasts.
        let lists = self.walk_lists(queues, limit, &mut rounds).await;
        let keys = self.walk_keys(queues, limit, &mut rounds).await;
        let claims = self.walk_claims(queues, limit, &mut rounds).await;
        lists.and(keys).and(claims)?;
        Ok(self.repairs.take())
    }

    async fn release_waiting(&self, queues: &[QueueName], handlers: &[String]) -> BrokerResult<usize> {
        let (mut released, mut failures) = (0, PartialFailure::default());
        for queue in queues {
            let done = self.release_in(queue, handlers).await;
            released += failures.part(queue, done).unwrap_or(0);
        }
        failures.unless(released > 0)?;
        Ok(released)
    }
}

impl RedisBroker {
    /// The first task of each list of tasks that are due later. Mostly that is all that must be asked.
    async fn first_due<'a>(
        &self,
        queues: &'a [QueueName],
        failures: &mut PartialFailure,
    ) -> BrokerResult<Vec<(&'a QueueName, &'static str, FirstDue)>> {
        let lists = || {
            let of = |queue: &'a QueueName| ["scheduled", "retry"].map(|list| (queue, list));
            queues.iter().flat_map(of)
        };
        let mut trip = self.conn.trip("look for due tasks").await?;
        // The server's time in the same trip: this clock may differ, and would find due tasks too early or too late.
        trip.command("TIME");
        for (queue, list) in lists() {
            first_of(&mut trip, &keys::part(queue.as_str(), list));
        }
        let mut answers = trip.each().await?.into_iter();
        let now = match (self.conn.clock(), answers.next()) {
            (Some(clock), _) => clock.now(),
            (None, Some(time)) => reply::list(time?)
                .into_iter()
                .next()
                .and_then(reply::seconds)
                .unwrap_or_default(),
            (None, None) => Timestamp::default(),
        };
        let mut first = Vec::new();
        for ((queue, list), answer) in lists().zip(answers) {
            // The script repairs a key of the wrong type.
            if let Err(BrokerError::Corrupt { .. }) = answer {
                first.push((queue, list, FirstDue::Due));
                continue;
            }
            if let Some(answer) = failures.part(queue, answer) {
                first.push((
                    queue,
                    list,
                    match reply::list(answer).into_iter().nth(1).and_then(reply::seconds) {
                        None => FirstDue::None,
                        Some(at) if at <= now => FirstDue::Due,
                        Some(at) => FirstDue::Later(at),
                    },
                ));
            }
        }
        Ok(first)
    }

    async fn release_in(&self, queue: &QueueName, handlers: &[String]) -> BrokerResult<usize> {
        const DOING: &str = "release tasks that waited for a handler";
        let mut released = 0;
        let mut cursor = "0".to_owned();
        for _ in 0..MAX_LOOKS {
            let mut trip = self.conn.trip(DOING).await?;
            trip.script(Script::ReleaseWaitingList, &[keys::waiting(queue.as_str())])
                .arg(keys::queue(queue.as_str()))
                .arg(&cursor);
            let mut rows = reply::list(trip.one().await?).into_iter();
            // Notes that are removed while the scan runs do not disturb it: a hash scan returns every field that stays.
            cursor = rows.next().and_then(reply::text).unwrap_or_else(|| "0".to_owned());
            let mut ids = Vec::new();
            while let (Some(id), Some(message)) = (rows.next(), rows.next()) {
                let (Some(id), Some(message)) = (reply::bytes(id), reply::bytes(message)) else {
                    continue;
                };
                let record = convert::decode(message, queue, &id);
                if record.is_ok_and(|r| handlers.iter().any(|h| TypePattern::parse(h).matches(&r.kind))) {
                    ids.push(id);
                }
            }
            if !ids.is_empty() {
                let mut trip = self.conn.trip(DOING).await?;
                trip.script(Script::ReleaseWaiting, &[keys::part(queue.as_str(), "pending")])
                    .arg(keys::queue(queue.as_str()))
                    .arg(keys::own(queue.as_str()))
                    .arg(&ids);
                released += usize::try_from(reply::count(trip.one().await?)).unwrap_or(0);
            }
            if cursor == "0" {
                break;
            }
        }
        Ok(released)
    }
}
