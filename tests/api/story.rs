//! A walk through the calls of the API: everything is read and done once, and each answer is compared with its schema.

use reqwest::Method;
use serde_json::{Value, json};

use super::{Api, Documented, ROOT, secret};
use crate::kit;

pub(super) async fn everything_is_read_and_done_in_a_file() {
    everything_is_read_and_done(&Api::in_a_file().await).await;
}

pub(super) async fn everything_is_read_and_done_in_redis() {
    everything_is_read_and_done(&Api::in_redis().await).await;
}

/// Calls, each answer of which is compared with its schema.
struct Checked<'a> {
    api: &'a Api,
    document: Value,
    calls: Vec<Documented>,
}

impl Checked<'_> {
    async fn of(api: &Api) -> Checked<'_> {
        let document = api.document().await;
        let calls = Documented::all(&document);
        Checked { api, document, calls }
    }

    /// `path`: as the document has it, with names of `names` in the order of its braces, and perhaps a query.
    async fn call(&self, method: Method, path: &str, names: &[&str], body: Option<Value>) -> kit::Reply {
        let (template, query) = path.split_once('?').unwrap_or((path, ""));
        let call = self
            .calls
            .iter()
            .find(|call| call.path == template && call.method == method);
        let call = call.unwrap_or_else(|| panic!("no {method} {template}"));
        let mut given = names.iter();
        let filled = template.split('/').map(|segment| match segment.starts_with('{') {
            true => given.next().copied().expect("a name for each brace"),
            false => segment,
        });
        let mut at = filled.collect::<Vec<_>>().join("/");
        if !query.is_empty() {
            at = format!("{at}?{query}");
        }
        let reply = self.api.call(method, &at, Some("all"), body.as_ref()).await;
        call.compare(&self.document, &reply);
        reply
    }

    /// What a call that succeeds answers.
    async fn get(&self, path: &str, names: &[&str]) -> Value {
        let reply = self.call(Method::GET, path, names, None).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.body);
        reply.json()
    }

    async fn post(&self, path: &str, names: &[&str], body: Value) -> kit::Reply {
        self.call(Method::POST, path, names, Some(body)).await
    }

    /// What an action that succeeds answers.
    async fn done(&self, path: &str, names: &[&str], body: Value) -> Value {
        let reply = self.post(path, names, body).await;
        assert!(reply.status < 300, "{path}: {} {}", reply.status, reply.body);
        reply.json()
    }
}

async fn everything_is_read_and_done(api: &Api) {
    let checked = Checked::of(api).await;
    tasks_are_acted_on(&checked).await;
    groups_are_acted_on(&checked).await;
    schedules_are_acted_on(&checked).await;
    runs_are_remembered(&checked).await;
    workers_take_orders(&checked).await;
    for list in [
        "/limits",
        "/workflows",
        "/workflows?open=true",
        "/bad-messages",
        "/triggers",
        "/decisions?only=manual",
        "/audit?action=none",
        "/operations",
    ] {
        let answer = checked.get(list, &[]).await;
        assert!(
            answer["items"].is_array() && answer["next"].is_null(),
            "{list}: {answer}"
        );
    }
    let problems = checked.get("/problems", &[]).await;
    assert!(problems.to_string().contains("broken.yaml"), "{problems}");
    let sent = checked.post("/notifications/{channel}/test", &["ops"], json!({})).await;
    assert_eq!(sent.status, 201, "{}", sent.body);
    let listed = checked.get("/notifications", &[]).await;
    assert_eq!(listed["items"][0]["channel"], "ops", "{listed}");
}

async fn groups_are_acted_on(checked: &Checked<'_>) {
    for (id, group) in [("g1", "a/b"), ("g2", "a/b"), ("g3", "空")] {
        let task = json!({"type": "digest", "id": id, "queue": "grouped", "group": group});
        checked.done("/tasks", &[], task).await;
    }
    let first = checked.get("/queues/{queue}/groups?limit=1", &["grouped"]).await;
    assert_eq!(first["items"], json!([{"name": "a/b", "tasks": 2}]), "{first}");
    let next = format!(
        "/queues/{{queue}}/groups?limit=1&cursor={}",
        first["next"].as_str().unwrap()
    );
    let second = checked.get(&next, &["grouped"]).await;
    assert_eq!(
        (&second["items"][0]["name"], &second["next"]),
        (&json!("空"), &Value::Null)
    );
    let names = ["grouped", "a%2Fb"];
    for (verb, tasks) in [("archive", 2), ("run", 0), ("delete", 0)] {
        let done = checked
            .done(&format!("/queues/{{queue}}/groups/{{group}}/{verb}"), &names, json!({}))
            .await;
        assert_eq!(done, json!({"tasks": tasks, "more": false}), "{verb}");
    }
}

