//! Warnings about a task before it is enqueued: its type and its payload, according to the manifests here.

use std::collections::BTreeMap;

use runner_core::function::Functions;
use runner_core::task::FUNCTION_PREFIX;

use super::reason::Reason;
use super::{ReasonCode, meant};

/// The functions and handlers that are known where the task is enqueued.
#[derive(Debug)]
pub struct FunctionFacts<'a> {
    /// Those in force.
    pub functions: &'a Functions,
    /// Functions of files with errors: name and place.
    pub broken: BTreeMap<String, String>,
    /// Whether this program has a handler of its own for the type.
    pub built_in: bool,
    /// Why the function that is called cannot use the payload.
    pub payload_fault: Option<String>,
}

/// Why a task of this type may wait forever or fail, as far as that is known before it is enqueued.
#[must_use]
pub fn why_new_task(kind: &str, facts: &FunctionFacts<'_>) -> Vec<Reason> {
    let Some(name) = kind.strip_prefix(FUNCTION_PREFIX) else {
        return not_a_type(kind, facts).into_iter().collect();
    };
    let about = |code| Reason::new(code).with("function", name);
    let found = match (
        facts.functions.get(name).map(|f| f.kind.clone()),
        facts.broken.get(name),
    ) {
        (None, Some(place)) => Some(about(ReasonCode::FunctionBroken).with("place", place.as_str())),
        (None, None) => {
            let names: Vec<String> = facts.functions.names().into_iter().collect();
            let meant = meant(name, &names).map(|name| format!("{FUNCTION_PREFIX}{name}"));
            Some(about(ReasonCode::NoFunction).with_some("meant", meant))
        }
        (Some(kind), _) => {
            let handler = kind.handler_type();
            handler.map(|kind| about(ReasonCode::FunctionOfHandler).with("type", kind))
        }
    };
    let fault = facts.payload_fault.as_deref();
    let fault = fault.map(|why| about(ReasonCode::PayloadNotJson).with("why", why));
    found.into_iter().chain(fault).collect()
}

fn not_a_type(kind: &str, facts: &FunctionFacts<'_>) -> Option<Reason> {
    let function = facts.functions.get(kind)?;
    let other = function.task_type();
    let other_type = other != kind && !facts.built_in;
    other_type.then(|| {
        Reason::new(ReasonCode::TypeIsFunction)
            .with("type", kind)
            .with("meant", other)
    })
}
