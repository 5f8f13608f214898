//! Suspects: tasks whose last run ended with its worker process. Which of them starts here, and when.
//!
//! One at a time is on trial, beside tasks that are no suspects: if it takes this process down, no other suspect goes
//! with it. It has passed once it ran for longer than its last run took until the process died; from then on the next
//! one may start. A suspect that one more crash would make poison has to be alone during its trial, so that a crash
//! then is its own: nothing is claimed until nothing else runs, nor before the trial is over.
//!
//! Not here: what the broker counts, and calling handlers.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures_util::future::BoxFuture;
use runner_core::task::TaskId;
use tokio::time::Instant;

use super::in_flight::{InFlightTask, Slot};

/// The shortest trial, and the longest: what takes longer to kill its worker is not worth keeping others waiting for.
const SHORTEST_TRIAL: Duration = Duration::from_secs(1);
const LONGEST_TRIAL: Duration = Duration::from_secs(600);

/// The longest trial of a task that is alone: this worker does nothing else meanwhile.
const LONGEST_ALONE: Duration = Duration::from_secs(120);

/// How long nothing is claimed in the hope that what runs ends soon, for the sake of a task that has to be alone.
const HOLD: Duration = Duration::from_secs(10);

/// How long such a task is put off when that was in vain: doubled from the first to the last.
const FIRST_AGAIN: Duration = Duration::from_secs(20);
const LAST_AGAIN: Duration = Duration::from_secs(300);

/// A task that waited this long to be alone starts beside others, so that none waits for ever.
const PATIENCE: Duration = Duration::from_secs(600);

/// How long a suspect is put off while another one is on trial here: other workers may be free, so not for long, and not
/// all for the same time.
const PUT_OFF: Duration = Duration::from_secs(2);
const PUT_OFF_SPREAD_MS: u64 = 6_000;

/// Tasks that wait to be alone of which it is remembered since when. Beyond it they are all forgotten, and wait anew.
const REMEMBERED: usize = 1_000;

/// The one suspect of this process.
struct CurrentSuspect {
    place: Slot,
    /// Whether one more crash makes it poison.
    last: bool,
    length: Duration,
    stage: Stage,
}

#[allow(clippy::large_enum_variant)] // there is one
enum Stage {
    /// Until the others are put off, or until it is alone.
    Waits { task: InFlightTask, since: Instant },
    /// Its handler runs; whether it has the process to itself.
    Runs {
        task: InFlightTask,
        until: Instant,
        alone: bool,
    },
    /// It has passed; the broker records that it is not alone any more.
    Passes,
}

/// What is to be done now.
pub(super) enum Step {
    /// Nothing, before the timer ends or something else happens.
    Wait,
    /// Its handler is called; whether the broker first records that it is alone.
    Start {
        place: Slot,
        task: InFlightTask,
        alone: bool,
    },
    /// It comes back after this long.
    PutOff {
        place: Slot,
        task: InFlightTask,
        delay: Duration,
    },
    /// It goes back to its queue, for this worker ends.
    HandBack { place: Slot, task: InFlightTask },
    /// The broker records that it is not alone any more; [`Suspects::passed`] follows.
    Pass { task: InFlightTask },
}

/// What of this worker a step depends on.
pub(super) struct WorkerLoad {
    /// Whether new tasks are taken.
    pub open: bool,
    /// Whether nothing but the suspect is in work, and no call under way that may bring more.
    pub alone: bool,
}

/// The suspects of a worker.
#[derive(Default)]
pub(super) struct Suspects {
    trial: Option<CurrentSuspect>,
    /// Claimed, and about to be put off: the next one must not start before that is written.
    leaving: HashSet<Slot>,
    /// Those that were put off because they could not be alone: since when, and how often.
    waiting: HashMap<TaskId, (Instant, u32)>,
    /// Ends when the next step may be due.
    pub timer: Option<BoxFuture<'static, ()>>,
    /// Tells the broker that the suspect is not alone any more.
    pub passing: Option<BoxFuture<'static, ()>>,
}

impl Suspects {
    /// Whether another one can be admitted.
    pub(super) fn has_room(&self) -> bool {
        self.trial.is_none()
    }

