//! Commits of schedules in a cluster, where cursors and queues lie on different servers: three steps, each atomic.
//!
//! 1. *Intend*, in the slot of the cursors: if the cursor stands where the decision was made from, what is about to
//!    be enqueued is written down beside it.
//! 2. *Fire*, in the slot of the queue: each occurrence is enqueued or skipped, and what became of it is remembered
//!    beside the tasks in the same step. A repeat finds that and gives the same answer.
//! 3. *Finish*, in the slot of the cursors: decisions recorded, cursor moved, intent struck out, all in one.
//!
//! Whoever finds an intent that somebody left behind ends it first, from what is written there: it does not matter
//! what he would decide himself, nor how much later he comes. Several may do so at once. Fires are refused to
//! whoever slept longer than [`PATIENCE`] after his first step, by when what they did may have been forgotten.
//! With one server all this is one script: see `schedule`.

use std::collections::HashMap;
use std::time::Duration;

use prost::Message;
use redis::Value;
use runner_core::schedule::{Overlap, ScheduleId};

use crate::redis::RedisBroker;
use crate::redis::format::scripts::Script;
use crate::redis::format::{keys, reply};
use crate::redis::net::conn::RoundTrip;
use crate::redis::net::fault;
use crate::redis::ops::produce;
use crate::redis::ops::schedule::{KEPT, KEPT_EACH, RECORD_KEPT, decision_of, overlap_word, task_id, unbroken_since};
use crate::{BrokerError, BrokerResult, Commit, Committed, Decision};

/// How long after the first step the second may still be made.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long an occurrence is remembered beside its queue while its commit is not finished.
const OPEN_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);
/// The same once it is finished: much longer than [`PATIENCE`] and any difference between the servers' clocks. Also
/// what a failover that lost the end of a commit is mended by. About 400 bytes for each occurrence.
const FINISHED_KEPT: Duration = Duration::from_secs(2 * 3600);
/// When to try again what could not be done because a server was away.
const AGAIN: Duration = Duration::from_millis(250);
/// How often commits begin anew because somebody else's intent was in the way.
const PASSES: usize = 3;

const DOING: &str = "commit decisions of schedules";

/// Where a commit is cut short, as by a crash. For tests.
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

/// What lies beside the cursor until the commit is finished.
#[derive(Clone, PartialEq, Message)]
struct Intent {
    /// Differs for each commit ever made.
    #[prost(string, tag = "1")]
    token: String,
    #[prost(int64, tag = "2")]
    to: i64,
    #[prost(bool, tag = "3")]
    skip: bool,
    #[prost(string, tag = "4")]
    instance: String,
    #[prost(uint32, tag = "5")]
    missed: u32,
    #[prost(int64, tag = "6")]
    missed_last: i64,
    #[prost(string, tag = "7")]
    missed_first: String,
    #[prost(message, repeated, tag = "9")]
    fires: Vec<Fire>,
    #[prost(bool, tag = "10")]
    unserved: bool,
    /// What the reason says besides. Tag 8 was a flag for one such note.
    #[prost(string, tag = "11")]
    missed_note: String,
    /// See [`Commit::unbroken_since`].
    #[prost(string, tag = "12")]
    unbroken_since: String,
    /// Whether a task that waits for its retry blocks no occurrence.
    #[prost(bool, tag = "13")]
    ignores_retries: bool,
}

impl Intent {
    fn overlap(&self) -> Overlap {
        match (self.skip, self.ignores_retries) {
            (false, _) => Overlap::Allow,
            (true, false) => Overlap::Skip,
            (true, true) => Overlap::SkipIgnoringRetries,
        }
    }
}

#[derive(Clone, PartialEq, Message)]
struct Fire {
    #[prost(string, tag = "1")]
    queue: String,
    #[prost(int64, tag = "2")]
    nominal: i64,
    #[prost(bool, tag = "3")]
    late: bool,
    #[prost(string, tag = "4")]
    task: String,
    #[prost(bytes = "vec", tag = "5")]
    message: Vec<u8>,
    #[prost(string, tag = "6")]
    lock: String,
    /// Milliseconds.
    #[prost(uint64, tag = "7")]
    lock_ttl: u64,
    /// See `put.lua`.
    #[prost(string, tag = "8")]
    when: String,
    #[prost(string, tag = "9")]
    group: String,
    /// To be kept beside the message.
    #[prost(bytes = "vec", tag = "10")]
    headers: Vec<u8>,
}

