//! The registry and the extractors as an author of handlers uses them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;
use std::time::Duration;

use runner_core::function::Functions;
use runner_sdk::testing::{Trial, TrialError};
use runner_sdk::{
    Bytes, Ctx, Group, GroupTask, Json, Outcome, Payload, QueueName, Raw, Registry, State, States, StopReason, Task,
    TaskError, TaskId,
};

async fn one() -> &'static str {
    "one"
}
async fn two() -> &'static str {
    "two"
}
async fn three() -> &'static str {
    "three"
}

async fn outcome(trial: Trial, registry: Registry) -> Outcome {
    trial.run(registry).await.unwrap().outcome
}

#[tokio::test]
async fn the_very_name_wins_then_the_longest_prefix() {
    let handlers = Registry::new()
        .on("report.daily", one)
        .on("report.", two)
        .on_prefix("rep", three)
        .build()
        .unwrap();
    for (kind, expected) in [
        ("report.daily", "one"),
        ("report.daily.x", "two"),
        ("report.", "two"),
        ("report", "three"),
    ] {
        let report = Trial::of(kind).run_with(&handlers).await.unwrap();
        assert_eq!(report.outcome, Outcome::success(expected), "{kind}");
    }
    assert!(!handlers.knows("other") && !handlers.knows("Report.daily"));
    assert_eq!(handlers.names(), ["rep*", "report.*", "report.daily"]);
}

#[tokio::test]
async fn a_prefix_that_does_not_know_a_type_leaves_it_to_a_shorter_one() {
    let functions = Functions::default();
    let (known, listed) = (functions.clone(), functions.clone());
    let handlers = Registry::new()
        .on_prefix_listed("fn:", move |n| known.get(n).is_some(), move || listed.names(), one)
        .on_prefix_if("f", |rest| rest == "ew", two)
        .build()
        .unwrap();
    assert!(!handlers.knows("fn:a") && handlers.knows("few"));
    assert_eq!(handlers.names(), ["f*"]);
    functions.replace(vec![runner_core::function::Function {
        name: "a".into(),
        description: String::new(),
        kind: runner_core::function::FunctionKind::Handler { kind: "k".into() },
        options: Default::default(),
        payload: None,
        payload_schema: None,
        limits: Vec::new(),
        notify: Default::default(),
        revision: String::new(),
    }]);
    assert!(handlers.knows("fn:a"));
    assert_eq!(handlers.names(), ["f*", "fn:a"]);
}

#[test]
fn a_taken_name_is_refused_and_the_first_stays() {
    let registry = Registry::new()
        .on("a", one)
        .on("a", two)
        .on("p.", one)
        .on_prefix("p.", two)
        .state(1_u8)
        .state(2_u8);
    let refused: Vec<_> = registry.errors().iter().map(|e| (e.what, e.name.as_str())).collect();
    assert_eq!(refused, [("handler", "a"), ("prefix", "p."), ("state", "u8")]);
    assert_eq!(registry.state_of::<u8>(), Some(Arc::new(1)));
    let error = registry.build().unwrap_err();
    assert!(error.to_string().contains("handler `a` is registered twice"));
}

#[tokio::test]
async fn a_task_without_handler_is_named() {
    let error = Trial::of("b").run(Registry::new().on("a", one)).await.unwrap_err();
    assert!(matches!(&error, TrialError::Unknown { kind, names } if kind == "b" && names == &["a"]));
}

#[derive(serde::Deserialize)]
struct Order {
    n: u32,
}

async fn double(Payload(order): Payload<Order>) -> Json<u32> {
    Json(order.n * 2)
}

