//! The guards before every page: headers, host names, form tokens.

use reqwest::Method;

use super::content::{EMPTY, FULL};
use super::dashboard::{Order, Site, users};
use crate::kit;

pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(): every_answer_carries_the_policy, nothing_is_inline, only_known_names_are_answered,
            forms_of_other_sites_are_refused, forms_have_bounds, anonymous_visitors_see_nothing
    ]
}

/// Every address that changes something.
pub const ACTIONS: [&str; 12] = [
    "/queue/tasks/default/dead/run",
    "/queue/tasks/default/plain/archive",
    "/queue/tasks/default/dead/delete",
    "/queue/tasks/default/held/cancel",
    "/queue/queues/default/pause",
    "/queue/queues/default/resume",
    "/queue/schedules/code%3Ahourly/run",
    "/queue/schedules/code%3Ahourly/pause",
    "/queue/schedules/code%3Ahourly/resume",
    "/queue/bad-messages/orders%3Anew%40test-host%230/00/run",
    "/queue/bad-messages/orders%3Anew%40test-host%230/00/delete",
    "/queue/sync",
];

async fn every_answer_carries_the_policy() {
    let site = Site::full().await;
    let others = [
        "/nowhere",
        "/healthz",
        "/metrics",
        "/queue/assets/queue.css",
        "/queue/queues/default/x",
    ];
    for path in EMPTY.iter().chain(&FULL).chain(&others) {
        let answer = site.http.get(path).await;
        let policy = answer.header("content-security-policy");
        assert!(
            policy.starts_with("default-src 'none'; style-src 'self'; script-src 'self'"),
            "{path}: {policy:?}"
        );
        assert!(!policy.contains("unsafe") && policy.contains("frame-ancestors 'none'; base-uri 'none'"));
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("cross-origin-opener-policy", "same-origin"),
        ] {
            assert_eq!(answer.header(name), value, "{path}: {name}");
        }
        assert_eq!(answer.header("access-control-allow-origin"), "", "{path}");
        let kept = if path.contains("/assets/") {
            "public, max-age=300"
        } else {
            "private, no-store"
        };
        assert_eq!(answer.header("cache-control"), kept, "{path}");
    }
}

async fn nothing_is_inline() {
    let site = Site::full().await;
    for path in EMPTY.iter().chain(&FULL) {
        let page = site.http.get(path).await.body;
        for inline in [
            " style=",
            "<style",
            " onclick",
            " onload",
            "javascript:",
            "http://",
            "https://",
        ] {
            assert!(!page.contains(inline), "{path} has {inline:?}");
        }
        assert_eq!(page.matches("<script").count(), 1, "{path} has one script");
        let forms = page.matches("method=\"post\"").count();
        assert_eq!(
            page.matches("name=\"token\"").count(),
            forms,
            "{path}: every form has a token"
        );
    }
}

async fn only_known_names_are_answered() {
    let site = Site::start(Order {
        allowed_hosts: vec!["Desk.example:1".to_owned()],
        ..Order::default()
    })
    .await;
    let ask = async |host: &str, path: &str| {
        let request = site.http.request(Method::GET, path).header("host", host);
        site.http.send(request).await.unwrap().status
    };
    for good in ["localhost", "localhost:1", "127.0.0.1:9", "[::1]:80", "desk.example"] {
        assert_eq!(ask(good, "/queue").await, 200, "{good}");
    }
    for bad in [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "localhost:x",
        "a@localhost",
    ] {
        assert_eq!(ask(bad, "/queue").await, 421, "{bad}");
        assert_eq!(ask(bad, "/metrics").await, 421, "{bad}");
        assert_eq!(ask(bad, "/healthz").await, 200, "{bad}");
    }
}

async fn forms_of_other_sites_are_refused() {
    let site = Site::full().await;
    let token = site.token("/queue").await;
    let stranger = Site::empty().await;
    let foreign = stranger.token("/queue").await;
    for path in ACTIONS {
        for wrong in ["", "x", foreign.as_str()] {
            let refused = site.http.post_form(path, &[("token", wrong)]).await;
            assert_eq!(refused.status, 403, "{path} with the token {wrong:?}");
        }
        assert_eq!(
            site.http.get(path).await.status,
            if path.contains("/queues/") { 404 } else { 405 },
            "{path}"
        );
        for (name, value) in [
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("origin", "http://evil.example"),
            ("origin", "null"),
        ] {
            let request = site
                .http
                .request(Method::POST, path)
                .header(name, value)
                .form(&[("token", &token)]);
            assert_eq!(
                site.http.send(request).await.unwrap().status,
                403,
                "{path} with {name}: {value}"
            );
        }
    }
    // The same form from the same place is accepted.
    let request = site
        .http
        .request(Method::POST, "/queue/sync")
        .header("origin", &site.base);
    let request = request
        .header("sec-fetch-site", "same-origin")
        .form(&[("token", &token)]);
    assert_eq!(site.http.send(request).await.unwrap().status, 303);
}

async fn forms_have_bounds() {
    let site = Site::empty().await;
    let token = site.token("/queue").await;
    let long = "x".repeat(70_000);
    let answer = site
        .http
        .post_form("/queue/sync", &[("token", &token), ("x", &long)])
        .await;
    assert_eq!(answer.status, 413);
    let answer = site
        .http
        .post_json("/queue/sync", &serde_json::json!({"token": token}))
        .await;
    assert_eq!(answer.status, 415);
    let away = site
        .http
        .post_form("/queue/sync", &[("token", &token), ("back", "//evil.example")])
        .await;
    assert_eq!(away.header("location"), "/queue");
}

async fn anonymous_visitors_see_nothing() {
    let site = Site::start(Order {
        auth: users(),
        full: true,
        ..Order::default()
    })
    .await;
    for path in EMPTY
        .iter()
        .chain(&FULL)
        .chain(&["/queue/nowhere", "/queue/find?id=plain"])
    {
        let answer = site.http.get(path).await;
        if *path == "/queue/nowhere" {
            assert_eq!(answer.status, 404);
        } else {
            assert_eq!(answer.status, 303, "{path}");
            assert!(
                answer.header("location").starts_with("/queue/login?next=%2Fqueue"),
                "{path}"
            );
        }
        for secret in ["a-service", "1.2.3", "test-host", "runner.db", "nightly"] {
            assert!(!answer.body.contains(secret), "{path} reveals {secret:?}");
        }
    }
    let token = site.token("/queue/login").await;
    for path in ACTIONS {
        assert_eq!(
            site.http.post_form(path, &[("token", &token)]).await.status,
            401,
            "{path}"
        );
    }
    assert_eq!(site.http.get("/metrics").await.status, 401);
    assert_eq!(site.http.get("/readyz").await.status, 200);
    assert_eq!(site.http.get("/queue/assets/queue.css").await.status, 200);
}
