//! One pass over due schedules: decide, commit, apply the answers.

use std::time::Duration;

use jiff::Timestamp;
use runner_core::schedule::{Decided, Definition, ScheduleId, decide, fire_task};
use runner_core::task::{TRACEPARENT, TRACESTATE, Task};
use runner_queue::{BrokerError, Commit, CommitFire, Committed, Decision, DecisionKind};

use super::{LONGEST_SLEEP, Scheduler};
use crate::telemetry::Telemetry;

/// Schedules committed in one call: each call waits for its answer, which takes long on a busy machine even for little
/// work.
const COMMIT_BATCH: usize = 1000;

/// Calls in which a follower looks for undecided occurrences before it sleeps.
const LOOKS: usize = 100;

/// Bytes of payloads in one call; a single commit is sent however large it is.
const COMMIT_BYTES: usize = 16 << 20;

/// A commit that is early by more than this was made with a wrong estimate of the broker's clock.
const CLOCK_STEP: Duration = Duration::from_secs(1);

/// Batches that one turn commits before it returns to housekeeping: leadership must be renewed meanwhile.
const BATCHES_PER_TURN: usize = 10;

impl Scheduler {
    /// Commits due occurrences. Returns how long to sleep until the next fire.
    pub(super) async fn fire_due(&mut self) -> Result<Duration, BrokerError> {
        for _ in 0..BATCHES_PER_TURN {
            let now = self.broker_now();
            let horizon = if self.leads {
                now
            } else {
                // Leave the leader time to commit first.
                now.checked_sub(self.own_grace).unwrap_or(now)
            };
            if !self.leads {
                self.catch_up_with_the_leader(horizon).await?;
            }
            let commits = self.decide_due(horizon, now);
            if commits.is_empty() {
                return Ok(self.sleep_after(horizon));
            }
            let answers = self.broker.commit(&commits).await?;
            let mut early = None;
            for (commit, answer) in commits.iter().zip(answers) {
                if let Some(wait) = self.apply(commit, answer) {
                    // The others in this batch are decided; only the early ones wait.
                    early = Some(early.map_or(wait, |e: Duration| e.min(wait)));
                }
            }
            if let Some(wait) = early {
                return Ok(wait);
            }
        }
        Ok(Duration::ZERO)
    }

    /// The commits of due schedules that fit into one call.
    fn decide_due(&self, horizon: Timestamp, now: Timestamp) -> Vec<Commit> {
        let plan = self.plan.borrow();
        let mut bytes = 0_usize;
        let mut commits = Vec::new();
        // A follower starts at the latest end: the leader works from the earliest, so the two meet instead of competing.
        for (definition, cursor, ahead) in self.agenda.due(horizon, COMMIT_BATCH, !self.leads) {
            let Some(decided) = decide(definition, cursor, ahead, now) else {
                continue;
            };
            let unserved = plan.unserved.contains(definition.task.queue.as_str());
            let commit = commit_of(definition, cursor, decided, self, unserved);
            let payload = definition.task.payload.as_ref().map_or(0, bytes::Bytes::len);
            bytes = bytes.saturating_add(payload.saturating_mul(commit.fires.len()));
            if bytes > COMMIT_BYTES && !commits.is_empty() {
                break;
            }
            commits.push(commit);
        }
        commits
    }

    /// Adopts cursors that the leader has moved: reading them is much cheaper than committing in vain.
    async fn catch_up_with_the_leader(&mut self, horizon: Timestamp) -> Result<(), BrokerError> {
        for _ in 0..LOOKS {
            let due = self.agenda.due(horizon, COMMIT_BATCH, true);
            let known: Vec<(ScheduleId, Timestamp)> = due.iter().map(|(d, at, _)| (d.id.clone(), *at)).collect();
            let ids: Vec<ScheduleId> = known.iter().map(|(id, _)| id.clone()).collect();
            let mut left = ids.is_empty();
            for ((id, cursor), standing) in known.iter().zip(self.broker.standings(&ids).await?) {
                match standing {
                    None => self.agenda.unknown(id),
                    Some(standing) if standing.cursor != *cursor => self.agenda.adopt_cursor(id, &standing),
                    Some(_) => left = true,
                }
            }
            if left {
                break;
            }
        }
        Ok(())
    }

