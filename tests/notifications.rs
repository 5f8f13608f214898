//! Notifications: the whole program, with receivers that answer well, badly, late or never.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use crate::kit::smtp::{Secured, SmtpSink};
use crate::kit::{self, HttpReceiver, Scripted, Site, eventually_within};

/// The tests of this module.
pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(): a_failure_for_good_reaches_its_channels_signed,
            the_nearest_rules_count_and_a_failing_channel_is_not_reported,
            a_receiver_says_when_it_may_be_tried_again,
            a_channel_that_is_not_there_is_an_error,
            a_first_failure_and_a_recovery_are_reported_once, mail_and_services_say_what_they_understand,
            a_test_says_what_the_receiver_answered, a_flood_is_combined, what_is_late_long_or_missed_is_reported,
            kills_in_a_file_lose_no_notification;
        needs(Redis): kills_on_redis_lose_no_notification, of_three_instances_one_reports_a_failure,
            of_two_instances_one_reports_a_failed_workflow;
    ]
}

const PATIENCE: Duration = Duration::from_secs(60);

/// The queue of notifications.
const QUEUE: &str = "runner-notifications";

fn settings(receiver: &HttpReceiver, per_minute: u32) -> String {
    let port = receiver.port;
    format!(
        "notify:\n  channels:\n    ops: {{url: '${{file:ops-url}}', secret: '${{file:ops-key}}', per_minute: {per_minute}}}\n    \
         other: http://127.0.0.1:{port}/other\n"
    )
}

fn site(config: &str, receiver: &HttpReceiver) -> Site {
    limited(config, receiver, 1000)
}

/// With a channel `ops` that takes this many notifications in a minute.
fn limited(config: &str, receiver: &HttpReceiver, per_minute: u32) -> Site {
    let site = Site::new(&format!("{config}{}", settings(receiver, per_minute)));
    site.write(
        "ops-url",
        &format!(
            "http://127.0.0.1:{}/hooks/t0ken-of-ops?key=s3cret-of-ops",
            receiver.port
        ),
    );
    site.write("ops-key", "the key of ops\n");
    site
}

/// All notifications in this state.
async fn listed(site: &Site, state: &str) -> Vec<Value> {
    let args = [
        "ls", "tasks", "--queue", QUEUE, "--state", state, "--size", "1000", "--json",
    ];
    let rows: Value = serde_json::from_str(&site.cli(args).await.stdout).unwrap_or_default();
    rows.as_array().cloned().unwrap_or_default()
}

/// The only notification in this state, as `runner task show` has it.
async fn shown(site: &Site, state: &str) -> Value {
    let id = eventually_within(PATIENCE, state, async || match listed(site, state).await.as_slice() {
        [one] => Ok(one["id"].as_str().unwrap_or_default().to_owned()),
        all => Err(format!("{all:?}")),
    })
    .await;
    site.cli(["task", "show", &id, "--queue", QUEUE, "--json"]).await.json()
}

async fn called(receiver: &HttpReceiver, times: usize) {
    eventually_within(PATIENCE, "the receiver is called", async || {
        let calls = receiver.calls();
        (calls.len() >= times).then_some(()).ok_or(format!("{calls:?}"))
    })
    .await;
}

