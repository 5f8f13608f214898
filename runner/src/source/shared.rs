//! Where the sources publish what they read: their parts are merged into the plan, and watchers are notified.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Notify, watch};

use runner_core::clock::Clock;
use runner_core::function::{FunctionOptions, Functions};
use runner_core::schedule::{
    Definition, Plan, Problem, ScheduleId, Scope, Served, Severity, Source, merge, no_occurrence_left, not_served,
};
use runner_core::task::{FUNCTION_PREFIX, TypePattern};
use runner_core::trigger::TriggerDefinition;

use super::after;
use super::calls;
use super::merged_log::MergedLog;
use super::status::{Rejected, SourceError, SourceState, SourceStatus};
use super::types::TypeOptions;
use super::warnings::WarningLog;

/// What live servers serve; `None` where that is not known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Taken {
    /// Task types that they run, exact or `prefix*`.
    pub types: Option<BTreeSet<String>>,
    /// Queues that they claim from, names or patterns.
    pub queues: Option<BTreeSet<String>>,
}

/// The content of one source.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SourcePart {
    /// Valid schedules.
    pub definitions: Vec<Definition>,
    /// Triggers of functions.
    pub triggers: Vec<TriggerDefinition>,
    /// Options that schedules state for their tasks themselves, if they may name a function of a manifest.
    pub stated: BTreeMap<ScheduleId, FunctionOptions>,
    /// Where each function is defined, by name.
    pub places: Arc<BTreeMap<String, String>>,
    /// Functions and rows of which nothing is in force.
    pub rejected: Vec<Rejected>,
    /// Problems.
    pub problems: Vec<Problem>,
    /// Whether a part that may define schedules is unknown.
    pub incomplete: bool,
}

/// All triggers in force.
pub type Triggers = Arc<Vec<Arc<TriggerDefinition>>>;

struct Slot {
    part: SourcePart,
    place: String,
    state: SourceState,
    last_sync: Option<Timestamp>,
}

impl Slot {
    fn scope(&self) -> Scope {
        Scope {
            place: self.place.clone(),
            complete: self.state == SourceState::Loaded && self.part.rejected.is_empty() && !self.part.incomplete,
        }
    }
}

/// The parts, and the merged plan.
pub struct Shared {
    functions: Functions,
    clock: Arc<dyn Clock>,
    /// The options that task types state in code.
    types: BTreeMap<String, FunctionOptions>,
    slots: Mutex<BTreeMap<Source, Slot>>,
    taken: Mutex<Taken>,
    others: Mutex<(Vec<Problem>, BTreeSet<ScheduleId>)>,
    /// Schedules whose payload their function does not accept.
    refused: Mutex<Vec<Rejected>>,
    plan: watch::Sender<Arc<Plan>>,
    triggers: watch::Sender<Triggers>,
    doubts: Mutex<WarningLog>,
    of_all: Mutex<MergedLog>,
}

impl Shared {
    /// No source, an empty plan.
    #[must_use]
    pub fn new(functions: Functions, clock: Arc<dyn Clock>) -> Self {
        let plan = watch::Sender::new(Arc::new(Plan::default()));
        Self {
            functions,
            clock,
            types: BTreeMap::new(),
            slots: Mutex::default(),
            taken: Mutex::default(),
            others: Mutex::default(),
            refused: Mutex::default(),
            plan,
            triggers: watch::Sender::default(),
            doubts: Mutex::default(),
            of_all: Mutex::default(),
        }
    }

    /// The same, with the options that task types state in code.
    #[must_use]
    pub fn with_types(mut self, types: BTreeMap<String, FunctionOptions>) -> Self {
        self.types = types;
        self
    }

    /// The options of tasks by their type, as the sources are now.
    #[must_use]
    pub fn type_options(&self) -> TypeOptions {
        self.types_of(&self.slots())
    }

    fn types_of(&self, slots: &BTreeMap<Source, Slot>) -> TypeOptions {
        let definitions = slots.values().flat_map(|slot| &slot.part.definitions);
        TypeOptions::new(&self.functions, definitions).with_code(self.types.clone())
    }

    /// The set of functions that the manifests define.
    #[must_use]
    pub fn functions(&self) -> &Functions {
        &self.functions
    }

    /// The present instant.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The plan, and every later one.
    #[must_use]
    pub fn plan(&self) -> &watch::Sender<Arc<Plan>> {
        &self.plan
    }

