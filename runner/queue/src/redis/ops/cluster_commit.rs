//! Commits of schedules in a cluster, where cursors and queues are on different servers: three steps, each atomic.
//!
//! 1. *Intend*, in the slot of the cursors: if the cursor is where the decision was made from, the intent is stored beside it.
//! 2. *Fire*, in the slot of the queue: each occurrence is enqueued or skipped, and the outcome is stored beside the
//!    tasks in the same step. A repetition finds that outcome and returns it.
//! 3. *Finish*, in the slot of the cursors: decisions recorded, cursor moved, intent removed, in one step.
//!
//! An instance that finds an intent of another one finishes it first, exactly as it is stored, even if its own decision
//! would differ. Several may do so at once. An instance that slept for longer than a minute after its first step
//! can no longer fire, because the stored outcomes may have expired by then.
//! On one server all this is one script: see `schedule`.

use std::collections::HashMap;
use std::time::Duration;

use prost::Message as _;
use redis::Value;
use runner_core::schedule::{Overlap, ScheduleId};

use crate::redis::RedisBroker;
use crate::redis::format::scripts::Script;
use crate::redis::format::{keys, reply};
use crate::redis::net::fault;
use crate::redis::ops::commit_intent::Intent;
use crate::redis::ops::pending_commit::{DOING, IntentReply, PendingCommit};
use crate::redis::ops::schedule::{KEPT, KEPT_EACH, RECORD_KEPT, decision_of};
use crate::{BrokerError, BrokerResult, Commit, Committed, Decision};

/// The same once it is finished: much longer than that minute and any difference between the servers' clocks. Also
/// what repairs a failover that lost the end of a commit. About 400 bytes for each occurrence.
const FINISHED_KEPT: Duration = Duration::from_secs(2 * 3600);
/// When to retry what failed because a server was unreachable.
const AGAIN: Duration = Duration::from_millis(250);
/// How often commits restart because the intent of another instance was found.
const PASSES: usize = 3;

/// Where a commit is interrupted, as by a crash. For tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// After the first step: written down, nothing enqueued.
    Intended,
    /// After the second: enqueued, cursor not moved.
    Fired,
}

/// Commits between their first and their second step. For tests.
#[cfg(feature = "contract")]
pub struct PausedCommits(Vec<PendingCommit>);

impl RedisBroker {
    /// Commits in a cluster up to `cut`, like a process that is killed there. For tests.
    ///
    /// # Errors
    ///
    /// As [`crate::Schedules::commit`].
    #[cfg(feature = "contract")]
    pub async fn commit_until(&self, commits: &[Commit], cut: Cut) -> BrokerResult<()> {
        self.commit_in_steps(commits, Some(cut)).await.map(drop)
    }

    /// Makes the first step of commits like a process that is frozen then; returns what it would continue with.
    ///
    /// # Errors
    ///
    /// As [`crate::Schedules::commit`].
    #[cfg(feature = "contract")]
    pub async fn commit_paused(&self, commits: &[Commit]) -> BrokerResult<PausedCommits> {
        let mut outcomes = vec![None; commits.len()];
        self.intend(commits, &mut outcomes).await.map(PausedCommits)
    }

    /// Continues with the second step.
    ///
    /// # Errors
    ///
    /// As [`crate::Schedules::commit`].
    #[cfg(feature = "contract")]
    pub async fn resume_commits(&self, asleep: PausedCommits) -> BrokerResult<()> {
        let mut failure = None;
        let mut walks = asleep.0;
        self.fire(&mut walks, &mut failure).await?;
        walks.retain(|walk| !walk.stuck);
        self.finish(&walks).await.map(drop)?;
        failure.map_or(Ok(()), Err)
    }

