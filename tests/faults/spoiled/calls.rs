//! Each call of the seam, beside six tasks: five healthy ones and one to corrupt. Not how it is corrupted.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, try_join_all};
use jiff::Timestamp;
use runner_core::clock::{Clock as _, ManualClock};
use runner_core::limit::{LimitRule, Limits, SharedSemaphore, StartRate, TaskLimit};
use runner_core::schedule::{Overlap, ScheduleId};
use runner_core::task::{AttemptOutcome, QueueName, Run, Task, TaskState, Unique};
use runner_queue::redis::RedisBroker;
use runner_queue::{
    Action, ArchiveBounds, Attempt, Broker, Claim, Commit, CommitFire, Committed, Delivery, Enqueued, EntryView,
    GroupRule, KnownTypes, Page, Refusal, Registration, Settled, Settlement, StagedSet, StepEnd, Verdict,
    WorkflowPlace, WorkflowState,
};

use super::samples::{read_run_counts, run_counts, server, workflow, working};
use crate::faults::{id, queue};

/// The corrupt one is in the middle, so that a call that fails at it has begun.
pub const NAMES: [&str; 6] = ["in0", "in1", "bad", "in2", "in3", "in4"];
/// Those that must not be affected.
pub const INNOCENT: [&str; 5] = ["in0", "in1", "in2", "in3", "in4"];

pub const LEASE: Duration = Duration::from_secs(30);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// A store and its time.
#[derive(Clone)]
pub struct At {
    pub broker: Arc<dyn Broker>,
    /// The same one, on Redis.
    pub redis: Option<Arc<RedisBroker>>,
    pub clock: Arc<ManualClock>,
}

/// The caller's claims and other handles before the call.
#[derive(Clone, Default)]
pub struct Held {
    claims: Vec<Claim>,
    set: Option<StagedSet>,
}

/// The state of the six tasks before the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Not enqueued yet.
    Nothing,
    Pending,
    /// Claimed by us.
    Active,
    /// Claimed by us, with a retention.
    Retained,
    /// Claimed by us, functions of manifests, whose runs are recorded.
    Functions,
    /// Claimed by us, each with a lock.
    Locked,
    /// Claimed by us, and the leases ran out.
    Silent,
    /// Five claimed by us, the others pending.
    Half,
    /// Scheduled, and their time has come.
    Due,
    Later,
    /// To be tried again, and their time has come.
    Again,
    Archived,
    Completed,
    Grouped,
    Staged,
    /// Staged by a caller that did not come back.
    Stale,
    /// Scheduled, because their type is unknown.
    Waiting,
    /// Two of one type and that of another claimed by us, the others waiting for a limit.
    Limited,
    /// None; schedules of their names exist.
    Registered,
    /// The same after each fired once.
    Fired,
    /// None; documents exist, one with a healthy task's name.
    Documents,
    /// Two workflows of two steps.
    Workflows,
}

impl Start {
    /// Whether there are tasks to run afterwards.
    pub fn has_tasks(self) -> bool {
        !matches!(
            self,
            Self::Nothing | Self::Registered | Self::Documents | Self::Workflows
        )
    }
}

/// The result of a call: healthy tasks that need not exist any more, because the call was to end them.
pub type Made = Result<BTreeSet<&'static str>, String>;

/// One call beside six tasks.
#[derive(Clone, Copy)]
pub struct Call {
    pub name: &'static str,
    pub start: Start,
    /// Whether it is only about the corrupt one, and may fail.
    pub single: bool,
    pub make: for<'a> fn(&'a At, &'a mut Held) -> BoxFuture<'a, Made>,
}

macro_rules! calls {
    ($($name:literal from $start:ident $(($single:ident))?: |$at:ident, $held:ident| $body:expr;)*) => {
        vec![$(Call {
            name: $name,
            start: Start::$start,
            single: calls!(@single $($single)?),
            make: |$at, $held| Box::pin(async move { $body }),
        }),*]
    };
    (@single) => { false };
    (@single single) => { true };
}

fn text(error: impl std::error::Error) -> String {
    let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn none<T, E: std::error::Error>(result: Result<T, E>) -> Made {
    result.map(|_| BTreeSet::new()).map_err(text)
}

fn all<T, E: std::error::Error>(result: Result<T, E>) -> Made {
    result.map(|_| INNOCENT.into()).map_err(text)
}

fn name(found: &str) -> Option<&'static str> {
    INNOCENT.into_iter().find(|name| *name == found)
}

fn tasks(with: impl Fn(Task) -> Task) -> Vec<Task> {
    let kind = |name: &str| if name == "bad" { "bad" } else { "in" };
    let one = |name: &str| Task::new(kind(name)).id(id(name)).payload(name.to_owned());
    NAMES.into_iter().map(|name| with(one(name))).collect()
}

