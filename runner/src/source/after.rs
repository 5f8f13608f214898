//! Triggers that follow other functions, looked at together: whether those functions exist, and that none starts itself
//! by way of others.
//!
//! A circle would run forever, so the triggers of one are not in force.

use std::collections::{BTreeMap, BTreeSet};

use runner_core::function::Function;
use runner_core::schedule::Problem;
use runner_core::task::covers;
use runner_core::trigger::{AfterTrigger, TriggerDefinition, TriggerId, TriggerKind};

/// The problem of a circle.
const CIRCLE: &str = "E148";

/// The problem of a trigger that follows what is not there.
const NO_FUNCTION: &str = "W218";

/// The types of the tasks of functions, by their names.
pub(super) fn types_of<'a>(functions: impl IntoIterator<Item = &'a Function>) -> BTreeMap<String, String> {
    let all = functions.into_iter();
    all.map(|function| (function.name.clone(), function.task_type()))
        .collect()
}

/// Adds the types of the tasks that triggers follow, and takes out those that would never stop. `types`: those of the
/// tasks of each function.
pub(super) fn resolve(types: &BTreeMap<String, String>, triggers: &mut Vec<TriggerDefinition>) -> Vec<Problem> {
    for after in triggers.iter_mut().filter_map(after_mut) {
        let named = types.get_key_value(&after.function);
        let named = named.map(|(name, kind)| (kind.clone(), name.clone()));
        after.follows = named.into_iter().collect();
    }
    let circular = circles(triggers);
    let mut problems = circle_problems(triggers, &circular);
    triggers.retain(|trigger| !circular.contains_key(&trigger.id));
    fill_patterns(types, triggers);
    problems.extend(triggers.iter().filter_map(follows_nothing));
    problems
}

/// One problem for each circle, at the first of its triggers. Circles of the same functions are one.
fn circle_problems(triggers: &[TriggerDefinition], circular: &BTreeMap<TriggerId, Vec<String>>) -> Vec<Problem> {
    let mut circles: BTreeMap<BTreeSet<&String>, Vec<&TriggerDefinition>> = BTreeMap::new();
    for trigger in triggers {
        if let Some(circle) = circular.get(&trigger.id) {
            circles.entry(circle.iter().collect()).or_default().push(trigger);
        }
    }
    let problem = |mut of: Vec<&TriggerDefinition>| {
        of.sort_by(|one, other| one.id.cmp(&other.id));
        let first = of.first()?;
        let ids: Vec<&str> = of.iter().map(|trigger| trigger.id.as_str()).collect();
        let text = format!(
            "functions start each other in a circle: {}; not in force: {}",
            circular.get(&first.id)?.join(", then "),
            ids.join(", ")
        );
        let hint = "take out one of these triggers, or let it follow another function";
        Some(Problem::error(CIRCLE, text, first.origin.clone()).hint(hint))
    };
    circles.into_values().filter_map(problem).collect()
}

fn follows_nothing(trigger: &TriggerDefinition) -> Option<Problem> {
    let after = after(trigger).filter(|after| after.follows.is_empty())?;
    let text = format!(
        "{} follows the function \"{}\", which no manifest defines; nothing starts it",
        trigger.id, after.function
    );
    Some(Problem::warning(NO_FUNCTION, text, trigger.origin.clone()))
}

/// Adds what patterns match. They leave out the functions that follow patterns and all that these start, because otherwise the
/// failure of a function that reports failures would start it again.
fn fill_patterns(types: &BTreeMap<String, String>, triggers: &mut [TriggerDefinition]) {
    let left_out: BTreeSet<String> = started_by_patterns(triggers).into_iter().map(str::to_owned).collect();
    for after in triggers
        .iter_mut()
        .filter_map(after_mut)
        .filter(|after| after.is_pattern())
    {
        let matching = types.iter().filter(|(name, _)| covers(&after.function, name));
        let followed = matching.filter(|(_, kind)| !left_out.contains(*kind));
        after.follows = followed.map(|(name, kind)| (kind.clone(), name.clone())).collect();
    }
}