    /// The triggers in force, and every later set.
    #[must_use]
    pub fn triggers(&self) -> &watch::Sender<Triggers> {
        &self.triggers
    }

    fn slots(&self) -> MutexGuard<'_, BTreeMap<Source, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Announces a source that has not been read yet.
    pub fn expect(&self, source: Source, place: String) {
        let slot = Slot {
            part: SourcePart::default(),
            place,
            state: SourceState::Loading,
            last_sync: None,
        };
        self.slots().insert(source, slot);
    }

    /// Publishes the present content of a source.
    pub fn publish(&self, source: Source, part: SourcePart, now: Timestamp) {
        if let Some(slot) = self.slots().get_mut(&source) {
            (slot.part, slot.state, slot.last_sync) = (part, SourceState::Loaded, Some(now));
        }
        self.rebuild();
    }

    /// Publishes what is known of a source that cannot be read now; its state is unchanged.
    pub fn publish_part(&self, source: Source, part: SourcePart) {
        if let Some(slot) = self.slots().get_mut(&source) {
            slot.part = part;
        }
        self.rebuild();
    }

    /// Publishes the content of a source at `at`, in an earlier run of the program.
    pub fn restore(&self, source: Source, part: SourcePart, at: Timestamp) {
        if let Some(slot) = self.slots().get_mut(&source) {
            (slot.part, slot.last_sync) = (part, Some(at));
        }
        self.rebuild();
    }

    /// Notes that a source cannot be read. Returns whether that is new.
    pub fn fail(&self, source: Source, error: &SourceError) -> bool {
        let now = self.now();
        let mut slots = self.slots();
        let Some(slot) = slots.get_mut(&source) else {
            return false;
        };
        let news = slot.state.reason().is_none();
        slot.state = slot.state.failed(slot.last_sync.is_some(), now, error);
        news
    }

    /// Whether the source could not be read until now; call before [`Shared::publish`].
    #[must_use]
    pub fn recovered(&self, source: Source) -> bool {
        self.state_of(source).is_some_and(|s| s.reason().is_some())
    }

    /// The status of the source.
    #[must_use]
    pub fn state_of(&self, source: Source) -> Option<SourceState> {
        self.slots().get(&source).map(|s| s.state.clone())
    }

    /// Sets what live servers serve.
    pub fn set_taken(&self, taken: Taken) {
        {
            let mut known = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
            if *known == taken {
                return;
            }
            *known = taken;
        }
        self.rebuild();
    }

    /// Sets the differences of other instances: problems, and the schedules that are left to them.
    pub fn set_others(&self, problems: Vec<Problem>, superseded: BTreeSet<ScheduleId>) {
        {
            let mut known = self.others.lock().unwrap_or_else(PoisonError::into_inner);
            let found = (problems, superseded);
            if *known == found {
                return;
            }
            *known = found;
        }
        self.rebuild();
    }

    /// Merges all parts; notifies watchers if the plan changed.
    fn rebuild(&self) {
        // One rebuild at a time: an older merge must never overwrite a newer one.
        let slots = self.slots();
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let parts = || slots.values().map(|s| &s.part);
        let types = self.types_of(&slots);
        let completed = |p: &SourcePart| -> Vec<Definition> {
            let all = p.definitions.iter();
            all.map(|d| types.complete(d, &p.stated)).collect()
        };
        let mut definitions: Vec<Definition> = parts().flat_map(completed).collect();
        let refused = calls::take_refused(&self.functions, &mut definitions);
        let triggers = parts().flat_map(|p| &p.triggers);
        let mut triggers = triggers.map(|t| types.complete_trigger(t)).collect();
        let circles = after::resolve(
            &after::types_of(self.functions.all().values().map(|f| &**f)),
            &mut triggers,
        );
        self.publish_triggers(triggers);
        let of_all: Vec<Problem> = circles
            .iter()
            .chain(refused.iter().flat_map(|r| &r.problems))
            .cloned()
            .collect();
        let mut problems: Vec<Problem> = parts().flat_map(|p| p.problems.iter().cloned()).collect();
        problems.extend(of_all.iter().cloned());
        calls::drop_triggered(&mut problems, &definitions);
        problems.extend(calls::doubts(&self.functions, &definitions));
        problems.extend(no_occurrence_left(&definitions, self.now()));
        let served = taken.queues.map(Served::Live);
        let unserved: BTreeSet<String> = match &served {
            Some(served) => {
                problems.extend(not_served(&definitions, served));
                let functions = self.functions.all();
                let functions = functions.values().map(|function| &**function);
                problems.extend(calls::not_served(functions, &problems, served));
                let enabled = definitions.iter().filter(|d| d.enabled);
                let queues = enabled
                    .map(|d| d.task.queue.as_str())
                    .filter(|queue| !served.covers(queue));
                queues.map(str::to_owned).collect()
            }
            None => BTreeSet::new(),
        };
        let knows = |kind: &str| {
            let known = taken.types.as_ref().filter(|_| !kind.starts_with(FUNCTION_PREFIX))?;
            Some(known.iter().any(|k| TypePattern::parse(k).matches(kind)))
        };
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = refused;
        let (differences, superseded) = self.others.lock().unwrap_or_else(PoisonError::into_inner).clone();
        problems.extend(differences);
        let plan = Plan {
            unserved,
            superseded,
            scopes: slots.iter().map(|(source, slot)| (*source, slot.scope())).collect(),
            ..merge(definitions, problems, knows)
        };
        let changed = self.plan.send_if_modified(|current| {
            let changed = **current != plan;
            if changed {
                *current = Arc::new(plan);
            }
            changed
        });
        self.of_all.lock().unwrap_or_else(PoisonError::into_inner).tell(&of_all);
        if changed {
            let mut doubts = self.doubts.lock().unwrap_or_else(PoisonError::into_inner);
            doubts.tell(&self.plan.borrow().problems);
        }
    }

