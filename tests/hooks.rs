//! Triggers that are called over HTTP: the whole program, on the embedded broker.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::kit::{self, Reply, Runner, Site, eventually_within};

/// The tests of this module.
pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(): a_call_becomes_one_task_and_may_wait_for_its_result,
            hooks_have_their_own_credential_behind_a_login_and_a_proxy;
    ]
}

const PATIENCE: Duration = Duration::from_secs(30);

const TOKEN: &str = "a token of sixteen bytes or more";

const MANIFEST: &str = "name: orders
handler: echo
retention: 1h
triggers:
  - id: in
    webhook: {token: '${file:token}'}
---
name: answers
handler: echo
triggers:
  - id: in
    webhook: {token: '${file:token}', wait: 30s}
";

fn site(config: &str) -> Site {
    let site = Site::new(config);
    site.write("token", TOKEN);
    site.write("manifests/hooks.yaml", MANIFEST);
    site
}

/// Calls a hook; more headers as pairs.
async fn call(runner: &Runner, path: &str, token: &str, headers: &[(&str, &str)], body: &str) -> Reply {
    let mut request = runner
        .http
        .request(Method::POST, path)
        .bearer_auth(token)
        .body(body.to_owned());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    runner
        .http
        .send(request)
        .await
        .unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn code(reply: &Reply) -> (u16, String) {
    (
        reply.status,
        reply.json()["code"].as_str().unwrap_or_default().to_owned(),
    )
}

async fn a_call_becomes_one_task_and_may_wait_for_its_result() {
    let site = site("");
    let runner = site.start().await;
    let first = call(
        &runner,
        "/hooks/orders",
        TOKEN,
        &[("idempotency-key", "k1")],
        r#"{"n":1}"#,
    )
    .await;
    assert_eq!(first.status, 202, "{}", first.body);
    let expected = json!({"id": "orders:in@hook-k1", "queue": "default", "repeated": false});
    assert_eq!(first.json(), expected);
    let task = site.cli(["task", "show", "orders:in@hook-k1", "--json"]).await.json();
    assert_eq!(
        (&task["trigger"], &task["event"]),
        (&"webhook".into(), &Value::Null),
        "{task}"
    );
    let again = call(
        &runner,
        "/hooks/orders/in",
        TOKEN,
        &[("idempotency-key", "k1")],
        r#"{"n":2}"#,
    )
    .await;
    assert_eq!((again.status, &again.json()["repeated"]), (202, &true.into()));
    let answered = call(&runner, "/hooks/answers", TOKEN, &[], r#"{"n":3}"#).await;
    assert_eq!(answered.status, 200, "{}", answered.body);
    assert_eq!(
        (&answered.json()["state"], &answered.json()["result"]),
        (&"completed".into(), &json!({"n": 3}))
    );

    let unknown = call(&runner, "/hooks/nothing", TOKEN, &[], "{}").await;
    let wrong = call(&runner, "/hooks/orders", "another token, as long as it", &[], "{}").await;
    assert_eq!(code(&unknown), (401, "hook_unauthorized".to_owned()));
    assert_eq!(
        unknown.body, wrong.body,
        "hooks that do not exist answer like those that do"
    );
    let bad = call(&runner, "/hooks/orders", TOKEN, &[], "{").await;
    assert_eq!(code(&bad), (422, "hook_bad_payload".to_owned()));
    let large = call(&runner, "/hooks/orders", TOKEN, &[], &"x".repeat(2 << 20)).await;
    assert_eq!(code(&large), (413, "hook_body_too_large".to_owned()));
    // The rest of the body is not read, so the connection cannot be used again.
    assert_eq!(large.header("connection"), "close");
    let got = runner
        .http
        .send(runner.http.request(Method::GET, "/hooks/orders").bearer_auth(TOKEN))
        .await
        .unwrap();
    assert_eq!(
        (code(&got), got.header("allow")),
        ((405, "hook_method".to_owned()), "POST")
    );

    the_counts_are_shown(&site, &runner).await;
    assert!(runner.stop().await.success());
}

/// What the calls of [`a_call_becomes_one_task_and_may_wait_for_its_result`] are counted as.
async fn the_counts_are_shown(site: &Site, runner: &Runner) {
    let state = eventually_within(PATIENCE, "the counts of the trigger", async || {
        let listed = site.cli(["ls", "triggers", "--json"]).await.json();
        let all = listed.as_array().cloned().unwrap_or_default();
        let own = all
            .iter()
            .find(|trigger| trigger["id"] == "orders:in")
            .cloned()
            .unwrap_or_default();
        match &own["instances"][0] {
            state if state["bad"] == 2 => Ok(own.clone()),
            state => Err(format!("{state}")),
        }
    })
    .await;
    let of: &Value = &state["instances"][0];
    assert_eq!(
        (&state["kind"], &state["listens_to"]),
        (&"webhook".into(), &"POST /hooks/orders/in".into())
    );
    assert_eq!(
        (&of["enqueued"], &of["repeated"], &of["refused"]),
        (&1.into(), &1.into(), &1.into())
    );
    let metrics = runner.http.get("/metrics").await.body;
    let line = r#"runner_trigger_messages_total{trigger="orders:in",outcome="refused"} 1"#;
    assert!(metrics.contains(line), "{metrics}");
    assert!(runner.http.get("/queue").await.body.contains("POST /hooks/orders/in"));
}

async fn hooks_have_their_own_credential_behind_a_login_and_a_proxy() {
    let site = site(
        "server: {public_url: 'https://tools.example.com/ops'}\nauth: {users: [{name: ann, password: 'long enough, this one', role: admin}]}\n",
    );
    let runner = site.start().await;
    assert_eq!(runner.http.get("/queue").await.status, 303);
    let headers = [
        ("host", "tools.example.com"),
        ("x-forwarded-for", "203.0.113.7"),
        ("x-forwarded-host", "tools.example.com"),
    ];
    for path in ["/hooks/orders", "/ops/hooks/orders"] {
        let reply = call(&runner, path, TOKEN, &headers, "{}").await;
        assert_eq!(reply.status, 202, "{path}: {}", reply.body);
    }
    // A secret that is changed is in force without a restart.
    site.write("token", "the next token, which is long enough");
    eventually_within(PATIENCE, "the new secret is read", async || {
        match call(
            &runner,
            "/hooks/orders",
            "the next token, which is long enough",
            &[],
            "{}",
        )
        .await
        .status
        {
            202 => Ok(()),
            status => Err(format!("{status}\n{}", runner.child.tail())),
        }
    })
    .await;
    assert_eq!(call(&runner, "/hooks/orders", TOKEN, &[], "{}").await.status, 401);
    assert!(runner.stop().await.success());
}
