//! A commit in a cluster between its first step and its last: its intent, and the outcomes of its fires so far.
//!
//! The steps, and who performs them, are in `cluster_commit`.

use std::time::Duration;

use prost::Message as _;
use redis::Value;
use runner_core::schedule::ScheduleId;

use crate::redis::format::scripts::Script;
use crate::redis::format::{keys, reply};
use crate::redis::net::conn::RoundTrip;
use crate::redis::net::fault;
use crate::redis::ops::commit_intent::{IntendedFire, Intent};
use crate::redis::ops::schedule::{decision_of, overlap_word, refusal};
use crate::{BrokerResult, Committed};

/// What is being done, for errors.
pub(in crate::redis) const DOING: &str = "commit decisions of schedules";

/// How long after the first step the second is still accepted.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long an occurrence is remembered beside its queue while its commit is not finished.
const OPEN_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// A commit on its way through the steps.
pub(in crate::redis) struct PendingCommit {
    /// The place of the caller's commit that it belongs to; `None`: an unfinished one of another instance.
    pub place: Option<usize>,
    pub schedule: ScheduleId,
    pub intent: Intent,
    /// Its bytes as they are stored beside the cursor.
    pub written: Vec<u8>,
    /// Last second for the second step.
    pub not_after: i64,
    /// Key and id of the task that may block its fires.
    pub previous: (String, String),
    /// The same for the last manual run.
    pub manual: (String, String),
    /// Nominal instant, task and its key.
    pub last: Option<(i64, String, String)>,
    /// Decisions in JSON, one for each completed fire.
    pub texts: Vec<Value>,
    /// It cannot continue for now.
    pub stuck: bool,
}

/// The answer of the first step.
pub(in crate::redis) enum IntentReply {
    Outcome(Committed),
    Walk(Box<PendingCommit>),
    /// The stored intent cannot be read.
    Spoiled(Vec<u8>),
}

impl IntentReply {
    pub(in crate::redis) fn of(answer: Value, place: usize, written: Vec<u8>, schedule: &ScheduleId) -> Option<Self> {
        let mut row = reply::list(answer).into_iter();
        let word = reply::text(row.next()?)?;
        if let Some(outcome) = refusal(&word, &mut row) {
            return Some(Self::Outcome(outcome));
        }
        let previous = (reply::shown(row.next()?)?, reply::shown(row.next()?)?);
        let manual = (reply::shown(row.next()?)?, reply::shown(row.next()?)?);
        let now = reply::number(row.next()?)?;
        // `go`: our own intent is stored now. `open`: another one was there, and comes back as its bytes.
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
            // By the clock of the cursors' server; the queue's server compares with its own. A minute is far more than
            // their clocks differ, and far less than the stored outcomes are kept.
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
    #[allow(clippy::cast_precision_loss)] // the present second is far below 2^52
    pub(in crate::redis) fn now(&self) -> f64 {
        self.not_after
            .saturating_sub(i64::try_from(PATIENCE.as_secs()).unwrap_or(0)) as f64
    }

    /// Whether it has fires left and can continue.
    pub(in crate::redis) fn waits(&self) -> bool {
        !self.stuck && self.texts.len() < self.intent.fires.len()
    }

    /// The next fires of one queue.
    pub(in crate::redis) fn next(&self) -> &[IntendedFire] {
        // Fires are completed in order, so the number of texts is the position of the next one.
        let rest = &self.intent.fires[self.texts.len()..];
        let same = rest.iter().take_while(|fire| fire.queue == rest[0].queue).count();
        &rest[..same]
    }

    /// Whether a task is in the queue of the next fires.
    fn is_here(&self, (key, _): &(String, String)) -> bool {
        // By prefix of the key: the stored key is all that is known of the task's queue.
        let queue = self.next().first().map(|fire| keys::queue(&fire.queue));
        queue.is_some_and(|queue| key.starts_with(&queue))
    }

    /// The previous task and the last manual run, if they are in another queue and may block the fires.
    pub(in crate::redis) fn elsewhere(&self) -> [Option<&(String, String)>; 2] {
        [&self.previous, &self.manual]
            .map(|task| (self.intent.skip && !task.0.is_empty() && !self.is_here(task)).then_some(task))
    }

    /// See `commit_fire.lua`.
    pub(in crate::redis) fn fire_args(&self, trip: &mut RoundTrip<'_>, states: &[String; 2]) {
        // The messages are the intent's own bytes, not encoded again: every instance that completes it writes the same.
        let fires = self.next();
        let queue = fires.first().map_or("", |fire| fire.queue.as_str());
        trip.script(Script::CommitFire, &[keys::part(queue, "pending")])
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
                .arg(format!("{}{}", fire.lock_ttl, fire.lock_policy))
                .arg(&fire.when)
                .arg(&fire.group)
                .arg(&fire.headers[..]);
        }
    }

    /// Records the outcomes of the next fires.
    pub(in crate::redis) fn take(&mut self, answer: Value) -> BrokerResult<()> {
        let mut row = reply::list(answer).into_iter();
        match row.next().and_then(reply::text).as_deref() {
            Some("done") => {}
            // Too late for this attempt; the next one begins with the first step.
            Some("late") => {
                self.stuck = true;
                return Ok(());
            }
            _ => return Err(fault::odd_answer(DOING)),
        }
        // Before `texts` grows: `next` begins behind the fires that have one.
        let fires = self.next().to_vec();
        let texts: Vec<Value> = row.collect();
        if texts.len() != fires.len() {
            return Err(fault::odd_answer(DOING));
        }
        for (fire, text) in fires.into_iter().zip(texts) {
            let decision = decision_of(text.clone()).ok_or_else(|| fault::odd_answer(DOING))?;
            // A skipped fire leaves the previous task as it was; a fired one is what the next fire is compared with.
            if decision.kind == crate::DecisionKind::Fired {
                // The task that waited, if this one took its place.
                let task = decision.task.map_or(fire.task, |task| task.as_str().to_owned());
                let key = keys::task(&fire.queue, &task);
                self.previous = (key.clone(), task.clone());
                self.last = Some((fire.nominal, task, key));
            }
            self.texts.push(text);
        }
        Ok(())
    }
}
