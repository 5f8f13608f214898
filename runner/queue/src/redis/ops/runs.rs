//! Reads run records. The script that ends claims writes them, see `trace.lua`.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;
use redis::Value;
use runner_core::task::{AttemptOutcome, QueueName, TaskId};

use crate::redis::RedisBroker;
use crate::redis::format::{keys, reply};
use crate::redis::net::conn::RoundTrip;
use crate::redis::ops::partial::or_nothing;
use crate::seam::Trace;
use crate::{
    BrokerError, BrokerResult, Decision, DecisionKind, FiredTask, MAX_RUNS_KEPT, OUTPUTS_KEPT_FOR, RunEnd, RunRecord,
    Runs,
};

/// Ids that one command asks for.
const BATCH: usize = 500;

#[async_trait]
impl Runs for RedisBroker {
    async fn runs(&self, function: &str, queues: &[QueueName], limit: usize) -> BrokerResult<Vec<RunRecord>> {
        let limit = limit.min(MAX_RUNS_KEPT);
        if limit == 0 || queues.is_empty() {
            return Ok(Vec::new());
        }
        let mut trip = self.conn.trip("list the runs of a function").await?;
        for queue in queues {
            trip.command("ZREVRANGE")
                .arg(keys::runs(queue.as_str(), function))
                .arg(0)
                .arg(limit - 1);
        }
        let mut records = Vec::new();
        let trip = {
            let lists = trip.each().await?;
            let mut trip = self.conn.trip("read the runs of a function").await?;
            for (queue, ids) in queues.iter().zip(lists) {
                for id in reply::list(or_nothing(ids)?).into_iter().filter_map(reply::text) {
                    trip.command("GET").arg(keys::record(queue.as_str(), &id));
                }
            }
            trip
        };
        for answer in trip.each().await? {
            records.extend(record_of(or_nothing(answer)?));
        }
        records.sort_by_key(|record: &RunRecord| std::cmp::Reverse(record.ended_at));
        records.truncate(limit);
        Ok(records)
    }

    async fn run(&self, queue: &QueueName, task: &TaskId) -> BrokerResult<Option<RunRecord>> {
        let mut trip = self.conn.trip("read the record of a run").await?;
        trip.command("GET").arg(keys::record(queue.as_str(), task.as_str()));
        Ok(record_of(or_nothing(trip.one().await)?))
    }

    async fn keep_output(&self, queue: &QueueName, task: &TaskId, packed: Vec<u8>) -> BrokerResult<()> {
        let mut trip = self.conn.trip("keep the output of a run").await?;
        trip.command("SET")
            .arg(keys::output(queue.as_str(), task.as_str()))
            .arg(packed)
            .arg("EX")
            .arg(OUTPUTS_KEPT_FOR.as_secs());
        trip.one().await.map(drop)
    }

    async fn output(&self, queue: &QueueName, task: &TaskId) -> BrokerResult<Option<Vec<u8>>> {
        let mut trip = self.conn.trip("read the output of a run").await?;
        trip.command("GET").arg(keys::output(queue.as_str(), task.as_str()));
        Ok(reply::bytes(or_nothing(trip.one().await)?))
    }

    async fn ends(&self, tasks: &[FiredTask]) -> BrokerResult<Vec<Option<RunEnd>>> {
        // By key, because those of one schedule are one command.
        let mut by_key: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (place, task) in tasks.iter().enumerate() {
            let key = keys::ends(task.queue.as_str(), task.schedule.as_str());
            by_key.entry(key).or_default().push(place);
        }
        let mut ends = vec![None; tasks.len()];
        if tasks.is_empty() {
            return Ok(ends);
        }
        let mut trip = self.conn.trip("ask how tasks of schedules ended").await?;
        let asked: Vec<(&String, &[usize])> = by_key
            .iter()
            .flat_map(|(key, places)| places.chunks(BATCH).map(move |some| (key, some)))
            .collect();
        for (key, places) in &asked {
            trip.command("HMGET").arg(*key);
            for place in *places {
                trip.arg(tasks[*place].task.as_str());
            }
        }
        for ((_, places), answer) in asked.iter().zip(trip.each().await?) {
            match or_nothing(answer) {
                Ok(answer) => {
                    for (place, text) in places.iter().zip(reply::list(answer)) {
                        ends[*place] = end_of(text);
                    }
                }
                // An unreachable server of a cluster is left out; the others have answered.
                Err(BrokerError::Unreachable { .. }) if self.conn.is_cluster() => (),
                Err(error) => return Err(error),
            }
        }
        Ok(ends)
    }
}

impl RedisBroker {
    /// Adds to decisions how their tasks ended.
    pub(in crate::redis) async fn add_ends(&self, decisions: &mut [Decision]) -> BrokerResult<()> {
        let (mut places, mut tasks) = (Vec::new(), Vec::new());
        for (place, decision) in decisions.iter().enumerate() {
            if !matches!(decision.kind, DecisionKind::Fired | DecisionKind::Manual) {
                continue;
            }
            if let (Some(task), Some(queue)) = (&decision.task, &decision.queue) {
                places.push(place);
                tasks.push(FiredTask {
                    schedule: decision.schedule.clone(),
                    queue: queue.clone(),
                    task: task.clone(),
                });
            }
        }
        for (place, end) in places.into_iter().zip(self.ends(&tasks).await?) {
            decisions[place].end = end;
        }
        Ok(())
    }
}

fn record_of(value: Value) -> Option<RunRecord> {
    serde_json::from_slice(&reply::bytes(value)?).ok()
}

/// When it ended and began, in milliseconds, and how: what `trace.lua` is given.
fn end_of(value: Value) -> Option<RunEnd> {
    let text = reply::text(value)?;
    let mut words = text.split(' ');
    let mut instant = || Timestamp::from_millisecond(words.next()?.parse().ok()?).ok();
    let (ended_at, started_at) = (instant()?, instant()?);
    let outcome = AttemptOutcome::from_word(words.next()?);
    Some(RunEnd {
        outcome,
        started_at,
        ended_at,
    })
}

/// The run record of claim `number`, as pairs for `settle.lua`.
pub(in crate::redis) fn trace_args(trip: &mut RoundTrip<'_>, number: usize, trace: &Trace) {
    let end = trace.end;
    if let Some(schedule) = &trace.schedule {
        trip.arg(format!("s{number}")).arg(format!(
            "{schedule}\n{} {} {}",
            end.ended_at.as_millisecond(),
            end.started_at.as_millisecond(),
            end.outcome
        ));
    }
    if let Some(record) = &trace.record
        && let Ok(json) = serde_json::to_string(record)
    {
        trip.arg(format!("f{number}"))
            .arg(format!("{}\n{json}", record.function));
    }
}

#[cfg(test)]
mod tests {
    use crate::redis::format::scripts::TRACE;

    #[test]
    fn runs_are_kept_as_many_and_as_long_as_readers_ask_for() {
        let bounds = format!(
            "RUNS, ENDS, SPARE, TRACED = {}, {}, 50, {}\n",
            crate::MAX_RUNS_KEPT,
            crate::redis::ops::schedule::KEPT_EACH,
            crate::RUNS_KEPT_FOR.as_secs()
        );
        assert!(TRACE.contains(&bounds), "{bounds}");
    }
}
