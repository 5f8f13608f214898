//! Merges the three sources. A union: nothing overrides silently, duplicates are reported.
//!
//! Merging cannot fail. It yields a plan and its problems, each with its origin.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Definition, Problem, ScheduleId, Source, stable_hash};

/// All schedules, with the problems found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// By identity, including disabled ones.
    pub schedules: BTreeMap<ScheduleId, Definition>,
    /// From all sources and from merging.
    pub problems: Vec<Problem>,
    /// Queues of enabled schedules that no live server is known to serve.
    pub unserved: BTreeSet<String>,
    /// Schedules of which another instance has the version that counts: that instance decides them.
    pub superseded: BTreeSet<ScheduleId>,
    /// The sources of the plan.
    pub scopes: BTreeMap<Source, Scope>,
}

/// A source as it was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// The directory or the database; identifies the source across restarts.
    pub place: String,
    /// Whether everything in it was read: only then is a missing schedule known to be removed.
    pub complete: bool,
}

impl Plan {
    /// The problems of this schedule, or of the command that all schedules of its function run.
    pub fn problems_of<'a>(&'a self, id: &'a ScheduleId) -> impl Iterator<Item = &'a Problem> + 'a {
        /// About the schedule's function.
        const OF_FUNCTION: [&str; 3] = ["W301", "W302", "E306"];
        let same_function = |p: &Problem, other: &ScheduleId| {
            OF_FUNCTION.contains(&p.code.as_str()) && id.function().is_some() && id.function() == other.function()
        };
        let concerns = move |p: &Problem| {
            let about = p.schedule.as_ref();
            about.is_some_and(|other| other == id || same_function(p, other))
        };
        self.problems.iter().filter(move |p| concerns(p))
    }
}

/// Merges `definitions`; `problems` are those that the sources found.
///
/// `knows` returns whether a live worker runs tasks of a type; `None` means unknown yet.
#[must_use]
pub fn merge(
    definitions: impl IntoIterator<Item = Definition>,
    mut problems: Vec<Problem>,
    knows: impl Fn(&str) -> Option<bool>,
) -> Plan {
    let mut schedules: BTreeMap<ScheduleId, Definition> = BTreeMap::new();
    for definition in definitions {
        if let Some(first) = schedules.get(&definition.id) {
            let text = format!(
                "{} is already defined at {}; this one is not in force",
                definition.id, first.origin.place
            );
            problems.push(Problem::error("E401", text, definition.origin.clone()).about(definition.id));
            continue;
        }
        schedules.insert(definition.id.clone(), definition);
    }
    problems.extend(look_alikes(&schedules));
    for definition in schedules.values() {
        if definition.enabled && knows(&definition.task.kind) == Some(false) {
            let text = format!(
                "no live worker has registered {:?}; its tasks wait for one",
                definition.task.kind
            );
            problems.push(Problem::warning("W210", text, definition.origin.clone()).about(definition.id.clone()));
        }
    }
    Plan {
        schedules,
        problems,
        unserved: BTreeSet::new(),
        superseded: BTreeSet::new(),
        scopes: BTreeMap::new(),
    }
}

/// A warning for each schedule that duplicates another one.
fn look_alikes(schedules: &BTreeMap<ScheduleId, Definition>) -> Vec<Problem> {
    let mut groups: HashMap<(u64, String, u64), Vec<&Definition>> = HashMap::new();
    for definition in schedules.values().filter(|d| d.enabled) {
        let payload = definition.task.payload.as_deref().unwrap_or_default();
        let payload = stable_hash(&[&String::from_utf8_lossy(payload)]);
        let key = (definition.timing.fingerprint(), definition.task.kind.clone(), payload);
        groups.entry(key).or_default().push(definition);
    }
    let mut found = Vec::new();
    for group in groups.values().filter(|g| g.len() > 1) {
        for (index, definition) in group.iter().enumerate() {
            let other = group[usize::from(index == 0)];
            let text = format!(
                "{} and {} look like the same schedule; both fire",
                definition.id, other.id
            );
            found.push(Problem::warning("W240", text, definition.origin.clone()).about(definition.id.clone()));
        }
    }
    found.sort_by(|a, b| a.schedule.cmp(&b.schedule));
    found
}
