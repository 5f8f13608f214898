//! Schedules that call a function of a manifest by its name: whether that function exists and accepts the payload.
//! Also functions of manifests that nothing calls. Only warns, except about payloads that do not fit a schema.

use std::collections::{BTreeMap, BTreeSet};

use runner_core::function::{Function, Functions, PayloadFault};
use runner_core::schedule::{Definition, Origin, Problem, Served, Source, queue_not_served};
use runner_core::task::{FUNCTION_PREFIX, QueueName};

use super::status::Rejected;

/// The problem of a function that its manifest gives no schedule.
pub const NOT_TRIGGERED: &str = "W201";

/// The problem of a schedule whose payload does not fit the schema of its function.
pub const BAD_PAYLOAD: &str = "E154";

/// Takes out the schedules whose payload does not fit the schema of what they call: they must not fire.
pub fn take_refused(functions: &Functions, definitions: &mut Vec<Definition>) -> Vec<Rejected> {
    let mut refused = Vec::new();
    definitions.retain(|definition| {
        let payload = definition.task.payload.as_deref().unwrap_or_default();
        let Some(fault) = functions.payload_fault(&definition.task.kind, payload) else {
            return true;
        };
        let text = format!("{} does not fire: {fault}", definition.id);
        let problem = Problem::error(BAD_PAYLOAD, text, definition.origin.clone());
        refused.push(Rejected {
            id: Some(definition.id.clone()),
            name: definition.name.clone(),
            origin: definition.origin.clone(),
            problems: vec![problem.about(definition.id.clone())],
        });
        false
    });
    refused
}

/// Removes the warning that nothing triggers a function which a row or a schedule in code names as its type.
pub fn drop_triggered(problems: &mut Vec<Problem>, definitions: &[Definition]) {
    let others = definitions.iter().filter(|d| d.origin.source != Source::Manifest);
    let types: BTreeSet<&str> = others.map(|d| d.task.kind.as_str()).collect();
    let triggered = |function: &String| types.contains(function.as_str());
    problems.retain(|p| p.code != NOT_TRIGGERED || !p.function.as_ref().is_some_and(triggered));
}

/// Warnings about functions that nothing schedules, if no worker serves the queue of their manual tasks.
/// `problems` says which functions have no schedule, and where they are defined.
pub fn not_served<'a>(
    functions: impl IntoIterator<Item = &'a Function>,
    problems: &[Problem],
    served: &Served,
) -> Vec<Problem> {
    let queue = |f: &Function| f.options.queue.clone().unwrap_or_default();
    let queues: BTreeMap<String, QueueName> = functions.into_iter().map(|f| (f.task_type(), queue(f))).collect();
    let by_hand = problems.iter().filter(|p| p.code == NOT_TRIGGERED);
    let warning = |p: &Problem| {
        let queue = queues.get(p.function.as_ref()?)?;
        let origin = Origin {
            source: p.source?,
            place: p.place.clone(),
        };
        let mut problem = queue_not_served(queue, &origin, served)?;
        problem.function.clone_from(&p.function);
        Some(problem)
    };
    by_hand.filter_map(warning).collect()
}

/// Warnings about enabled schedules of rows and code that call functions.
#[must_use]
pub fn doubts(functions: &Functions, definitions: &[Definition]) -> Vec<Problem> {
    let all = functions.all();
    let enabled = definitions.iter().filter(|definition| definition.enabled);
    let doubts = enabled.filter_map(|definition| {
        let name = definition.task.kind.strip_prefix(FUNCTION_PREFIX)?;
        let function = all.get(name).map(|function| &function.kind);
        let payload = definition.task.payload.as_deref().unwrap_or_default();
        let (code, text) = match function {
            None => (
                "W212",
                format!("no manifest defines the function \"{name}\"; its tasks wait for one"),
            ),
            Some(kind) => match kind.handler_type() {
                Some(kind) => (
                    "W213",
                    format!("the function \"{name}\" is run by the handler {kind:?}; write that as the type"),
                ),
                None => ("W254", of_payload(name, &kind.payload_fault(payload)?)),
            },
        };
        Some(Problem::warning(code, text, definition.origin.clone()).about(definition.id.clone()))
    });
    doubts.collect()
}

fn of_payload(name: &str, fault: &PayloadFault) -> String {
    let PayloadFault {
        use_of_json,
        why,
        remedy,
    } = fault;
    format!("the function \"{name}\" {use_of_json}, and this payload is not JSON ({why}), so its tasks fail; {remedy}")
}
