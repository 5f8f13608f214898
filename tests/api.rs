//! The API over HTTP: every call of its document, with every kind of credential, on both stores; answers compared with their
//! schemas. The program runs as a process.

mod story;

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};

use crate::kit;
use story::{everything_is_read_and_done_in_a_file, everything_is_read_and_done_in_redis};

/// The root of the API.
const ROOT: &str = "/queue/api/v1";

/// Each token of [`settings`], by its name.
const TOKENS: [(&str, &str, &str); 5] = [
    ("reader", "[read]", "never"),
    ("actor", "[act]", "never"),
    ("deleter", "[delete]", "never"),
    ("all", "[read, act, delete]", "never"),
    ("former", "[read, act, delete]", "2001-01-01"),
];

pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(): every_call_asks_for_its_right_in_a_file, everything_is_read_and_done_in_a_file, tasks_are_enqueued_once_in_a_file, refusals_are_problems, tasks_that_cannot_be_are_refused,
            a_browser_reads_by_its_session, an_open_dashboard_takes_no_foreign_forms, tokens_are_made_and_reloaded,
            the_document_names_the_address, keys_are_taken_where_the_document_says;
        needs(Redis): every_call_asks_for_its_right_in_redis, everything_is_read_and_done_in_redis, tasks_are_enqueued_once_in_redis
    ]
}

/// The text of a token: as long as it must be.
fn secret(name: &str) -> String {
    format!("{name}-{}", "0123456789abcdef".repeat(2))
}

fn settings(store: &str) -> String {
    let mut text = format!("{store}auth:\n  users: [{{name: ann, password: a-password, role: viewer}}]\n  tokens:\n");
    for (name, scopes, expires) in TOKENS {
        text += &format!("    - {{name: {name}, token: {}, scopes: {scopes}", secret(name));
        if expires != "never" {
            text += &format!(", expires: {expires}");
        }
        text += "}\n";
    }
    text
}

/// A program whose worker runs nothing, and what keeps its store.
struct Api {
    site: kit::Site,
    runner: kit::Runner,
    _held: Option<kit::RedisDb>,
}

impl Api {
    async fn in_a_file() -> Self {
        Self::start(None).await
    }

    async fn in_redis() -> Self {
        Self::start(Some(kit::redis().fresh_db())).await
    }

    async fn start(db: Option<kit::RedisDb>) -> Self {
        let store = db.as_ref().map_or_else(String::new, kit::RedisDb::yaml);
        let site = kit::Site::new(
            &(settings(&store)
                + "worker: {queues: {other: 1}}\nnotify: {channels: {ops: 'https://ops.example.com/'}}\n"),
        );
        site.write(
            "manifests/report.yaml",
            "name: report\nexec: {command: ['true']}\nqueue: reports\npayload: {month: 1}\nschedule: '@yearly'\n",
        );
        site.write(
            "manifests/broken.yaml",
            "name: broken\nhandler: task:x\nschedule: '0 25 * * *'\n",
        );
        let runner = site.start().await;
        Self {
            site,
            runner,
            _held: db,
        }
    }

    async fn call(&self, method: Method, path: &str, token: Option<&str>, body: Option<&Value>) -> kit::Reply {
        let token = token.map(secret);
        self.call_with(method, path, token.as_deref(), body).await
    }

    async fn call_with(&self, method: Method, path: &str, token: Option<&str>, body: Option<&Value>) -> kit::Reply {
        let http = self.fresh();
        let mut request = http.request(method, &format!("{ROOT}{path}"));
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if let Some(body) = body {
            request = request
                .header("content-type", "application/json")
                .body(body.to_string());
        }
        http.send(request).await.unwrap()
    }

    async fn get(&self, path: &str) -> kit::Reply {
        self.call(Method::GET, path, Some("all"), None).await
    }

    async fn post(&self, path: &str, body: Value) -> kit::Reply {
        self.call(Method::POST, path, Some("all"), Some(&body)).await
    }

    /// A client without cookies.
    fn fresh(&self) -> kit::Http {
        kit::Http::new(format!("http://127.0.0.1:{}", self.runner.port))
    }

    async fn document(&self) -> Value {
        self.call(Method::GET, "/openapi.json", None, None).await.json()
    }
}

/// A call of the document.
struct Documented {
    method: Method,
    path: String,
    right: String,
    operation: Value,
}

