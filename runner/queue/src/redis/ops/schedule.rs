//! Schedules: cursors, commits and the record of decisions.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use redis::Value;
use runner_core::schedule::{MOST_SPANS, Overlap, ScheduleId};
use runner_core::task::{QueueName, TaskId};
use serde::Deserialize;

use crate::redis::RedisBroker;
use crate::redis::format::scripts::Script;
use crate::redis::format::{convert, keys, reply};
use crate::redis::net::conn::RoundTrip;
use crate::redis::net::fault;
use crate::redis::ops::holders::next_standing;
use crate::redis::ops::partial::or_nothing;
use crate::redis::ops::produce;
use crate::{
    Broker as _, BrokerResult, CURSOR_AHEAD, Commit, CommitFire, Committed, Corrections, Decision, DecisionKind,
    ManualRun, ManuallyRun, Pause, Registration, Resume, Resumed, Schedules, Standing,
};

/// Schedules a call of a script or a command.
const BATCH: usize = 256;
/// The most decisions on record; about 20 MB.
pub(in crate::redis) const KEPT: usize = 100_000;
/// Decisions on record of one schedule.
pub(in crate::redis) const KEPT_EACH: usize = 200;
/// How long the record of a schedule outlives its last decision.
pub(in crate::redis) const RECORD_KEPT: Duration = Duration::from_secs(90 * 24 * 3600);
/// The most decisions in one answer.
const MAX_DECISIONS: usize = 10_000;

#[async_trait]
impl Schedules for RedisBroker {
    async fn register(&self, registrations: &[Registration]) -> BrokerResult<Vec<Standing>> {
        const DOING: &str = "register schedules";
        let mut standings = Vec::with_capacity(registrations.len());
        for batch in registrations.chunks(BATCH) {
            if self.conn.is_cluster() {
                let ids: Vec<ScheduleId> = batch.iter().map(|registration| registration.id.clone()).collect();
                // Before the registration, which may change revision and cursor: an intent must be completed as it was
                // decided, under the old ones.
                self.end_open(&ids).await?;
            }
            let mut trip = self.conn.trip(DOING).await?;
            trip.script(Script::Register, &[keys::CURSORS, &keys::fires(self.conn.is_cluster())])
                .arg(CURSOR_AHEAD.as_secs())
                .arg(MOST_SPANS)
                .arg(KEPT)
                .arg(KEPT_EACH)
                .arg(RECORD_KEPT.as_secs());
            for registration in batch {
                trip.arg(registration.id.as_str()).arg(&registration.revision);
            }
            let mut row = reply::list(trip.one().await?).into_iter();
            for _ in batch {
                let standing = next_standing(&mut row).zip(row.next());
                let (standing, was) = standing.ok_or_else(|| fault::odd_answer(DOING))?;
                let was = reply::seconds(was);
                standings.push(Standing { was, ..standing });
            }
        }
        Ok(standings)
    }

    async fn standings(&self, ids: &[ScheduleId]) -> BrokerResult<Vec<Option<Standing>>> {
        let mut standings = Vec::with_capacity(ids.len());
        for batch in ids.chunks(BATCH) {
            let mut trip = self.conn.trip("ask for the cursors of schedules").await?;
            trip.command("HMGET").arg(keys::CURSORS);
            for id in batch {
                for field in ["c", "z", "l", "t", "a"] {
                    trip.arg(format!("{field}:{id}"));
                }
            }
            let mut row = reply::list(or_nothing(trip.one().await)?).into_iter();
            standings.extend(batch.iter().map(|_| next_standing(&mut row)));
        }
        Ok(standings)
    }

    async fn commit(&self, commits: &[Commit]) -> BrokerResult<Vec<Committed>> {
        if self.conn.is_cluster() {
            return self.commit_per_queue(commits).await;
        }
        // The server works on one part while the next one is sent.
        let parts = commits.chunks(BATCH).map(|batch| self.commit_part(batch));
        let mut committed = Vec::with_capacity(commits.len());
        // Each commit is atomic by itself and may be repeated, so an error of one part may drop the answers of the
        // others.
        for mut part in futures_util::future::try_join_all(parts).await? {
            committed.append(&mut part);
        }
        self.show_fires(&committed).await;
        Ok(committed)
    }

