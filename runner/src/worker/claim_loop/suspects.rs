//! Suspects: tasks whose last run ended with its worker process. Which of them starts here, and when.
//!
//! One at a time is on trial, beside tasks that are not suspected: if it kills this process, no other suspect dies
//! with it. It has passed once it ran for longer than its last run took until the process died; from then on the next
//! one may start. A suspect that one more crash would make poison runs alone during its trial, so that a crash
//! then is its own: nothing is claimed until nothing else runs, nor before the trial is over.
//!
//! The suspects of a dead worker come back together, and most tasks are quick. So nothing is claimed in the first moment
//! of a trial, and the others go back to the queue, to be claimed again as soon as it is over. Only if it takes longer
//! are they postponed.
//!
//! ```text
//! admit ─▶ Waits ─start─▶ Runs ─beside others, time over─▶ passed
//!            │              └───alone, time over─▶ Passes ─broker knows─▶ passed
//!            └─ postponed, when it could not be alone; handed back, when the worker stops
//! ```
//!
//! A pure state machine: it reads the time and makes timers; the loop (`suspect_steps`) performs its steps. Not here:
//! what the broker counts, and calling handlers.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures_util::future::BoxFuture;
use runner_core::task::TaskId;
use tokio::time::Instant;

use crate::worker::in_flight::{InFlightTask, Slot};

/// The shortest trial, and the longest: other suspects do not wait for one that takes longer to kill its worker.
const SHORTEST_TRIAL: Duration = Duration::from_secs(1);
const LONGEST_TRIAL: Duration = Duration::from_secs(600);

/// The longest trial of a task that is alone: this worker does nothing else meanwhile.
const LONGEST_ALONE: Duration = Duration::from_secs(120);

/// How long nothing is claimed so that a task can be alone, in the hope that what runs ends soon.
const HOLD: Duration = Duration::from_secs(10);

/// How long such a task is postponed when something still ran then: doubled from the first to the last.
const FIRST_AGAIN: Duration = Duration::from_secs(20);
const LAST_AGAIN: Duration = Duration::from_secs(300);

/// A task that waited this long to be alone starts beside others, so that it does not wait forever.
const PATIENCE: Duration = Duration::from_secs(600);

/// How long nothing is claimed from the start of a suspect: by then most are over, and the next one can start. A claim
/// meanwhile would only bring the other suspects.
const FIRST_MOMENT: Duration = Duration::from_millis(50);

/// How long a suspect is postponed while another one is on trial here: other workers may be free, so not for long, and
/// not all for the same time.
const POSTPONED: Duration = Duration::from_secs(2);
const POSTPONED_SPREAD_MS: u64 = 6_000;

/// How many tasks that wait to be alone are remembered, with since when. Beyond it all are forgotten, and wait again.
const REMEMBERED: usize = 1_000;

/// The one suspect of this process.
struct CurrentSuspect {
    slot: Slot,
    /// Whether one more crash makes it poison.
    last: bool,
    length: Duration,
    stage: Stage,
}

#[allow(clippy::large_enum_variant)] // some suspect is on trial
enum Stage {
    /// Until the verdicts that postpone other suspects are written, or until it is alone.
    Waits { task: InFlightTask, since: Instant },
    /// Its handler runs. `alone`: the broker has noted that nothing runs beside it.
    Runs {
        task: InFlightTask,
        since: Instant,
        until: Instant,
        alone: bool,
    },
    /// It has passed, and the broker is being asked to remove the note that it is alone. Until then nothing may start:
    /// a crash that another task causes would count as its own.
    Passes,
}

impl CurrentSuspect {
    /// Whether it has not started, or only just.
    fn is_new(&self) -> bool {
        match &self.stage {
            Stage::Waits { .. } => true,
            Stage::Runs { since, .. } => since.elapsed() < FIRST_MOMENT,
            Stage::Passes => false,
        }
    }
}

