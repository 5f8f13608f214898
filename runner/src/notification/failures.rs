//! Failures for good: the notification is enqueued in the very step that archives the task, so that neither a lost answer nor
//! the end of a process loses or doubles it.
//!
//! Not here: what is noticed by looking at the store from time to time.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};

use runner_core::clock::Clock;
use runner_core::function::{Function, Functions};
use runner_core::notification::{NOTIFICATION_TYPE, Notification, NotifyOn, NotifyRules};
use runner_core::schedule::{Definition, Plan, SCHEDULE_HEADER, ScheduleId};
use runner_queue::{Delivery, EndedTask, FollowUps, TaskEnd, TaskRecord};
use tokio::sync::watch;

use super::NotificationSettings;
use super::identity::{joined, to_delivery};
use super::link::add_link;

/// What people hear of tasks of one type, or of one schedule.
#[derive(Clone)]
struct Hears {
    /// The function, or the schedule's label.
    name: String,
    channels: Vec<String>,
}

type ByName = BTreeMap<String, Arc<Function>>;

/// The rules in force, by what a task says of itself.
#[derive(Default)]
struct Index {
    plan: Arc<Plan>,
    functions: Arc<ByName>,
    /// Types of whose tasks any channel hears.
    by_type: HashMap<String, Hears>,
    by_schedule: HashMap<ScheduleId, Hears>,
}

impl Index {
    fn new(plan: Arc<Plan>, functions: Arc<ByName>, default: &NotifyRules) -> Self {
        let heard = |name: &str, rules: &NotifyRules| Hears {
            name: name.to_owned(),
            channels: rules.or(default).channels(NotifyOn::Failure).to_vec(),
        };
        let (mut by_type, mut by_schedule) = (HashMap::<String, Hears>::new(), HashMap::new());
        for function in functions.values() {
            let hears = heard(&function.name, &function.notify);
            // Of several functions with one handler one that a channel hears of.
            let known = by_type.entry(function.task_type()).or_insert_with(|| hears.clone());
            if known.channels.is_empty() {
                *known = hears;
            }
        }
        // Types of tasks that a channel hears of by their schedule.
        let mut scheduled = HashSet::new();
        for definition in plan.schedules.values() {
            // A row or a schedule in code has no rules of its own, and its function may have some.
            let own = rules_of(definition, &functions);
            let hears = heard(definition.function().unwrap_or(&definition.name), &own);
            if !hears.channels.is_empty() {
                let silent = Hears {
                    name: hears.name.clone(),
                    channels: Vec::new(),
                };
                by_type.entry(definition.task.kind.clone()).or_insert(silent);
                scheduled.insert(definition.task.kind.as_str());
            }
            by_schedule.insert(definition.id.clone(), hears);
        }
        by_type.retain(|kind, hears| {
            let heard = !hears.channels.is_empty() || scheduled.contains(kind.as_str());
            heard && kind != NOTIFICATION_TYPE
        });
        Self {
            plan,
            functions,
            by_type,
            by_schedule,
        }
    }

    /// Who hears of this task: the nearest rules count.
    fn hears(&self, task: &TaskRecord) -> Option<&Hears> {
        let of_type = self.by_type.get(&task.kind)?;
        let of_schedule = schedule_of(task).and_then(|id| self.by_schedule.get(&id));
        Some(of_schedule.unwrap_or(of_type)).filter(|hears| !hears.channels.is_empty())
    }
}

/// The rules of a schedule, and those of the function that it runs where it states none.
pub(super) fn rules_of(definition: &Definition, functions: &BTreeMap<String, Arc<Function>>) -> NotifyRules {
    let named = definition.function().and_then(|name| functions.get(name));
    let function = named.or_else(|| functions.values().find(|one| one.task_type() == definition.task.kind));
    match function {
        Some(function) => definition.notify.or(&function.notify),
        None => definition.notify.clone(),
    }
}

/// The schedule that a task belongs to. Any client can write headers, so the id must agree.
fn schedule_of(task: &TaskRecord) -> Option<ScheduleId> {
    let named = task.headers.get(SCHEDULE_HEADER)?;
    let rest = task.id.as_str().strip_prefix(named.as_str())?;
    rest.starts_with('@').then(|| ScheduleId::from_text(named.as_str()))
}

/// Which failures are reported, by the functions and schedules that are in force at the moment of the failure.
pub struct FailureNotifications {
    plan: watch::Receiver<Arc<Plan>>,
    functions: Functions,
    settings: NotificationSettings,
    clock: Arc<dyn Clock>,
    index: RwLock<Arc<Index>>,
}