impl Documented {
    /// All of them.
    fn all(document: &Value) -> Vec<Self> {
        let mut all = Vec::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                let described = operation["description"].as_str().unwrap();
                all.push(Self {
                    method: method.to_uppercase().parse().unwrap(),
                    path: path.clone(),
                    right: described.split('`').nth(1).unwrap().to_owned(),
                    operation: operation.clone(),
                });
            }
        }
        all
    }

    /// Its path, with these names; others are such that nothing has them.
    fn at(&self, names: &BTreeMap<&str, &str>) -> String {
        let segments = self.path.split('/').map(|segment| {
            let name = segment.strip_prefix('{').and_then(|name| name.strip_suffix('}'));
            name.map_or(segment, |name| names.get(name).copied().unwrap_or("nothing"))
        });
        segments.collect::<Vec<_>>().join("/")
    }

    /// Fails unless the answer is one that the document promises.
    fn compare(&self, document: &Value, reply: &kit::Reply) {
        let responses = &self.operation["responses"];
        let promised = match &responses[reply.status.to_string()] {
            Value::Null => &document["components"]["responses"]["Refused"],
            promised => promised,
        };
        let kind = reply.header("content-type");
        let schema = &promised["content"][kind]["schema"];
        assert!(
            schema.is_object(),
            "{} {}: {kind} {}",
            self.method,
            self.path,
            reply.body
        );
        let mut schema = schema.clone();
        schema["components"] = document["components"].clone();
        let answer = reply.json();
        let validator = jsonschema::draft202012::new(&schema).unwrap();
        let faults: Vec<String> = validator
            .iter_errors(&answer)
            .map(|fault| format!("{}: {fault}", fault.instance_path()))
            .collect();
        assert!(
            faults.is_empty(),
            "{} {}: {faults:?} in {answer:#}",
            self.method,
            self.path
        );
        if reply.status >= 400 {
            assert_eq!(answer["status"], reply.status, "{answer}");
        }
    }
}

async fn every_call_asks_for_its_right_in_a_file() {
    every_call_asks_for_its_right(&Api::in_a_file().await).await;
}

async fn every_call_asks_for_its_right_in_redis() {
    every_call_asks_for_its_right(&Api::in_redis().await).await;
}

async fn every_call_asks_for_its_right(api: &Api) {
    let document = api.document().await;
    let calls = Documented::all(&document);
    assert!(calls.len() > 2);
    for call in &calls {
        let path = call.at(&BTreeMap::new());
        for (who, expected) in [
            (None, 401),
            (Some("former"), 401),
            (Some("reader"), if call.right == "read" { 0 } else { 403 }),
            (Some("actor"), if call.right == "act" { 0 } else { 403 }),
            (Some("deleter"), if call.right == "delete" { 0 } else { 403 }),
            (Some("all"), 0),
        ] {
            let body = json!({});
            let body = (call.method == Method::POST).then_some(&body);
            let reply = api.call(call.method.clone(), &path, who, body).await;
            call.compare(&document, &reply);
            match expected {
                0 => assert!(
                    ![401, 403, 405, 500].contains(&reply.status),
                    "{path} {who:?}: {}",
                    reply.body
                ),
                status => assert_eq!(reply.status, status, "{path} {who:?}: {}", reply.body),
            }
            assert_ne!(reply.json()["code"], "api_no_path", "{path}");
        }
    }
    // Wrong ones are counted, and a right one passes nevertheless.
    let mut statuses = Vec::new();
    for _ in 0..7 {
        let wrong = api.call_with(Method::GET, "/queues", Some("wrong"), None).await;
        calls[0].compare(&document, &wrong);
        statuses.push(wrong.status);
    }
    assert_eq!(statuses, [401, 401, 401, 401, 401, 429, 429]);
    assert_eq!(api.get("/queues").await.status, 200);
}

async fn tasks_are_enqueued_once_in_a_file() {
    tasks_are_enqueued_once(&Api::in_a_file().await).await;
}

async fn tasks_are_enqueued_once_in_redis() {
    tasks_are_enqueued_once(&Api::in_redis().await).await;
}