/// A commit on its way through the steps.
struct PendingCommit {
    /// The place of the commit that it answers; `None`: somebody else's, left behind.
    place: Option<usize>,
    schedule: ScheduleId,
    intent: Intent,
    /// As it stands beside the cursor.
    written: Vec<u8>,
    /// Last second for the second step.
    not_after: i64,
    /// Key and id of the task that may stand in the way.
    previous: (String, String),
    /// The same of the last run that a person asked for.
    manual: (String, String),
    /// Nominal instant, task and its key.
    last: Option<(i64, String, String)>,
    /// Decisions in JSON, for as many fires as are done.
    texts: Vec<Value>,
    /// Could not go on for now.
    stuck: bool,
}

impl RedisBroker {
    /// Commits in a cluster as far as `cut`, as a process does that is killed there. For tests.
    ///
    /// # Errors
    ///
    /// As [`crate::Schedules::commit`].
    #[cfg(feature = "contract")]
    pub async fn commit_until(&self, commits: &[Commit], cut: Cut) -> BrokerResult<()> {
        self.commit_in_steps(commits, Some(cut)).await.map(drop)
    }

    /// Makes the first step of commits as a process that falls asleep then, with all that it would go on with.
    ///
    /// # Errors
    ///
    /// As [`crate::Schedules::commit`].
    #[cfg(feature = "contract")]
    pub async fn commit_paused(&self, commits: &[Commit]) -> BrokerResult<PausedCommits> {
        let mut outcomes = vec![None; commits.len()];
        self.intend(commits, &mut outcomes).await.map(PausedCommits)
    }

    /// Goes on with the second step.
    ///
    /// # Errors
    ///
    /// As [`crate::Schedules::commit`].
    #[cfg(feature = "contract")]
    pub async fn resume_commits(&self, asleep: PausedCommits) -> BrokerResult<()> {
        let mut trouble = None;
        let mut walks = asleep.0;
        self.fire(&mut walks, &mut trouble).await?;
        walks.retain(|walk| !walk.stuck);
        self.finish(&walks).await.map(drop)?;
        trouble.map_or(Ok(()), Err)
    }

    pub(in crate::redis) async fn commit_in_steps(
        &self,
        commits: &[Commit],
        cut: Option<Cut>,
    ) -> BrokerResult<Vec<Committed>> {
        let mut outcomes: Vec<Option<Committed>> = vec![None; commits.len()];
        let mut completed: HashMap<ScheduleId, Vec<Decision>> = HashMap::new();
        let mut trouble = None;
        for _ in 0..PASSES {
            let mut walks = self.intend(commits, &mut outcomes).await?;
            if walks.is_empty() || cut == Some(Cut::Intended) {
                break;
            }
            self.fire(&mut walks, &mut trouble).await?;
            walks.retain(|walk| !walk.stuck);
            if cut == Some(Cut::Fired) {
                break;
            }
            let ended = self.finish(&walks).await?;
            self.shorten(&walks).await;
            for (walk, decisions) in walks.into_iter().zip(ended) {
                match (walk.place, decisions) {
                    (Some(place), Some(decisions)) => outcomes[place] = Some(Committed::Done(decisions)),
                    // Another instance completed it and reports it: the next pass finds the cursor moved.
                    (_, None) => {}
                    (None, Some(decisions)) => {
                        completed.insert(walk.schedule, decisions);
                    }
                }
            }
            if trouble.is_some() {
                break;
            }
        }
        match trouble {
            Some(error) if outcomes.iter().all(Option::is_none) => Err(error),
            // One server's trouble is no reason to lose the answers of the others.
            _ => Ok(commits
                .iter()
                .zip(outcomes)
                .map(|(commit, outcome)| {
                    let outcome = outcome.unwrap_or(Committed::Early(AGAIN));
                    match completed.remove(&commit.id) {
                        Some(decisions) => with_completed(outcome, commit, decisions),
                        None => outcome,
                    }
                })
                .collect()),
        }
    }

    /// Ends what others left behind of these schedules.
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

