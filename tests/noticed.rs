//! Notifications that depend on time and on other work: what does not succeed, pings, slots that are taken, receivers that
//! never answer, and several instances over a cluster.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::kit::{self, HttpReceiver, ReceivedCall, Scripted, Site, eventually_within};

/// The tests of this module.
pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(): silence_is_reported_once_over_restarts_and_so_is_its_end, runs_say_when_they_begin_and_how_they_end,
            a_receiver_that_never_answers_holds_up_only_its_own, a_refused_manifest_is_reported;
        needs(Redis): notifications_go_out_while_all_slots_are_taken;
        needs(Cluster): of_three_instances_over_a_cluster_one_reports;
    ]
}

const PATIENCE: Duration = Duration::from_secs(60);

fn site(config: &str, receiver: &HttpReceiver) -> Site {
    let port = receiver.port;
    Site::new(&format!(
        "{config}handlers: {{http: {{allow_private: true}}}}\nnotify:\n  channels:\n    \
         ops: {{url: 'http://127.0.0.1:{port}/ops', per_minute: 1000}}\n    dead: http://127.0.0.1:{port}/dead\n"
    ))
}

fn of_event(receiver: &HttpReceiver, event: &str) -> Vec<ReceivedCall> {
    let calls = receiver.calls().into_iter();
    calls.filter(|call| call.json()["event"] == event).collect()
}

async fn reported(receiver: &HttpReceiver, event: &str, times: usize) -> Vec<ReceivedCall> {
    eventually_within(PATIENCE, event, async || {
        let found = of_event(receiver, event);
        (found.len() >= times)
            .then_some(found)
            .ok_or(format!("{:?}", receiver.calls()))
    })
    .await
}

async fn silence_is_reported_once_over_restarts_and_so_is_its_end() {
    let receiver = HttpReceiver::friendly().await;
    let site = site("", &receiver);
    let text = "name: backup\nexec: ['true']\nexpect: {success_within: 3s}\nnotify: {on_overdue: ops}\n";
    site.write("manifests/a.yaml", text);
    let runner = site.start().await;
    let first = reported(&receiver, "overdue", 1).await.remove(0).json();
    assert_eq!(first["function"], "backup");
    assert!(
        first["text"].as_str().unwrap().contains("no success is known"),
        "{first}"
    );
    runner.kill9();
    // Another instance knows what was reported: the end of the silence is the next that it reports.
    let runner = site.start().await;
    site.cli(["enqueue", "fn:backup", "--id", "b-1"]).await.ok();
    let back = reported(&receiver, "recovery", 1).await.remove(0).json();
    assert_eq!(
        (back["function"].as_str(), back["task"].as_str()),
        (Some("backup"), Some("b-1"))
    );
    let second = reported(&receiver, "overdue", 2).await.remove(1).json();
    assert!(second["text"].as_str().unwrap().contains("last success at"), "{second}");
    let events: Vec<_> = receiver
        .calls()
        .iter()
        .map(|call| call.json()["event"].clone())
        .collect();
    assert_eq!(events, ["overdue", "recovery", "overdue"]);
    assert!(runner.stop().await.success());
}

async fn runs_say_when_they_begin_and_how_they_end() {
    let receiver = HttpReceiver::friendly().await;
    let site = site("", &receiver);
    let port = receiver.port;
    let ping = |name: &str, command: &str| {
        format!("name: {name}\nexec: ['{command}']\nretry: 0\nping_url: http://127.0.0.1:{port}/ping/{name}\n")
    };
    let dead = "name: unheard\nexec: ['true']\nping_url: http://127.0.0.1:1/ping\n";
    site.write(
        "manifests/a.yaml",
        &format!("{}---\n{}---\n{dead}", ping("good", "true"), ping("bad", "false")),
    );
    let runner = site.start().await;
    for name in ["good", "bad", "unheard"] {
        site.cli(["enqueue", &format!("fn:{name}"), "--id", name]).await.ok();
    }
    let calls = eventually_within(PATIENCE, "four pings", async || {
        let calls = receiver.calls();
        (calls.len() >= 4).then_some(calls.clone()).ok_or(format!("{calls:?}"))
    })
    .await;
    let of = |name: &str| -> Vec<String> {
        let own = calls.iter().filter(|call| call.line.contains(name));
        own.map(|call| call.line.clone()).collect()
    };
    assert_eq!(
        of("good"),
        ["POST /ping/good/start HTTP/1.1", "POST /ping/good HTTP/1.1"]
    );
    assert_eq!(
        of("bad"),
        ["POST /ping/bad/start HTTP/1.1", "POST /ping/bad/fail HTTP/1.1"]
    );
    let failed = calls.iter().find(|call| call.line.contains("fail")).unwrap();
    assert!(failed.body.contains("exit code 1"), "{failed:?}");
    // A server that is not there delays and fails nothing.
    let runs = site.cli(["runs", "unheard"]).await.ok().stdout;
    assert!(runs.contains("success"), "{runs}");
    assert!(runner.stop().await.success());
}