impl FailureNotifications {
    /// By every plan and every set of functions that is in force.
    #[must_use]
    pub fn new(
        plan: watch::Receiver<Arc<Plan>>,
        functions: Functions,
        settings: NotificationSettings,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            plan,
            functions,
            settings,
            clock,
            index: RwLock::default(),
        }
    }

    /// Made again when manifests or rows have changed, by the first caller: a task must not end by an old set.
    fn index(&self) -> Arc<Index> {
        let (plan, functions) = (Arc::clone(&self.plan.borrow()), self.functions.all());
        let known = Arc::clone(&self.index.read().unwrap_or_else(PoisonError::into_inner));
        if Arc::ptr_eq(&known.plan, &plan) && Arc::ptr_eq(&known.functions, &functions) {
            return known;
        }
        let new = Arc::new(Index::new(plan, functions, &self.settings.default));
        *self.index.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&new);
        new
    }
}

impl FollowUps for FailureNotifications {
    fn any(&self) -> bool {
        !self.index().by_type.is_empty()
    }

    fn follow(&self, kind: &str) -> bool {
        self.index().by_type.contains_key(kind)
    }

    fn after(&self, ended: &EndedTask<'_>) -> Vec<Delivery> {
        if ended.end != TaskEnd::Failed {
            return Vec::new();
        }
        let index = self.index();
        let Some(hears) = index.hears(ended.task) else {
            return Vec::new();
        };
        let task = ended.task;
        let what = joined([task.queue.as_str(), task.id.as_str(), &ended.run.to_string()]);
        let mut notification = self.notification(&hears.name, ended);
        add_link(&mut notification, self.settings.dashboard.as_deref());
        let each = hears.channels.iter().filter_map(|channel| {
            let own = Notification {
                channel: channel.clone(),
                ..notification.clone()
            };
            to_delivery(&own, &what)
        });
        each.collect()
    }
}

impl FailureNotifications {
    fn notification(&self, name: &str, ended: &EndedTask<'_>) -> Notification {
        let task = ended.task;
        let title = format!("{name} failed for good");
        let mut notification = Notification::new("", NotifyOn::Failure, self.clock.now(), title);
        notification = notification.error(ended.error.unwrap_or_default());
        notification.function = Some(name.to_owned());
        notification.schedule = schedule_of(task).map(|id| id.to_string());
        notification.task = Some(task.id.to_string());
        notification.queue = Some(task.queue.to_string());
        let error = notification.error.as_deref().unwrap_or_default();
        notification.text = format!(
            "{name} failed for good: {error}\ntask {} in queue {}",
            task.id, task.queue
        );
        notification
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use jiff::tz::TimeZone;
    use runner_core::cron::DstRule;
    use runner_core::function::{FunctionKind, FunctionOptions};
    use runner_core::schedule::{Origin, Source, Timing};
    use runner_core::task::Task;

    use super::*;

    fn rules(channel: &str) -> NotifyRules {
        let mut rules = NotifyRules::default();
        rules.set(NotifyOn::Failure, vec![channel.to_owned()]);
        rules
    }

    fn row(kind: &str) -> Definition {
        let timing = Timing::parse("row", "0 2 * * *", "UTC", &TimeZone::UTC, DstRule::default()).unwrap();
        let origin = Origin {
            source: Source::Table,
            place: "sys_crontab id 7".to_owned(),
        };
        Definition::new(ScheduleId::from_text("d:7"), "row", origin, timing, Task::new(kind))
    }

    #[test]
    fn a_row_has_the_rules_of_the_function_that_it_runs() {
        let function = Function {
            name: "invoices".to_owned(),
            description: String::new(),
            kind: FunctionKind::Handler {
                kind: "invoices:make".to_owned(),
            },
            options: FunctionOptions::default(),
            payload: None,
            payload_schema: None,
            limits: Vec::new(),
            notify: rules("ops"),
            revision: String::new(),
        };
        let functions = BTreeMap::from([("invoices".to_owned(), Arc::new(function))]);
        let heard = |definition: &Definition| rules_of(definition, &functions).channels(NotifyOn::Failure).to_vec();
        assert_eq!(heard(&row("invoices:make")), ["ops"]);
        assert_eq!(heard(&row("fn:invoices")), ["ops"]);
        assert!(heard(&row("other")).is_empty());
        let own = Definition {
            notify: rules("own"),
            ..row("fn:invoices")
        };
        assert_eq!(heard(&own), ["own"], "the nearest counts");
    }
}