async fn tasks_are_acted_on(checked: &Checked<'_>) {
    let task =
        |id: &str| json!({"type": "mail:welcome", "id": id, "payload": {"n": 1}, "queue": "q/1", "max_retry": 7});
    for id in ["a", "空 b"] {
        checked.done("/tasks", &[], task(id)).await;
    }
    let names = ["q%2F1", "%E7%A9%BA%20b"];
    let shown = checked.get("/tasks/{queue}/{id}", &names).await;
    assert_eq!(
        (&shown["payload"], &shown["max_retry"]),
        (&json!({"n": 1}), &json!(7)),
        "{shown}"
    );
    assert!(shown["reasons"][0]["code"].is_string(), "why it waits: {shown}");
    let act = |verb: &str| format!("/tasks/{{queue}}/{{id}}/{verb}");
    let answer = checked.done(&act("archive"), &names, json!({})).await;
    assert_eq!(answer, json!({"done": "archived", "changed": true}));
    let again = checked.post(&act("archive"), &names, json!({})).await;
    assert_eq!(
        (again.status, &again.json()["code"]),
        (409, &json!("api_conflict")),
        "{}",
        again.body
    );
    assert_eq!(checked.done(&act("run"), &names, json!({})).await["done"], "pending");
    for verb in ["cancel", "stop"] {
        let idle = checked.post(&act(verb), &names, json!({})).await;
        assert_eq!(idle.status, 409, "{verb}: {}", idle.body);
    }
    let first = checked.get("/tasks?type=mail:*&limit=1", &[]).await;
    let next = first["next"].as_str().unwrap();
    let second = checked
        .get(&format!("/tasks?type=mail:*&limit=1&cursor={next}"), &[])
        .await;
    let ids = [&first["items"][0]["id"], &second["items"][0]["id"]];
    assert_eq!(ids, [&json!("a"), &json!("空 b")], "{first} {second}");
    assert_eq!(
        checked.get("/tasks?type=none&queue=q/1", &[]).await,
        json!({"items": [], "next": null})
    );
    checked.done(&act("delete"), &names, json!({})).await;
    let gone = checked.call(Method::GET, "/tasks/{queue}/{id}", &names, None).await;
    assert_eq!(gone.status, 404, "{}", gone.body);
    let paused = checked.done("/queues/{queue}/pause", &["q%2F1"], json!({})).await;
    assert_eq!(paused, json!({"done": "paused", "changed": true}));
    assert_eq!(
        checked.done("/queues/{queue}/pause", &["q%2F1"], json!({})).await["changed"],
        false
    );
    assert_eq!(checked.get("/queues/{queue}", &["q%2F1"]).await["paused"], true);
    checked.done("/queues/{queue}/resume", &["q%2F1"], json!({})).await;
}

async fn schedules_are_acted_on(checked: &Checked<'_>) {
    let id = ["m:report:default"];
    let list = checked.get("/schedules?match=m:*&next=2", &[]).await;
    let listed = list["items"].as_array().unwrap();
    assert_eq!(
        (&listed[0]["id"], listed[0]["next"].as_array().unwrap().len()),
        (&json!(id[0]), 2),
        "{list}"
    );
    let printed = checked
        .api
        .site
        .cli(["ls", "schedules", "--json", "--next", "2"])
        .await
        .json();
    let printed = printed
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["id"] == id[0])
        .unwrap();
    assert_eq!(printed, &listed[0], "one form for the command and the API");
    let pause = json!({"note": "new disks", "for_seconds": 3600});
    assert_eq!(checked.done("/schedules/{id}/pause", &id, pause).await["changed"], true);
    let shown = checked.get("/schedules/{id}", &id).await;
    assert_eq!(
        (&shown["state"], &shown["paused"]),
        (&json!("paused"), &json!(true)),
        "{shown}"
    );
    let again = json!({"note": "new disks", "until": "2099-01-01T00:00:00Z"});
    for changed in [true, false] {
        let answer = checked.done("/schedules/{id}/pause", &id, again.clone()).await;
        assert_eq!(answer["changed"], changed, "another end changes a pause");
    }
    assert!(shown["paused_by"].as_str().unwrap().contains("token all"), "{shown}");
    for changed in [true, false] {
        assert_eq!(
            checked.done("/schedules/{id}/resume", &id, json!({})).await["changed"],
            changed
        );
    }
    let over = checked
        .post("/schedules/{id}/pause", &id, json!({"until": "2001-01-01T00:00:00Z"}))
        .await;
    assert_eq!(over.status, 422, "{}", over.body);
    schedules_run_once_with_a_key(checked, &id).await;
}