async fn a_failure_for_good_reaches_its_channels_signed() {
    let receiver = HttpReceiver::friendly().await;
    let site = site("", &receiver);
    let text = "name: import\nexec: [sh, -c, 'exit 3']\nretry: 0\nnotify: {on_failure: ops}\n---\n\
                name: quiet\nexec: ['false']\nretry: 0\n";
    site.write("manifests/a.yaml", text);
    let runner = site.start().await;
    site.cli(["enqueue", "fn:quiet", "--id", "q-1"]).await.ok();
    site.cli(["enqueue", "fn:import", "--id", "t-1"]).await.ok();
    called(&receiver, 1).await;

    let call = &receiver.calls()[0];
    assert_eq!(call.line, "POST /hooks/t0ken-of-ops?key=s3cret-of-ops HTTP/1.1");
    let body = call.json();
    assert_eq!(
        (body["event"].as_str(), body["function"].as_str()),
        (Some("failure"), Some("import")),
        "{body}"
    );
    assert_eq!(
        (body["task"].as_str(), body["queue"].as_str()),
        (Some("t-1"), Some("default"))
    );
    assert!(
        body["text"]
            .as_str()
            .unwrap()
            .contains("import failed for good: exit code 3"),
        "{body}"
    );
    let headers = &call.headers;
    let signed = format!(
        "{}.{}.{}",
        headers["x-runner-timestamp"], headers["idempotency-key"], call.body
    );
    assert_eq!(
        headers["x-runner-signature"],
        format!("sha256={}", hmac("the key of ops", &signed))
    );

    // What is secret about the channel is nowhere to be seen.
    let sent = shown(&site, "completed").await;
    assert!(
        sent["id"].as_str().unwrap().starts_with("ops@failure~default~t-1~"),
        "{sent}"
    );
    let page = runner
        .http
        .get(&format!("/queue/tasks/{QUEUE}/{}", sent["id"].as_str().unwrap()))
        .await
        .body;
    for shown in [sent.to_string(), page, runner.log()] {
        for secret in ["t0ken-of-ops", "s3cret-of-ops", "the key of ops"] {
            assert!(!shown.contains(secret), "{secret}: {shown}");
        }
    }
    assert_eq!(receiver.calls().len(), 1, "the other function has no channel");
    assert!(runner.stop().await.success());
}

