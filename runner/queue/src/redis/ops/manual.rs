//! Manual runs of schedules.

use redis::Value;
use runner_core::schedule::{Overlap, ScheduleId};
use runner_core::task::{TaskId, TaskState};

use crate::redis::RedisBroker;
use crate::redis::format::scripts::Script;
use crate::redis::format::{convert, keys, reply};
use crate::redis::net::conn::RoundTrip;
use crate::redis::net::fault;
use crate::redis::ops::produce;
use crate::redis::ops::schedule::{KEPT, KEPT_EACH, RECORD_KEPT, decision_of, overlap_word};
use crate::{BrokerError, BrokerResult, ManualRun, ManuallyRun, Producer as _, Refusal};

const DOING: &str = "run a schedule by hand";

impl RedisBroker {
    pub(in crate::redis) async fn run_by_hand(&self, run: &ManualRun) -> BrokerResult<ManuallyRun> {
        if let Err(invalid) = run.task.check() {
            return Ok(ManuallyRun::Refused(invalid.into()));
        }
        let task = run.task.id.clone().unwrap_or_else(TaskId::random);
        if self.conn.is_cluster() {
            return self.run_in_steps(run, task).await;
        }
        let mut trip = self.conn.trip(DOING).await?;
        trip.script(Script::AddMembers, &[keys::QUEUES])
            .arg("")
            .arg(run.task.queue.as_str());
        manual_args(&mut trip, run, false);
        produce::put_args(&mut trip, &run.task, &task);
        trip.arg(convert::kept_headers(&run.task));
        let answer = trip.send().await?.into_iter().nth(1);
        manually_run(answer.unwrap_or(Value::Nil))
    }

    /// In a cluster the cursors and the queue are on different servers.
    async fn run_in_steps(&self, run: &ManualRun, task: TaskId) -> BrokerResult<ManuallyRun> {
        if let Some((task, what)) = self.unfinished(run).await? {
            return Ok(ManuallyRun::Busy { task, what });
        }
        let mut named = run.task.clone();
        named.id = Some(task.clone());
        // With the id stated, because the record below names the task.
        match self.enqueue(&[named]).await?.into_iter().next() {
            Some(Ok(_)) => {}
            Some(Err(refusal)) => return Ok(ManuallyRun::Refused(refusal)),
            None => return Err(fault::odd_answer(DOING)),
        }
        let mut trip = self.conn.trip(DOING).await?;
        manual_args(&mut trip, run, true);
        trip.arg(task.as_str()).arg("");
        manually_run(trip.one().await?)
    }

    /// The task of another run that has not ended, and its state: as `busy` in `decide.lua`.
    async fn unfinished(&self, run: &ManualRun) -> BrokerResult<Option<(TaskId, String)>> {
        if !run.overlap.skips() {
            return Ok(None);
        }
        let id = run.id.as_str();
        let mut trip = self.conn.trip(DOING).await?;
        trip.command("HMGET").arg(keys::CURSORS);
        // The key names the task even if its field is damaged.
        for field in ["p", "mp"] {
            trip.arg(format!("{field}:{id}"));
        }
        let known: Vec<String> = match trip.one().await {
            Err(BrokerError::Corrupt { .. }) => Vec::new(),
            known => reply::list(known?)
                .into_iter()
                .map(|value| reply::text(value).unwrap_or_default())
                .collect(),
        };
        for key in &known {
            if let Some((tag, task)) = key.split_once("}:t:")
                && let Ok(task) = TaskId::new(task)
                && let Some(what) = self.what_it_does(run, key, &format!("{tag}}}:"), task.as_str()).await?
            {
                return Ok(Some((task, what)));
            }
        }
        Ok(None)
    }

    async fn what_it_does(&self, run: &ManualRun, key: &str, queue: &str, task: &str) -> BrokerResult<Option<String>> {
        let mut trip = self.conn.trip(DOING).await?;
        trip.command("HGET").arg(key).arg("state");
        trip.command("ZSCORE").arg(format!("{queue}lease")).arg(task);
        trip.command("ZSCORE").arg(format!("{queue}retry")).arg(task);
        let mut answers = Vec::new();
        for answer in trip.each().await? {
            answers.push(match answer {
                // The key does not hold a task, so it blocks no run.
                Err(BrokerError::Corrupt { .. }) => Value::Nil,
                answer => answer?,
            });
        }
        let mut answers = answers.into_iter();
        let state = answers.next().and_then(reply::text).and_then(|word| word.parse().ok());
        let (lease, due) = (
            answers.next().and_then(reply::seconds),
            answers.next().and_then(reply::seconds),
        );
        let here = queue == keys::queue(run.task.queue.as_str());
        Ok(match state {
            Some(TaskState::Pending | TaskState::Active | TaskState::Scheduled) if here => {
                state.map(|state| format!("is {state}"))
            }
            Some(TaskState::Retry) if here && run.overlap.counts_retries() => {
                due.map(|due| format!("waits for its retry at {due}"))
            }
            Some(TaskState::Active) if lease.is_some_and(|end| end > self.present()) => Some("is active".to_owned()),
            _ => None,
        })
    }
}

/// See `run_now.lua`: up to the prefix of the queue.
fn manual_args(trip: &mut RoundTrip<'_>, run: &ManualRun, cluster: bool) {
    let id: &ScheduleId = &run.id;
    let names = [
        keys::CURSORS.to_owned(),
        keys::fires(cluster),
        keys::fires_of(id.as_str(), cluster),
    ];
    trip.script(Script::RunNow, &names)
        .arg(id.as_str())
        .arg(overlap_word(if cluster { Overlap::Allow } else { run.overlap }, false))
        .arg(&run.by)
        .arg(KEPT)
        .arg(KEPT_EACH)
        .arg(RECORD_KEPT.as_secs())
        .arg(keys::queue(run.task.queue.as_str()));
}

fn manually_run(answer: Value) -> BrokerResult<ManuallyRun> {
    let odd = || fault::odd_answer(DOING);
    let mut answer = reply::list(answer).into_iter();
    let word = answer.next().and_then(reply::text).ok_or_else(odd)?;
    Ok(match word.as_str() {
        "done" => ManuallyRun::Done(answer.next().and_then(decision_of).ok_or_else(odd)?),
        "busy" => {
            let task = answer.next().and_then(reply::text).and_then(|id| TaskId::new(id).ok());
            let what = answer.next().and_then(reply::text);
            let (task, what) = task.zip(what).ok_or_else(odd)?;
            ManuallyRun::Busy { task, what }
        }
        "taken" => ManuallyRun::Refused(Refusal::IdTaken),
        "locked" => ManuallyRun::Refused(Refusal::Duplicate),
        _ => return Err(odd()),
    })
}