async fn schedules_run_once_with_a_key(checked: &Checked<'_>, id: &[&str; 1]) {
    let keyed = async |key: &str| {
        let http = checked.api.fresh();
        let request = http
            .request(Method::POST, &format!("{ROOT}/schedules/{}/run", id[0]))
            .header("authorization", format!("Bearer {}", secret("all")))
            .header("idempotency-key", key);
        http.send(request).await.unwrap()
    };
    let (one, two) = (keyed("k").await, keyed("k").await);
    assert_eq!((one.status, two.status), (201, 200), "{} {}", one.body, two.body);
    assert_eq!(one.json()["id"], two.json()["id"]);
    let other = keyed("other").await;
    assert_eq!(
        (other.status, &other.json()["code"]),
        (409, &json!("api_conflict")),
        "{}",
        other.body
    );
    let forced = checked.post("/schedules/{id}/run", id, json!({"force": true})).await;
    assert_eq!(forced.status, 201, "{}", forced.body);
    let decided = checked.get("/schedules/{id}/decisions", id).await;
    let manual = decided["items"].as_array().unwrap();
    assert_eq!(
        manual.iter().filter(|one| one["decision"] == "manual").count(),
        2,
        "{decided}"
    );
    let none = checked.call(Method::GET, "/schedules/{id}", &["m:none"], None).await;
    assert_eq!(none.status, 404);
}

async fn runs_are_remembered(checked: &Checked<'_>) {
    let function = checked.get("/functions/{name}", &["report"]).await;
    assert_eq!(
        (&function["type"], &function["queue"]),
        (&json!("fn:report"), &json!("reports")),
        "{function}"
    );
    assert_eq!(function["schedules"], json!(["m:report:default"]));
    assert_eq!(checked.get("/functions?match=rep*", &[]).await["items"][0], function);
    let task = checked
        .done("/tasks", &[], json!({"function": "report", "queue": "other"}))
        .await;
    let id = task["id"].as_str().unwrap();
    kit::eventually("its run is remembered", async || {
        let runs = checked.get("/functions/{name}/runs", &["report"]).await;
        match runs["items"][0]["task"].as_str() {
            Some(found) if found == id => Ok(()),
            _ => Err(runs.to_string()),
        }
    })
    .await;
    let run = checked.get("/runs/{queue}/{id}", &["other", id]).await;
    assert_eq!(
        (&run["outcome"], &run["trigger"]),
        (&json!("success"), &json!("manual")),
        "{run}"
    );
    let none = checked
        .call(Method::GET, "/functions/{name}/runs", &["none"], None)
        .await;
    assert_eq!(none.status, 404, "{}", none.body);
    checked
        .get("/functions/{name}/runs?failed=true&limit=5", &["type:mail:x"])
        .await;
}

async fn workers_take_orders(checked: &Checked<'_>) {
    let workers = checked.get("/workers", &[]).await;
    let info = &workers["items"][0]["info"];
    let (id, host) = (
        info["id"].as_str().unwrap().to_owned(),
        info["host"].as_str().unwrap().to_owned(),
    );
    for (of, name) in [("workers/{id}", &id), ("hosts/{host}", &host)] {
        for (verb, body) in [
            ("pause", json!({})),
            ("resume", json!({})),
            ("set", json!({"concurrency": 3})),
            ("set", json!({"concurrency": null})),
        ] {
            checked.done(&format!("/{of}/{verb}"), &[name.as_str()], body).await;
        }
    }
    let bad = checked
        .post("/workers/{id}/set", &[id.as_str()], json!({"concurrency": 0}))
        .await;
    assert_eq!(bad.status, 422, "{}", bad.body);
    let none = checked.post("/workers/{id}/pause", &["none"], json!({})).await;
    assert_eq!(none.status, 404, "{}", none.body);
}
