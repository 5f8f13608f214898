//! Settlements together with what they leave behind, for brokers: what these were given is asked here, the tasks that follow others
//! (`follow`) and the types whose runs are recorded (`recorded_types`).

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::{Arc, OnceLock};

use runner_core::task::{TRACESTATE, Task, TraceContext};

use super::runs::trace_of;
use super::{Attempt, Delivery, EndedTask, FollowUps, RecordedTypes, Settlement, TaskEnd, Trace, Verdict};

/// What a broker was given, if it was.
#[derive(Default)]
pub(crate) struct Given {
    follow_ups: OnceLock<Arc<dyn FollowUps>>,
    recorded: OnceLock<Arc<RecordedTypes>>,
}

impl Given {
    /// The first one counts.
    pub(crate) fn set(&self, follow_ups: Arc<dyn FollowUps>) {
        self.follow_ups.get_or_init(|| follow_ups);
    }

    /// The first ones count.
    pub(crate) fn record(&self, types: Arc<RecordedTypes>) {
        self.recorded.get_or_init(|| types);
    }

    /// What the end of an attempt leaves behind, as [`trace_of`].
    #[cfg(feature = "embedded")] // Redis asks for those of a batch
    pub(crate) fn trace(&self, task: &super::TaskRecord, attempt: Option<&Attempt>) -> Option<Trace> {
        trace_of(task, attempt, None, self.recorded.get().map(|types| &**types))
    }

    /// Whether any task follows any other.
    pub(crate) fn any(&self) -> bool {
        self.follow_ups.get().is_some_and(|given| given.any())
    }

    /// Whether anything may follow a task of this type.
    pub(crate) fn follow(&self, kind: &str) -> bool {
        self.follow_ups
            .get()
            .is_some_and(|given| given.any() && given.follow(kind))
    }

    /// The settlements with what follows each when it is accepted. Costs a look where nothing follows anything.
    pub(crate) fn ends<'a>(&self, settlements: &'a [Settlement]) -> Ends<'a> {
        let mut ends = Ends {
            recorded: self.recorded.get().cloned(),
            ..Ends::of(settlements)
        };
        if !self.any() {
            return ends;
        }
        for (place, settlement) in settlements.iter().enumerate() {
            if !self.follow(&settlement.claim.task().kind) {
                continue;
            }
            let next = ended_of(settlement).map_or_else(Vec::new, |ended| self.after_end(&ended));
            if next.is_empty() {
                continue;
            }
            ends.followers.resize_with(settlements.len(), Vec::new);
            if let Some(attempt) = &mut ends.settlements.to_mut()[place].attempt {
                note(attempt, &next);
            }
            ends.followers[place] = next;
        }
        ends
    }

    /// What follows a task that has ended. A task that no store would take is left out: whether a verdict is written must not
    /// depend on it.
    pub(crate) fn after_end(&self, ended: &EndedTask<'_>) -> Vec<Delivery> {
        let Some(given) = self.follow_ups.get() else {
            return Vec::new();
        };
        let mut all = given.after(ended);
        all.retain(|delivery| match check(&delivery.task) {
            Ok(()) => true,
            Err(error) => {
                let (task, kind) = (&ended.task.id, &delivery.task.kind);
                tracing::warn!(code = "follow_up_refused", %task, kind, error, "a task that follows another cannot be enqueued");
                false
            }
        });
        if !all.is_empty() {
            inherit_trace(&mut all, ended);
        }
        all
    }
}

/// Settlements, and the tasks that follow them.
pub(crate) struct Ends<'a> {
    pub(crate) settlements: Cow<'a, [Settlement]>,
    /// One list for each settlement, or none at all where none is followed.
    followers: Vec<Vec<Delivery>>,
    /// Types whose runs are recorded; `None`: only those of functions.
    recorded: Option<Arc<RecordedTypes>>,
}

impl<'a> Ends<'a> {
    /// Followed by nothing.
    pub(crate) fn of(settlements: &'a [Settlement]) -> Self {
        Self {
            settlements: Cow::Borrowed(settlements),
            followers: Vec::new(),
            recorded: None,
        }
    }

    /// Whether [`Ends::trace`] has anything to say: a look that costs next to nothing.
    #[cfg(feature = "redis")]
    pub(crate) fn leaves_trace(&self, settlement: &Settlement) -> bool {
        let task = settlement.claim.task();
        let recorded = || self.recorded.as_ref().is_some_and(|types| types.records(&task.kind));
        settlement.attempt.is_some() && (task.leaves_trace() || recorded())
    }

    /// What a settlement leaves behind besides the task, as [`trace_of`].
    pub(crate) fn trace(&self, settlement: &Settlement) -> Option<Trace> {
        let (task, result) = (settlement.claim.task(), settlement.result.as_deref());
        trace_of(task, settlement.attempt.as_ref(), result, self.recorded.as_deref())
    }

    /// What follows the settlement at this place.
    pub(crate) fn after(&self, place: usize) -> &[Delivery] {
        self.followers.get(place).map_or(&[], Vec::as_slice)
    }

    /// The same, for another thread.
    #[cfg(feature = "embedded")]
    pub(crate) fn into_owned(self) -> Ends<'static> {
        Ends {
            settlements: Cow::Owned(self.settlements.into_owned()),
            followers: self.followers,
            recorded: self.recorded,
        }
    }
}

/// What follows a task belongs to its trace, within the span of the attempt that ended it.
fn inherit_trace(followers: &mut [Delivery], ended: &EndedTask<'_>) {
    let headers = &ended.task.headers;
    let Some(parent) = TraceContext::of(headers) else {
        return;
    };
    let attempt = parent.attempt(ended.task.id.as_str(), ended.run);
    for delivery in followers {
        delivery
            .task
            .trace_by(attempt, headers.get(TRACESTATE).map(String::as_str));
    }
}

/// Names the tasks that follow in the log of the attempt, which people read next.
fn note(attempt: &mut Attempt, next: &[Delivery]) {
    let took = attempt.ended_at.duration_since(attempt.started_at).as_secs_f64();
    let log = attempt.log.get_or_insert_default();
    for Delivery { task, .. } in next {
        let id = task.id.as_ref().map_or("", |id| id.as_str());
        // Writing to a text cannot fail.
        let _ = writeln!(
            log,
            "+{took:.3}s log: started {} {id} in queue {}",
            task.kind, task.queue
        );
    }
}

fn check(task: &Task) -> Result<(), String> {
    if task.id.is_none() {
        return Err("it has no id".to_owned());
    }
    task.check().map_err(|error| error.to_string())
}

/// `None` while the task continues.
fn ended_of(settlement: &Settlement) -> Option<EndedTask<'_>> {
    let attempt = settlement.attempt.as_ref();
    let (end, error) = match &settlement.verdict {
        Verdict::Done => (TaskEnd::Succeeded, None),
        Verdict::Revoke => (TaskEnd::Revoked, attempt.and_then(|a| a.error.as_deref())),
        Verdict::Archive { error } => (TaskEnd::Failed, Some(error.as_str())),
        Verdict::Retry { .. } | Verdict::HandBack | Verdict::Snooze { .. } => return None,
    };
    Some(EndedTask {
        task: settlement.claim.task(),
        run: settlement.claim.run(),
        end,
        result: settlement.result.as_deref().filter(|result| !result.is_empty()),
        error,
    })
}
