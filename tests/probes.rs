//! Endpoints of a process without a dashboard, and the two formats of its metrics.

use crate::kit::{self, Http, Site};

pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(): a_worker_alone_answers_probes, metrics_with_a_separate_address_are_closed_elsewhere,
            metrics_come_in_the_requested_format
    ]
}

async fn a_worker_alone_answers_probes() {
    let port = kit::free_port();
    let site = Site::new(&format!(
        "roles: [worker]\nserver: {{metrics_addr: '127.0.0.1:{port}'}}\n"
    ));
    let mut runner = site.launch();
    runner.http = Http::new(format!("http://127.0.0.1:{port}"));
    runner.ready().await;
    assert_eq!(runner.http.get("/healthz").await.json()["status"], "alive");
    let figures = runner.http.get("/metrics").await;
    assert!(figures.body.contains("runner_worker_active 0"), "{}", figures.body);
    for path in ["/", "/queue", "/queue/login"] {
        assert_eq!(runner.http.get(path).await.status, 404, "{path}");
    }
    let log = runner.log();
    assert!(
        log.contains(&format!("probes     http://127.0.0.1:{port}/metrics")),
        "{log}"
    );
    assert!(runner.stop().await.success());
}

async fn metrics_with_a_separate_address_are_closed_elsewhere() {
    let port = kit::free_port();
    let site = Site::new(&format!(
        "server: {{metrics_addr: '127.0.0.1:{port}'}}\nauth: {{users: [{{name: ann, password: a-long-password, role: viewer}}]}}\n"
    ));
    let runner = site.start().await;
    assert_eq!(runner.http.get("/metrics").await.status, 401);
    let probes = Http::new(format!("http://127.0.0.1:{port}"));
    assert_eq!(probes.get("/metrics").await.status, 200);
    assert_eq!(probes.get("/queue").await.status, 404);
}

async fn metrics_come_in_the_requested_format() {
    let site = Site::new("worker: {queues: {default: 1}}\n");
    let runner = site.start().await;
    site.cli(["enqueue", "echo", "--payload", "1"]).await.ok();
    kit::eventually("the task has ended", async || {
        let figures = runner.http.get("/metrics").await;
        match figures.body.contains("runner_tasks_processed_total{") {
            true => Ok(()),
            false => Err(figures.body),
        }
    })
    .await;
    let ask = async |accept: &str| {
        let request = runner.http.request(reqwest::Method::GET, "/metrics");
        runner
            .http
            .send(request.header("accept", accept))
            .await
            .expect("figures")
    };
    let plain = ask("text/plain;version=0.0.4").await;
    assert_eq!(plain.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    assert_eq!(plain.header("vary"), "accept");
    assert!(
        plain.body.contains("# TYPE runner_tasks_processed_total counter\n"),
        "{}",
        plain.body
    );
    assert!(!plain.body.contains("# EOF") && !plain.body.contains("# UNIT"));
    let open = ask("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5").await;
    assert_eq!(
        open.header("content-type"),
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
    assert!(open.body.contains("# TYPE runner_tasks_processed counter\n") && open.body.ends_with("# EOF\n"));
    typed(&plain.body);
    typed(&open.body);
}

/// Every family has a help text and a type, in this order, and every sample belongs to the family above it.
fn typed(text: &str) {
    let mut family = String::new();
    let mut helped = String::new();
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            helped = help.split(' ').next().expect("a name").to_owned();
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            family = kind.split(' ').next().expect("a name").to_owned();
            assert_eq!(family, helped, "{line}");
        } else if !line.starts_with('#') {
            assert!(line.starts_with(&family), "{line} below {family}");
        }
    }
}
