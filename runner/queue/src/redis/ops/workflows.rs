//! Workflows: each is a few hashes in a slot of its own; two lists have the ids of all.
//!
//! The lists may be in another slot, so they are written first, and ids without a workflow are left out by readers.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use redis::Value;

use crate::redis::RedisBroker;
use crate::redis::format::scripts::Script;
use crate::redis::format::{keys, reply};
use crate::redis::net::conn::RoundTrip;
use crate::redis::ops::partial::or_nothing;
use crate::{
    BrokerResult, MAX_RESULTS_KEPT, NewWorkflow, StepEnd, WORKFLOWS_KEPT_FOR, WorkflowHead, WorkflowPlace,
    WorkflowState, WorkflowStepView, Workflows, kept_result,
};

const KEEP: &str = "keep a workflow";
const READ: &str = "read workflows";

/// How long a workflow is listed at most.
const LISTED: Duration = Duration::from_secs(90 * 86_400);

/// A listed workflow without contents is younger than this while it is being stored.
const STORING: Duration = Duration::from_secs(60);

/// Steps of one call that forgets their results.
const FORGOTTEN_AT_ONCE: u32 = 500;

fn script(trip: &mut RoundTrip<'_>, script: Script, id: &str) {
    trip.script(script, &keys::workflow_keys(id))
        .arg(WORKFLOWS_KEPT_FOR.as_secs());
}

impl RedisBroker {
    /// `word`: `add`, with the time at which they were stored unless that is now, or `end`.
    async fn list_workflow(&self, word: &str, since: Option<Timestamp>, ids: &[&str]) -> BrokerResult<()> {
        let mut trip = self.conn.trip(KEEP).await?;
        trip.script(Script::KeepWorkflowList, &keys::WORKFLOW_LISTS.map(str::to_owned))
            .arg(u64::try_from(LISTED.as_millis()).unwrap_or(u64::MAX))
            .arg(word)
            .arg(since.map_or_else(String::new, |since| since.as_millisecond().to_string()));
        for id in ids {
            trip.arg(*id);
        }
        trip.one().await.map(drop)
    }

    /// A part of a list, with the states that those workflows have now.
    async fn listed_workflows(
        &self,
        open: bool,
        skip: usize,
        most: usize,
    ) -> BrokerResult<Vec<(String, WorkflowState)>> {
        if most == 0 {
            return Ok(Vec::new());
        }
        let mut trip = self.pages.trip(READ).await?;
        let list = keys::WORKFLOW_LISTS[usize::from(open)];
        trip.command("ZREVRANGE")
            .arg(list)
            .arg(skip)
            .arg(skip.saturating_add(most).saturating_sub(1))
            .arg("WITHSCORES");
        let mut listed = reply::list(or_nothing(trip.one().await)?).into_iter();
        let mut found = Vec::new();
        while let Some((id, since)) = listed.next().and_then(reply::text).zip(listed.next()) {
            let since = reply::text(since).and_then(|ms| ms.parse::<f64>().ok());
            found.push((id, since.unwrap_or_default()));
        }
        let mut trip = self.pages.trip(READ).await?;
        for (id, _) in &found {
            trip.command("HGET").arg(keys::workflow(id, "workflow")).arg("state");
        }
        #[allow(clippy::cast_precision_loss)] // milliseconds since 1970
        let fresh = (self.present().as_millisecond() as f64) - STORING.as_secs_f64() * 1000.0;
        let (mut standing, mut over) = (Vec::new(), Vec::new());
        for ((id, since), state) in found.into_iter().zip(trip.each().await?) {
            let word = or_nothing(state)?;
            let state = reply::text(word).and_then(|word| WorkflowState::parse(&word));
            match state {
                Some(state) if open && state.is_final() => over.push(id),
                Some(state) => standing.push((id, state)),
                None if open && since < fresh => over.push(id),
                None => {}
            }
        }
        if !over.is_empty() {
            let over: Vec<&str> = over.iter().map(String::as_str).collect();
            self.list_workflow("end", None, &over).await?;
        }
        Ok(standing)
    }
}