/// Every slot runs a command that does not end.
async fn notifications_go_out_while_all_slots_are_taken() {
    let db = kit::redis().fresh_db();
    let receiver = HttpReceiver::friendly().await;
    let site = site(&format!("{}worker: {{concurrency: 2}}\n", db.yaml()), &receiver);
    site.write("manifests/a.yaml", "name: endless\nexec: [sleep, '600']\n");
    let runner = site.start().await;
    for id in ["e-1", "e-2", "e-3"] {
        site.cli(["enqueue", "fn:endless", "--id", id]).await.ok();
    }
    eventually_within(PATIENCE, "both slots are taken", async || {
        let active = site.cli(["ls", "tasks", "--state", "active", "--json"]).await.stdout;
        (active.matches("\"e-").count() == 2).then_some(()).ok_or(active)
    })
    .await;
    for _ in 0..3 {
        let asked = tokio::time::Instant::now();
        let tested = site.cli(["notify", "test", "ops"]).await;
        assert!(tested.status.success(), "{tested:?}");
        assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    }
    let tests = of_event(&receiver, "test");
    let delays = tests.iter().map(|call| {
        let noticed: jiff::Timestamp = call.json()["at"].as_str().unwrap().parse().unwrap();
        let age = std::time::SystemTime::now().duration_since(noticed.into()).unwrap();
        age.saturating_sub(call.at.elapsed())
    });
    let delays: Vec<Duration> = delays.collect();
    println!("sent while all slots were taken, after {delays:?}");
    assert!(delays.iter().all(|delay| *delay < Duration::from_secs(1)), "{delays:?}");
    let waiting = site.cli(["ls", "tasks", "--state", "pending", "--json"]).await.stdout;
    assert!(waiting.contains("e-3"), "no other task used these slots: {waiting}");
    drop(runner);
}

async fn a_receiver_that_never_answers_holds_up_only_its_own() {
    let (silent, friendly) = (
        HttpReceiver::start(&[Scripted::Silence]).await,
        HttpReceiver::friendly().await,
    );
    let site = Site::new(&format!(
        "worker: {{concurrency: 2}}\nnotify:\n  channels:\n    dead: {{url: 'http://127.0.0.1:{}/', per_minute: 1000}}\n    \
         ops: {{url: 'http://127.0.0.1:{}/', per_minute: 1000}}\n",
        silent.port, friendly.port
    ));
    let text = "name: bad\nexec: ['false']\nretry: 0\nnotify: {on_failure: [dead, ops]}\n";
    site.write("manifests/a.yaml", text);
    let runner = site.start().await;
    for n in 0..20 {
        site.cli(["enqueue", "fn:bad", "--id", &format!("t{n}")]).await.ok();
    }
    let calls = reported(&friendly, "failure", 20).await;
    assert_eq!(calls.len(), 20);
    let held = silent.calls().len();
    assert!((1..=4).contains(&held), "{held} calls to the silent one");
    drop(runner);
}

async fn a_refused_manifest_is_reported() {
    let receiver = HttpReceiver::friendly().await;
    let site = site("", &receiver);
    let config = std::fs::read_to_string(site.dir.join("config.yaml")).unwrap();
    site.write("config.yaml", &format!("{config}  default: {{on_problem: [ops]}}\n"));
    site.write("manifests/a.yaml", "name: broken\nexec: 5\n");
    let runner = site.start().await;
    let found = reported(&receiver, "problem", 1).await.remove(0).json();
    let text = found["text"].as_str().unwrap();
    assert!(text.contains("broken is refused") && text.contains("a.yaml"), "{found}");
    assert!(runner.stop().await.success());
}

async fn of_three_instances_over_a_cluster_one_reports() {
    const TASKS: usize = 40;
    let turn = kit::cluster().await;
    let receiver = HttpReceiver::friendly().await;
    let site = site(&format!("{}worker: {{concurrency: 4}}\n", turn.yaml()), &receiver);
    let text = "name: bad\nexec: ['false']\nretry: 0\nnotify: {on_failure: [ops]}\n---\n\
                name: silent\nexec: ['true']\nexpect: {success_within: 5s}\nnotify: {on_overdue: ops}\n";
    site.write("manifests/a.yaml", text);
    let instances = [site.launch(), site.launch(), site.launch()];
    for instance in &instances {
        instance.ready().await;
    }
    for n in 0..TASKS {
        site.cli(["enqueue", "fn:bad", "--id", &format!("t{n}")]).await.ok();
    }
    let failures = reported(&receiver, "failure", TASKS).await;
    reported(&receiver, "overdue", 1).await;
    // Every instance has looked by then.
    site.cli(["notify", "test", "ops"]).await.ok();
    for instance in instances {
        assert!(instance.stop().await.success());
    }
    let keys: BTreeSet<&String> = failures
        .iter()
        .filter_map(|call| call.headers.get("idempotency-key"))
        .collect();
    assert_eq!((of_event(&receiver, "failure").len(), keys.len()), (TASKS, TASKS));
    assert_eq!(of_event(&receiver, "overdue").len(), 1);
}