async fn enqueue(at: &At, tasks: &[Task]) -> Made {
    let answers = at.broker.enqueue(tasks).await.map_err(text)?;
    Ok(refused(tasks, &answers))
}

fn refused(tasks: &[Task], answers: &[Result<Enqueued, Refusal>]) -> BTreeSet<&'static str> {
    let refused = tasks.iter().zip(answers).filter(|(_, answer)| answer.is_err());
    refused
        .filter_map(|(task, _)| name(task.id.as_ref()?.as_str()))
        .collect()
}

fn ends(held: &Held, verdict: &Verdict) -> Vec<Settlement> {
    let one = |claim: &Claim| Settlement {
        claim: claim.clone(),
        verdict: verdict.clone(),
        result: Some(Bytes::from_static(b"result")),
        attempt: Some(Attempt {
            number: 1,
            started_at: Timestamp::UNIX_EPOCH,
            ended_at: Timestamp::UNIX_EPOCH,
            outcome: AttemptOutcome::Retry,
            error: None,
            server: String::new(),
            log: None,
        }),
    };
    held.claims.iter().map(one).collect()
}

/// The healthy tasks whose claims were settled; the verdict determines which of them are gone.
fn over(ends: &[Settlement], settled: &[Settled]) -> BTreeSet<&'static str> {
    let accepted = ends
        .iter()
        .zip(settled)
        .filter(|(_, settled)| **settled == Settled::Accepted);
    let over = accepted.filter(|(end, _)| matches!(end.verdict, Verdict::Done | Verdict::Revoke));
    over.filter_map(|(end, _)| name(end.claim.task().id.as_str())).collect()
}

async fn settle(at: &At, held: &Held, verdict: Verdict) -> Made {
    let ends = ends(held, &verdict);
    let settled = at.broker.settle(&ends).await.map_err(text)?;
    Ok(over(&ends, &settled))
}

fn again(counts: bool) -> Verdict {
    Verdict::Retry {
        after: Duration::from_secs(10),
        error: "no".to_owned(),
        counts,
    }
}

fn schedule(name: &str) -> ScheduleId {
    ScheduleId::from_text(format!("m:{name}"))
}

fn registrations() -> Vec<Registration> {
    let one = |name| Registration {
        id: schedule(name),
        revision: "1".to_owned(),
    };
    NAMES.map(one).into()
}

/// The task that each schedule fires at an instant; named after the schedule if it is the first, else with one more letter.
fn commits(from: Timestamp, to: Timestamp, overlap: Overlap, first: bool) -> Vec<Commit> {
    let one = |name: &str| Commit {
        id: schedule(name),
        from,
        to,
        fires: vec![CommitFire {
            nominal: to,
            fire_at: to,
            task: tasks(|task| task)
                .remove(NAMES.iter().position(|other| *other == name).unwrap())
                .id(id(&if first { name.to_owned() } else { format!("{name}x") })),
            catch_up: false,
        }],
        missed: None,
        overlap,
        unserved: false,
        instance: "host:1".to_owned(),
    };
    NAMES.map(one).into()
}

fn held() -> Vec<runner_queue::Held> {
    let one = |name: &str| runner_queue::Held {
        id: schedule(name),
        revision: "1".to_owned(),
        scope: "code-1".to_owned(),
    };
    NAMES.map(one).into()
}

fn start_of(at: &At) -> Timestamp {
    Timestamp::from_second(at.clock.now().as_second()).unwrap()
}

/// Commits as a scheduler does: unknown schedules are registered, moved cursors are adopted.
async fn commit(at: &At, overlap: Overlap, first: bool) -> Made {
    let to = start_of(at);
    let mut from = to - Duration::from_secs(60);
    for _ in 0..4 {
        let commits = commits(from, to, overlap, first);
        let mut open = Vec::new();
        for (commit, committed) in commits.iter().zip(at.broker.commit(&commits).await.map_err(text)?) {
            match committed {
                Committed::Done(_) | Committed::Paused => {}
                Committed::Moved(cursor) if cursor >= to => {}
                _ => open.push(commit.id.clone()),
            }
        }
        if open.is_empty() {
            return Ok(BTreeSet::new());
        }
        // Their cursors are the present now; the next instant fires from there.
        let standings = at.broker.register(&registrations()).await.map_err(text)?;
        from = standings.iter().map(|standing| standing.cursor).max().unwrap_or(from);
        if from >= to {
            return Ok(BTreeSet::from(INNOCENT));
        }
    }
    Err("commits are never done".to_owned())
}