    pub(in crate::redis) async fn commit_in_steps(
        &self,
        commits: &[Commit],
        cut: Option<Cut>,
    ) -> BrokerResult<Vec<Committed>> {
        let mut outcomes: Vec<Option<Committed>> = vec![None; commits.len()];
        let mut completed: HashMap<ScheduleId, Vec<Decision>> = HashMap::new();
        let mut failure = None;
        for _ in 0..PASSES {
            // Outcomes of earlier passes stay; only commits without one are tried again. A pass that met another
            // instance's intent has completed it by its end, so the next one finds the cursor moved or free.
            let mut walks = self.intend(commits, &mut outcomes).await?;
            if walks.is_empty() || cut == Some(Cut::Intended) {
                break;
            }
            self.fire(&mut walks, &mut failure).await?;
            walks.retain(|walk| !walk.stuck);
            if cut == Some(Cut::Fired) {
                break;
            }
            // Stuck ones are left out: their intent stays beside the cursor, and any instance completes it later.
            let ended = self.finish(&walks).await?;
            // Only after the finish: until the intent is gone, a repetition must find the stored outcomes.
            self.shorten(&walks).await;
            for (walk, decisions) in walks.into_iter().zip(ended) {
                match (walk.place, decisions) {
                    (Some(place), Some(decisions)) => outcomes[place] = Some(Committed::Done(decisions)),
                    // Another instance completed it and reports it: the next pass finds the cursor moved.
                    (_, None) => {}
                    (None, Some(decisions)) => {
                        completed.entry(walk.schedule).or_default().extend(decisions);
                    }
                }
            }
            // Not repeated at once: the server that failed would be asked again without a pause.
            if failure.is_some() {
                break;
            }
        }
        match failure {
            Some(error) if outcomes.iter().all(Option::is_none) => Err(error),
            // A failure of one server must not lose the answers of the others.
            _ => Ok(commits
                .iter()
                .zip(outcomes)
                .map(|(commit, outcome)| {
                    // Neither done nor refused: the scheduler decides again soon, and finds the cursor where it is by
                    // then.
                    let outcome = outcome.unwrap_or(Committed::Early(AGAIN));
                    match completed.remove(&commit.id) {
                        Some(decisions) => with_completed(outcome, commit, decisions),
                        None => outcome,
                    }
                })
                .collect()),
        }
    }

    /// Completes the commits of these schedules that other instances left unfinished.
    pub(in crate::redis) async fn end_open(&self, ids: &[ScheduleId]) -> BrokerResult<()> {
        let mut trip = self.conn.trip(DOING).await?;
        trip.command("HMGET").arg(keys::CURSORS);
        for id in ids {
            trip.arg(format!("i:{id}"));
        }
        let open = match trip.one().await {
            // The registration that follows deals with a key of the wrong type.
            Err(BrokerError::Corrupt { .. }) => return Ok(()),
            open => reply::list(open?).into_iter(),
        };
        // One read for all: almost always there is nothing to complete.
        let open = ids.iter().zip(open).filter(|(_, intent)| *intent != Value::Nil);
        let commits: Vec<Commit> = open.map(|(id, _)| nothing(id)).collect();
        if commits.is_empty() {
            return Ok(());
        }
        for outcome in self.commit_in_steps(&commits, None).await? {
            let Committed::Completed(_, decisions) = outcome else {
                continue;
            };
            for decision in decisions {
                tracing::warn!(
                    schedule = %decision.schedule, nominal = %decision.nominal, count = decision.count,
                    reason = %decision.reason, instance = %decision.instance,
                    "{} by an instance that did not finish; completed before the schedule changes",
                    decision.kind.as_str()
                );
            }
        }
        Ok(())
    }

    /// The first step. Fills in the answers that are already final.
    async fn intend(&self, commits: &[Commit], outcomes: &mut [Option<Committed>]) -> BrokerResult<Vec<PendingCommit>> {
        let places: Vec<usize> = (0..commits.len()).filter(|place| outcomes[*place].is_none()).collect();
        let intents: Vec<Vec<u8>> = places
            .iter()
            .map(|place| Intent::of(&commits[*place]).encode_to_vec())
            .collect();
        let mut trip = self.conn.trip(DOING).await?;
        for (place, intent) in places.iter().zip(&intents) {
            let commit = &commits[*place];
            trip.script(Script::CommitIntend, &[keys::CURSORS])
                .arg(commit.id.as_str())
                .arg(commit.from.as_second())
                .arg(&intent[..]);
            for fire in &commit.fires {
                trip.arg(fire.fire_at.as_millisecond()).arg(fire.nominal.as_second());
            }
        }
        let (mut walks, mut spoiled) = (Vec::new(), Vec::new());
        for ((place, intent), answer) in places.into_iter().zip(intents).zip(trip.send().await?) {
            let odd = || fault::odd_answer(DOING);
            match IntentReply::of(answer, place, intent, &commits[place].id).ok_or_else(odd)? {
                IntentReply::Outcome(outcome) => outcomes[place] = Some(outcome),
                IntentReply::Walk(walk) => walks.push(*walk),
                IntentReply::Spoiled(written) => spoiled.push((&commits[place].id, written)),
            }
        }
        self.strike_out(&spoiled).await?;
        Ok(walks)
    }