    async fn run_now(&self, run: &ManualRun) -> BrokerResult<ManuallyRun> {
        self.run_by_hand(run).await
    }

    async fn corrections(&self) -> BrokerResult<Option<Corrections>> {
        let mut trip = self.conn.trip("ask whether cursors were set back").await?;
        trip.command("HGET").arg(keys::CURSORS).arg("k");
        let text = reply::text(or_nothing(trip.one().await)?).unwrap_or_default();
        let mut words = text.split(' ').map(|word| word.parse::<u64>().ok());
        let (at, ahead, schedules) = (words.next().flatten(), words.next().flatten(), words.next().flatten());
        let at = at.and_then(|at| Timestamp::from_second(i64::try_from(at).ok()?).ok());
        Ok(at
            .zip(ahead)
            .zip(schedules)
            .map(|((at, ahead), schedules)| Corrections {
                at,
                ahead: Duration::from_secs(ahead),
                schedules,
            }))
    }

    async fn pause_schedule(&self, id: &ScheduleId, pause: &Pause) -> BrokerResult<()> {
        let now = self.now().await?;
        let mut trip = self.conn.trip("pause a schedule").await?;
        trip.script(Script::PauseSchedule, &[keys::CURSORS])
            .arg(id.as_str())
            .arg(pause.to_text(pause.at.unwrap_or(now)));
        trip.one().await.map(drop)
    }

    async fn resume_schedule(&self, resume: &Resume) -> BrokerResult<Resumed> {
        const DOING: &str = "resume a schedule";
        let seconds = |at: Option<Timestamp>| at.map_or_else(String::new, |at| at.as_second().to_string());
        let (count, last, reason) = match &resume.paused {
            Some((range, reason)) => (range.count, range.last.as_second(), reason.as_str()),
            None => (0, 0, ""),
        };
        let mut trip = self.conn.trip(DOING).await?;
        trip.script(Script::ResumeSchedule, &self.recorded(&resume.id))
            .arg(resume.id.as_str())
            .arg(seconds(resume.cursor))
            .arg(seconds(resume.end))
            .arg(&resume.by)
            .arg(count)
            .arg(last)
            .arg(reason)
            .arg(KEPT)
            .arg(KEPT_EACH)
            .arg(RECORD_KEPT.as_secs());
        let mut answer = reply::list(trip.one().await?).into_iter();
        let word = answer.next().and_then(reply::text).unwrap_or_default();
        match word.as_str() {
            "running" => Ok(Resumed::Running),
            "moved" => Ok(Resumed::Moved),
            "done" => Ok(Resumed::Done(answer.next().and_then(decision_of))),
            _ => Err(fault::odd_answer(DOING)),
        }
    }

    async fn decisions(&self, id: Option<&ScheduleId>, limit: usize) -> BrokerResult<Vec<Decision>> {
        let limit = limit.min(MAX_DECISIONS);
        if limit == 0 {
            return Ok(Vec::new());
        }
        let mut trip = self.conn.trip("read decisions").await?;
        match id {
            Some(id) => trip
                .command("LRANGE")
                .arg(keys::fires_of(id.as_str(), self.conn.is_cluster()))
                .arg(0)
                .arg(limit - 1),
            None => trip
                .command("XREVRANGE")
                .arg(keys::fires(self.conn.is_cluster()))
                .arg("+")
                .arg("-")
                .arg("COUNT")
                .arg(limit),
        };
        let records = reply::list(or_nothing(trip.one().await)?).into_iter();
        let texts: Vec<Value> = match id {
            Some(_) => records.collect(),
            // Each entry is its number and its fields: `d` and the text.
            None => records
                .filter_map(|entry| reply::list(entry).into_iter().nth(1))
                .filter_map(|fields| reply::list(fields).into_iter().nth(1))
                .collect(),
        };
        let mut decisions: Vec<Decision> = texts.into_iter().filter_map(decision_of).collect();
        self.add_ends(&mut decisions).await?;
        Ok(decisions)
    }