/// The tasks that are enqueued first.
fn enqueued(start: Start) -> Vec<Task> {
    let later = |task: Task| task.run(Run::In(HOUR));
    match start {
        Start::Nothing | Start::Registered | Start::Fired | Start::Documents | Start::Workflows => Vec::new(),
        Start::Due | Start::Later => tasks(later),
        Start::Grouped | Start::Staged | Start::Stale => tasks(|task| task.group("g")),
        Start::Retained | Start::Completed => tasks(|task| task.retention(DAY)),
        Start::Functions => tasks(|mut task| {
            task.kind = format!("fn:{}", task.kind);
            task
        }),
        Start::Locked => tasks(|task| task.unique(DAY)),
        _ => tasks(|task| task),
    }
}

/// Keeps two documents or workflows.
async fn keep_named(at: &At, start: Start) {
    for name in ["in0", "bad"] {
        if start == Start::Workflows {
            assert!(at.broker.keep_workflow(&workflow(name)).await.unwrap());
            continue;
        }
        let kept = at.broker.keep_document("rows", name, b"text".to_vec(), LEASE);
        kept.await.unwrap();
    }
}

/// Brings the tasks into that state.
pub async fn begin(at: &At, start: Start) -> Held {
    let mut held = Held::default();
    at.broker.claims_as("host", 1);
    let list = enqueued(start);
    assert_eq!(enqueue(at, &list).await.unwrap(), BTreeSet::new());
    match start {
        Start::Nothing | Start::Pending | Start::Later | Start::Grouped => {}
        Start::Due => at.clock.advance(HOUR),
        Start::Active | Start::Functions | Start::Retained | Start::Locked => claim(at, &mut held, 6).await,
        Start::Half => {
            claim(at, &mut held, 4).await;
            let more: Vec<Task> = ["in5", "in6"].map(|name| Task::new("in").id(id(name))).into();
            enqueue(at, &more).await.unwrap();
        }
        Start::Silent => {
            claim(at, &mut held, 6).await;
            at.clock.advance(HOUR);
        }
        Start::Again => {
            claim(at, &mut held, 6).await;
            settle(at, &held, again(true)).await.unwrap();
            at.clock.advance(HOUR);
        }
        Start::Archived => {
            claim(at, &mut held, 6).await;
            settle(at, &held, Verdict::Archive { error: "no".to_owned() })
                .await
                .unwrap();
        }
        Start::Completed => {
            claim(at, &mut held, 6).await;
            settle(at, &held, Verdict::Done).await.unwrap();
        }
        Start::Limited => {
            at.broker.claims_limits(&limits());
            held.claims = at.broker.claim(&[queue()], 9, LEASE).await.unwrap();
            assert_eq!(held.claims.len(), 3);
            at.broker.claims_limits(&Limits::default());
        }
        Start::Waiting => {
            claim(at, &mut held, 6).await;
            settle(at, &held, snooze()).await.unwrap();
        }
        Start::Staged | Start::Stale => {
            at.clock.advance(HOUR);
            held.set = at.broker.stage(&queue(), "g", &GroupRule::default()).await.unwrap();
            assert!(held.set.is_some());
            if start == Start::Stale {
                at.clock.advance(HOUR);
            }
        }
        Start::Documents | Start::Workflows => keep_named(at, start).await,
        Start::Registered | Start::Fired => {
            at.broker.register(&registrations()).await.unwrap();
            at.clock.advance(Duration::from_secs(60));
            if start == Start::Fired {
                commit(at, Overlap::Allow, true).await.unwrap();
                at.clock.advance(Duration::from_secs(60));
            }
        }
    }
    held
}

/// Two of one type at a time, also by a semaphore, and a rate for the other.
fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.add("in", TaskLimit::new(LimitRule::Concurrency(2)));
    let shared = SharedSemaphore::new("{default}:api", 3).unwrap();
    limits.add("in", TaskLimit::new(LimitRule::Semaphore(shared)));
    let rate = StartRate {
        count: 1,
        per: HOUR,
        burst: 1,
    };
    limits.add("bad", TaskLimit::new(LimitRule::Rate(rate)));
    limits
}

async fn claim_limited(at: &At) -> Made {
    at.broker.claims_limits(&limits());
    let claimed = at.broker.claim(&[queue()], 9, LEASE).await;
    at.broker.claims_limits(&Limits::default());
    none(claimed)
}

fn snooze() -> Verdict {
    Verdict::Snooze {
        delay: HOUR,
        waiting_for: Some("a handler".to_owned()),
    }
}