async fn tasks_are_enqueued_once(api: &Api) {
    let document = api.document().await;
    let calls = Documented::all(&document);
    let enqueue = calls
        .iter()
        .find(|call| call.path == "/tasks" && call.method == Method::POST)
        .unwrap();
    let first = api
        .post("/tasks", json!({"type": "mail:welcome", "payload": {"to": "ann"}}))
        .await;
    enqueue.compare(&document, &first);
    assert_eq!(
        (first.status, &first.json()["queue"]),
        (201, &json!("default")),
        "{}",
        first.body
    );
    let at = first.header("location").to_owned();
    assert!(at.starts_with("/queue/api/v1/tasks/default/"), "{at}");
    let function = api.post("/tasks", json!({"function": "report"})).await;
    assert_eq!(
        (function.status, &function.json()["queue"]),
        (201, &json!("reports")),
        "{}",
        function.body
    );

    let keyed = async |key: &str, body: Value| keyed_as(api, key, &body.to_string()).await;
    let body = json!({"type": "order:ship", "queue": "orders"});
    let (one, two) = (keyed("k-1", body.clone()).await, keyed("k-1", body.clone()).await);
    assert_eq!((one.status, two.status), (201, 200), "{} {}", one.body, two.body);
    assert_eq!(one.json()["id"], two.json()["id"]);
    assert_eq!(
        (&one.json()["repeated"], &two.json()["repeated"]),
        (&json!(false), &json!(true))
    );
    enqueue.compare(&document, &two);
    let other = keyed("k-2", body).await;
    assert_eq!(other.status, 201);
    assert_ne!(other.json()["id"], one.json()["id"]);

    keys_are_for_one_request(api, (&document, enqueue)).await;

    // A stated id is a key too.
    let stated = json!({"type": "order:ship", "queue": "orders", "id": "order-7"});
    let statuses = [
        api.post("/tasks", stated.clone()).await.status,
        api.post("/tasks", stated).await.status,
    ];
    assert_eq!(statuses, [201, 200]);
    for other in [
        json!({"type": "order:bill", "queue": "orders", "id": "order-7"}),
        json!({"type": "order:ship", "queue": "orders", "id": "order-7", "payload": 1}),
    ] {
        refused(&api.post("/tasks", other).await, 409, "api_id_taken", "order-7");
    }
    lists_and_commands_have_one_form(api).await;
    a_tag_is_of_the_whole_answer(api).await;
}