    async fn decisions_each(&self, ids: &[ScheduleId], limit: usize) -> BrokerResult<Vec<Vec<Decision>>> {
        let limit = limit.min(MAX_DECISIONS);
        if limit == 0 {
            return Ok(vec![Vec::new(); ids.len()]);
        }
        let (mut all, mut counts) = (Vec::new(), Vec::with_capacity(ids.len()));
        for batch in ids.chunks(BATCH) {
            let mut trip = self.conn.trip("read decisions of schedules").await?;
            for id in batch {
                trip.command("LRANGE")
                    .arg(keys::fires_of(id.as_str(), self.conn.is_cluster()))
                    .arg(0)
                    .arg(limit - 1);
            }
            for answer in trip.each().await? {
                let before = all.len();
                all.extend(reply::list(or_nothing(answer)?).into_iter().filter_map(decision_of));
                counts.push(all.len() - before);
            }
        }
        self.add_ends(&mut all).await?;
        let mut rest = all.into_iter();
        Ok(counts
            .into_iter()
            .map(|count| rest.by_ref().take(count).collect())
            .collect())
    }
}

impl RedisBroker {
    /// The cursors, the record of all decisions and that of one schedule's: in a cluster in one slot.
    fn recorded(&self, id: &ScheduleId) -> [String; 3] {
        let cluster = self.conn.is_cluster();
        [
            keys::CURSORS.to_owned(),
            keys::fires(cluster),
            keys::fires_of(id.as_str(), cluster),
        ]
    }
}

const COMMITTING: &str = "commit decisions of schedules";

impl RedisBroker {
    /// Commits in one round trip, each commit by a script call of its own.
    async fn commit_part(&self, commits: &[Commit]) -> BrokerResult<Vec<Committed>> {
        let mut trip = self.conn.trip(COMMITTING).await?;
        let listed = list_queues(&mut trip, commits);
        for commit in commits {
            commit_args(&mut trip, commit);
        }
        let answers = trip.send().await?.into_iter().skip(listed);
        answers
            .map(|answer| committed_of(answer).ok_or_else(|| fault::odd_answer(COMMITTING)))
            .collect()
    }

    /// Commits in a cluster, by the three steps.
    async fn commit_per_queue(&self, commits: &[Commit]) -> BrokerResult<Vec<Committed>> {
        let mut committed = Vec::with_capacity(commits.len());
        for batch in commits.chunks(BATCH) {
            let mut trip = self.conn.trip(COMMITTING).await?;
            list_queues(&mut trip, batch);
            for listed in trip.each().await? {
                // The list may be unreachable while the queues are not.
                listed
                    .map(drop)
                    .or_else(|error| if error.is_transient() { Ok(()) } else { Err(error) })?;
            }
            committed.append(&mut self.commit_in_steps(batch, None).await?);
        }
        self.show_fires(&committed).await;
        Ok(committed)
    }
}

/// Lists the queues of these fires, as a producer does. Returns the number of commands.
fn list_queues(trip: &mut RoundTrip<'_>, commits: &[Commit]) -> usize {
    let fires = commits.iter().flat_map(|commit| &commit.fires);
    let queues: BTreeSet<&str> = fires.map(|fire| fire.task.queue.as_str()).collect();
    if queues.is_empty() {
        return 0;
    }
    trip.script(Script::AddMembers, &[keys::QUEUES])
        .arg("")
        .arg(queues.into_iter().collect::<Vec<_>>());
    1
}