async fn claim(at: &At, held: &mut Held, most: usize) {
    held.claims = at.broker.claim(&[queue()], most, LEASE).await.unwrap();
    assert_eq!(held.claims.len(), most);
}

async fn exchange(at: &At, held: &mut Held) -> Made {
    let ends = ends(held, &Verdict::Done);
    let queues: [QueueName; 2] = [queue(), "other".parse().unwrap()];
    let answer = at.broker.exchange(&ends, &queues, 9, LEASE).await.map_err(text)?;
    answer.claims.map_err(text)?;
    Ok(over(&ends, &answer.settled.map_err(text)?))
}

/// Calls of producers, of a worker and of its background loops.
pub fn of_workers() -> Vec<Call> {
    let mut calls = of_claims();
    calls.extend(of_roles());
    calls.extend(of_documents_and_workflows());
    calls.extend(of_limits());
    calls
}

/// Calls that enqueue, claim and settle.
fn of_claims() -> Vec<Call> {
    calls! {
        "enqueue" from Nothing: |at, _held| enqueue(at, &tasks(|task| task)).await;
        "enqueue_unique" from Nothing: |at, _held| enqueue(at, &tasks(|task| task.unique(DAY))).await;
        "enqueue_later" from Nothing: |at, _held| enqueue(at, &tasks(|task| task.run(Run::In(HOUR)))).await;
        "enqueue_group" from Nothing: |at, _held| enqueue(at, &tasks(|task| task.group("g"))).await;
        "enqueue_once" from Nothing: |at, _held| {
            let once = |task| Delivery { task, remember: DAY };
            let list = tasks(|task| task);
            let deliveries: Vec<_> = list.iter().cloned().map(once).collect();
            let answers = at.broker.enqueue_once(&deliveries).await.map_err(text)?;
            Ok(refused(&list, &answers))
        };
        "enqueue_again" from Locked: |at, _held| enqueue(at, &tasks(|task| task.unique(DAY))).await.map(|_| BTreeSet::new());
        "enqueue_replacing" from Locked: |at, _held| {
            let replacing = tasks(|task| task.unique(Unique::new(DAY).replace()));
            enqueue(at, &replacing).await.map(|_| BTreeSet::new())
        };
        "enqueue_rescheduling" from Locked: |at, _held| {
            let moving = tasks(|task| task.unique(Unique::new(DAY).while_pending().reschedule()).delay(HOUR));
            enqueue(at, &moving).await.map(|_| BTreeSet::new())
        };
        "claim_unreadable" from Pending: |at, _held| none(at.broker.claim(&[queue()], 9, LEASE).await);
        "recover_unreadable" from Silent: |at, _held| none(at.broker.recover(&[queue()], Duration::ZERO, 99, 3).await);
        "read_unreadable" from Staged: |at, held| none(at.broker.read_staged(held.set.as_ref().unwrap()).await);
        "claim" from Pending: |at, _held| none(at.broker.claim(&[queue()], 9, LEASE).await);
        "claim_known" from Pending: |at, _held| {
            // Two of an unknown type, pending since a later instant.
            at.clock.advance(Duration::from_secs(1));
            for name in ["other1", "other2"] {
                enqueue(at, &[Task::new("other").id(id(name))]).await?;
            }
            at.broker.claims_types(&KnownTypes::new(["in", "b*"], ["c"]));
            let claimed = at.broker.claim(&[queue()], 2, LEASE).await;
            at.broker.claims_types(&KnownTypes::all());
            none(claimed)
        };
        "settle_done" from Active: |at, held| settle(at, held, Verdict::Done).await;
        "settle_kept" from Retained: |at, held| settle(at, held, Verdict::Done).await.map(|_| BTreeSet::new());
        "settle_unlock" from Locked: |at, held| settle(at, held, Verdict::Done).await;
        "settle_revoke" from Retained: |at, held| settle(at, held, Verdict::Revoke).await;
        "settle_retry" from Active: |at, held| settle(at, held, again(true)).await;
        "settle_free" from Locked: |at, held| settle(at, held, again(false)).await;
        "settle_archive" from Active: |at, held| settle(at, held, Verdict::Archive { error: "no".to_owned() }).await;
        "settle_back" from Active: |at, held| settle(at, held, Verdict::HandBack).await;
        "settle_snooze" from Active: |at, held| settle(at, held, snooze()).await;
        "settle_late" from Silent: |at, held| settle(at, held, again(true)).await;
        "exchange" from Half: |at, held| exchange(at, held).await;
        "exchange_kept" from Retained: |at, held| exchange(at, held).await.map(|_| BTreeSet::new());
        "extend" from Active: |at, held| none(at.broker.extend(&held.claims, LEASE).await);
        "extend_late" from Silent: |at, held| none(at.broker.extend(&held.claims, LEASE).await);
    }
}

