//! Rows of the table, edited on the dashboard and over the API of a running program: forms without script, roles, conflicts, keys.

use reqwest::Method;
use serde_json::{Value, json};

use crate::kit::{self, Http, Reply, Runner, Site};

pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(): a_row_is_made_and_changed_by_forms, a_conflict_shows_both_and_loses_nothing, roles_bound_what_is_offered,
            rows_are_edited_over_the_api, a_rule_is_previewed_over_the_api, rows_stay_as_they_are_without_the_setting,
            a_time_has_its_answer
    ]
}

const ROOT: &str = "/queue/api/v1";

const USERS: &str = "auth:\n  users:\n    - {name: vera, password: vera-pass-word, role: viewer}\n    - {name: olga, password: olga-pass-word, role: operator}\n    \
     - {name: ada, password: ada-pass-word, role: admin}\n  tokens:\n    - {name: all, token: all-0123456789abcdef0123456789abcdef, scopes: [read, act, delete]}\n";

struct Started {
    site: Site,
    runner: Runner,
}

impl Started {
    async fn with(settings: &str) -> Self {
        let site = Site::new(settings);
        site.write(
            "manifests/report.yaml",
            "name: report\nexec: {command: ['true']}\nschedule: '@yearly'\n",
        );
        let runner = site.start().await;
        Self { site, runner }
    }

    /// One that anyone may edit.
    async fn open() -> Self {
        Self::with("database: {driver: sqlite, path: rows.db, writable: true}\n").await
    }

    fn browser(&self) -> Http {
        Http::new(format!("http://127.0.0.1:{}", self.runner.port))
    }

    async fn logged_in(&self, name: &str) -> Http {
        let http = self.browser();
        let token = hidden(&http.get("/queue/login").await.body, "token");
        let password = format!("{name}-pass-word");
        let fields = [("token", token.as_str()), ("name", name), ("password", &password)];
        let answer = http.post_form("/queue/login", &fields).await;
        assert_eq!(answer.status, 303, "{}", answer.body);
        http
    }

    async fn call(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Option<Value>) -> Reply {
        let http = self.browser();
        let mut request = http
            .request(method, &format!("{ROOT}{path}"))
            .header("authorization", "Bearer all-0123456789abcdef0123456789abcdef");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request
                .header("content-type", "application/json")
                .body(body.to_string());
        }
        http.send(request).await.unwrap()
    }
}

/// The value of a hidden field.
fn hidden(page: &str, name: &str) -> String {
    let (_, rest) = page
        .split_once(&format!("name=\"{name}\" value=\""))
        .unwrap_or_else(|| panic!("no {name} in {page}"));
    rest.split('"').next().unwrap_or_default().to_owned()
}

/// Sends the form of a page as a browser does, with these fields besides the hidden ones.
async fn send(http: &Http, path: &str, page: &str, fields: &[(&str, &str)]) -> Reply {
    let (token, version) = (hidden(page, "token"), hidden(page, "version"));
    let mut all = vec![("token", token.as_str()), ("version", version.as_str())];
    all.extend_from_slice(fields);
    http.post_form(path, &all).await
}

async fn a_row_is_made_and_changed_by_forms() {
    let started = Started::open().await;
    let http = started.browser();
    assert!(
        http.get("/queue/schedules")
            .await
            .body
            .contains("href=\"/queue/schedules/new\"")
    );
    let form = http.get("/queue/schedules/new").await;
    assert_eq!(form.status, 200, "{}", form.body);
    assert!(form.body.contains("<option value=\"fn:report\">"), "{}", form.body);
    let path = "/queue/schedules/new";
    let wrong = [
        ("name", "a"),
        ("kind", "t"),
        ("spec", "0 25 * * *"),
        ("enabled", "1"),
        ("do", "save"),
    ];
    let refused = send(&http, path, &form.body, &wrong).await;
    assert_eq!(refused.status, 422);
    let under = refused
        .body
        .split_once("id=\"at-spec\"")
        .unwrap()
        .1
        .split("</div>")
        .next()
        .unwrap()
        .to_owned();
    assert!(
        under.contains("25") && under.contains('^'),
        "with a caret under it: {under}"
    );
    assert!(refused.body.contains("value=\"0 25 * * *\""), "what was typed is there");
    let look = [
        ("name", "a"),
        ("kind", "t"),
        ("spec", "0 2 * * *"),
        ("zone", "Europe/Berlin"),
        ("do", "look"),
    ];
    let shown = send(&http, path, &form.body, &look).await;
    assert_eq!(shown.status, 200);
    assert!(
        shown.body.contains("1 in the next 24 hours") && shown.body.contains("Europe/Berlin"),
        "{}",
        shown.body
    );
    large_and_odd_text_is_saved(&started, &http, &form.body).await;
}

