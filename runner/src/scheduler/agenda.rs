//! Every schedule with its cursor, ordered by the instant of its next fire.
//!
//! Pure bookkeeping of one instance. The cursors here are copies; the broker's are authoritative.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use runner_core::schedule::{Ahead, Definition, Plan, ScheduleId, Severity, jitter_of};
use runner_queue::{EntryView, Held, Registration, Standing};

/// Schedules registered in one call.
const REGISTER_BATCH: usize = 500;

#[derive(Debug)]
struct Item {
    definition: Definition,
    revision: String,
    /// `None` until the broker has answered.
    cursor: Option<Timestamp>,
    /// Future occurrences that are already decided.
    ahead: Ahead,
    scope: String,
    paused: bool,
    last: Option<Timestamp>,
    next_fire: Option<Timestamp>,
}

/// All schedules of the plan and when each fires next.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    items: BTreeMap<ScheduleId, Item>,
    due: BTreeSet<(Timestamp, ScheduleId)>,
    unregistered: BTreeSet<ScheduleId>,
    /// Schedules not yet held at the broker in this instance's name.
    unheld: BTreeSet<ScheduleId>,
    /// Schedules that left the plan and must be withdrawn, with their scope.
    gone: Vec<(String, ScheduleId)>,
}

impl Agenda {
    /// Adopts a new plan: unchanged schedules keep their cursor, changed ones are registered again, removed ones will be
    /// withdrawn unless they are only broken. `scope_of` names the source of a definition.
    pub(super) fn adopt(&mut self, plan: &Plan, scope_of: impl Fn(&Definition) -> String) {
        let gone: Vec<ScheduleId> = self
            .items
            .keys()
            .filter(|id| !plan.schedules.contains_key(*id) || plan.superseded.contains(*id))
            .cloned()
            .collect();
        for id in gone {
            self.drop_due(&id);
            self.unregistered.remove(&id);
            self.unheld.remove(&id);
            let broken = plan.problems_of(&id).any(|p| p.severity == Severity::Error);
            let superseded = plan.schedules.contains_key(&id);
            if let Some(item) = self.items.remove(&id).filter(|_| !broken && !superseded) {
                self.gone.push((item.scope, id));
            }
        }
        // Another instance has the version that counts: leave the schedule to it.
        let ours = plan.schedules.iter().filter(|(id, _)| !plan.superseded.contains(*id));
        for (id, definition) in ours {
            let revision = definition.revision();
            match self.items.get_mut(id) {
                Some(item) if item.revision == revision => {
                    if item.definition != *definition {
                        item.definition = definition.clone();
                        self.plan_next(id);
                    }
                }
                _ => {
                    self.drop_due(id);
                    let item = Item {
                        definition: definition.clone(),
                        revision,
                        cursor: None,
                        ahead: Ahead::default(),
                        scope: scope_of(definition),
                        paused: false,
                        last: None,
                        next_fire: None,
                    };
                    self.items.insert(id.clone(), item);
                    self.unregistered.insert(id.clone());
                    self.unheld.insert(id.clone());
                }
            }
        }
    }

    /// Schedules that left the plan, by scope.
    pub(super) fn gone(&self) -> BTreeMap<String, Vec<ScheduleId>> {
        let mut gone: BTreeMap<String, Vec<ScheduleId>> = BTreeMap::new();
        for (scope, id) in &self.gone {
            gone.entry(scope.clone()).or_default().push(id.clone());
        }
        gone
    }

    /// All schedules in [`Self::gone`] were withdrawn.
    pub(super) fn withdrawn(&mut self) {
        self.gone.clear();
    }

    /// Schedules that this instance has and does not yet hold at the broker.
    pub(super) fn unheld(&self) -> Vec<Held> {
        let items = self.unheld.iter().filter_map(|id| Some((id, self.items.get(id)?)));
        items
            .map(|(id, item)| Held {
                id: id.clone(),
                revision: item.revision.clone(),
                scope: item.scope.clone(),
            })
            .collect()
    }

    /// The broker has recorded everything this instance has.
    pub(super) fn all_held(&mut self) {
        self.unheld.clear();
    }

    /// The broker lost what this instance holds; hold everything again.
    pub(super) fn none_held(&mut self) {
        self.unheld = self.items.keys().cloned().collect();
    }

    /// The next batch of schedules to register.
    pub(super) fn unregistered(&self) -> Vec<Registration> {
        let known = self.unregistered.iter().take(REGISTER_BATCH);
        known
            .filter_map(|id| {
                let item = self.items.get(id)?;
                Some(Registration {
                    id: id.clone(),
                    revision: item.revision.clone(),
                })
            })
            .collect()
    }