    /// An intent that cannot be read cannot be completed: it is removed, and the next pass begins with the first step.
    async fn strike_out(&self, spoiled: &[(&ScheduleId, Vec<u8>)]) -> BrokerResult<()> {
        let mut trip = self.conn.trip(DOING).await?;
        for (id, written) in spoiled {
            tracing::warn!(schedule = %id, "a stored intent of a commit cannot be read; dropped");
            let keys = [
                keys::CURSORS.to_owned(),
                keys::fires(true),
                keys::fires_of(id.as_str(), true),
            ];
            // Finish compares the bytes: if another instance has replaced the intent meanwhile, nothing happens. It
            // never // moves a cursor back, so 0 leaves it where it is.
            trip.script(Script::CommitFinish, &keys)
                .arg(id.as_str())
                .arg(&written[..])
                .arg(0)
                .arg("");
            trip.arg(0).arg(0).arg("").arg(0);
            trip.arg(KEPT)
                .arg(KEPT_EACH)
                .arg(RECORD_KEPT.as_secs())
                .arg("")
                .arg("")
                .arg("");
        }
        trip.send().await.map(drop)
    }

    /// The second step: for each commit the fires of one queue together.
    async fn fire(&self, walks: &mut [PendingCommit], failure: &mut Option<BrokerError>) -> BrokerResult<()> {
        loop {
            let mut open: Vec<&mut PendingCommit> = walks.iter_mut().filter(|walk| walk.waits()).collect();
            if open.is_empty() {
                return Ok(());
            }
            // One queue at a time, in the order of the commit: with `overlap: skip` a fire must see the outcome of the
            // one before it, even if an edit has moved the schedule to another queue.
            let states = self.states_elsewhere(&mut open, failure).await?;
            let mut trip = self.conn.trip(DOING).await?;
            for (walk, state) in open.iter().zip(&states) {
                walk.fire_args(&mut trip, state);
            }
            for (walk, answer) in open.into_iter().zip(trip.each().await?) {
                match answer {
                    Ok(answer) => walk.take(answer)?,
                    Err(error) => {
                        walk.stuck = true;
                        *failure = Some(error);
                    }
                }
            }
        }
    }

    /// The state of the previous task and of the last manual run, if they are in another queue than the next fires, so
    /// that the script cannot read it: `is active` while a worker holds it, else nothing. See `busy` in `decide.lua`.
    async fn states_elsewhere(
        &self,
        open: &mut Vec<&mut PendingCommit>,
        failure: &mut Option<BrokerError>,
    ) -> BrokerResult<Vec<[String; 2]>> {
        let mut trip = self.conn.trip(DOING).await?;
        for (key, task) in open.iter().flat_map(|walk| walk.elsewhere()).flatten() {
            let queue = key.strip_suffix(task.as_str()).and_then(|rest| rest.strip_suffix("t:"));
            trip.command("HGET").arg(key).arg("state");
            trip.command("ZSCORE")
                .arg(format!("{}lease", queue.unwrap_or(key)))
                .arg(task);
        }
        let mut answers = trip.each().await?.into_iter();
        let mut states = Vec::new();
        for walk in open.iter_mut() {
            let mut found = [String::new(), String::new()];
            for (found, asked) in found.iter_mut().zip(walk.elsewhere().map(|task| task.is_some())) {
                match asked.then(|| answers.next().zip(answers.next())).flatten() {
                    None => (),
                    Some((Ok(state), ends)) => {
                        let ends = ends
                            .ok()
                            .and_then(reply::text)
                            .and_then(|ends| ends.parse::<f64>().ok());
                        // Waiting in another queue does not count: the task was left behind by an edit. While a worker
                        // holds it, it is a run of the schedule.
                        let active = reply::text(state).as_deref() == Some("active");
                        if active && ends.is_some_and(|at| at > walk.now()) {
                            "is active".clone_into(found);
                        }
                    }
                    // The key does not hold a task, so it blocks no occurrence.
                    Some((Err(BrokerError::Corrupt { .. }), _)) => (),
                    Some((Err(error), _)) => {
                        walk.stuck = true;
                        *failure = Some(error);
                    }
                }
            }
            if !walk.stuck {
                states.push(found);
            }
        }
        open.retain(|walk| !walk.stuck);
        Ok(states)
    }