    fn sleep_after(&self, horizon: Timestamp) -> Duration {
        let Some(next) = self.agenda.next_fire() else {
            return LONGEST_SLEEP;
        };
        // One millisecond more than the distance: timers may be early by their granularity.
        Duration::try_from(next.duration_since(horizon)).unwrap_or(Duration::ZERO) + Duration::from_millis(1)
    }

    /// Applies one answer. Returns how long to wait if the commit was too early.
    fn apply(&mut self, commit: &Commit, answer: Committed) -> Option<Duration> {
        match answer {
            Committed::Done(decisions) => self.decided(commit, commit.to, &decisions),
            Committed::Completed(cursor, decisions) => self.decided(commit, cursor, &decisions),
            Committed::Moved(cursor) => self.agenda.moved(&commit.id, cursor, None),
            Committed::Unknown => self.agenda.unknown(&commit.id),
            Committed::Paused => self.agenda.paused(&commit.id),
            Committed::Ahead(spans) => self.agenda.ahead(&commit.id, spans),
            Committed::Early(wait) => {
                if wait > CLOCK_STEP {
                    // The broker's clock was set since it was measured.
                    self.measure_again();
                }
                return Some(wait);
            }
        }
        None
    }

    /// Reports decisions and continues from `cursor`.
    fn decided(&mut self, commit: &Commit, cursor: Timestamp, decisions: &[Decision]) {
        for decision in decisions {
            self.report(commit, decision);
        }
        let fired = decisions.iter().filter(|d| d.kind == DecisionKind::Fired);
        let fired = fired.map(|d| d.nominal).max();
        self.agenda.moved(&commit.id, cursor, fired);
    }

    fn report(&mut self, commit: &Commit, decision: &Decision) {
        self.metrics
            .decided(decision.kind.as_str(), u64::from(decision.count.max(1)));
        self.events.decided(decision);
        let fire = commit.fires.iter().find(|f| f.nominal == decision.nominal);
        let late = fire.map(|f| decision.decided_at.duration_since(f.fire_at));
        match decision.kind {
            DecisionKind::Fired => {
                let late = late.and_then(|l| Duration::try_from(l).ok()).unwrap_or(Duration::ZERO);
                if let Some(fire) = fire {
                    if !fire.catch_up {
                        self.metrics.lateness(late);
                    }
                    self.telemetry
                        .fired(decision.schedule.as_str(), fire.nominal, fire.fire_at, &fire.task);
                }
                let (late_ms, task_id) = (late.as_millis() as u64, decision.task.as_ref());
                let task_id = task_id.map(tracing::field::display);
                let Decision {
                    schedule,
                    nominal,
                    reason,
                    ..
                } = decision;
                let own_line = fire.is_some_and(|f| f.catch_up) || self.lines.allows(decision.decided_at.as_second());
                match own_line {
                    true => tracing::info!(%schedule, %nominal, %reason, task_id, late_ms, "fired"),
                    false => tracing::debug!(%schedule, %nominal, %reason, task_id, late_ms, "fired"),
                }
            }
            // Registrations, manual runs and pauses make these; a commit never returns them.
            DecisionKind::Corrected | DecisionKind::Manual | DecisionKind::Paused => {}
            DecisionKind::Skipped | DecisionKind::Missed => tracing::warn!(
                schedule = %decision.schedule, nominal = %decision.nominal, count = decision.count,
                reason = %decision.reason, "{}", decision.kind.as_str()
            ),
        }
    }
}

/// Each occurrence begins a trace.
fn traced(mut task: Task, telemetry: &Telemetry) -> Task {
    task.headers.remove(TRACESTATE);
    task.headers
        .insert(TRACEPARENT.to_owned(), telemetry.root().to_string());
    task
}

fn commit_of(
    definition: &Definition,
    from: Timestamp,
    decided: Decided,
    scheduler: &Scheduler,
    unserved: bool,
) -> Commit {
    let telemetry = &scheduler.telemetry;
    let fires = decided.fires.iter().map(|fire| CommitFire {
        nominal: fire.nominal,
        fire_at: fire.fire_at,
        task: traced(fire_task(definition, fire), telemetry),
        catch_up: fire.catch_up,
    });
    let mut fires: Vec<CommitFire> = fires.collect();
    if definition.overlap.skips() {
        // Of several fires at once only the first one tried can run: try the newest first.
        fires.reverse();
    }
    Commit {
        id: definition.id.clone(),
        from,
        to: decided.to,
        fires,
        missed: decided.missed,
        overlap: definition.overlap,
        unserved,
        instance: scheduler.instance.clone(),
    }
}
