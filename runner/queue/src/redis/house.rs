//! Keeping the house in order: due tasks, silent workers, ended retentions, tasks that wait for a handler.

use std::time::Duration;

use redis::Value;
use runner_core::task::{QueueName, State, TaskId, recovery_delay};

use super::claim::Unreadable;
use super::scripts::Script;
use super::{RedisBroker, convert, keys, reply};
use crate::{BrokerResult, Claim, Forwarded, Recovered, Settled, Settlement, Swept, TaskRecord, Verdict};

/// Tasks a script call: Redis does nothing else meanwhile.
const BATCH: usize = 500;

/// What asynq writes as the error of a task whose lease ran out; tools look for it.
const LEASE_EXPIRED: &str = "asynq: task lease expired";

/// Bound on looks at the tasks of one queue that wait for a handler: 200 tasks each.
const MAX_LOOKS: usize = 1000;

impl RedisBroker {
    pub(super) async fn forward_due(&self, queues: &[QueueName], limit: usize) -> BrokerResult<Forwarded> {
        let mut pass = Forwarded::default();
        let mut open: Vec<(&QueueName, &str, usize)> = queues
            .iter()
            .flat_map(|queue| ["scheduled", "retry"].map(|list| (queue, list, limit)))
            .collect();
        while !open.is_empty() {
            let mut trip = self.conn.trip("forward due tasks").await?;
            for (queue, list, left) in &open {
                trip.script(Script::Forward, &[keys::part(queue.as_str(), "pending")])
                    .arg(keys::queue(queue.as_str()))
                    .arg(keys::own(queue.as_str()))
                    .arg(list)
                    .arg((*left).min(BATCH));
            }
            let answers = trip.send().await?;
            let mut again = Vec::new();
            for ((queue, list, left), answer) in open.into_iter().zip(answers) {
                let mut answer = reply::list(answer).into_iter();
                let moved = answer.next().map_or(0, reply::count);
                let taken = usize::try_from(answer.next().map_or(0, reply::count)).unwrap_or(0);
                let next_due = answer.next().and_then(reply::seconds);
                pass.moved += usize::try_from(moved).unwrap_or(0);
                let full = taken >= left.min(BATCH);
                let left = left - taken.min(left);
                if full && left > 0 {
                    again.push((queue, list, left));
                    continue;
                }
                pass.more |= full && next_due.is_some();
                pass.next_due = [pass.next_due, next_due].into_iter().flatten().min();
            }
            open = again;
        }
        Ok(pass)
    }

    pub(super) async fn recover_silent(
        &self,
        queues: &[QueueName],
        grace: Duration,
        limit: usize,
    ) -> BrokerResult<Vec<Recovered>> {
        let mut recovered = Vec::new();
        for queue in queues {
            let left = limit.saturating_sub(recovered.len()).min(BATCH);
            if left == 0 {
                break;
            }
            let mut trip = self.conn.trip("look for leases that ran out").await?;
            trip.script(Script::Expired, &[keys::part(queue.as_str(), "active")])
                .arg(keys::queue(queue.as_str()))
                .arg(convert::millis(grace))
                .arg(left);
            let rows = reply::list(trip.one().await?);
            self.recover_rows(queue, grace, rows, &mut recovered).await?;
        }
        Ok(recovered)
    }

    async fn recover_rows(
        &self,
        queue: &QueueName,
        grace: Duration,
        rows: Vec<Value>,
        recovered: &mut Vec<Recovered>,
    ) -> BrokerResult<()> {
        let mut unreadable = Vec::new();
        let mut settlements = Vec::new();
        let mut rows = rows.into_iter();
        while let (Some(id), Some(message), Some(run)) = (rows.next(), rows.next(), rows.next()) {
            let parts = (reply::bytes(id), reply::bytes(message), reply::bytes(run));
            let (Some(id), Some(message), Some(run)) = parts else {
                continue;
            };
            let number = std::str::from_utf8(&run).ok().and_then(|r| r.parse().ok());
            match convert::decode(message, queue, &id) {
                Ok(record) => settlements.push(silent(record, number.unwrap_or(0))),
                Err(why) => unreadable.push(Unreadable { id, run, why }),
            }
        }
        self.quarantine(queue, &unreadable).await?;
        for bad in unreadable {
            // An id that is not even text can be archived but not named.
            if let Some(id) = String::from_utf8(bad.id).ok().and_then(|id| TaskId::new(id).ok()) {
                recovered.push(Recovered {
                    queue: queue.clone(),
                    id,
                    kind: String::new(),
                    state: State::Archived,
                });
            }
        }
        // A worker may have woken up meanwhile; then the claim stands.
        let settled = self.settle_claims(&settlements, Some(grace)).await?;
        for (settlement, settled) in settlements.iter().zip(settled) {
            if settled == Settled::Accepted {
                recovered.push(Recovered {
                    queue: queue.clone(),
                    id: settlement.claim.task().id.clone(),
                    kind: settlement.claim.task().kind.clone(),
                    state: match settlement.verdict {
                        Verdict::Archive { .. } => State::Archived,
                        _ => State::Retry,
                    },
                });
            }
        }
        Ok(())
    }

