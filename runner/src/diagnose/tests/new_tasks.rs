//! A task that is about to be enqueued: its type and its payload.

use std::collections::BTreeMap;
use std::time::Duration;

use runner_core::function::{ExecSpec, Function, FunctionKind, FunctionOptions, Functions};
use runner_core::task::{Run, Task, TaskState};

use super::{Case, at, case, queue};
use crate::diagnose::*;

fn functions() -> Functions {
    let function = |name: &str, kind| Function {
        name: name.to_owned(),
        description: String::new(),
        kind,
        options: FunctionOptions::default(),
        payload: None,
        payload_schema: None,
        limits: Vec::new(),
        notify: Default::default(),
        revision: String::new(),
    };
    Functions::new(vec![
        function(
            "report",
            FunctionKind::Handler {
                kind: "task:report".to_owned(),
            },
        ),
        function("backup", FunctionKind::Exec(ExecSpec::new(["true"]))),
    ])
}

pub(super) fn new_task(kind: &str, change: impl FnOnce(&mut FunctionFacts<'_>)) -> Vec<Reason> {
    let functions = functions();
    let mut facts = FunctionFacts {
        functions: &functions,
        broken: BTreeMap::new(),
        built_in: false,
        payload_fault: None,
    };
    change(&mut facts);
    why_new_task(kind, &facts)
}

pub(super) fn cases_of_new_tasks() -> Vec<Case> {
    use ReasonCode::*;
    let broken = |name: &'static str| {
        move |facts: &mut FunctionFacts<'_>| drop(facts.broken.insert(name.to_owned(), "a.yaml:1".to_owned()))
    };
    let fault = |facts: &mut FunctionFacts<'_>| facts.payload_fault = Some("expected value".to_owned());
    vec![
        case(NoFunction, new_task("fn:bakcup", |_| ()), new_task("fn:backup", |_| ())),
        case(
            FunctionOfHandler,
            new_task("fn:report", |_| ()),
            new_task("fn:backup", |_| ()),
        ),
        case(
            FunctionBroken,
            new_task("fn:bad", broken("bad")),
            new_task("fn:bad", broken("other")),
        ),
        case(
            TypeIsFunction,
            new_task("backup", |_| ()),
            new_task("backup", |facts| facts.built_in = true),
        ),
        case(
            PayloadNotJson,
            new_task("fn:backup", fault),
            new_task("fn:backup", |_| ()),
        ),
    ]
}

#[test]
fn a_task_to_enqueue_waits_as_the_stored_one_would() {
    let mut new = Task::new("mail").queue(queue("low"));
    let of = |new: &Task| TaskFacts::to_enqueue(new, at(0));
    assert_eq!(of(&new).state, TaskState::Pending);
    new.group = Some("g".to_owned());
    assert_eq!(of(&new).state, TaskState::Aggregating);
    new.run = Run::In(Duration::from_secs(60));
    assert_eq!(
        (of(&new).state, of(&new).next_run),
        (TaskState::Scheduled, Some(at(60)))
    );
    assert_eq!(of(&new).never_runs(at(0)), None);
    new.deadline = Some(at(60));
    assert_eq!(of(&new).never_runs(at(0)).unwrap().code, ReasonCode::DeadlineFirst);
    new.run = Run::At(at(-60));
    assert_eq!(
        (of(&new).state, of(&new).never_runs(at(0))),
        (TaskState::Aggregating, None)
    );
}