    /// The first step. Answers what is answered by it already.
    async fn intend(&self, commits: &[Commit], outcomes: &mut [Option<Committed>]) -> BrokerResult<Vec<PendingCommit>> {
        let places: Vec<usize> = (0..commits.len()).filter(|place| outcomes[*place].is_none()).collect();
        let intents: Vec<Vec<u8>> = places
            .iter()
            .map(|place| intent_of(&commits[*place]).encode_to_vec())
            .collect();
        let mut trip = self.conn.trip(DOING).await?;
        for (place, intent) in places.iter().zip(&intents) {
            let commit = &commits[*place];
            trip.script(Script::Intend, &[keys::CURSORS])
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

    /// Nothing can be ended that cannot be read: it goes, and the next pass begins with the first step.
    async fn strike_out(&self, spoiled: &[(&ScheduleId, Vec<u8>)]) -> BrokerResult<()> {
        let mut trip = self.conn.trip(DOING).await?;
        for (id, written) in spoiled {
            tracing::warn!(schedule = %id, "a commit that was written down cannot be read; dropped");
            let keys = [
                keys::CURSORS.to_owned(),
                keys::fires(true),
                keys::fires_of(id.as_str(), true),
            ];
            // To the beginning of time: the cursor stays.
            trip.script(Script::Finish, &keys)
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
    async fn fire(&self, walks: &mut [PendingCommit], trouble: &mut Option<BrokerError>) -> BrokerResult<()> {
        loop {
            let mut open: Vec<&mut PendingCommit> = walks.iter_mut().filter(|walk| walk.waits()).collect();
            if open.is_empty() {
                return Ok(());
            }
            let states = self.states_elsewhere(&mut open, trouble).await?;
            let mut trip = self.conn.trip(DOING).await?;
            for (walk, state) in open.iter().zip(&states) {
                walk.fire_args(&mut trip, state);
            }
            for (walk, answer) in open.into_iter().zip(trip.each().await?) {
                match answer {
                    Ok(answer) => walk.take(answer)?,
                    Err(error) => {
                        walk.stuck = true;
                        *trouble = Some(error);
                    }
                }
            }
        }
    }

    /// What the previous task and the last run by hand do, where they lie in another queue than the next fires, so that
    /// the script cannot look: `is active` while a worker holds it, else nothing. See `busy` in `decide.lua`.
    async fn states_elsewhere(
        &self,
        open: &mut Vec<&mut PendingCommit>,
        trouble: &mut Option<BrokerError>,
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
                        let active = reply::text(state).as_deref() == Some("active");
                        if active && ends.is_some_and(|at| at > walk.now()) {
                            "is active".clone_into(found);
                        }
                    }
                    // What lies there is no task, and blocks no occurrence.
                    Some((Err(BrokerError::Corrupt { .. }), _)) => (),
                    Some((Err(error), _)) => {
                        walk.stuck = true;
                        *trouble = Some(error);
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
            trip.script(Script::Finish, &keys)
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
            if answer.next().and_then(reply::number) != Some(1) {
                return Ok(None);
            }
            let texts = answer.chain(walk.texts.iter().cloned());
            let decisions: Option<Vec<Decision>> = texts.map(decision_of).collect();
            decisions.map(Some).ok_or_else(|| fault::odd_answer(DOING))
        });
        ended.collect()
    }

    /// What is finished need not be remembered for long. Only a matter of room: nothing depends on it.
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
            tracing::debug!(%error, "occurrences are remembered for longer than they need be");
        }
    }
}

/// The outcome of a commit that came upon the unfinished one of another instance, whose decisions are reported with it.
fn with_completed(outcome: Committed, commit: &Commit, mut decisions: Vec<Decision>) -> Committed {
    match outcome {
        Committed::Moved(cursor) => Committed::Completed(cursor, decisions),
        Committed::Done(ours) => {
            decisions.extend(ours);
            Committed::Done(decisions)
        }
        // Decided again soon, from where the cursor was before: that answers `Moved`.
        _ => Committed::Completed(commit.from, decisions),
    }
}

/// A commit that intends nothing: it finds out what stands open.
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

fn intent_of(commit: &Commit) -> Intent {
    let missed = commit.missed;
    let fires = commit.fires.iter().map(|fire| {
        let task = task_id(commit, fire);
        let message = crate::redis::format::convert::message_of(&fire.task, &task);
        Fire {
            queue: fire.task.queue.to_string(),
            nominal: fire.nominal.as_second(),
            late: fire.catch_up,
            task: task.to_string(),
            message: message.encode_to_vec(),
            lock: message.unique_key,
            lock_ttl: produce::lock_ttl(&fire.task),
            when: produce::when(fire.task.run),
            group: message.group_key,
            headers: crate::redis::format::convert::kept_headers(&fire.task),
        }
    });
    Intent {
        token: uuid::Uuid::new_v4().to_string(),
        to: commit.to.as_second(),
        skip: commit.overlap.skips(),
        ignores_retries: commit.overlap == Overlap::SkipIgnoringRetries,
        instance: commit.instance.clone(),
        missed: missed.map_or(0, |m| m.count),
        missed_last: missed.map_or(0, |m| m.last.as_second()),
        missed_first: missed.map_or(String::new(), |m| m.first.to_string()),
        missed_note: missed.map_or(String::new(), |m| m.note()),
        fires: fires.collect(),
        unserved: commit.unserved,
        unbroken_since: unbroken_since(commit),
    }
}

/// What the first step answers.
enum IntentReply {
    Outcome(Committed),
    Walk(Box<PendingCommit>),
    /// An intent stands there that cannot be read.
    Spoiled(Vec<u8>),
}