async fn large_and_odd_text_is_saved(started: &Started, http: &Http, form: &str) {
    let path = "/queue/schedules/new";
    let large = format!("{{\"x\": \"{}\"}}", "\"\u{1f600}é".replace('"', "'").repeat(9_000));
    let good = [
        ("name", "\u{1f600} <b>'\"&"),
        ("kind", "t"),
        ("spec", "0 2 * * *"),
        ("zone", "Europe/Berlin"),
        ("payload", large.as_str()),
        ("options", "{\"retry\": 3}"),
        ("enabled", "1"),
        ("do", "save"),
    ];
    assert!(large.len() > 60_000);
    let saved = send(http, path, form, &good).await;
    assert_eq!(
        (saved.status, saved.header("location")),
        (303, "/queue/schedules/db%3A1"),
        "{}",
        saved.body
    );
    let page = http.get("/queue/schedules/db%3A1").await;
    assert!(
        page.body.contains("was added to the table") && page.body.contains("&lt;b&gt;"),
        "{}",
        page.body
    );
    for verb in ["disable", "enable"] {
        let fields = [
            ("token", hidden(&page.body, "token")),
            ("back", "/queue/schedules/db%3A1".to_owned()),
        ];
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let done = http
            .post_form(&format!("/queue/schedules/db%3A1/{verb}"), &fields)
            .await;
        assert_eq!(done.status, 303);
        let page = http.get("/queue/schedules/db%3A1").await.body;
        assert!(
            page.contains(&format!("was switched {}", if verb == "enable" { "on" } else { "off" })),
            "{page}"
        );
    }
    let form = http.get("/queue/schedules/db%3A1/edit").await.body;
    assert!(
        form.contains("value=\"Europe/Berlin\"") && form.contains("{&quot;retry&quot;: 3}"),
        "{form}"
    );
    let manifest = http.get("/queue/schedules/m%3Areport%3Adefault/edit").await;
    assert_eq!(manifest.status, 303);
    let said = http.get(manifest.header("location")).await.body;
    assert!(said.contains("is defined in the manifest"), "{said}");
    let log = started.runner.log();
    assert!(
        log.contains("row.create") && !log.contains("\u{1f600}é"),
        "the payload is not in the log"
    );
}

async fn a_conflict_shows_both_and_loses_nothing() {
    let started = Started::open().await;
    let (one, other) = (started.browser(), started.browser());
    let new = one.get("/queue/schedules/new").await.body;
    let fields = |name| {
        [
            ("name", name),
            ("kind", "t"),
            ("spec", "@daily"),
            ("enabled", "1"),
            ("do", "save"),
        ]
    };
    send(&one, "/queue/schedules/new", &new, &fields("first")).await;
    let path = "/queue/schedules/db%3A1/edit";
    let (of_one, of_other) = (one.get(path).await.body, other.get(path).await.body);
    assert_eq!(send(&one, path, &of_one, &fields("by one")).await.status, 303);
    let conflict = send(&other, path, &of_other, &fields("by other")).await;
    assert_eq!(conflict.status, 409);
    let body = &conflict.body;
    assert!(
        body.contains("Someone else has changed this row") && body.contains(">by one</pre>"),
        "{body}"
    );
    assert!(body.contains("value=\"by other\""), "{body}");
    assert_eq!(
        send(&other, path, body, &fields("by other")).await.status,
        303,
        "now it replaces the other"
    );
    assert!(
        other
            .get("/queue/schedules/db%3A1")
            .await
            .body
            .contains("<h1>by other</h1>")
    );
}