    /// Whether nothing may be claimed for the sake of one that has to be alone.
    pub(super) fn keeps_others_out(&self) -> bool {
        self.trial.as_ref().is_some_and(|trial| match trial.stage {
            Stage::Waits { .. } => trial.last,
            Stage::Runs { alone, .. } => alone,
            Stage::Passes => true,
        })
    }

    /// Makes this task the one suspect. `poison_after`: how many crashes make a task poison, 0 if none do.
    pub(super) fn admit(&mut self, place: Slot, task: InFlightTask, poison_after: u32) {
        let Some(suspicion) = task.claim.suspicion() else {
            return;
        };
        let last = poison_after > 0 && suspicion.crashes >= poison_after.saturating_sub(1).max(1);
        let longest = if last { LONGEST_ALONE } else { LONGEST_TRIAL };
        self.trial = Some(CurrentSuspect {
            place,
            last,
            length: suspicion.ran.clamp(SHORTEST_TRIAL, longest),
            stage: Stage::Waits {
                task,
                since: Instant::now(),
            },
        });
    }

    /// How long a suspect for which there is no room is put off. `random`: any number.
    pub(super) fn put_off(&mut self, place: Slot, random: u64) -> Duration {
        self.leaving.insert(place);
        PUT_OFF + Duration::from_millis(random % PUT_OFF_SPREAD_MS)
    }

    /// These places are free. Whether that ended a trial.
    pub(super) fn freed(&mut self, places: &[Slot]) -> bool {
        for place in places {
            self.leaving.remove(place);
        }
        let over = self.trial.as_ref().is_some_and(|trial| places.contains(&trial.place));
        if over {
            self.end();
        }
        over
    }

    /// The broker knows that the suspect is not alone any more.
    pub(super) fn passed(&mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.trial = None;
        (self.timer, self.passing) = (None, None);
    }

    /// What is to be done now; the caller does it.
    pub(super) fn next(&mut self, around: &WorkerLoad) -> Step {
        let Some(trial) = self.trial.take() else {
            return Step::Wait;
        };
        let now = Instant::now();
        let CurrentSuspect {
            place,
            last,
            length,
            stage,
        } = trial;
        let (stage, step) = match stage {
            Stage::Waits { task, .. } if !around.open => return Step::HandBack { place, task },
            Stage::Waits { task, since } if self.starts(&task, last, since, around) => {
                let alone = last && around.alone;
                self.waiting.remove(&task.claim.task().id);
                let until = now + length;
                let started = task.clone();
                (
                    Stage::Runs { task, until, alone },
                    Some(Step::Start {
                        place,
                        task: started,
                        alone,
                    }),
                )
            }
            Stage::Waits { task, since } if last && since.elapsed() >= HOLD => {
                let delay = self.again(&task.claim.task().id);
                self.leaving.insert(place);
                return Step::PutOff { place, task, delay };
            }
            Stage::Runs {
                until, alone: false, ..
            } if now >= until => return Step::Wait,
            Stage::Runs {
                task,
                until,
                alone: true,
            } if now >= until => (Stage::Passes, Some(Step::Pass { task })),
            stage => (stage, None),
        };
        self.timer = match &stage {
            Stage::Waits { since, .. } => Some(until(*since + HOLD)),
            Stage::Runs { until: end, .. } => Some(until(*end)),
            Stage::Passes => None,
        };
        self.trial = Some(CurrentSuspect {
            place,
            last,
            length,
            stage,
        });
        step.unwrap_or(Step::Wait)
    }

    fn starts(&self, task: &InFlightTask, last: bool, since: Instant, around: &WorkerLoad) -> bool {
        let patience_over = || {
            let waiting = self.waiting.get(&task.claim.task().id);
            since.elapsed() >= HOLD && waiting.is_some_and(|(since, _)| since.elapsed() >= PATIENCE)
        };
        self.leaving.is_empty() && (!last || around.alone || patience_over())
    }

    /// How long one that could not be alone is put off.
    fn again(&mut self, id: &TaskId) -> Duration {
        if self.waiting.len() >= REMEMBERED {
            self.waiting.clear();
        }
        let (_, times) = self.waiting.entry(id.clone()).or_insert_with(|| (Instant::now(), 0));
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