/// What the loop must do now.
pub(super) enum SuspectStep {
    /// Nothing until the timer ends or something else happens.
    Wait,
    /// Call its handler; whether the broker must first note that it is alone.
    Start {
        slot: Slot,
        task: InFlightTask,
        alone: bool,
    },
    /// Postpone it for this long.
    Postpone {
        slot: Slot,
        task: InFlightTask,
        delay: Duration,
    },
    /// Hand it back to its queue, since this worker stops.
    HandBack { slot: Slot, task: InFlightTask },
    /// Have the broker remove the note that it is alone; then call [`Suspects::passed`].
    Pass { task: InFlightTask },
}

/// What of this worker a step depends on.
pub(super) struct WorkerLoad {
    /// Whether new tasks are taken.
    pub open: bool,
    /// Whether nothing but the suspect is in flight, and no call is under way that may bring more.
    pub alone: bool,
}

/// The suspects of a worker.
#[derive(Default)]
pub(super) struct Suspects {
    /// The one on trial.
    trial: Option<CurrentSuspect>,
    /// Slots of those that are about to be postponed. None may start before that is written: if it killed the process,
    /// the others would be active then, and a crash would be counted against them too.
    leaving: HashSet<Slot>,
    /// Those that were postponed because they could not be alone: since when, and how often.
    waiting: HashMap<TaskId, (Instant, u32)>,
    /// Whether claims were blocked when [`Self::unblocked`] was last called.
    blocked: bool,
    /// Ends when the next step may be due.
    pub timer: Option<BoxFuture<'static, ()>>,
    /// Asks the broker to remove the note that the suspect is alone.
    pub passing: Option<BoxFuture<'static, ()>>,
}

impl Suspects {
    /// Whether another one can be admitted.
    pub(super) fn has_room(&self) -> bool {
        self.trial.is_none()
    }

    /// Whether nothing may be claimed because one has to be alone, or is at its very beginning.
    pub(super) fn blocks_claims(&self) -> bool {
        self.trial.as_ref().is_some_and(|trial| match trial.stage {
            Stage::Runs { alone, .. } => alone || trial.is_new(),
            Stage::Waits { .. } | Stage::Passes => true,
        })
    }

    /// Whether claims were blocked the last time, and are no longer.
    pub(super) fn unblocked(&mut self) -> bool {
        let blocked = self.blocks_claims();
        let before = std::mem::replace(&mut self.blocked, blocked);
        before && !self.blocked
    }

    /// Makes this task the one suspect. `poison_after`: how many crashes make a task poison, 0 if none do.
    pub(super) fn admit(&mut self, slot: Slot, task: InFlightTask, poison_after: u32) {
        let Some(suspicion) = task.claim.suspicion() else {
            return;
        };
        // At least one: a task is a suspect only after its first crash, even if that is the bound.
        let last = poison_after > 0 && suspicion.crashes >= poison_after.saturating_sub(1).max(1);
        let longest = if last { LONGEST_ALONE } else { LONGEST_TRIAL };
        self.trial = Some(CurrentSuspect {
            slot,
            last,
            length: suspicion.ran.clamp(SHORTEST_TRIAL, longest),
            stage: Stage::Waits {
                task,
                since: Instant::now(),
            },
        });
    }

    /// A suspect for which there is no room leaves its slot: how long it is postponed, or nothing if it is to be handed
    /// back, since there may be room in a moment. `random`: any number.
    pub(super) fn leave(&mut self, slot: Slot, random: u64) -> Option<Duration> {
        self.leaving.insert(slot);
        let is_new = self.trial.as_ref().is_some_and(CurrentSuspect::is_new);
        (!is_new).then(|| POSTPONED + Duration::from_millis(random % POSTPONED_SPREAD_MS))
    }

    /// These slots are free. Whether that ended a trial.
    pub(super) fn freed(&mut self, slots: &[Slot]) -> bool {
        for slot in slots {
            self.leaving.remove(slot);
        }
        let over = self.trial.as_ref().is_some_and(|trial| slots.contains(&trial.slot));
        if over {
            self.end();
        }
        over
    }