#[async_trait]
impl Workflows for RedisBroker {
    async fn keep_workflow(&self, new: &NewWorkflow) -> BrokerResult<bool> {
        // One that is over would be listed as new.
        if self.workflow(&new.id).await?.is_some() {
            return Ok(false);
        }
        self.list_workflow("add", None, &[&new.id]).await?;
        let mut trip = self.conn.trip(KEEP).await?;
        script(&mut trip, Script::KeepWorkflow, &new.id);
        trip.arg(json(&new.stored_plan()));
        for (step, payload) in &new.steps {
            trip.arg(json(step)).arg(&payload[..]);
        }
        Ok(reply::number(trip.one().await?) == Some(1))
    }

    async fn workflow(&self, id: &str) -> BrokerResult<Option<WorkflowHead>> {
        let mut trip = self.conn.trip(READ).await?;
        trip.command("HMGET").arg(keys::workflow(id, "workflow")).arg(&HEAD[..]);
        Ok(head_of(id, or_nothing(trip.one().await)?))
    }

    async fn workflow_ids(&self, open: bool, skip: usize, most: usize) -> BrokerResult<Vec<String>> {
        let listed = self.listed_workflows(open, skip, most).await?;
        Ok(listed.into_iter().map(|(id, _)| id).collect())
    }

    async fn workflow_states(&self, most: usize) -> BrokerResult<Vec<WorkflowState>> {
        let listed = self.listed_workflows(true, 0, most).await?;
        Ok(listed.into_iter().map(|(_, state)| state).collect())
    }

    async fn workflow_count(&self) -> BrokerResult<u64> {
        let mut trip = self.conn.trip(READ).await?;
        trip.command("ZCARD").arg(keys::WORKFLOW_LISTS[0]);
        Ok(reply::count(or_nothing(trip.one().await)?))
    }

    async fn workflow_steps(&self, id: &str, from: u32, most: u32) -> BrokerResult<Vec<WorkflowStepView>> {
        if most == 0 {
            return Ok(Vec::new());
        }
        let numbers: Vec<u32> = (from..from.saturating_add(most)).collect();
        let mut trip = self.conn.trip(READ).await?;
        for part in ["steps", "ends"] {
            trip.command("HMGET").arg(keys::workflow(id, part)).arg(&numbers[..]);
        }
        let mut answers = trip.each().await?.into_iter();
        let mut list = || -> BrokerResult<_> { Ok(reply::list(or_nothing(answers.next().unwrap_or(Ok(Value::Nil)))?)) };
        let (steps, mut ends) = (list()?, list()?.into_iter());
        let mut views = Vec::new();
        for (number, step) in numbers.into_iter().zip(steps) {
            let end = ends.next().and_then(reply::bytes);
            let step = reply::bytes(step).and_then(|json| serde_json::from_slice(&json).ok());
            views.extend(step.map(|step| WorkflowStepView {
                number,
                step,
                left_out: end.as_deref() == Some(b"o"),
                end: end.and_then(end_of),
            }));
        }
        Ok(views)
    }

    async fn workflow_payloads(&self, id: &str, from: u32, most: u32) -> BrokerResult<Vec<Bytes>> {
        if most == 0 {
            return Ok(Vec::new());
        }
        let numbers: Vec<u32> = (from..from.saturating_add(most)).collect();
        let mut trip = self.conn.trip(READ).await?;
        trip.command("HMGET")
            .arg(keys::workflow(id, "payloads"))
            .arg(&numbers[..]);
        let answer = reply::list(or_nothing(trip.one().await)?);
        let mut payloads: Vec<Bytes> = answer
            .into_iter()
            .map(|payload| reply::bytes(payload).map(Bytes::from).unwrap_or_default())
            .collect();
        payloads.resize(numbers.len(), Bytes::new());
        Ok(payloads)
    }