async fn roles_bound_what_is_offered() {
    let started = Started::with(&format!(
        "{USERS}database: {{driver: sqlite, path: rows.db, writable: true}}\n"
    ))
    .await;
    let olga = started.logged_in("olga").await;
    let new = olga.get("/queue/schedules/new").await.body;
    let fields = [("name", "n"), ("kind", "t"), ("spec", "@daily"), ("do", "save")];
    assert_eq!(send(&olga, "/queue/schedules/new", &new, &fields).await.status, 303);
    let page = "/queue/schedules/db%3A1";
    let by_olga = olga.get(page).await.body;
    assert!(
        by_olga.contains(&format!("{page}/edit")) && !by_olga.contains(&format!("{page}/delete")),
        "{by_olga}"
    );
    let token = hidden(&by_olga, "token");
    let refused = olga.post_form(&format!("{page}/delete"), &[("token", &token)]).await;
    assert_eq!(refused.status, 403);
    let vera = started.logged_in("vera").await;
    let by_vera = vera.get(page).await.body;
    assert!(!by_vera.contains(&format!("{page}/edit")), "{by_vera}");
    assert_eq!(vera.get("/queue/schedules/new").await.status, 403);
    assert_eq!(vera.get(&format!("{page}/edit")).await.status, 403);
    let ada = started.logged_in("ada").await;
    let by_ada = ada.get(page).await.body;
    assert!(by_ada.contains(&format!("{page}/delete")), "{by_ada}");
    let token = hidden(&by_ada, "token");
    let deleted = ada.post_form(&format!("{page}/delete"), &[("token", &token)]).await;
    assert_eq!((deleted.status, deleted.header("location")), (303, "/queue/schedules"));
    assert!(
        ada.get("/queue/schedules")
            .await
            .body
            .contains("was deleted from the table")
    );
    let log = started.runner.log();
    assert!(
        log.contains("row.delete") && log.contains("ada") && log.contains("\\\"spec\\\":\\\"@daily\\\""),
        "{log}"
    );
}

async fn rows_are_edited_over_the_api() {
    let started = Started::with(&format!(
        "{USERS}database: {{driver: sqlite, path: rows.db, writable: true}}\n"
    ))
    .await;
    let new = json!({"name": "n", "type": "t", "spec": "0 2 * * *", "timezone": "Asia/Tokyo", "payload": {"a": [1, 2.50]}, "options": {"retry": 3}});
    let key = [("idempotency-key", "k-1")];
    let made = started.call(Method::POST, "/schedules", &key, Some(new.clone())).await;
    assert_eq!(made.status, 201, "{}", made.body);
    assert_eq!(made.json()["payload"], json!({"a": [1, 2.5]}), "without its options");
    assert_eq!(made.header("location"), "/queue/api/v1/schedules/db%3A1");
    let again = started.call(Method::POST, "/schedules", &key, Some(new.clone())).await;
    assert_eq!((again.status, &again.json()), (200, &made.json()));
    let mut other = new.clone();
    other["name"] = json!("m");
    let reused = started.call(Method::POST, "/schedules", &key, Some(other)).await;
    assert_eq!((reused.status, &reused.json()["code"]), (422, &json!("api_key_reused")));
    let row = started.call(Method::GET, "/schedules/db:1/row", &[], None).await;
    let tag = row.header("etag").to_owned();
    assert_eq!(tag, format!("\"{}\"", row.json()["version"].as_str().unwrap()));
    let change = json!({"spec": "0 3 * * *", "options": null});
    let blind = started
        .call(Method::PATCH, "/schedules/db:1", &[], Some(change.clone()))
        .await;
    assert_eq!((blind.status, &blind.json()["code"]), (428, &json!("api_no_version")));
    let changed = started
        .call(
            Method::PATCH,
            "/schedules/db:1",
            &[("if-match", &tag)],
            Some(change.clone()),
        )
        .await;
    assert_eq!(changed.status, 200, "{}", changed.body);
    let now = changed.json();
    assert_eq!(
        (&now["spec"], &now["options"], &now["timezone"]),
        (&json!("0 3 * * *"), &Value::Null, &json!("Asia/Tokyo"))
    );
    let stale = started
        .call(Method::PATCH, "/schedules/db:1", &[("if-match", &tag)], Some(change))
        .await;
    assert_eq!((stale.status, &stale.json()["code"]), (412, &json!("row_changed")));
    let wrong = json!({"spec": "0 25 * * *"});
    let wrong = started
        .call(Method::PATCH, "/schedules/db:1", &[("if-match", "*")], Some(wrong))
        .await;
    assert_eq!(wrong.status, 422, "{}", wrong.body);
    assert!(
        wrong.json()["code"].as_str().unwrap().starts_with("E2"),
        "{}",
        wrong.body
    );
    the_row_is_switched_and_deleted(&started, &tag).await;
}