fn hmac(key: &str, text: &str) -> String {
    use hmac::{KeyInit as _, Mac as _};
    let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(key.as_bytes()).unwrap();
    mac.update(text.as_bytes());
    mac.finalize()
        .into_bytes()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

async fn the_nearest_rules_count_and_a_failing_channel_is_not_reported() {
    let receiver = HttpReceiver::start(&[Scripted::Says(404, "", "no such hook t0ken-of-ops")]).await;
    let site = site("", &receiver);
    let config = std::fs::read_to_string(site.dir.join("config.yaml")).unwrap();
    site.write("config.yaml", &format!("{config}  default: {{on_failure: [ops]}}\n"));
    let text = "name: silent\nexec: ['false']\nretry: 0\nnotify: {on_failure: []}\n---\n\
                name: often\nexec: ['false']\nretry: 0\nnotify: {on_failure: []}\n\
                schedule: {every: 24h, notify: {on_failure: [other]}}\n---\n\
                name: plain\nexec: ['false']\nretry: 0\n";
    site.write("manifests/a.yaml", text);
    let runner = site.start().await;
    site.cli(["enqueue", "fn:silent"]).await.ok();
    site.cli(["enqueue", "fn:often"]).await.ok();
    site.cli(["schedule", "run", "m:often:default"]).await.ok();
    site.cli(["enqueue", "fn:plain"]).await.ok();
    called(&receiver, 2).await;
    let calls = receiver.calls();
    let targets: BTreeSet<&str> = calls.iter().filter_map(|call| call.line.split(' ').nth(1)).collect();
    assert_eq!(targets, ["/hooks/t0ken-of-ops?key=s3cret-of-ops", "/other"].into());
    // Both have failed for good by now, and no notification follows from that.
    let archived = eventually_within(PATIENCE, "both are archived", async || {
        let all = listed(&site, "archived").await;
        (all.len() == 2).then(|| all.clone()).ok_or(format!("{all:?}"))
    })
    .await;
    for one in archived {
        let id = one["id"].as_str().unwrap();
        let one = site.cli(["task", "show", id, "--queue", QUEUE]).await.ok().stdout;
        let hidden = !one.contains("t0ken-of-ops");
        assert!(one.contains("status 404") && hidden == id.starts_with("ops@"), "{one}");
    }
    assert_eq!(receiver.calls().len(), 2);
    assert!(runner.stop().await.success());
}

async fn a_receiver_says_when_it_may_be_tried_again() {
    let receiver = HttpReceiver::start(&[
        Scripted::Says(429, "retry-after: 1\r\n", "slow down"),
        Scripted::Says(200, "", "ok"),
        Scripted::Says(500, "", "broken"),
    ])
    .await;
    let site = site("", &receiver);
    site.write(
        "manifests/a.yaml",
        "name: import\nexec: ['false']\nretry: 0\nnotify: {on_failure: [ops]}\n",
    );
    let runner = site.start().await;
    site.cli(["enqueue", "fn:import", "--id", "t-1"]).await.ok();
    called(&receiver, 2).await;
    let calls = receiver.calls();
    assert!(calls[1].at - calls[0].at >= Duration::from_secs(1), "{calls:?}");
    assert_eq!(calls[0].headers["idempotency-key"], calls[1].headers["idempotency-key"]);
    shown(&site, "completed").await;
    site.cli(["enqueue", "fn:import", "--id", "t-2"]).await.ok();
    let waiting = shown(&site, "retry").await.to_string();
    assert!(
        waiting.contains("status 500") && waiting.contains("broken"),
        "{waiting}"
    );
    assert!(runner.stop().await.success());
}

async fn a_channel_that_is_not_there_is_an_error() {
    let receiver = HttpReceiver::friendly().await;
    let site = site("", &receiver);
    site.write(
        "manifests/a.yaml",
        "name: a\nexec: ['true']\nschedule: {every: 1h, notify: {on_failure: [opps]}}\n",
    );
    let checked = site.cli(["check", "--offline"]).await;
    assert_eq!(checked.status.code(), Some(65), "{checked:?}");
    let text = "E155 schedule.notify.on_failure names the channel \"opps\", which is not under notify.channels of the settings";
    assert!(checked.stdout.contains(text), "{}", checked.stdout);
    assert!(checked.stdout.contains("did you mean \"ops\"?"), "{}", checked.stdout);
}

/// Reported by several instances that all look.
async fn a_first_failure_and_a_recovery_are_reported_once() {
    let receiver = HttpReceiver::friendly().await;
    let site = site("", &receiver);
    let text = "name: import\nexec: [sh, -c, 'test -e fine']\nretry: 0\nnotify: {on_recovery: [ops]}\n---\n\
                name: trying\nexec: ['false']\nretry: 3\nnotify: {on_first_failure: other}\n";
    site.write("manifests/a.yaml", text);
    let runner = site.start().await;
    site.cli(["enqueue", "fn:trying", "--id", "r-1"]).await.ok();
    site.cli(["enqueue", "fn:import", "--id", "bad-1"]).await.ok();
    called(&receiver, 1).await;
    let first = receiver.calls()[0].json();
    assert_eq!(
        (first["event"].as_str(), first["task"].as_str()),
        (Some("first_failure"), Some("r-1")),
        "{first}"
    );
    assert!(first["text"].as_str().unwrap().contains("exit code 1"), "{first}");
    eventually_within(PATIENCE, "the first run is over", async || {
        let listed = site.cli(["ls", "tasks", "--state", "archived", "--json"]).await;
        listed
            .stdout
            .contains("bad-1")
            .then_some(())
            .ok_or(format!("{listed:?}"))
    })
    .await;
    // Where commands run: each has a directory of its own.
    let text = text.replace("test -e fine", "true");
    site.write("manifests/a.yaml", &text);
    eventually_within(PATIENCE, "it recovers", async || {
        site.cli(["enqueue", "fn:import"]).await.ok();
        let calls = receiver.calls();
        (calls.len() >= 2).then_some(()).ok_or(format!("{calls:?}"))
    })
    .await;
    let second = receiver.calls()[1].json();
    assert_eq!(
        (second["event"].as_str(), second["function"].as_str()),
        (Some("recovery"), Some("import"))
    );
    // An instance that starts now finds the same runs, and sends nothing again.
    assert!(runner.stop().await.success());
    let runner = site.start().await;
    site.cli(["enqueue", "fn:trying", "--id", "r-2"]).await.ok();
    let failed = eventually_within(PATIENCE, "the second one fails", async || {
        let listed = site.cli(["ls", "tasks", "--state", "retry", "--json"]).await;
        listed.stdout.contains("r-2").then_some(()).ok_or(format!("{listed:?}"))
    });
    failed.await;
    site.cli(["notify", "test", "other"]).await.ok();
    let events: Vec<Value> = receiver
        .calls()
        .iter()
        .map(|call| call.json()["event"].clone())
        .collect();
    assert_eq!(events, ["first_failure", "recovery", "test"]);
    assert!(runner.stop().await.success());
}

async fn mail_and_services_say_what_they_understand() {
    let sink = SmtpSink::start(Secured::Never, &[]).await;
    let receiver = HttpReceiver::start(&[
        Scripted::Says(200, "", r#"{"ok": true, "result": {}}"#),
        Scripted::Says(200, "", r#"{"errcode": 310000, "errmsg": "keywords not in content"}"#),
    ])
    .await;
    let (smtp, http) = (sink.port, receiver.port);
    let site = Site::new(&format!(
        "mail: {{host: '127.0.0.1:{smtp}', tls: none, fromAddr: runner@example.com}}\nnotify:\n  channels:\n    \
         letters: {{kind: mail, to: [ops@example.com, Ann <ann@example.com>]}}\n    \
         bot: {{kind: telegram, url: 'http://127.0.0.1:{http}', token: '77:s3cret-token', to: -1001}}\n    \
         robot: {{kind: dingtalk, url: 'http://127.0.0.1:{http}/robot/send?access_token=s3cret-robot'}}\n"
    ));
    site.write(
        "manifests/a.yaml",
        "name: import\nexec: [sh, -c, 'exit 9']\nretry: 0\nnotify: {on_failure: [letters]}\n",
    );
    let runner = site.start().await;
    site.cli(["enqueue", "fn:import", "--id", "t-1"]).await.ok();
    let mail = eventually_within(PATIENCE, "a message arrives", async || {
        let mails = sink.mails();
        mails.first().cloned().ok_or("none")
    })
    .await;
    assert_eq!(mail.to, ["ops@example.com", "ann@example.com"]);
    assert!(
        mail.text.contains("Subject: [runner] import failed for good"),
        "{}",
        mail.text
    );
    assert!(
        mail.text.contains("exit code 9") && mail.text.contains("task t-1 in queue default"),
        "{}",
        mail.text
    );

    let tested = site.cli(["notify", "test", "bot"]).await.ok().stdout;
    assert!(
        tested.contains("bot: sent; the receiver answered") && tested.contains("200"),
        "{tested}"
    );
    let call = &receiver.calls()[0];
    assert_eq!(call.line, "POST /bot77:s3cret-token/sendMessage HTTP/1.1");
    assert_eq!(call.json()["chat_id"], "-1001");
    assert!(
        call.json()["text"]
            .as_str()
            .unwrap()
            .contains("test of the channel bot"),
        "{call:?}"
    );
    // A service that answers 200 and says no.
    let tested = site.cli(["notify", "test", "robot"]).await;
    assert!(
        !tested.status.success() && tested.stderr.contains("keywords not in content"),
        "{tested:?}"
    );
    assert!(
        receiver.calls()[1].json()["text"]["content"]
            .as_str()
            .unwrap()
            .starts_with("runner: ")
    );
    for secret in ["s3cret-token", "s3cret-robot"] {
        assert!(!runner.log().contains(secret) && !format!("{tested:?}").contains(secret));
    }
    assert!(runner.stop().await.success());
}

async fn a_test_says_what_the_receiver_answered() {
    let receiver = HttpReceiver::start(&[
        Scripted::Says(202, "", "taken"),
        Scripted::Says(410, "", "no such room"),
    ])
    .await;
    let site = site("", &receiver);
    let runner = site.start().await;
    let tested = site.cli(["notify", "test", "ops"]).await.ok().stdout;
    assert!(
        tested.contains("ops: sent; the receiver answered") && tested.contains("taken"),
        "{tested}"
    );
    let test = receiver.calls()[0].json();
    assert_eq!(test["event"], "test");
    let tested = site.cli(["notify", "test", "other"]).await;
    assert!(
        !tested.status.success() && tested.stderr.contains("no such room"),
        "{tested:?}"
    );
    let unknown = site.cli(["notify", "test", "othr"]).await;
    assert!(
        !unknown.status.success() && unknown.stderr.contains("did you mean \"other\"?"),
        "{unknown:?}"
    );
    assert!(runner.stop().await.success());
}

/// A queue without a worker, a command that does not end, and a schedule whose occurrences pass while no instance is up.
async fn what_is_late_long_or_missed_is_reported() {
    let receiver = HttpReceiver::friendly().await;
    let site = site("", &receiver);
    let text = "name: waiting\nexec: ['true']\nqueue: unserved\nschedule: {every: 1s, expect: {start_within: 1s}}\nnotify: {on_late: ops}\n---\n\
                name: endless\nexec: [sleep, '600']\nexpect: {max_duration: 1s}\nnotify: {on_too_long: ops}\n---\n\
                name: often\nexec: ['true']\nschedule: {every: 1s, catch_up: none}\nnotify: {on_missed: ops}\n";
    site.write("manifests/a.yaml", text);
    let runner = site.start().await;
    site.cli(["enqueue", "fn:endless", "--id", "e-1"]).await.ok();
    let events = || -> BTreeSet<String> {
        let calls = receiver.calls().into_iter();
        calls
            .filter_map(|call| call.json()["event"].as_str().map(str::to_owned))
            .collect()
    };
    eventually_within(PATIENCE, "both are reported", async || {
        let all = events();
        (all.contains("late") && all.contains("too_long"))
            .then_some(())
            .ok_or(format!("{all:?}"))
    })
    .await;
    runner.kill9();
    // The latest fifteen seconds count as on time.
    let down = tokio::time::Instant::now();
    eventually_within(PATIENCE, "occurrences pass", async || {
        (down.elapsed() > Duration::from_secs(20))
            .then_some(())
            .ok_or("not yet")
    })
    .await;
    let runner = site.start().await;
    eventually_within(PATIENCE, "what was missed is reported", async || {
        let all = events();
        all.contains("missed").then_some(()).ok_or(format!("{all:?}"))
    })
    .await;
    let of = |event: &str| {
        let calls = receiver.calls().into_iter();
        let all = calls.filter(|call| call.json()["event"] == event);
        all.map(|call| call.json()).collect::<Vec<Value>>()
    };
    assert_eq!(of("too_long").len(), 1, "once, though both instances see it");
    assert_eq!(
        (of("too_long")[0]["task"].as_str(), of("late")[0]["function"].as_str()),
        (Some("e-1"), Some("waiting"))
    );
    assert_eq!(of("missed")[0]["schedule"], "m:often:default");
    drop(runner);
}

/// Twenty are sent; the others wait in a group, and arrive as one.
async fn a_flood_is_combined() {
    const TASKS: usize = 32;
    let receiver = HttpReceiver::friendly().await;
    let site = limited("worker: {group_grace_period: 2s}\n", &receiver, 20);
    site.write(
        "manifests/a.yaml",
        "name: bad\nexec: ['false']\nretry: 0\nnotify: {on_failure: [ops]}\n",
    );
    for n in 0..TASKS {
        site.cli(["enqueue", "fn:bad", "--id", &format!("t{n}")]).await.ok();
    }
    let runner = site.start().await;
    called(&receiver, 21).await;
    let counted = eventually_within(PATIENCE, "all are reported", async || {
        let calls = receiver.calls();
        let combined = calls.iter().filter(|call| call.json()["event"] == "several");
        let counts =
            combined.filter_map(|call| call.json()["title"].as_str()?.split(' ').next()?.parse::<usize>().ok());
        let all = counts.sum::<usize>() + calls.iter().filter(|call| call.json()["event"] == "failure").count();
        (all >= TASKS).then_some(all).ok_or(format!("{all} of {TASKS}"))
    });
    assert_eq!(counted.await, TASKS);
    assert!(runner.stop().await.success());
}

async fn kills_in_a_file_lose_no_notification() {
    kills_lose_no_notification("").await;
}

async fn kills_on_redis_lose_no_notification() {
    let db = kit::redis().fresh_db();
    kills_lose_no_notification(&db.yaml()).await;
}

/// The ids of the notifications that arrived; a kill may repeat a call, with the same id.
fn distinct(receiver: &HttpReceiver) -> BTreeSet<String> {
    let calls = receiver.calls().into_iter();
    calls
        .filter_map(|call| call.headers.get("idempotency-key").cloned())
        .collect()
}

async fn kills_lose_no_notification(broker: &str) {
    const TASKS: usize = 60;
    let receiver = HttpReceiver::friendly().await;
    let site = site(
        &format!("{broker}worker: {{concurrency: 2, lease: 3s, poison_after: 0}}\n"),
        &receiver,
    );
    site.write(
        "manifests/a.yaml",
        "name: bad\nexec: ['false']\nretry: 0\nnotify: {on_failure: [ops]}\n",
    );
    for n in 0..TASKS {
        site.cli(["enqueue", "fn:bad", "--id", &format!("t{n}")]).await.ok();
    }
    loop {
        let runner = site.start().await;
        let before = distinct(&receiver).len();
        let now = eventually_within(PATIENCE, "it continues", async || {
            let now = distinct(&receiver).len();
            if now >= TASKS || now > before + 5 {
                return Ok(now);
            }
            Err(format!("{now} of {TASKS}\n{}", runner.child.tail()))
        })
        .await;
        runner.child.kill9();
        if now >= TASKS {
            break;
        }
    }
    let tasks: BTreeSet<String> = receiver
        .calls()
        .iter()
        .filter_map(|call| call.json()["task"].as_str().map(str::to_owned))
        .collect();
    assert_eq!((distinct(&receiver).len(), tasks.len()), (TASKS, TASKS));
}

async fn of_three_instances_one_reports_a_failure() {
    const TASKS: usize = 90;
    let db = kit::redis().fresh_db();
    let receiver = HttpReceiver::friendly().await;
    let site = site(&format!("{}worker: {{concurrency: 4}}\n", db.yaml()), &receiver);
    site.write(
        "manifests/a.yaml",
        "name: bad\nexec: ['false']\nretry: 0\nnotify: {on_failure: [ops]}\n",
    );
    let instances = [site.launch(), site.launch(), site.launch()];
    for instance in &instances {
        instance.ready().await;
    }
    for n in 0..TASKS {
        site.cli(["enqueue", "fn:bad", "--id", &format!("t{n}")]).await.ok();
    }
    called(&receiver, TASKS).await;
    for instance in instances {
        assert!(instance.stop().await.success());
    }
    assert_eq!((receiver.calls().len(), distinct(&receiver).len()), (TASKS, TASKS));
}

/// A function that fails until the file `ok` exists, of which no channel hears.
fn site_of_workflows(broker: &str, port: u16) -> Site {
    let site = Site::new(&format!(
        "{broker}notify:\n  channels: {{ops: 'http://127.0.0.1:{port}/ops', own: 'http://127.0.0.1:{port}/own'}}\n  \
         default: {{on_failure: [ops], on_recovery: [ops]}}\n"
    ));
    let text = format!(
        "name: bad\nexec: {{shell: true, command: 'test -e {}/ok'}}\nretry: 0\nnotify: {{on_failure: [], on_recovery: []}}\n",
        site.dir.display()
    );
    site.write("manifests/a.yaml", &text);
    site
}

/// How many failures of workflows an instance has counted.
async fn counted_failures(instance: &kit::Runner) -> u32 {
    let metrics = instance.http.get("/metrics").await.body;
    assert!(metrics.contains("runner_workflows{state=\"failed\"} 1"), "{metrics}");
    let failed = "runner_workflows_ended_total{outcome=\"failed\"} ";
    let failed = metrics.lines().find_map(|line| line.strip_prefix(failed));
    failed.and_then(|count| count.parse().ok()).unwrap_or_default()
}

async fn of_two_instances_one_reports_a_failed_workflow() {
    let db = kit::redis().fresh_db();
    let receiver = HttpReceiver::friendly().await;
    let site = site_of_workflows(&db.yaml(), receiver.port);
    let step = || runner::Task::new("fn:bad").max_retry(0);
    let client = crate::workflows::on_redis(&db);
    let import = runner::Workflow::new("import").id("i-1").then(step());
    client.workflow(import).await.expect("a workflow");
    let own = runner::Workflow::new("other").id("i-2").then(step());
    client
        .workflow(own.notify_on_failure(["own"]))
        .await
        .expect("a workflow");
    let instances = [site.launch(), site.launch()];
    for instance in &instances {
        instance.ready().await;
    }
    called(&receiver, 2).await;
    let heard = |line: &str| -> Vec<Value> {
        let calls = receiver.calls();
        let calls = calls.iter().filter(|call| call.line.contains(line));
        calls.map(kit::ReceivedCall::json).collect()
    };
    let (ops, own) = (heard("/ops"), heard("/own"));
    assert_eq!((ops.len(), own.len()), (1, 1), "{ops:?} {own:?}");
    assert_eq!(
        (&ops[0]["event"], &ops[0]["workflow"]),
        (&"workflow_failed".into(), &"i-1".into())
    );
    assert_eq!(
        (&own[0]["event"], &own[0]["workflow"]),
        (&"workflow_failed".into(), &"i-2".into())
    );
    let text = ops[0]["text"].as_str().unwrap_or_default();
    assert!(
        text.starts_with("workflow import failed: exit code 1\nworkflow i-1: 0 of 1 steps done, 1 failed"),
        "{text}"
    );
    // It fails again, and then it succeeds.
    site.cli(["workflow", "retry", "i-1"]).await.ok();
    called(&receiver, 3).await;
    site.write("ok", "");
    site.cli(["workflow", "retry", "i-1"]).await.ok();
    called(&receiver, 4).await;
    let ops = heard("/ops");
    let events: Vec<&str> = ops.iter().filter_map(|one| one["event"].as_str()).collect();
    assert_eq!(events, ["workflow_failed", "workflow_failed", "recovery"]);
    assert_eq!(ops[2]["title"], "workflow import has recovered");
    eventually_within(PATIENCE, "it is done", async || {
        let shown = site.cli(["workflow", "show", "i-1", "--json"]).await.json();
        (shown["state"] == "done").then_some(()).ok_or(shown)
    })
    .await;
    let mut ended = 0;
    for instance in &instances {
        ended += counted_failures(instance).await;
    }
    assert_eq!(ended, 3, "each failure is counted once");
    for instance in instances {
        assert!(instance.stop().await.success());
    }
    assert_eq!((receiver.calls().len(), distinct(&receiver).len()), (4, 4));
}