    async fn end_steps(&self, id: &str, epoch: u32, ends: &[(u32, StepEnd)]) -> BrokerResult<Option<WorkflowHead>> {
        let mut trip = self.conn.trip("end steps of a workflow").await?;
        script(&mut trip, Script::EndSteps, id);
        trip.arg(epoch).arg(MAX_RESULTS_KEPT);
        for (number, end) in ends {
            trip.arg(*number);
            match end {
                StepEnd::Done(result) => trip.arg("d").arg(&kept_result(Some(result.clone()))[..]),
                StepEnd::Failed(error) => trip.arg("f").arg(crate::stored_error(error)),
            };
        }
        Ok(head_of(id, trip.one().await?))
    }

    async fn forget_results(&self, id: &str, from: u32, most: u32) -> BrokerResult<()> {
        let to = from.saturating_add(most);
        for begin in (from..to).step_by(FORGOTTEN_AT_ONCE as usize) {
            let mut trip = self.conn.trip("forget results of a workflow").await?;
            script(&mut trip, Script::ForgetResults, id);
            for number in begin..to.min(begin.saturating_add(FORGOTTEN_AT_ONCE)) {
                trip.arg(number);
            }
            trip.one().await?;
        }
        Ok(())
    }

    async fn reopen_workflow(&self, id: &str, failed: &[u32]) -> BrokerResult<Option<WorkflowHead>> {
        let Some(head) = self.workflow(id).await? else {
            return Ok(None);
        };
        // At its old place in the list.
        self.list_workflow("add", Some(head.created_at), &[id]).await?;
        let mut trip = self.conn.trip("run steps of a workflow again").await?;
        script(&mut trip, Script::ReopenWorkflow, id);
        for number in failed {
            trip.arg(*number);
        }
        Ok(head_of(id, trip.one().await?))
    }

    async fn move_workflow(&self, id: &str, from: WorkflowPlace, to: WorkflowPlace) -> BrokerResult<bool> {
        let mut trip = self.conn.trip("move a workflow").await?;
        script(&mut trip, Script::MoveWorkflow, id);
        for place in [from, to] {
            trip.arg(place.state.as_str())
                .arg(place.sent)
                .arg(place.epoch)
                .arg(place.called);
        }
        let moved = reply::number(trip.one().await?) == Some(1);
        if moved && to.state.is_final() {
            self.list_workflow("end", None, &[id]).await?;
        }
        Ok(moved)
    }
}

/// The fields of a workflow, in the order of `workflow.lua`.
const HEAD: [&str; 10] = [
    "plan", "state", "sent", "epoch", "called", "done", "failed", "error", "created", "changed",
];

fn json(value: &impl serde::Serialize) -> String {
    // Plain structures with texts as keys can always be written.
    serde_json::to_string(value).unwrap_or_default()
}

fn end_of(bytes: Vec<u8>) -> Option<StepEnd> {
    let (letter, rest) = bytes.split_first()?;
    match letter {
        b'd' => Some(StepEnd::Done(Bytes::copy_from_slice(rest))),
        b'o' => Some(StepEnd::Done(Bytes::new())),
        b'f' => Some(StepEnd::Failed(String::from_utf8_lossy(rest).into_owned())),
        _ => None,
    }
}

/// The workflow, if the answer has one that can be read.
fn head_of(id: &str, answer: Value) -> Option<WorkflowHead> {
    let mut fields = reply::list(answer).into_iter().map(reply::bytes);
    let mut text = || {
        fields
            .next()
            .flatten()
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    };
    let plan = serde_json::from_str(&text()?).ok()?;
    let state = WorkflowState::parse(&text()?)?;
    let mut number = || text().and_then(|text| text.parse::<u32>().ok()).unwrap_or_default();
    let place = WorkflowPlace {
        state,
        sent: number(),
        epoch: number(),
        called: number(),
    };
    let (done, failed) = (number(), number());
    let error = text().unwrap_or_default();
    let mut instant = || {
        let ms = text().and_then(|text| text.parse().ok()).unwrap_or_default();
        Timestamp::from_millisecond(ms).unwrap_or_default()
    };
    Some(WorkflowHead {
        id: id.to_owned(),
        plan,
        place,
        done,
        failed,
        error,
        created_at: instant(),
        changed_at: instant(),
    })
}