async fn keys_are_for_one_request(api: &Api, (document, enqueue): (&Value, &Documented)) {
    let written = async |body: &str| keyed_as(api, "k-3", body).await;
    let one = written(r#"{"type":"order:ship","queue":"parcels","payload":{"a":1,"b":2}}"#).await;
    let two = written(r#"{"type":"order:ship","queue":"parcels","payload":{ "b": 2, "a": 1 }}"#).await;
    assert_eq!((one.status, two.status), (201, 200), "{} {}", one.body, two.body);
    let bill = written(r#"{"type":"order:bill","queue":"parcels","payload":{"a":1,"b":2}}"#).await;
    assert_eq!(bill.status, 201, "{}", bill.body);
    let reused = written(r#"{"type":"order:ship","queue":"parcels","payload":{"a":2}}"#).await;
    enqueue.compare(document, &reused);
    refused(&reused, 422, "api_key_reused", one.json()["id"].as_str().unwrap());
    let none = written(r#"{"type":"order:ship","queue":"parcels"}"#).await;
    refused(&none, 422, "api_key_reused", "payload");
    let of_function = r#"{"function":"report","queue":"parcels"}"#;
    let statuses = [written(of_function).await.status, written(of_function).await.status];
    assert_eq!(statuses, [201, 200]);
}

async fn keyed_as(api: &Api, key: &str, body: &str) -> kit::Reply {
    let http = api.fresh();
    let request = http
        .request(Method::POST, &format!("{ROOT}/tasks"))
        .header("authorization", format!("Bearer {}", secret("all")))
        .header("content-type", "application/json")
        .header("idempotency-key", key)
        .body(body.to_owned());
    http.send(request).await.unwrap()
}

/// What a task contains must not hide what follows it in a list.
async fn a_tag_is_of_the_whole_answer(api: &Api) {
    let task = json!({"type": "a", "queue": "tagged", "headers": {"x": "<footer"}, "payload": "<span class=\"ago\">"});
    let tag = async |known: &str| {
        let http = api.fresh();
        let request = http
            .request(Method::GET, &format!("{ROOT}/tasks?queue=tagged"))
            .header("authorization", format!("Bearer {}", secret("all")))
            .header("if-none-match", known);
        http.send(request).await.unwrap()
    };
    api.post("/tasks", task.clone()).await;
    let first = tag("").await;
    assert_eq!(tag(first.header("etag")).await.status, 304);
    api.post("/tasks", task).await;
    let second = tag(first.header("etag")).await;
    assert_eq!(second.status, 200);
    assert_eq!(second.json()["items"].as_array().unwrap().len(), 2, "{}", second.body);
}

async fn lists_and_commands_have_one_form(api: &Api) {
    let queue = api.get("/queues/orders").await.json();
    assert_eq!(
        (&queue["counts"]["pending"], &queue["size"]),
        (&json!(3), &json!(3)),
        "{queue}"
    );
    let asked = async |tag: &str| {
        let http = api.fresh();
        let request = http
            .request(Method::GET, &format!("{ROOT}/functions"))
            .header("authorization", format!("Bearer {}", secret("all")))
            .header("if-none-match", tag);
        http.send(request).await.unwrap()
    };
    let tagged = asked("\"other\"").await;
    assert_eq!((tagged.status, asked(tagged.header("etag")).await.status), (200, 304));
    let printed = api.site.cli(["ls", "queues", "--json"]).await.json();
    let printed = printed
        .as_array()
        .unwrap()
        .iter()
        .find(|queue| queue["name"] == "orders")
        .unwrap();
    let keys = |object: &Value| object.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(printed), keys(&queue), "one form for the command and the API");

    let first = api.get("/queues?limit=1").await.json();
    assert_eq!(first["items"][0]["name"], "default", "{first}");
    let next = first["next"].as_str().unwrap();
    let second = api.get(&format!("/queues?limit=1&cursor={next}")).await.json();
    assert_eq!(second["items"][0]["name"], "orders", "{second}");
}

/// Fails unless this is such a refusal.
fn refused(reply: &kit::Reply, status: u16, code: &str, says: &str) {
    let problem = reply.json();
    assert_eq!((reply.status, &problem["code"]), (status, &json!(code)), "{problem}");
    assert!(problem.to_string().contains(says), "{says}: {problem}");
    assert_eq!(reply.header("content-type"), "application/problem+json");
    assert_eq!(problem["status"], status);
}

async fn tasks_that_cannot_be_are_refused() {
    let api = Api::in_a_file().await;
    let (value, body_fault) = ("api_bad_value", "api_bad_body");
    for (body, code, says) in [
        (json!({}), value, "either a function or a type"),
        (json!({"type": "a", "function": "report"}), value, "either"),
        (json!({"type": "a", "priority": 1}), body_fault, "priority"),
        (json!({"type": "a", "max_retry": -1}), body_fault, "column 15"),
        (json!({"type": "a", "run_at": "soon"}), value, "run_at"),
        (
            json!({"type": "a", "run_at": "2027-01-01T00:00:00Z", "delay_seconds": 1}),
            value,
            "exclude",
        ),
        (json!({"type": " "}), value, "blank"),
        (json!({"type": "a", "queue": ""}), value, "queue"),
        (
            json!({"type": "a", "headers": {"runner-schedule-id": "m:x"}}),
            value,
            "only this program",
        ),
        (
            json!({"type": "runner:notification", "queue": "runner-notifications"}),
            value,
            "only this program",
        ),
        (json!({"type": "a", "unique": {"seconds": 0}}), value, "at least 1s"),
        (
            json!({"type": "a", "unique": {"seconds": 9, "scope": "some"}}),
            value,
            "all, pending",
        ),
        (json!({"type": "a", "delay_seconds": u64::MAX}), value, "at most"),
    ] {
        refused(&api.post("/tasks", body).await, 422, code, says);
    }
    let past = api
        .post("/tasks", json!({"type": "a", "deadline": "2001-01-01T00:00:00Z"}))
        .await;
    let code = past.json()["code"].as_str().unwrap().to_owned();
    refused(&past, 422, &code, "deadline");
    assert!(code.starts_with('W'), "the code of a reason: {code}");
    let unknown = api.post("/tasks", json!({"function": "reprot"})).await;
    refused(&unknown, 404, "api_not_found", "did you mean report?");
}

async fn refusals_are_problems() {
    let api = Api::in_a_file().await;
    let http = api.fresh();
    let send = async |method: Method, path: &str, kind: &str, body: String| {
        let request = http
            .request(method, &format!("{ROOT}{path}"))
            .header("authorization", format!("Bearer {}", secret("all")))
            .header("content-type", kind)
            .body(body);
        http.send(request).await.unwrap()
    };
    let json = "application/json";
    refused(
        &send(Method::POST, "/tasks", json, "{".to_owned()).await,
        400,
        "api_bad_json",
        "EOF",
    );
    refused(
        &send(Method::POST, "/tasks", "text/plain", "{}".to_owned()).await,
        415,
        "api_media",
        json,
    );
    let long = format!("\"{}\"", "x".repeat(100_000));
    refused(
        &send(Method::POST, "/tasks", json, long).await,
        413,
        "api_too_large",
        "larger",
    );
    refused(
        &send(Method::DELETE, "/queues", json, String::new()).await,
        405,
        "api_method",
        "not allowed",
    );
    refused(&api.get("/nothing").await, 404, "api_no_path", "openapi.json");
    refused(&api.get("").await, 404, "api_no_path", "openapi.json");
    refused(&api.get("/queues/none").await, 404, "api_not_found", "none");
    refused(&api.get("/queues?limit=501").await, 400, "api_bad_query", "500");
    refused(&api.get("/queues?size=5").await, 400, "api_bad_query", "size");
    refused(&api.get("/queues?cursor=x").await, 400, "api_bad_cursor", "next");
    odd_queries_are_refused(&api, &http).await;
    credentials_for_proxies_are_not_judged(&http).await;
    let none = api.call(Method::GET, "/queues", None, None).await;
    refused(&none, 401, "api_no_token", "runner token new");
    assert!(none.header("www-authenticate").starts_with("Bearer"));
    assert_eq!(none.header("location"), "", "no redirect to a login");
}

async fn odd_queries_are_refused(api: &Api, http: &kit::Http) {
    // `workflows:18446744073709551615`
    let far = api
        .get("/workflows?cursor=d29ya2Zsb3dzOjE4NDQ2NzQ0MDczNzA5NTUxNjE1")
        .await;
    refused(&far, 400, "api_bad_cursor", "next");
    refused(&api.get("/bad-messages?limit=65").await, 400, "api_bad_query", "64");
    let runs = api.get("/functions/report/runs?limit=101").await;
    refused(&runs, 400, "api_bad_query", "100");
    let much = api.get("/schedules?limit=500&next=6").await;
    refused(&much, 400, "api_bad_query", "2500");
    assert_eq!(api.get("/schedules?limit=500").await.status, 200);
    let act = api.post("/queues/default/pause?for=1h", json!({})).await;
    refused(&act, 400, "api_bad_query", "for");
    for path in ["/queue/api", "/queue/api/v2/queues"] {
        refused(&http.get(path).await, 404, "api_no_path", "no such path");
    }
}

async fn credentials_for_proxies_are_not_judged(http: &kit::Http) {
    for _ in 0..7 {
        let request = http.request(Method::GET, &format!("{ROOT}/queues"));
        let basic = http
            .send(request.header("authorization", "Basic YW5uOng="))
            .await
            .unwrap();
        refused(&basic, 401, "api_no_token", "Bearer");
    }
}

/// Fails unless the document promises a key exactly where one is read.
async fn keys_are_taken_where_the_document_says() {
    let api = Api::in_a_file().await;
    let mut taken = Vec::new();
    for call in Documented::all(&api.document().await) {
        if call.method != Method::POST {
            continue;
        }
        let parameters = call.operation["parameters"].to_string();
        let http = api.fresh();
        let request = http
            .request(Method::POST, &format!("{ROOT}{}", call.at(&BTreeMap::new())))
            .header("authorization", format!("Bearer {}", secret("all")))
            .header("idempotency-key", "k");
        let reply = http.send(request).await.unwrap();
        let promised = parameters.contains("Idempotency-Key");
        assert_eq!(
            reply.json()["code"] != "api_bad_key",
            promised,
            "{}: {}",
            call.path,
            reply.body
        );
        taken.extend(promised.then_some(call.path));
    }
    assert_eq!(taken, ["/schedules", "/schedules/{id}/run", "/tasks"]);
}

async fn a_browser_reads_by_its_session() {
    let api = Api::in_a_file().await;
    let http = &api.runner.http;
    let page = http.get("/queue/login").await.body;
    let token = page
        .split("name=\"token\" value=\"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap()
        .to_owned();
    let fields = [("token", token.as_str()), ("name", "ann"), ("password", "a-password")];
    assert_eq!(http.post_form("/queue/login", &fields).await.status, 303);
    assert_eq!(http.get("/queue/api/v1/queues").await.status, 200);
    // She is a viewer, and the token of the forms is missing; neither lets her act.
    let refused = http.post_json("/queue/api/v1/tasks", &json!({"type": "a"})).await;
    assert_eq!(
        (refused.status, &refused.json()["code"]),
        (403, &json!("api_form_token"))
    );
    let page = http.get("/queue").await.body;
    let token = page
        .split("name=\"token\" value=\"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap()
        .to_owned();
    let request = http
        .request(Method::POST, "/queue/api/v1/tasks")
        .header("content-type", "application/json")
        .header("x-csrf-token", token)
        .body(r#"{"type":"a"}"#);
    let refused = http.send(request).await.unwrap();
    assert_eq!(
        (refused.status, &refused.json()["code"]),
        (403, &json!("api_forbidden")),
        "{}",
        refused.body
    );
    // A credential that is presented is judged, whatever the session allows.
    let request = http
        .request(Method::GET, "/queue/api/v1/queues")
        .header("authorization", "Bearer wrong");
    assert_eq!(http.send(request).await.unwrap().status, 401);
}

async fn an_open_dashboard_takes_no_foreign_forms() {
    let site = kit::Site::new("worker: {queues: {other: 1}}\n");
    let runner = site.start().await;
    let http = &runner.http;
    let send = async |kind: &str, headers: &[(&str, &str)]| {
        let mut request = http
            .request(Method::POST, "/queue/api/v1/tasks")
            .header("content-type", kind)
            .body(r#"{"type":"a"}"#);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        http.send(request).await.unwrap()
    };
    assert_eq!(send("application/json", &[]).await.status, 201);
    let of_proxy = send("application/json", &[("authorization", "Basic YW5uOng=")]).await;
    assert_eq!(of_proxy.status, 201, "{}", of_proxy.body);
    for (kind, headers, code) in [
        ("text/plain", &[][..], "api_form_token"),
        ("application/x-www-form-urlencoded", &[], "api_form_token"),
        (
            "application/json",
            &[("origin", "https://evil.example")],
            "api_other_site",
        ),
        (
            "application/json",
            &[("sec-fetch-site", "cross-site")],
            "api_other_site",
        ),
        ("application/json", &[("authorization", "Bearer x")], "api_wrong_token"),
    ] {
        let refused = send(kind, headers).await;
        assert_eq!(refused.json()["code"], code, "{kind} {headers:?}: {}", refused.body);
    }
    let named = http
        .request(Method::GET, "/queue/api/v1/queues")
        .header("host", "evil.example");
    let named = http.send(named).await.unwrap();
    assert_eq!((named.status, &named.json()["code"]), (421, &json!("api_wrong_host")));
    let asked = http
        .request(Method::OPTIONS, "/queue/api/v1/tasks")
        .header("origin", "https://evil.example");
    let asked = http.send(asked).await.unwrap();
    assert_eq!((asked.status, asked.header("access-control-allow-origin")), (405, ""));
}

async fn tokens_are_made_and_reloaded() {
    let site = kit::Site::new("auth: {users: [{name: ann, password: a-password}]}\n");
    let runner = site.start().await;
    let made = site
        .cli(["token", "new", "ci", "--scope", "read:queues", "--expires", "1h"])
        .await;
    let printed = made.ok().stdout.clone();
    let (token, lines) = printed.split_once("\n\n").unwrap();
    let http = kit::Http::new(format!("http://127.0.0.1:{}", runner.port));
    let status = async |path: &str| {
        let request = http
            .request(Method::GET, &format!("{ROOT}{path}"))
            .header("authorization", format!("Bearer {token}"));
        http.send(request).await.unwrap().status
    };
    assert_eq!(status("/queues").await, 401);
    assert!(!lines.contains(token), "{lines}");
    let users = "  users: [{name: ann, password: a-password}]\n";
    site.write("config.yaml", &(lines.trim_end().to_owned() + "\n" + users));
    site.cli(["check", "--offline"]).await.ok();
    runner.signal(nix::sys::signal::Signal::SIGHUP);
    kit::eventually("the token is in force", async || match status("/queues").await {
        200 => Ok(()),
        other => Err(other),
    })
    .await;
    site.write("config.yaml", &format!("auth:\n{users}"));
    runner.signal(nix::sys::signal::Signal::SIGHUP);
    kit::eventually("the token is gone", async || match status("/queues").await {
        401 | 429 => Ok(()),
        other => Err(other),
    })
    .await;
}

async fn the_document_names_the_address() {
    let site = kit::Site::new("server: {public_url: 'https://tools.example.com/ops'}\n");
    let runner = site.start().await;
    let document = runner.http.get("/queue/api/v1/openapi.json").await;
    assert_eq!(document.status, 200, "{}", document.body);
    assert_eq!(document.json()["servers"][0]["url"], "/ops/queue/api/v1");
    let below = runner.http.get("/ops/queue/api/v1/queues").await;
    assert_eq!(below.status, 200, "{}", below.body);
}
