//! The list of built-in handlers, and the small ones among them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use runner_core::function::{
    EnqueuePayload, EnqueueSpec, ExecSpec, Function, FunctionKind, Functions, HttpSpec, JsonOfTemplates,
};
use runner_handlers::{ExecSettings, HandlerSettings, register, register_with};
use runner_sdk::testing::Trial;
use runner_sdk::{Outcome, Registry, StopReason};

fn function(name: &str, kind: FunctionKind) -> Function {
    Function {
        name: name.into(),
        description: String::new(),
        kind,
        options: Default::default(),
        payload: None,
        payload_schema: None,
        limits: Vec::new(),
        notify: Default::default(),
        revision: "1".into(),
    }
}

async fn outcome(trial: Trial) -> Outcome {
    trial.run(register(Registry::new())).await.unwrap().outcome
}

#[test]
fn functions_are_known_while_they_are_defined() {
    let functions = Functions::default();
    let handlers = register_with(Registry::new(), functions.clone(), HandlerSettings::default())
        .build()
        .unwrap();
    assert_eq!(handlers.names(), ["echo", "sleep"]);
    assert!(!handlers.knows("fn:a"));
    let elsewhere = FunctionKind::Handler { kind: "task:b".into() };
    functions.replace(vec![
        function("a", FunctionKind::Exec(ExecSpec::new(["true"]))),
        function("b", elsewhere),
    ]);
    assert_eq!(handlers.names(), ["echo", "fn:a", "sleep"]);
    assert!(handlers.knows("fn:a") && !handlers.knows("fn:b") && !handlers.knows("task:b"));
    functions.replace(Vec::new());
    assert!(!handlers.knows("fn:a"));
}

#[test]
fn commands_are_left_to_others_where_they_are_switched_off() {
    let functions = Functions::new(vec![
        function("command", FunctionKind::Exec(ExecSpec::new(["true"]))),
        function("call", FunctionKind::Http(HttpSpec::new("http://example.com/"))),
    ]);
    let exec = ExecSettings {
        enabled: false,
        ..ExecSettings::default()
    };
    let off = HandlerSettings {
        exec,
        ..HandlerSettings::default()
    };
    let handlers = register_with(Registry::new(), functions, off).build().unwrap();
    assert_eq!(handlers.names(), ["echo", "fn:call", "sleep"]);
    assert!(handlers.knows("fn:call") && !handlers.knows("fn:command"));
    assert!(handlers.find("fn:command").is_none());
}

#[tokio::test]
async fn echo_returns_its_payload() {
    let trial = Trial::of("echo").payload(&b"a\xff"[..]);
    let report = trial.run(register(Registry::new())).await.unwrap();
    assert_eq!(report.outcome, Outcome::success(&b"a\xff"[..]));
    assert!(report.log.contains("log: a\u{fffd}"));
}

#[tokio::test]
async fn sleep_takes_seconds_or_a_duration() {
    for payload in [
        "0",
        "0.001",
        r#""1ms""#,
        r#"{"seconds":0.001}"#,
        r#"{"duration":"1ms"}"#,
    ] {
        assert_eq!(
            outcome(Trial::of("sleep").payload(payload)).await,
            Outcome::done(),
            "{payload}"
        );
    }
    for payload in ["", "-1", "1e300", r#""soon""#, r#"{"seconds":"a"}"#, r#""8d""#, "[]"] {
        let outcome = outcome(Trial::of("sleep").payload(payload)).await;
        assert!(matches!(outcome, Outcome::Skip(_)), "{payload}: {outcome:?}");
    }
}

#[tokio::test]
async fn sleep_stops_when_asked_to() {
    let trial = Trial::of("sleep")
        .payload("1000")
        .limits(None, Some(Duration::from_secs(3)));
    let stop = trial.stop();
    let running = tokio::spawn(outcome(trial));
    stop.stop(StopReason::Deadline);
    assert_eq!(running.await.unwrap(), Outcome::Retry("timeout after 3s".into()));
}

fn with(function: Function) -> Registry {
    register_with(
        Registry::new(),
        Functions::new(vec![function]),
        HandlerSettings::default(),
    )
}

#[tokio::test]
async fn a_function_enqueues_a_task_with_all_options_once_for_each_run() {
    let mut spec = EnqueueSpec::new("image:scale");
    let template = serde_json::json!({"id": "{{ payload.id }}", "of": "{{ task.id }}"});
    spec.payload = EnqueuePayload::Json(JsonOfTemplates::new(template).unwrap());
    spec.options.queue = Some("low".parse().unwrap());
    spec.options.max_retry = Some(5);
    spec.delay = Some(Duration::from_secs(60));
    spec.options.unique = Some(Duration::from_secs(30).into());
    let of_run = EnqueueSpec::new("x");
    for (spec, payload) in [(spec.clone(), r#"{"id":7,"of":"trial"}"#), (of_run, r#"{"id": 7}"#)] {
        let function = function("it", FunctionKind::Enqueue(Box::new(spec.clone())));
        let trial = Trial::of("fn:it").payload(r#"{"id": 7}"#);
        let report = trial.run(with(function)).await.unwrap();
        assert!(matches!(report.outcome, Outcome::Success(_)), "{:?}", report.outcome);
        let [task] = report.enqueued.as_slice() else {
            panic!("{:?}", report.enqueued)
        };
        assert_eq!(
            (task.kind.as_str(), task.payload.as_deref()),
            (spec.kind.as_str(), Some(payload.as_bytes()))
        );
        assert_eq!(task.id.as_ref().unwrap().as_str(), "trial.default");
        assert_eq!(task.max_retry, spec.options.max_retry.unwrap_or(25));
        assert_eq!(task.unique, spec.options.unique);
    }
}