/// Calls with limits.
fn of_limits() -> Vec<Call> {
    calls! {
        "claim_limits" from Pending: |at, _held| claim_limited(at).await;
        "claim_limited" from Limited: |at, _held| {
            at.clock.advance(Duration::from_secs(11));
            claim_limited(at).await
        };
        "extend_limited" from Limited: |at, held| none(at.broker.extend(&held.claims, LEASE).await);
        "settle_limited" from Limited: |at, held| settle(at, held, Verdict::Done).await;
        "forward_limited" from Limited: |at, _held| {
            at.clock.advance(Duration::from_secs(11));
            none(at.broker.forward(&[queue()], 99).await)
        };
    }
}

/// Calls of the maintenance loops.
fn of_roles() -> Vec<Call> {
    calls! {
        "recover" from Silent: |at, _held| none(at.broker.recover(&[queue()], Duration::ZERO, 99, 3).await);
        "unanswered" from Active: |at, _held| {
            if let Some(redis) = &at.redis {
                redis.lose_answers(&[queue()]);
            }
            none(at.broker.unanswered(&[], LEASE).await)
        };
        "run_alone" from Active: |at, held| none(at.broker.run_alone(&held.claims[0], true).await);
        "absolve" from Active: |at, held| none(at.broker.absolve(&held.claims).await);
        "recover_active" from Active: |at, _held| none(at.broker.recover(&[queue()], Duration::ZERO, 99, 3).await);
        "forward_due" from Due: |at, _held| none(at.broker.forward(&[queue()], 99).await);
        "forward_again" from Again: |at, _held| none(at.broker.forward(&[queue()], 99).await);
        "forward_waiting" from Waiting: |at, _held| {
            at.clock.advance(HOUR);
            none(at.broker.forward(&[queue()], 99).await)
        };
        "release" from Waiting: |at, _held| none(at.broker.release_waiting(&[queue()], &["*".to_owned()]).await);
        "repair_pending" from Pending: |at, _held| none(at.broker.repair(&[queue()], 999).await);
        "repair_active" from Active: |at, _held| none(at.broker.repair(&[queue()], 999).await);
        "repair_later" from Later: |at, _held| none(at.broker.repair(&[queue()], 999).await);
        "repair_again" from Again: |at, _held| none(at.broker.repair(&[queue()], 999).await);
        "repair_grouped" from Grouped: |at, _held| none(at.broker.repair(&[queue()], 999).await);
        "repair_staged" from Staged: |at, _held| none(at.broker.repair(&[queue()], 999).await);
        "repair_archived" from Archived: |at, _held| none(at.broker.repair(&[queue()], 999).await);
        "sweep" from Waiting: |at, _held| none(at.broker.sweep(&[queue()], 99, ArchiveBounds::default()).await);
        "sweep_completed" from Completed: |at, _held| {
            at.clock.advance(2 * DAY);
            all(at.broker.sweep(&[queue()], 99, ArchiveBounds::default()).await)
        };
        "sweep_archived" from Archived: |at, _held| {
            all(at.broker.sweep(&[queue()], 99, ArchiveBounds { most: 2, ..ArchiveBounds::default() }).await)
        };
        "next_lease_end" from Active: |at, _held| none(at.broker.next_lease_end(&[queue()]).await);
        "wait" from Pending: |at, _held| { at.broker.wait_for_work(&[queue()], LEASE).await; Ok(BTreeSet::new()) };
        "settle_functions" from Functions: |at, held| settle(at, held, Verdict::Done).await;
        "retry_functions" from Functions: |at, held| settle(at, held, again(true)).await;
        "runs" from Functions: |at, held| {
            let made = settle(at, held, Verdict::Done).await?;
            at.broker.runs("bad", &[queue()], 20).await.map_err(text)?;
            at.broker.run(&queue(), &id("bad")).await.map_err(text)?;
            at.broker.output(&queue(), &id("bad")).await.map_err(text)?;
            at.broker.keep_output(&queue(), &id("bad"), Vec::new()).await.map_err(text)?;
            Ok(made)
        };
        "heartbeat" from Active: |at, _held| none(at.broker.heartbeat(&server(), &[working()], LEASE).await);
        "leave" from Active: |at, _held| {
            at.broker.heartbeat(&server(), &[working()], LEASE).await.map_err(text)?;
            none(at.broker.leave(&server()).await)
        };
        "group_names" from Grouped: |at, _held| none(at.broker.group_names(&queue(), None).await);
        "stage" from Grouped: |at, _held| {
            at.clock.advance(HOUR);
            none(at.broker.stage(&queue(), "g", &GroupRule::default()).await)
        };
        "stage_some" from Grouped: |at, _held| {
            let rule = GroupRule { max_size: Some(3), ..GroupRule::default() };
            none(at.broker.stage(&queue(), "g", &rule).await)
        };
        "read_staged" from Staged: |at, held| none(at.broker.read_staged(held.set.as_ref().unwrap()).await);
        "drop_staged" from Staged: |at, held| all(at.broker.drop_staged(held.set.as_ref().unwrap()).await);
        "reclaim" from Stale: |at, _held| none(at.broker.reclaim(&[queue()], Duration::ZERO, 99).await);
    }
}