    /// The broker has removed the note that the suspect is alone.
    pub(super) fn passed(&mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.trial = None;
        (self.timer, self.passing) = (None, None);
    }

    /// The step for the caller to perform. If there is no trial afterwards, the next suspect can be admitted.
    pub(super) fn next(&mut self, load: &WorkerLoad) -> SuspectStep {
        // Taken out, and put back only if the trial continues: each `return` below ends it.
        let Some(trial) = self.trial.take() else {
            return SuspectStep::Wait;
        };
        let now = Instant::now();
        let CurrentSuspect {
            slot,
            last,
            length,
            stage,
        } = trial;
        let (stage, step) = match stage {
            Stage::Waits { task, .. } if !load.open => return SuspectStep::HandBack { slot, task },
            Stage::Waits { task, since } if self.starts(&task, last, since, load) => {
                // One that waited too long starts beside others: then there is no note, and a crash does not count as
                // its own.
                let alone = last && load.alone;
                self.waiting.remove(&task.claim.task().id);
                let (since, until) = (now, now + length);
                let started = task.clone();
                (
                    Stage::Runs {
                        task,
                        since,
                        until,
                        alone,
                    },
                    Some(SuspectStep::Start {
                        slot,
                        task: started,
                        alone,
                    }),
                )
            }
            Stage::Waits { task, since } if last && since.elapsed() >= HOLD => {
                // It blocked claims for long enough. Its slot counts as leaving like those of the others.
                let delay = self.again(&task.claim.task().id);
                self.leaving.insert(slot);
                return SuspectStep::Postpone { slot, task, delay };
            }
            // Nothing was noted, so nothing has to be removed: it continues like any other task, and the next one can
            // be admitted.
            Stage::Runs {
                until, alone: false, ..
            } if now >= until => return SuspectStep::Wait,
            Stage::Runs {
                task,
                until,
                alone: true,
                ..
            } if now >= until => (Stage::Passes, Some(SuspectStep::Pass { task })),
            stage => (stage, None),
        };
        // Set again in each step: the end of the stage may have changed, and a timer that has fired is gone.
        self.timer = match &stage {
            Stage::Waits { since, .. } => Some(until(*since + HOLD)),
            Stage::Runs { since, until: end, .. } => {
                let moment = *since + FIRST_MOMENT;
                Some(until(if now < moment { moment.min(*end) } else { *end }))
            }
            Stage::Passes => None,
        };
        self.trial = Some(CurrentSuspect {
            slot,
            last,
            length,
            stage,
        });
        step.unwrap_or(SuspectStep::Wait)
    }

    fn starts(&self, task: &InFlightTask, last: bool, since: Instant, load: &WorkerLoad) -> bool {
        // Only after a hold of its own: the chance to be alone comes first, each time it is claimed.
        let patience_over = || {
            let waiting = self.waiting.get(&task.claim.task().id);
            since.elapsed() >= HOLD && waiting.is_some_and(|(since, _)| since.elapsed() >= PATIENCE)
        };
        self.leaving.is_empty() && (!last || load.alone || patience_over())
    }

    /// How long one that could not be alone is postponed.
    fn again(&mut self, id: &TaskId) -> Duration {
        if self.waiting.len() >= REMEMBERED {
            self.waiting.clear();
        }
        let (_, times) = self.waiting.entry(id.clone()).or_insert_with(|| (Instant::now(), 0));
        // Grows, so that claims are blocked for a small share of the time only, however long the others run.
        let delay = FIRST_AGAIN.saturating_mul(1 << (*times).min(8)).min(LAST_AGAIN);
        *times = times.saturating_add(1);
        delay
    }
}

#[allow(clippy::disallowed_methods)] // a named wait, bounded by the constants above
fn until(end: Instant) -> BoxFuture<'static, ()> {
    Box::pin(tokio::time::sleep_until(end))
}

#[cfg(test)]
#[path = "suspects_tests.rs"]
mod tests;