/// See `commit.lua`.
fn commit_args(trip: &mut RoundTrip<'_>, commit: &Commit) {
    let id = commit.id.as_str();
    let missed = commit.missed;
    trip.script(
        Script::Commit,
        &[keys::CURSORS, &keys::fires(false), &keys::fires_of(id, false)],
    )
    .arg(id)
    .arg(commit.from.as_second())
    .arg(commit.to.as_second())
    .arg(overlap_word(commit.overlap, commit.unserved))
    .arg(&commit.instance)
    .arg(missed.map_or(0, |m| m.count))
    .arg(missed.map_or(0, |m| m.last.as_second()))
    .arg(missed.map_or(String::new(), |m| m.first.to_string()))
    .arg(missed.map_or(String::new(), |m| m.note()))
    .arg(KEPT)
    .arg(KEPT_EACH)
    .arg(RECORD_KEPT.as_secs())
    .arg(unbroken_since(commit));
    for fire in &commit.fires {
        let id = task_id(commit, fire);
        trip.arg(keys::queue(fire.task.queue.as_str()))
            .arg(fire.fire_at.as_millisecond())
            .arg(fire.nominal.as_second())
            .arg(u8::from(fire.catch_up));
        produce::put_args(trip, &fire.task, &id);
        trip.arg(convert::kept_headers(&fire.task));
    }
}

/// The policy as the scripts know it.
pub(in crate::redis) fn overlap_word(overlap: Overlap, unserved: bool) -> String {
    let unserved = if unserved && overlap.skips() { "_unserved" } else { "" };
    format!("{}{unserved}", overlap.as_str())
}

/// The instant in seconds since when the commit misses nothing, if it misses anything.
pub(in crate::redis) fn unbroken_since(commit: &Commit) -> String {
    commit
        .unbroken_since()
        .map_or_else(String::new, |at| at.as_second().to_string())
}

/// The id of a fire's task: it names the occurrence.
pub(in crate::redis) fn task_id(commit: &Commit, fire: &CommitFire) -> TaskId {
    let named = || TaskId::new(format!("{}@{}", commit.id, fire.nominal)).unwrap_or_else(|_| TaskId::random());
    fire.task.id.clone().unwrap_or_else(named)
}

fn committed_of(answer: Value) -> Option<Committed> {
    let mut answer = reply::list(answer).into_iter();
    let word = reply::text(answer.next()?)?;
    match refusal(&word, &mut answer) {
        None if word == "done" => Some(Committed::Done(answer.map(decision_of).collect::<Option<_>>()?)),
        refusal => refusal,
    }
}

/// An answer that nothing was written: its first word and the rest.
pub(in crate::redis) fn refusal(word: &str, rest: &mut impl Iterator<Item = Value>) -> Option<Committed> {
    Some(match word {
        "moved" => Committed::Moved(reply::seconds(rest.next()?)?),
        "early" => Committed::Early(Duration::from_millis(reply::count(rest.next()?))),
        "unknown" => Committed::Unknown,
        "paused" => Committed::Paused,
        "ahead" => Committed::Ahead(reply::text(rest.next()?)?.parse().unwrap_or_default()),
        _ => return None,
    })
}

/// A decision as it is stored: short names, because there are a hundred thousand.
#[derive(Deserialize)]
struct Stored {
    s: ScheduleId,
    n: i64,
    k: DecisionKind,
    r: String,
    t: Option<String>,
    #[serde(default)]
    q: Option<String>,
    c: u32,
    d: String,
    i: String,
}

pub(in crate::redis) fn decision_of(text: Value) -> Option<Decision> {
    // The holder of a lock is named as it is stored.
    let stored: Stored = serde_json::from_str(&reply::shown(text)?).ok()?;
    Some(Decision {
        schedule: stored.s,
        nominal: Timestamp::from_second(stored.n).ok()?,
        kind: stored.k,
        reason: stored.r,
        task: stored.t.and_then(|id| TaskId::new(id).ok()),
        queue: stored.q.and_then(|name| QueueName::new(name).ok()),
        end: None,
        count: stored.c,
        decided_at: Timestamp::from_nanosecond(stored.d.parse().ok()?).ok()?,
        instance: stored.i,
    })
}