    pub(super) async fn sweep_ended(&self, queues: &[QueueName], limit: usize) -> BrokerResult<Swept> {
        let mut pass = Swept::default();
        for queue in queues {
            let mut left = limit;
            while left > 0 {
                let most = left.min(BATCH);
                let mut trip = self.conn.trip("delete tasks whose time has passed").await?;
                trip.script(Script::Sweep, &[keys::part(queue.as_str(), "completed")])
                    .arg(keys::queue(queue.as_str()))
                    .arg(keys::own(queue.as_str()))
                    .arg(most);
                let mut answer = reply::list(trip.one().await?).into_iter();
                let mut take = || usize::try_from(answer.next().map_or(0, reply::count)).unwrap_or(0);
                let (expired, trimmed) = (take(), take());
                pass.expired += expired;
                pass.trimmed += trimmed;
                if expired + trimmed < most {
                    break;
                }
                left -= most;
                pass.more |= left == 0;
            }
        }
        Ok(pass)
    }

    pub(super) async fn release_for(&self, queues: &[QueueName], handlers: &[String]) -> BrokerResult<usize> {
        const DOING: &str = "release tasks that waited for a handler";
        let mut released = 0;
        for queue in queues {
            let mut cursor = "0".to_owned();
            for _ in 0..MAX_LOOKS {
                let mut trip = self.conn.trip(DOING).await?;
                trip.script(Script::Waiting, &[keys::waiting(queue.as_str())])
                    .arg(keys::queue(queue.as_str()))
                    .arg(&cursor);
                let mut rows = reply::list(trip.one().await?).into_iter();
                cursor = rows.next().and_then(reply::text).unwrap_or_else(|| "0".to_owned());
                let mut ids = Vec::new();
                while let (Some(id), Some(message)) = (rows.next(), rows.next()) {
                    let (Some(id), Some(message)) = (reply::bytes(id), reply::bytes(message)) else {
                        continue;
                    };
                    let record = convert::decode(message, queue, &id);
                    if record.is_ok_and(|r| handlers.iter().any(|h| handles(h, &r.kind))) {
                        ids.push(id);
                    }
                }
                if !ids.is_empty() {
                    let mut trip = self.conn.trip(DOING).await?;
                    trip.script(Script::Release, &[keys::part(queue.as_str(), "pending")])
                        .arg(keys::queue(queue.as_str()))
                        .arg(keys::own(queue.as_str()))
                        .arg(&ids);
                    released += usize::try_from(reply::count(trip.one().await?)).unwrap_or(0);
                }
                if cursor == "0" {
                    break;
                }
            }
        }
        Ok(released)
    }
}

/// The end of a claim whose worker fell silent: a failed attempt.
fn silent(record: TaskRecord, run: u64) -> Settlement {
    let error = LEASE_EXPIRED.to_owned();
    let verdict = if record.retries_left() {
        let (random, _) = uuid::Uuid::new_v4().as_u64_pair();
        Verdict::Retry {
            after: recovery_delay(record.retried, random),
            error,
            counts: true,
        }
    } else {
        Verdict::Archive { error }
    };
    Settlement {
        claim: Claim::new(record, run, jiff::Timestamp::UNIX_EPOCH),
        verdict,
        result: None,
        attempt: None,
    }
}

fn handles(pattern: &str, kind: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => kind.starts_with(prefix),
        None => kind == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_a_name_or_a_prefix() {
        assert!(handles("email:send", "email:send"));
        assert!(!handles("email", "email:send"));
        assert!(handles("email:*", "email:send"));
        assert!(handles("*", "anything"));
        assert!(!handles("sms:*", "email:send"));
    }
}