    /// Records the answer to a registration.
    pub(super) fn registered(&mut self, registration: &Registration, standing: &Standing) {
        self.unregistered.remove(&registration.id);
        if let Some(item) = self.items.get_mut(&registration.id) {
            item.cursor = Some(standing.cursor);
            item.ahead.clone_from(&standing.ahead);
            item.paused = standing.paused.is_some();
            item.last = standing.last.as_ref().map(|(nominal, _)| *nominal);
        }
        self.plan_next(&registration.id);
    }

    /// The cursor moved here; `fired` is the newest occurrence that was enqueued, if any.
    pub(super) fn moved(&mut self, id: &ScheduleId, cursor: Timestamp, fired: Option<Timestamp>) {
        if let Some(item) = self.items.get_mut(id) {
            item.cursor = Some(cursor);
            item.last = fired.or(item.last);
        }
        self.plan_next(id);
    }

    /// Another instance decided; adopts its cursor.
    pub(super) fn adopt_cursor(&mut self, id: &ScheduleId, standing: &Standing) {
        if let Some(item) = self.items.get_mut(id) {
            item.cursor = Some(standing.cursor);
            item.ahead.clone_from(&standing.ahead);
            item.paused = standing.paused.is_some();
            item.last = standing.last.as_ref().map(|(nominal, _)| *nominal);
        }
        self.plan_next(id);
    }

    /// Some future occurrences are already decided.
    pub(super) fn ahead(&mut self, id: &ScheduleId, ahead: Ahead) {
        if let Some(item) = self.items.get_mut(id) {
            item.ahead = ahead;
        }
        self.plan_next(id);
    }

    /// An operator paused it; [`Self::recheck_doubtful`] asks for it again.
    pub(super) fn paused(&mut self, id: &ScheduleId) {
        if let Some(item) = self.items.get_mut(id) {
            item.paused = true;
        }
        self.plan_next(id);
    }

    /// The broker does not know the schedule (any more): register it again.
    pub(super) fn unknown(&mut self, id: &ScheduleId) {
        if let Some(item) = self.items.get_mut(id) {
            item.cursor = None;
            self.unregistered.insert(id.clone());
        }
        self.plan_next(id);
    }

    /// Registers again every schedule that is paused, or whose cursor is later than `latest`, the maximum that is plausible.
    pub(super) fn recheck_doubtful(&mut self, latest: Timestamp) {
        let doubtful = |item: &Item| item.paused || item.cursor.is_some_and(|cursor| cursor > latest);
        let doubtful = self.items.iter().filter(|(_, item)| doubtful(item));
        self.unregistered.extend(doubtful.map(|(id, _)| id.clone()));
    }

    /// At most `limit` schedules with a fire not after `now`, with their cursors and the occurrences already decided: the
    /// earliest first, or the latest first.
    pub(super) fn due(&self, now: Timestamp, limit: usize, from_last: bool) -> Vec<(&Definition, Timestamp, &Ahead)> {
        let look = |(_, id): &(Timestamp, ScheduleId)| {
            let item = self.items.get(id)?;
            Some((&item.definition, item.cursor?, &item.ahead))
        };
        let due = self.due.iter().take_while(|(at, _)| *at <= now);
        match from_last {
            false => due.take(limit).filter_map(look).collect(),
            true => {
                let due: Vec<_> = due.collect();
                due.into_iter().rev().take(limit).filter_map(look).collect()
            }
        }
    }

    /// The earliest next fire of all schedules.
    pub(super) fn next_fire(&self) -> Option<Timestamp> {
        self.due.first().map(|(at, _)| *at)
    }

    /// All schedules as other tools see them.
    pub(super) fn entries(&self) -> Vec<EntryView> {
        let active = self
            .items
            .iter()
            .filter(|(_, item)| item.definition.enabled && !item.paused);
        active
            .map(|(id, item)| EntryView {
                id: id.clone(),
                spec: item.definition.timing.in_go(),
                task: item.definition.task.clone(),
                next: item.next_fire,
                last: item.last,
            })
            .collect()
    }

    fn plan_next(&mut self, id: &ScheduleId) {
        self.drop_due(id);
        let Some(item) = self.items.get_mut(id) else {
            return;
        };
        item.next_fire = None;
        let (true, false, Some(cursor)) = (item.definition.enabled, item.paused, item.cursor) else {
            return;
        };
        let Some(nominal) = item.ahead.next(&item.definition.timing, cursor) else {
            return;
        };
        let fire_at = nominal
            .checked_add(jitter_of(&item.definition, nominal))
            .unwrap_or(nominal);
        item.next_fire = Some(fire_at);
        self.due.insert((fire_at, id.clone()));
    }

    fn drop_due(&mut self, id: &ScheduleId) {
        if let Some(at) = self.items.get_mut(id).and_then(|item| item.next_fire.take()) {
            self.due.remove(&(at, id.clone()));
        }
    }
}

#[cfg(test)]
#[path = "agenda_tests.rs"]
mod tests;