/// Calls that concern documents and workflows.
fn of_documents_and_workflows() -> Vec<Call> {
    calls! {
        "keep_document" from Documents: |at, _held| {
            none(at.broker.keep_document("rows", "bad", b"new".to_vec(), LEASE).await)
        };
        "renew_document" from Documents: |at, _held| none(at.broker.renew_document("rows", "bad", LEASE).await);
        "document" from Documents: |at, _held| none(at.broker.document("rows", "bad").await);
        "documents" from Documents: |at, _held| none(at.broker.documents("rows").await);
        "document_names" from Documents: |at, _held| {
            none(at.broker.document_names("rows", Timestamp::UNIX_EPOCH).await)
        };
        "documents_named" from Documents: |at, _held| {
            none(at.broker.documents_named("rows", &["bad".to_owned(), "in0".to_owned()]).await)
        };
        "drop_document" from Documents: |at, _held| none(at.broker.drop_document("rows", "bad").await);
        "keep_workflow" from Workflows: |at, _held| {
            none(at.broker.keep_workflow(&workflow("bad")).await)?;
            none(at.broker.keep_workflow(&workflow("new")).await)
        };
        "workflow" from Workflows: |at, _held| none(at.broker.workflow("bad").await);
        "workflow_ids" from Workflows: |at, _held| none(at.broker.workflow_ids(true, 0, 9).await);
        "workflow_states" from Workflows: |at, _held| none(at.broker.workflow_states(9).await);
        "workflow_count" from Workflows: |at, _held| none(at.broker.workflow_count().await);
        "workflow_steps" from Workflows: |at, _held| none(at.broker.workflow_steps("bad", 0, 9).await);
        "workflow_payloads" from Workflows: |at, _held| none(at.broker.workflow_payloads("bad", 0, 9).await);
        "end_steps" from Workflows: |at, _held| {
            let ends = [(0, StepEnd::Failed("no".to_owned())), (1, StepEnd::Done("1".into()))];
            none(at.broker.end_steps("bad", 0, &ends).await)?;
            none(at.broker.forget_results("bad", 0, 2).await)?;
            none(at.broker.reopen_workflow("bad", &[0]).await)
        };
        "move_workflow" from Workflows: |at, _held| {
            let Ok(Some(head)) = at.broker.workflow("bad").await else { return Ok(BTreeSet::new()) };
            let to = WorkflowPlace { state: WorkflowState::Cancelled, ..head.place };
            none(at.broker.move_workflow("bad", head.place, to).await)
        };
    }
}

/// Calls of a scheduler.
pub fn of_schedulers() -> Vec<Call> {
    calls! {
        "register" from Registered: |at, _held| none(at.broker.register(&registrations()).await);
        "standings" from Fired: |at, _held| none(at.broker.standings(&NAMES.map(schedule)).await);
        "commit" from Registered: |at, _held| commit(at, Overlap::Allow, true).await;
        "commit_skip" from Fired: |at, _held| commit(at, Overlap::Skip, false).await.map(|_| BTreeSet::new());
        "commit_again" from Fired: |at, _held| commit(at, Overlap::Allow, true).await.map(|_| BTreeSet::new());
        "run_now" from Fired: |at, _held| {
            let run = runner_queue::ManualRun {
                id: schedule("bad"),
                task: Task::new("bad").id(id("by-hand")),
                overlap: Overlap::Skip,
                by: "ann".to_owned(),
            };
            at.broker.run_now(&run).await.map_err(text)?;
            let allowed = runner_queue::ManualRun { overlap: Overlap::Allow, ..run };
            none(at.broker.run_now(&allowed).await)
        };
        "hold" from Registered: |at, _held| none(at.broker.hold("host:1", &held(), LEASE).await);
        "withdraw" from Registered: |at, _held| {
            at.broker.hold("host:1", &held(), LEASE).await.map_err(text)?;
            at.broker.withdraw("host:2", "code-1", &[schedule("bad")]).await.map_err(text)?;
            none(at.broker.held_from("code-1").await)
        };
        "held_from" from Registered: |at, _held| none(at.broker.held_from("code-1").await);
        "corrections" from Registered: |at, _held| none(at.broker.corrections().await);
        "lead" from Nothing: |at, _held| {
            at.broker.lead("host:1", LEASE).await.map_err(text)?;
            none(at.broker.resign("host:1").await)
        };
        "pause_schedule" from Fired: |at, _held| {
            at.broker.pause_schedule(&schedule("bad"), &runner_queue::Pause::by("ann")).await.map_err(text)?;
            let now = start_of(at);
            let range = runner_core::schedule::MissedRange { first: now, last: now, count: 1, more: false, bound: None };
            none(at.broker.resume_schedule(&runner_queue::Resume {
                paused: Some((range, "paused".to_owned())),
                ..runner_queue::Resume::now(schedule("bad"), "ann")
            }).await)
        };
        "decisions" from Fired: |at, _held| {
            at.broker.decisions(None, 99).await.map_err(text)?;
            none(at.broker.decisions(Some(&schedule("bad")), 99).await)
        };
        "enqueue_events" from Fired: |at, _held| none(at.broker.enqueue_events(&schedule("bad"), Page::default()).await);
        "entries" from Fired: |at, _held| none(at.broker.publish_entries("host:1", &[EntryView {
            id: schedule("bad"),
            spec: "@daily".to_owned(),
            task: Task::new("x"),
            next: None,
            last: None,
        }], LEASE).await);
    }
}