#[tokio::test]
async fn a_payload_that_does_not_fit_is_never_retried() {
    let run = |payload: &'static str| async move {
        outcome(Trial::of("d").payload(payload), Registry::new().on("d", double)).await
    };
    assert_eq!(run(r#"{"n":21}"#).await, Outcome::success("42"));
    for (payload, says) in [
        ("{\"n\":\n\"x\"}", "line 2 column 3"),
        ("", "no payload"),
        ("{\"n\":1", "line 1"),
        ("\u{fffd}", "line 1"),
    ] {
        let Outcome::Skip(text) = run(payload).await else {
            panic!("{payload:?} was accepted");
        };
        assert!(text.contains(says), "{payload:?}: {text}");
    }
}

#[tokio::test]
async fn an_optional_payload_may_be_absent() {
    async fn optional(Payload(order): Payload<Option<Order>>) -> String {
        order.map_or("none".to_owned(), |o| o.n.to_string())
    }
    let registry = || Registry::new().on("o", optional);
    assert_eq!(outcome(Trial::of("o"), registry()).await, Outcome::success("none"));
    let some = Trial::of("o").payload(r#"{"n":3}"#);
    assert_eq!(outcome(some, registry()).await, Outcome::success("3"));
}

#[tokio::test]
async fn raw_bytes_and_state_and_context_come_as_arguments() {
    async fn all(Raw(bytes): Raw, State(n): State<u32>, cx: Ctx) -> Result<Bytes, TaskError> {
        assert_eq!((*n, cx.attempt(), cx.max_attempts()), (7, 1, 26));
        assert_eq!(cx.headers()["k"], "v");
        Ok(bytes)
    }
    let trial = || Trial::of("all").payload(&b"\xff\x00"[..]).header("k", "v");
    let with_state = Registry::new().state(7_u32).on("all", all);
    assert_eq!(outcome(trial(), with_state).await, Outcome::success(&b"\xff\x00"[..]));
    let error = trial()
        .run(Registry::new().on("all", all))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("handler `all` needs the state `u32`"), "{error}");
}

#[tokio::test]
async fn eight_arguments_are_not_too_many() {
    type P = Payload<Order>;
    #[allow(clippy::too_many_arguments)] // the point of the test
    async fn many(a: P, _: P, _: P, _: P, _: P, _: P, _: P, h: P) -> String {
        (a.0.n + h.0.n).to_string()
    }
    let trial = Trial::of("m").payload(r#"{"n":4}"#);
    assert_eq!(
        outcome(trial, Registry::new().on("m", many)).await,
        Outcome::success("8")
    );
}

#[tokio::test]
async fn a_handler_sees_that_it_is_to_stop_and_why() {
    async fn wait(cx: Ctx) -> Result<(), TaskError> {
        assert!(!cx.is_cancelled());
        let reason = cx.cancelled().await;
        assert_eq!(cx.stop_reason(), Some(reason));
        Err(TaskError::snooze(Duration::from_secs(1)))
    }
    let trial = Trial::of("w");
    let stop = trial.stop();
    let run = tokio::spawn(outcome(trial, Registry::new().on("w", wait)));
    tokio::task::yield_now().await;
    stop.stop(StopReason::Shutdown);
    let delay = Duration::from_secs(1);
    assert_eq!(run.await.unwrap(), Outcome::Snooze { delay });
}

fn grouped(name: &str, payloads: &[&str]) -> Group {
    let tasks = payloads.iter().map(|payload| GroupTask {
        id: TaskId::random(),
        kind: "mail".to_owned(),
        payload: Bytes::from((*payload).to_owned()),
        headers: Default::default(),
    });
    Group::new(name, QueueName::default(), tasks.collect(), Arc::new(States::default()))
}

#[tokio::test]
async fn a_group_finds_the_aggregator_of_its_name_or_of_the_longest_prefix() {
    let kind = |kind: &'static str| move |_: Group| async move { Task::new(kind) };
    let handlers = Registry::new()
        .aggregate("mail:ada", kind("exact"))
        .aggregate("mail:*", kind("prefix"))
        .aggregate("mail:a*", kind("longer"))
        .build()
        .unwrap();
    assert!(handlers.aggregates());
    for (group, expected) in [
        ("mail:ada", "exact"),
        ("mail:alan", "longer"),
        ("mail:grace", "prefix"),
        ("mail:", "prefix"),
    ] {
        let found = handlers.aggregator(group).expect(group);
        let task = found.call(grouped(group, &["x"])).await.unwrap();
        assert_eq!(task.kind, expected, "{group}");
    }
    assert!(handlers.aggregator("sms").is_none() && handlers.aggregator("mail").is_none());
    assert!(!handlers.knows("mail:ada"), "an aggregator is not a handler");
    assert!(!Registry::new().on("one", one).build().unwrap().aggregates());
}

#[tokio::test]
async fn an_aggregator_sees_its_tasks_and_its_error_comes_through() {
    async fn join(group: Group) -> Result<Task, TaskError> {
        let texts: Vec<&str> = group
            .tasks()
            .iter()
            .map(|task| std::str::from_utf8(&task.payload))
            .collect::<Result<_, _>>()?;
        if texts.contains(&"bad") {
            return Err(TaskError::retry("not today"));
        }
        Ok(Task::new("all").payload(format!("{}: {}", group.name(), texts.join(","))))
    }
    let handlers = Registry::new().aggregate("*", join).build().unwrap();
    let found = handlers.aggregator("anything").unwrap();
    let task = found.call(grouped("g", &["a", "b"])).await.unwrap();
    assert_eq!(task.payload.as_deref(), Some(&b"g: a,b"[..]));
    let error = found.call(grouped("g", &["bad"])).await.unwrap_err();
    assert_eq!(error.to_string(), "not today");
}

#[test]
fn two_aggregators_of_one_pattern_are_refused() {
    let twice = |pattern: &str| {
        let none = |_: Group| async { Task::new("none") };
        Registry::new()
            .aggregate(pattern, none)
            .aggregate(pattern, none)
            .build()
    };
    for pattern in ["g", "g*", "*"] {
        let error = twice(pattern).unwrap_err();
        let expected = format!("aggregator `{pattern}` is registered twice");
        assert!(error.to_string().starts_with(&expected), "{error}");
    }
    let none = |_: Group| async { Task::new("none") };
    assert!(
        Registry::new()
            .aggregate("g", none)
            .aggregate("g*", none)
            .build()
            .is_ok()
    );
}