/// The types of the tasks that follow patterns, and of those that follow these.
fn started_by_patterns(triggers: &[TriggerDefinition]) -> BTreeSet<&str> {
    let steps = steps(triggers);
    let patterns = triggers
        .iter()
        .filter(|trigger| trigger.enabled && after(trigger).is_some_and(AfterTrigger::is_pattern));
    let mut left: Vec<&str> = patterns.map(|trigger| trigger.task.kind.as_str()).collect();
    let mut found = BTreeSet::new();
    while let Some(kind) = left.pop() {
        if found.insert(kind) {
            let next = steps.get(kind).into_iter().flatten();
            left.extend(next.map(|trigger| trigger.task.kind.as_str()));
        }
    }
    found
}

/// The steps from types of tasks to those that follow them: type, trigger.
type Steps<'a> = BTreeMap<&'a str, Vec<&'a TriggerDefinition>>;

/// The triggers that are part of a circle, with the functions of it, from the followed one back to it.
fn circles(triggers: &[TriggerDefinition]) -> BTreeMap<TriggerId, Vec<String>> {
    let steps = steps(triggers);
    let mut found = BTreeMap::new();
    for trigger in triggers.iter().filter(|trigger| trigger.enabled) {
        let Some(after) = after(trigger) else { continue };
        let Some(kind) = named_type(trigger) else { continue };
        if let Some(way) = way_back(trigger, kind, &steps) {
            let mut names = vec![after.function.clone()];
            names.extend(way.into_iter().map(|step| step.function.clone()));
            found.insert(trigger.id.clone(), names);
        }
    }
    found
}

fn steps(triggers: &[TriggerDefinition]) -> Steps<'_> {
    let mut steps = Steps::new();
    for trigger in triggers.iter().filter(|trigger| trigger.enabled) {
        if let Some(kind) = named_type(trigger) {
            steps.entry(kind).or_default().push(trigger);
        }
    }
    steps
}

/// The type of the tasks that a trigger follows by the name of their function.
fn named_type(trigger: &TriggerDefinition) -> Option<&str> {
    let named = after(trigger).filter(|after| !after.is_pattern())?;
    named.follows.keys().next().map(String::as_str)
}

fn after_mut(trigger: &mut TriggerDefinition) -> Option<&mut AfterTrigger> {
    match &mut trigger.kind {
        TriggerKind::After(after) => Some(after),
        TriggerKind::RabbitMq(_)
        | TriggerKind::RedisStream(_)
        | TriggerKind::Webhook(_)
        | TriggerKind::File(_)
        | TriggerKind::Start => None,
    }
}

fn after(trigger: &TriggerDefinition) -> Option<&AfterTrigger> {
    match &trigger.kind {
        TriggerKind::After(after) => Some(after),
        TriggerKind::RabbitMq(_)
        | TriggerKind::RedisStream(_)
        | TriggerKind::Webhook(_)
        | TriggerKind::File(_)
        | TriggerKind::Start => None,
    }
}