    /// The last step. For each walk the decisions, or `None` where another instance was faster.
    async fn finish(&self, walks: &[PendingCommit]) -> BrokerResult<Vec<Option<Vec<Decision>>>> {
        let mut trip = self.conn.trip(DOING).await?;
        for walk in walks {
            let (id, intent) = (walk.schedule.as_str(), &walk.intent);
            let keys = [keys::CURSORS.to_owned(), keys::fires(true), keys::fires_of(id, true)];
            let (nominal, task, key) = walk.last.as_ref().map_or_else(
                || (String::new(), "", ""),
                |(nominal, task, key)| (nominal.to_string(), task.as_str(), key.as_str()),
            );
            trip.script(Script::CommitFinish, &keys)
                .arg(id)
                .arg(&walk.written[..])
                .arg(intent.to)
                .arg(&intent.instance)
                .arg(intent.missed)
                .arg(intent.missed_last)
                .arg(&intent.missed_first)
                .arg(&intent.missed_note)
                .arg(KEPT)
                .arg(KEPT_EACH)
                .arg(RECORD_KEPT.as_secs())
                .arg(nominal)
                .arg(task)
                .arg(key)
                .arg(&intent.unbroken_since);
            for text in &walk.texts {
                trip.arg(reply::bytes(text.clone()).unwrap_or_default());
            }
        }
        let answers = trip.send().await?;
        let ended = walks.iter().zip(answers).map(|(walk, answer)| {
            let mut answer = reply::list(answer).into_iter();
            // The stored intent was not the one that was finished here: another instance has done it.
            if answer.next().and_then(reply::number) != Some(1) {
                return Ok(None);
            }
            let texts = answer.chain(walk.texts.iter().cloned());
            let decisions: Option<Vec<Decision>> = texts.map(decision_of).collect();
            decisions.map(Some).ok_or_else(|| fault::odd_answer(DOING))
        });
        ended.collect()
    }

    /// Outcomes of finished commits need not be kept for long. This only saves memory: nothing depends on it.
    async fn shorten(&self, walks: &[PendingCommit]) {
        let shortened = async {
            let mut trip = self.conn.trip(DOING).await?;
            for walk in walks {
                for fire in &walk.intent.fires {
                    trip.command("EXPIRE")
                        .arg(keys::fire(&fire.queue, walk.schedule.as_str(), fire.nominal))
                        .arg(FINISHED_KEPT.as_secs());
                }
            }
            trip.each().await
        };
        if let Err(error) = shortened.await {
            tracing::debug!(%error, "outcomes of occurrences are kept for longer than necessary");
        }
    }
}

/// The result of a commit that found an unfinished one of another instance, whose decisions are reported with it.
fn with_completed(outcome: Committed, commit: &Commit, mut decisions: Vec<Decision>) -> Committed {
    match outcome {
        Committed::Moved(cursor) => Committed::Completed(cursor, decisions),
        Committed::Done(ours) => {
            decisions.extend(ours);
            Committed::Done(decisions)
        }
        // It will be decided again soon from the old cursor, which answers `Moved`.
        _ => Committed::Completed(commit.from, decisions),
    }
}

/// An empty commit: it only finds unfinished ones.
fn nothing(id: &ScheduleId) -> Commit {
    Commit {
        id: id.clone(),
        from: jiff::Timestamp::MIN,
        to: jiff::Timestamp::MIN,
        fires: Vec::new(),
        missed: None,
        overlap: Overlap::Allow,
        unserved: false,
        instance: String::new(),
    }
}