    /// Listeners are notified only if anything changed.
    fn publish_triggers(&self, triggers: Vec<TriggerDefinition>) {
        self.triggers.send_if_modified(|current| {
            let changed = current.len() != triggers.len() || current.iter().zip(&triggers).any(|(a, b)| **a != *b);
            if changed {
                *current = Arc::new(triggers.into_iter().map(Arc::new).collect());
            }
            changed
        });
    }

    /// Where each function of a manifest is defined, by name.
    #[must_use]
    pub fn places(&self) -> Arc<BTreeMap<String, String>> {
        let slots = self.slots();
        let places = slots.get(&Source::Manifest).map(|slot| Arc::clone(&slot.part.places));
        places.unwrap_or_default()
    }

    /// Functions and rows of which nothing is in force, in the order of the sources; then schedules whose payload is refused.
    #[must_use]
    pub fn rejected(&self) -> Vec<Rejected> {
        let slots = self.slots();
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let of_sources = slots.values().flat_map(|s| s.part.rejected.iter().cloned());
        of_sources.chain(refused).collect()
    }

    /// The status of every source.
    #[must_use]
    pub fn statuses(&self) -> Vec<SourceStatus> {
        let plan = Arc::clone(&self.plan.borrow());
        let status = |(source, slot): (&Source, &Slot)| SourceStatus {
            source: *source,
            place: slot.place.clone(),
            state: slot.state.clone(),
            last_sync: slot.last_sync,
            schedules: plan.schedules.values().filter(|d| d.origin.source == *source).count(),
            errors: plan
                .problems
                .iter()
                .filter(|p| p.severity == Severity::Error && p.source == Some(*source))
                .count(),
        };
        self.slots().iter().map(status).collect()
    }
}

/// Requests that a source is read now, and notifies when that is done.
pub struct Refresh {
    /// Wakes the loop.
    pub wake: Notify,
    asked: AtomicU64,
    done: watch::Sender<u64>,
}

impl Default for Refresh {
    fn default() -> Self {
        Self {
            wake: Notify::new(),
            asked: AtomicU64::new(0),
            done: watch::Sender::new(0),
        }
    }
}

impl Refresh {
    /// Requests a look that begins after this call. Returns the number to wait for.
    pub fn ask(&self) -> u64 {
        let number = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        self.wake.notify_one();
        number
    }

    /// Call at the beginning of a look: returns the last request that it answers.
    #[must_use]
    pub fn begin(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }

    /// Call at the end of that look.
    pub fn end(&self, asked: u64) {
        self.done.send_replace(asked);
    }

    /// Waits until look `number` is done, at most for `limit`. Returns whether it was.
    pub async fn wait(&self, number: u64, limit: Duration) -> bool {
        let mut done = self.done.subscribe();
        let reached = done.wait_for(|d| *d >= number);
        matches!(tokio::time::timeout(limit, reached).await, Ok(Ok(_)))
    }
}

#[cfg(test)]
#[path = "shared_tests.rs"]
mod tests;