impl IntentReply {
    fn of(answer: Value, place: usize, written: Vec<u8>, schedule: &ScheduleId) -> Option<Self> {
        let mut row = reply::list(answer).into_iter();
        let word = reply::text(row.next()?)?;
        if let Some(outcome) = crate::redis::ops::schedule::refusal(&word, &mut row) {
            return Some(Self::Outcome(outcome));
        }
        let previous = (reply::shown(row.next()?)?, reply::shown(row.next()?)?);
        let manual = (reply::shown(row.next()?)?, reply::shown(row.next()?)?);
        let now = reply::number(row.next()?)?;
        let (place, written) = match word.as_str() {
            "go" => (Some(place), written),
            "open" => (None, reply::bytes(row.next()?)?),
            _ => return None,
        };
        let Ok(intent) = Intent::decode(&written[..]) else {
            return Some(Self::Spoiled(written));
        };
        Some(Self::Walk(Box::new(PendingCommit {
            place,
            schedule: schedule.clone(),
            intent,
            written,
            not_after: now.saturating_add(i64::try_from(PATIENCE.as_secs()).unwrap_or(0)),
            previous,
            manual,
            last: None,
            texts: Vec::new(),
            stuck: false,
        })))
    }
}

impl PendingCommit {
    /// The broker's clock at the first step, in seconds.
    #[allow(clippy::cast_precision_loss)] // a present second is far below 2^52
    fn now(&self) -> f64 {
        self.not_after
            .saturating_sub(i64::try_from(PATIENCE.as_secs()).unwrap_or(0)) as f64
    }

    /// Whether it has fires left and may go on.
    fn waits(&self) -> bool {
        !self.stuck && self.texts.len() < self.intent.fires.len()
    }

    /// The next fires of one queue.
    fn next(&self) -> &[Fire] {
        let rest = &self.intent.fires[self.texts.len()..];
        let same = rest.iter().take_while(|fire| fire.queue == rest[0].queue).count();
        &rest[..same]
    }

    /// Whether a task lies in the queue of the next fires.
    fn is_here(&self, (key, _): &(String, String)) -> bool {
        let queue = self.next().first().map(|fire| keys::queue(&fire.queue));
        queue.is_some_and(|queue| key.starts_with(&queue))
    }

    /// The previous task and the last run by hand, where they lie elsewhere and may stand in the way.
    fn elsewhere(&self) -> [Option<&(String, String)>; 2] {
        [&self.previous, &self.manual]
            .map(|task| (self.intent.skip && !task.0.is_empty() && !self.is_here(task)).then_some(task))
    }

    /// See `fire.lua`.
    fn fire_args(&self, trip: &mut RoundTrip<'_>, states: &[String; 2]) {
        let fires = self.next();
        let queue = fires.first().map_or("", |fire| fire.queue.as_str());
        trip.script(Script::Fire, &[keys::part(queue, "pending")])
            .arg(keys::queue(queue))
            .arg(keys::own(queue))
            .arg(self.schedule.as_str())
            .arg(overlap_word(self.intent.overlap(), self.intent.unserved))
            .arg(&self.intent.instance)
            .arg(self.not_after)
            .arg(OPEN_KEPT.as_secs());
        for (task, state) in [&self.previous, &self.manual].into_iter().zip(states) {
            trip.arg(&task.1)
                .arg(if self.is_here(task) { task.0.as_str() } else { "" })
                .arg(state);
        }
        for fire in fires {
            trip.arg(fire.nominal)
                .arg(u8::from(fire.late))
                .arg(&fire.task)
                .arg(&fire.message[..])
                .arg(&fire.lock)
                .arg(fire.lock_ttl)
                .arg(&fire.when)
                .arg(&fire.group)
                .arg(&fire.headers[..]);
        }
    }

    /// Takes note of what became of the next fires.
    fn take(&mut self, answer: Value) -> BrokerResult<()> {
        let mut row = reply::list(answer).into_iter();
        match row.next().and_then(reply::text).as_deref() {
            Some("done") => {}
            // Too late for this walk; the next one begins with the first step.
            Some("late") => {
                self.stuck = true;
                return Ok(());
            }
            _ => return Err(fault::odd_answer(DOING)),
        }
        let fires = self.next().to_vec();
        let texts: Vec<Value> = row.collect();
        if texts.len() != fires.len() {
            return Err(fault::odd_answer(DOING));
        }
        for (fire, text) in fires.into_iter().zip(texts) {
            let decision = decision_of(text.clone()).ok_or_else(|| fault::odd_answer(DOING))?;
            if decision.kind == crate::DecisionKind::Fired {
                let key = keys::task(&fire.queue, &fire.task);
                self.previous = (key.clone(), fire.task.clone());
                self.last = Some((fire.nominal, fire.task, key));
            }
            self.texts.push(text);
        }
        Ok(())
    }
}
