//! A night of a backup that fails twice, recovers, is late once and missed once: what a person receives, sees on the
//! pages, and finds on the command line. Each channel and each rule by itself: `notifications`, `noticed`.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use crate::kit::smtp::{Secured, SmtpSink};
use crate::kit::{self, HttpReceiver, Runner, Site, eventually_within};

/// The tests of this module.
pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(): a_night_with_a_file;
        needs(Redis): a_night_over_redis;
    ]
}

const PATIENCE: Duration = Duration::from_secs(60);

/// Occurrences of the last 15 s count as on time, so this long nothing runs until some are missed.
const DOWN: Duration = Duration::from_secs(26);

const SCHEDULE: &str = "m:backup:default";

async fn a_night_with_a_file() {
    a_night("").await;
}

async fn a_night_over_redis() {
    let db = kit::redis().fresh_db();
    a_night(&db.yaml()).await;
}

struct Night {
    site: Site,
    chat: HttpReceiver,
    post: SmtpSink,
}

impl Night {
    async fn new(broker: &str) -> Self {
        let chat = HttpReceiver::friendly().await;
        let post = SmtpSink::start(Secured::Never, &[]).await;
        let (http, smtp) = (chat.port, post.port);
        let site = Site::new(&format!(
            "{broker}mail: {{host: '127.0.0.1:{smtp}', tls: none, fromAddr: runner@example.com}}\nnotify:\n  channels:\n    \
             chat: http://127.0.0.1:{http}/chat\n    night: {{kind: mail, to: [night@example.com]}}\n  \
             default: {{on_failure: [chat, night], on_recovery: [chat], on_late: [chat], on_missed: [chat, night]}}\n"
        ));
        // An interval instead of 02:00, and a file instead of a disk that is full.
        let text = format!(
            "name: backup\nexec: {{shell: true, command: 'test -e {}/space && echo 42 files'}}\nretry: 0\n\
             schedule: {{every: 5s, catch_up: none, expect: {{start_within: 4s}}}}\n",
            site.dir.display()
        );
        site.write("manifests/backup.yaml", &text);
        Self { site, chat, post }
    }

    /// What arrived about this event, as soon as at least this many have.
    async fn heard(&self, event: &str, times: usize) -> Vec<Value> {
        eventually_within(PATIENCE, event, async || {
            let calls: Vec<Value> = self.chat.calls().iter().map(kit::ReceivedCall::json).collect();
            let of_event: Vec<Value> = calls.iter().filter(|call| call["event"] == event).cloned().collect();
            (of_event.len() >= times).then_some(of_event).ok_or(Value::from(calls))
        })
        .await
    }

    async fn decisions(&self) -> Vec<Value> {
        let shown = self.site.cli(["schedule", "show", SCHEDULE, "--json"]).await.json();
        shown["decisions"].as_array().cloned().unwrap_or_default()
    }

    async fn page(&self, runner: &Runner) -> String {
        runner.http.get(&format!("/queue/schedules/{SCHEDULE}")).await.body
    }
}

async fn a_night(broker: &str) {
    let night = Night::new(broker).await;
    let runner = night.site.start().await;
    fails_twice_and_recovers(&night, &runner).await;
    is_late_once(&night, &runner).await;
    runner.kill9();
    let runner = is_missed_once(&night).await;

    // Each message came once, and all are about this schedule.
    let calls = night.chat.calls();
    let keys: BTreeSet<&String> = calls.iter().map(|call| &call.headers["idempotency-key"]).collect();
    assert_eq!(keys.len(), calls.len(), "{calls:?}");
    assert!(
        calls.iter().all(|call| call.json()["schedule"] == SCHEDULE),
        "{calls:?}"
    );
    let events: BTreeSet<String> = calls.iter().map(|call| call.json()["event"].to_string()).collect();
    assert_eq!(events.len(), 4, "{events:?}");
    assert!(runner.stop().await.success());
}

async fn fails_twice_and_recovers(night: &Night, runner: &Runner) {
    let failures = night.heard("failure", 2).await;
    let text = failures[0]["text"].as_str().unwrap_or_default();
    assert!(text.starts_with("backup failed for good: exit code 1"), "{text}");
    let post = eventually_within(PATIENCE, "mail", async || {
        let mails = night.post.mails();
        (mails.len() >= 2).then(|| mails[0].text.clone()).ok_or(mails.len())
    });
    assert!(post.await.contains("Subject: [runner] backup failed for good"));
    let page = runner.http.get("/queue/schedules").await.body;
    assert!(page.contains(SCHEDULE) && page.contains("times in a row"), "{page}");
    let failed = night.site.cli(["runs", "backup", "--failed", "--json"]).await.json();
    let failed = failed.as_array().cloned().unwrap_or_default();
    assert!(failed.len() >= 2 && failed[0]["error"] == "exit code 1", "{failed:?}");

    night.site.write("space", "");
    let recovery = night.heard("recovery", 1).await;
    assert_eq!(recovery[0]["title"], "backup has recovered");
    let task = recovery[0]["task"].as_str().expect("the run that succeeded");
    let log = night.site.cli(["logs", task]).await.ok().stdout;
    assert!(log.ends_with("out: 42 files\n"), "{log}");
}

/// The worker takes nothing for a while, as one whose slots are all taken.
async fn is_late_once(night: &Night, runner: &Runner) {
    let servers = night.site.cli(["ls", "servers", "--json"]).await.json();
    let host = servers[0]["info"]["host"].as_str().expect("a host");
    let worker = format!("{host}:{}", runner.child.pid());
    // A busy machine may have been late before.
    let before = night.heard("late", 0).await.len();
    night.site.cli(["worker", "pause", &worker]).await.ok();
    let late = night.heard("late", before + 1).await;
    let task = late[before]["task"].as_str().expect("the task that is late").to_owned();
    let why = night.site.cli(["why", &task]).await.ok().stdout;
    assert!(why.contains("runner worker resume"), "{why}");
    night.site.cli(["worker", "resume", &worker]).await.ok();
    eventually_within(PATIENCE, "it runs after all", async || {
        let decisions = night.decisions().await;
        let ended = |one: &Value| one["task"] == *task && one["outcome"] == "success";
        decisions.iter().any(ended).then_some(()).ok_or(Value::from(decisions))
    })
    .await;
    assert!(night.page(runner).await.contains(&task), "the run is listed");
}

/// No instance is up for some occurrences.
async fn is_missed_once(night: &Night) -> Runner {
    let down = tokio::time::Instant::now();
    eventually_within(PATIENCE, "occurrences pass", async || {
        (down.elapsed() > DOWN).then_some(()).ok_or("not yet")
    })
    .await;
    let runner = night.site.start().await;
    let missed = night.heard("missed", 1).await;
    assert_eq!(missed[0]["function"], "backup");
    let decisions = night.decisions().await;
    let row = decisions.iter().find(|one| one["decision"] == "missed").expect("a row");
    assert!(
        row["reason"].as_str().is_some_and(|text| text.starts_with("too late")),
        "{row}"
    );
    let page = night.page(&runner).await;
    assert!(page.contains("missed") && page.contains("too late"), "{page}");
    let mails = night.post.mails();
    assert!(mails.iter().any(|mail| mail.text.contains("missed")), "{mails:?}");
    runner
}