async fn on_all(at: &At, state: TaskState, action: Action) -> Made {
    let acted = at.broker.act_all(&queue(), state, action).await;
    if action == Action::Delete {
        all(acted)
    } else {
        none(acted)
    }
}

/// Calls of operators.
pub fn of_people() -> Vec<Call> {
    calls! {
        "run_later" from Later (single): |at, _held| none(at.broker.act(&queue(), &id("bad"), Action::Run).await);
        "run_grouped" from Grouped (single): |at, _held| none(at.broker.act(&queue(), &id("bad"), Action::Run).await);
        "archive_pending" from Pending (single): |at, _held| none(at.broker.act(&queue(), &id("bad"), Action::Archive).await);
        "delete_archived" from Archived (single): |at, _held| none(at.broker.act(&queue(), &id("bad"), Action::Delete).await);
        "edit" from Later (single): |at, _held| none(at.broker.update_payload(&queue(), &id("bad"), Bytes::from_static(b"y")).await);
        "run_all_archived" from Archived: |at, _held| on_all(at, TaskState::Archived, Action::Run).await;
        "run_all_again" from Again: |at, _held| on_all(at, TaskState::Retry, Action::Run).await;
        "run_all_grouped" from Grouped: |at, _held| on_all(at, TaskState::Aggregating, Action::Run).await;
        "archive_all_pending" from Pending: |at, _held| on_all(at, TaskState::Pending, Action::Archive).await;
        "archive_all_waiting" from Waiting: |at, _held| on_all(at, TaskState::Scheduled, Action::Archive).await;
        "delete_all_completed" from Completed: |at, _held| on_all(at, TaskState::Completed, Action::Delete).await;
        "delete_all_grouped" from Grouped: |at, _held| on_all(at, TaskState::Aggregating, Action::Delete).await;
        "archive_before_pending" from Pending: |at, _held| {
            let done = at.broker.act_before(&queue(), TaskState::Pending, Action::Archive, Timestamp::MAX, 100).await;
            none(done)
        };
        "run_before_archived" from Archived: |at, _held| {
            let done = at.broker.act_before(&queue(), TaskState::Archived, Action::Run, Timestamp::MAX, 100).await;
            none(done)
        };
        "archive_each_pending" from Pending: |at, _held| {
            none(at.broker.act_each(&queue(), &NAMES.map(id), TaskState::Pending, Action::Archive).await)
        };
        "run_each_grouped" from Grouped: |at, _held| {
            none(at.broker.act_each(&queue(), &NAMES.map(id), TaskState::Aggregating, Action::Run).await)
        };
        "run_group" from Grouped: |at, _held| none(at.broker.act_group(&queue(), "g", Action::Run).await);
        "remove" from Pending: |at, _held| {
            // It may be refused, because there are tasks.
            drop(at.broker.remove_queue(&queue(), false).await);
            Ok(BTreeSet::new())
        };
        "remove_by_force" from Staged (single): |at, _held| all(at.broker.remove_queue(&queue(), true).await);
        "pause_queue" from Pending: |at, _held| {
            at.broker.pause_queue(&queue()).await.map_err(text)?;
            none(at.broker.resume_queue(&queue()).await)
        };
        "queues" from Pending: |at, _held| none(at.broker.queues().await);
        "queues_grouped" from Grouped: |at, _held| none(at.broker.queues().await);
        "tasks_pending" from Pending: |at, _held| none(at.broker.tasks(&queue(), TaskState::Pending, Page::default()).await);
        "tasks_active" from Active: |at, _held| none(at.broker.tasks(&queue(), TaskState::Active, Page::default()).await);
        "tasks_waiting" from Waiting: |at, _held| none(at.broker.tasks(&queue(), TaskState::Scheduled, Page::default()).await);
        "tasks_completed" from Completed: |at, _held| none(at.broker.tasks(&queue(), TaskState::Completed, Page::default()).await);
        "tasks_grouped" from Grouped: |at, _held| none(at.broker.tasks(&queue(), TaskState::Aggregating, Page::default()).await);
        "groups" from Grouped: |at, _held| none(at.broker.groups(&queue(), Page::default()).await);
        "task" from Waiting (single): |at, _held| none(at.broker.task(&queue(), &id("bad")).await);
        "find" from Pending: |at, _held| none(at.broker.find(&id("in0")).await);
        "attempts" from Again (single): |at, _held| none(at.broker.attempts(&queue(), &id("bad")).await);
        "pending_types" from Pending: |at, _held| none(at.broker.pending_types(&queue(), 99).await);
        "foreign_entries" from Fired: |at, _held| none(at.broker.foreign_entries().await);
        "add_run_counts" from Archived: |at, _held| none(at.broker.add_run_counts(&run_counts(), HOUR).await);
        "run_counts" from Archived: |at, _held| none(read_run_counts(&*at.broker, at.clock.now()).await);
        "history" from Archived: |at, _held| none(at.broker.history(&queue(), 3).await);
        "memory" from Grouped: |at, _held| none(at.broker.memory(&queue()).await);
        "servers" from Active: |at, _held| {
            at.broker.heartbeat(&server(), &[working()], LEASE).await.map_err(text)?;
            none(at.broker.servers().await)
        };
    }
}