/// The shortest way of triggers from `first` until a task of type `goal` is started again.
fn way_back<'a>(first: &'a TriggerDefinition, goal: &str, steps: &Steps<'a>) -> Option<Vec<&'a TriggerDefinition>> {
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    let mut ways = vec![vec![first]];
    while !ways.is_empty() {
        let mut longer = Vec::new();
        for way in ways {
            let Some(last) = way.last().copied() else { continue };
            let kind = last.task.kind.as_str();
            if kind == goal {
                return Some(way);
            }
            if !seen.insert(kind) {
                continue;
            }
            for step in steps.get(kind).into_iter().flatten() {
                longer.push(way.iter().copied().chain([*step]).collect());
            }
        }
        ways = longer;
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use runner_core::schedule::{Origin, Severity, Source};
    use runner_core::task::Task;
    use runner_core::trigger::FollowOn;

    use super::*;

    /// A trigger of the first function that follows the second.
    fn following(function: &str, other: &str) -> TriggerDefinition {
        TriggerDefinition {
            id: TriggerId::new(function, &format!("after-{other}")),
            function: function.to_owned(),
            origin: Origin {
                source: Source::Manifest,
                place: format!("{function}.yaml:1:1"),
            },
            enabled: true,
            kind: TriggerKind::After(AfterTrigger {
                function: other.to_owned(),
                follows: BTreeMap::new(),
                on: FollowOn::Success,
                payload: None,
            }),
            task: Task::new(type_of(function)),
            payload_schema: None,
        }
    }

    /// Two functions may have one handler.
    fn type_of(function: &str) -> String {
        match function.split_once('=') {
            Some((_, handler)) => handler.to_owned(),
            None => format!("fn:{function}"),
        }
    }

    /// The triggers that are left, and the problems.
    fn resolved(pairs: &[(&str, &str)], missing: &[&str]) -> (Vec<String>, Vec<(Severity, String)>) {
        let names = pairs.iter().flat_map(|(one, other)| [*one, *other]);
        let known = names.filter(|name| !missing.contains(name));
        let types = known.map(|name| (name.to_owned(), type_of(name))).collect();
        let mut triggers = pairs.iter().map(|(one, other)| following(one, other)).collect();
        let problems = resolve(&types, &mut triggers);
        let left = triggers.iter().map(|trigger| trigger.id.to_string());
        (
            left.collect(),
            problems.into_iter().map(|p| (p.severity, p.message)).collect(),
        )
    }

    #[test]
    fn what_follows_without_a_circle_stays() {
        let (left, problems) = resolved(&[("b", "a"), ("c", "a"), ("d", "b"), ("d", "c")], &[]);
        assert_eq!((left.len(), problems), (4, vec![]));
    }

    #[test]
    fn a_circle_is_named_and_taken_out() {
        let (left, problems) = resolved(&[("a", "c"), ("b", "a"), ("c", "b"), ("d", "a")], &[]);
        assert_eq!(left, ["d:after-a"]);
        let text = "functions start each other in a circle: c, then a, then b, then c; not in force: a:after-c, b:after-a, c:after-b";
        assert_eq!(problems, [(Severity::Error, text.to_owned())]);
        // Two circles are two problems.
        let (left, problems) = resolved(&[("a", "b"), ("b", "a"), ("x", "y"), ("y", "x")], &[]);
        assert_eq!((left.len(), problems.len()), (0, 2), "{problems:?}");
        let (left, problems) = resolved(&[("a", "a")], &[]);
        assert!(
            left.is_empty()
                && problems[0]
                    .1
                    .contains("in a circle: a, then a; not in force: a:after-a"),
            "{problems:?}"
        );
    }

    #[test]
    fn functions_of_one_handler_are_one_in_a_circle() {
        let (left, problems) = resolved(&[("a=x", "b=x")], &[]);
        assert!(left.is_empty() && problems.len() == 1, "{problems:?}");
    }

    #[test]
    fn a_pattern_leaves_out_what_it_starts_itself() {
        // Any failure starts `tell`, which `count` follows; `a` and `b` are ordinary.
        let mut triggers = vec![following("tell", "*"), following("count", "tell"), following("b", "a")];
        let names = ["tell", "count", "a", "b"];
        let types = names.map(|name| (name.to_owned(), type_of(name))).into();
        assert_eq!(resolve(&types, &mut triggers), []);
        let follows = |n: usize| after(&triggers[n]).unwrap().follows.clone();
        let both = ["a", "b"].map(|name| (type_of(name), name.to_owned()));
        assert_eq!(follows(0), BTreeMap::from(both));
        assert_eq!(follows(1).len(), 1);
        // Looked at again after an edit.
        let fewer = BTreeMap::from([("tell".to_owned(), type_of("tell")), ("x".to_owned(), type_of("x"))]);
        assert_eq!(resolve(&fewer, &mut triggers[..1].to_vec()), []);
    }

    #[test]
    fn what_follows_nothing_is_a_warning_and_stays() {
        let (left, problems) = resolved(&[("b", "a")], &["a"]);
        assert_eq!(left, ["b:after-a"]);
        let text = "b:after-a follows the function \"a\", which no manifest defines; nothing starts it";
        assert_eq!(problems, [(Severity::Warning, text.to_owned())]);
    }
}