async fn the_row_is_switched_and_deleted(started: &Started, tag: &str) {
    for (verb, changed) in [("disable", true), ("disable", false), ("enable", true)] {
        let done = started
            .call(Method::POST, &format!("/schedules/db:1/{verb}"), &[], Some(json!({})))
            .await;
        assert_eq!(done.json()["changed"], json!(changed), "{verb}: {}", done.body);
    }
    let shown = started.call(Method::GET, "/schedules/db:1", &[], None).await.json();
    assert_eq!((&shown["spec"], &shown["enabled"]), (&json!("0 3 * * *"), &json!(true)));
    let manifest = started
        .call(Method::DELETE, "/schedules/m:report:default", &[], None)
        .await;
    assert_eq!(
        (manifest.status, &manifest.json()["code"]),
        (409, &json!("row_elsewhere")),
        "{}",
        manifest.body
    );
    assert!(manifest.body.contains("report.yaml"), "{}", manifest.body);
    let gone = started
        .call(Method::DELETE, "/schedules/db:1", &[("if-match", tag)], None)
        .await;
    assert_eq!(gone.status, 412, "{}", gone.body);
    let gone = started.call(Method::DELETE, "/schedules/db:1", &[], None).await;
    assert_eq!(gone.json(), json!({"done": "deleted", "changed": true}));
    assert_eq!(
        started.call(Method::GET, "/schedules/db:1/row", &[], None).await.status,
        404
    );
    let large = json!({"name": "n", "type": "t", "spec": "@daily", "payload": "x".repeat(70_000)});
    let large = started.call(Method::POST, "/schedules", &[], Some(large)).await;
    assert_eq!(large.status, 201, "{}", large.body);
    let listed = started.site.cli(["ls", "schedules", "--json"]).await.json();
    assert!(listed.to_string().contains("db:2"), "{listed}");
}

async fn a_rule_is_previewed_over_the_api() {
    let started = Started::with(USERS).await;
    let shown = started
        .call(
            Method::GET,
            "/schedules/preview?spec=0%202%20*%20*%20*&timezone=Europe/Berlin",
            &[],
            None,
        )
        .await;
    assert_eq!(shown.status, 200, "{}", shown.body);
    let shown = shown.json();
    assert_eq!(
        (shown["next"].as_array().unwrap().len(), &shown["in_a_day"]),
        (10, &json!(1)),
        "{shown}"
    );
    assert_eq!(shown["timezone"], "Europe/Berlin");
    let wrong = started
        .call(Method::GET, "/schedules/preview?spec=0%2025%20*%20*%20*", &[], None)
        .await;
    assert_eq!(wrong.status, 422);
    assert!(wrong.json()["detail"].as_str().unwrap().contains('^'), "{}", wrong.body);
    let zone = started
        .call(Method::GET, "/schedules/preview?spec=@daily&timezone=Mars", &[], None)
        .await;
    assert_eq!(
        (zone.status, &zone.json()["code"]),
        (422, &json!("E210")),
        "{}",
        zone.body
    );
    // The most work that a rule can make.
    let busy = started
        .call(Method::GET, "/schedules/preview?spec=*%20*%20*%20*%20*%20*", &[], None)
        .await
        .json();
    assert_eq!(
        (&busy["in_a_day"], &busy["more"]),
        (&json!(2000), &json!(true)),
        "{busy}"
    );
}

async fn rows_stay_as_they_are_without_the_setting() {
    let started = Started::with(USERS).await;
    let refused = started
        .call(
            Method::POST,
            "/schedules",
            &[],
            Some(json!({"name": "n", "type": "t", "spec": "@daily"})),
        )
        .await;
    assert_eq!(
        (refused.status, &refused.json()["code"]),
        (409, &json!("row_not_writable")),
        "{}",
        refused.body
    );
    assert!(refused.body.contains("database.writable"), "{}", refused.body);
    let ada = started.logged_in("ada").await;
    assert!(!ada.get("/queue/schedules").await.body.contains("/queue/schedules/new"));
    assert_eq!(ada.get("/queue/schedules/new").await.status, 303);
}

async fn a_time_has_its_answer() {
    let started = Started::with(USERS).await;
    let why = async |at: &str| {
        let path = format!("/schedules/m:report:default/why?at={at}");
        started.call(Method::GET, &path, &[], None).await
    };
    let ahead = why("2099-01-01T00:00").await;
    assert_eq!(ahead.json()["answer"], "not_yet", "{}", ahead.body);
    let between = why("2099-01-01T00:01:00Z").await.json();
    assert_eq!(between["answer"], "not_due", "{between}");
    assert!(
        between["before"].as_str().unwrap().starts_with("2099-01-01T00:00:00"),
        "{between}"
    );
    let before = why("2001-01-01T00:00").await.json();
    assert_eq!(before["answer"], "no_record", "{before}");
    assert_eq!(why("soon").await.status, 422);
    let vera = started.logged_in("vera").await;
    let page = vera
        .get("/queue/schedules/m%3Areport%3Adefault?at=2099-01-01T00:01")
        .await
        .body;
    assert!(
        page.contains("By the rule as it is now, nothing is due then."),
        "{page}"
    );
    let next = page
        .split_once("class=\"fires\"")
        .unwrap()
        .1
        .split("</ol>")
        .next()
        .unwrap();
    assert_eq!(next.matches("<li>").count(), 10, "{next}");
}