/// Maintenance as in a long-running program, until nothing is left to repair.
pub async fn heal(at: &At) -> Result<(), String> {
    let queues = [queue()];
    for _ in 0..4 {
        at.clock.advance(Duration::from_secs(600));
        at.broker.recover(&queues, Duration::ZERO, 99, 0).await.map_err(text)?;
        at.broker.reclaim(&queues, Duration::ZERO, 99).await.map_err(text)?;
        let moved = at.broker.forward(&queues, 99).await.map_err(text)?.moved;
        let repaired = at.broker.repair(&queues, 999).await.map_err(text)?.total();
        if moved + repaired == 0 {
            break;
        }
    }
    Ok(())
}

/// The healthy tasks that still have to run.
pub fn left_of(gone: &BTreeSet<&str>) -> BTreeSet<&'static str> {
    INNOCENT.into_iter().filter(|name| !gone.contains(name)).collect()
}

/// Runs healthy tasks to their end and removes them from the list; returns why the others could not run.
pub async fn drain(at: &At, left: &mut BTreeSet<&'static str>) -> Result<Vec<String>, String> {
    let mut why = Vec::new();
    // Any value of that key means that it is paused.
    at.broker.resume_queue(&queue()).await.map_err(text)?;
    for _ in 0..3 {
        let looks = left.iter().map(async |name| {
            let found = at.broker.task(&queue(), &id(name)).await.map_err(text)?;
            Ok::<_, String>((*name, found.map(|task| task.state)))
        });
        for (name, found) in try_join_all(looks).await? {
            match found {
                Some(TaskState::Pending) => {}
                None => why.push(format!("{name} is gone")),
                Some(state) => {
                    if let Err(error) = at.broker.act(&queue(), &id(name), Action::Run).await {
                        why.push(format!("{name} is {state}: {}", text(error)));
                    }
                }
            }
        }
        loop {
            let claims = at.broker.claim(&[queue()], 9, LEASE).await.map_err(text)?;
            if claims.is_empty() {
                break;
            }
            let held = Held { claims, set: None };
            let ends = ends(&held, &Verdict::Done);
            let settled = at.broker.settle(&ends).await.map_err(text)?;
            for done in over(&ends, &settled) {
                left.remove(done);
            }
        }
        if left.is_empty() {
            return Ok(Vec::new());
        }
        at.clock.advance(Duration::from_secs(600));
        at.broker
            .recover(&[queue()], Duration::ZERO, 99, 0)
            .await
            .map_err(text)?;
    }
    Ok(left.iter().map(|name| format!("{name} is not done; {why:?}")).collect())
}
