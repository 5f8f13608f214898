//! The command line from outside: what each command prints, and the code it ends with.
//!
//! Not here: `runner run`, which the tests of the whole program start.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::kit::{self, Finished, Site};

pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(): next_prints_instants_with_the_offset_of_the_zone, next_reports_an_invalid_expression,
            the_start_kit_is_written_once_and_is_in_order, check_shows_every_fault_of_settings_and_manifests,
            the_file_of_the_go_service_is_in_order, settings_that_cannot_be_used_have_a_code_of_their_own,
            the_environment_overrides_the_file, a_task_goes_through_every_command,
            a_payload_comes_from_standard_input_and_must_be_json, a_task_can_be_delayed_and_unique,
            a_queue_is_paused_and_resumed, schedules_are_listed_with_their_next_occurrences,
            an_unreachable_broker_is_reported_in_one_line, a_failed_start_is_reported_once,
            wrong_usage_is_reported,
            a_closed_pipe_is_not_a_failure, migrate_updates_the_store;
        needs(Redis): a_task_goes_through_every_command_in_redis;
        needs(Cluster): a_task_goes_through_every_command_in_a_cluster;
    ]
}

pub fn code(finished: &Finished) -> i32 {
    finished.status.code().expect("an exit code")
}

pub async fn fails(site: &Site, arguments: &[&str], expected: i32) -> String {
    let finished = site.cli(arguments).await;
    assert_eq!(code(&finished), expected, "{arguments:?}: {finished:?}");
    assert!(!finished.stderr.contains("panicked"), "{finished:?}");
    finished.stderr
}

pub async fn prints(site: &Site, arguments: &[&str]) -> String {
    site.cli(arguments).await.ok().stdout
}

pub async fn json(site: &Site, arguments: &[&str]) -> Value {
    site.cli(arguments).await.json()
}

async fn next_prints_instants_with_the_offset_of_the_zone() {
    let site = Site::new("server: {timezone: Asia/Shanghai}\n");
    let from = ["--from", "2026-11-22T00:00"];
    let out = prints(&site, &["next", "0 2 * * *", "-n", "2", from[0], from[1]]).await;
    assert_eq!(out, "2026-11-22T02:00:00+08:00\n2026-11-23T02:00:00+08:00\n");
    let out = prints(
        &site,
        &[
            "next",
            "0 2 * * *",
            "-n",
            "1",
            "--tz",
            "America/New_York",
            from[0],
            from[1],
        ],
    )
    .await;
    assert_eq!(out, "2026-11-22T02:00:00-05:00\n");
    let out = prints(&site, &["next", "@daily", "-n", "1000", from[0], from[1]]).await;
    assert_eq!(out.lines().count(), 1000);
}

async fn next_reports_an_invalid_expression() {
    let site = Site::new("");
    let error = fails(&site, &["next", "0 61 * * * *"], 65).await;
    assert!(
        error.contains("E2") && error.contains("  0 61 * * * *\n    ^^"),
        "{error}"
    );
    fails(&site, &["next", "0 0 30 2 *"], 65).await;
    fails(&site, &["next", "@daily", "-n", "1001"], 2).await;
    let error = fails(&site, &["next", "@daily", "--tz", "Asia/Shanghia"], 2).await;
    assert!(error.contains("Asia/Shanghia"), "{error}");
    fails(&site, &["next", "@daily", "--from", "tomorrow"], 2).await;
}

async fn the_start_kit_is_written_once_and_is_in_order() {
    let site = Site::new("");
    site.remove("config.yaml");
    prints(&site, &["init"]).await;
    let out = prints(&site, &["check"]).await;
    assert!(out.contains("0 errors, 0 warnings"), "{out}");
    site.write("config.yaml", "# mine\n");
    let out = prints(&site, &["init"]).await;
    assert_eq!(out.matches("kept").count(), 2, "{out}");
    assert_eq!(
        std::fs::read_to_string(site.dir.join("config.yaml")).unwrap(),
        "# mine\n"
    );
    prints(&site, &["init", "deep/er"]).await;
    assert!(site.dir.join("deep/er/manifests/hello.yaml").exists());
}

async fn check_shows_every_fault_of_settings_and_manifests() {
    let site = Site::new("server:\n  timezon: UTC\nworker: {concurrency: 0}\n");
    site.write("manifests/a.yaml", "name: a\nschedule: \"61 * * * *\"\nhandler: x\n");
    site.write("manifests/b.yaml", "name: b\nschedule: \"@daily\"\nhandler: x\n");
    let finished = site.cli(["check", "--json"]).await;
    assert_eq!(code(&finished), 65);
    let found: Vec<Value> = serde_json::from_str(&finished.stdout).expect("an array");
    let places: Vec<&str> = found.iter().filter_map(|f| f["place"].as_str()).collect();
    assert!(
        places.contains(&"config.yaml:2:3") && places.contains(&"config.yaml:3:23"),
        "{places:?}"
    );
    assert!(places.iter().any(|p| p.starts_with("manifests/a.yaml:2")), "{places:?}");
    assert!(!places.iter().any(|p| p.starts_with("manifests/b.yaml")), "{places:?}");
    let finished = site.cli(["check"]).await;
    let unknown = "config.yaml:2:3: CFG_UNKNOWN unknown key \"timezon\" in server\n  2 |   timezon: UTC\n    |   ^^^^^^^\n  \
                   help: did you mean \"timezone\"?\n";
    assert!(finished.stdout.contains(unknown), "{}", finished.stdout);
    assert!(
        finished.stdout.ends_with("3 errors, 0 warnings\n"),
        "{}",
        finished.stdout
    );
    let finished = site.cli(["check", "manifests/none.yaml"]).await;
    assert_eq!(code(&finished), 65, "{finished:?}");
}

async fn the_file_of_the_go_service_is_in_order() {
    let site = Site::new("");
    site.remove("config.yaml");
    site.write("bingo-scheduler.yaml", include_str!("data/config/bingo-scheduler.yaml"));
    let out = prints(&site, &["check", "--offline"]).await;
    assert!(
        out.ends_with("(settings: bingo-scheduler.yaml)\n") && out.contains("0 errors"),
        "{out}"
    );
    assert!(!out.contains("CFG_UNKNOWN"), "{out}");
}

async fn settings_that_cannot_be_used_have_a_code_of_their_own() {
    let site = Site::new("redis: {host: r, pasword: hunter2}\n");
    let error = fails(&site, &["ls", "queues"], 78).await;
    assert!(
        error.contains("config.yaml:1:18: CFG_UNKNOWN") && error.contains("\"password\""),
        "{error}"
    );
    assert!(!error.contains("hunter2"), "{error}");
    let error = fails(&site, &["-c", "none.yaml", "ls", "queues"], 78).await;
    assert!(
        error.contains("CFG_READ cannot read \"none.yaml\": not found"),
        "{error}"
    );
    fails(&site, &["-c", "none.yaml", "check"], 78).await;
    fails(&site, &["-c", "manifests", "run"], 78).await;
    site.write("config.yaml", "log: {path: manifests, console: false}\n");
    let error = fails(&site, &["run"], 78).await;
    assert!(error.contains("cannot write the log file \"manifests\""), "{error}");
}

async fn the_environment_overrides_the_file() {
    let mut site = Site::new("data: {dir: one}\n");
    site.env.push(("RUNNER_DATA_DIR".to_owned(), "two".to_owned()));
    prints(&site, &["enqueue", "echo"]).await;
    assert!(site.dir.join("two/runner.db").exists() && !site.dir.join("one").exists());
    site.env
        .push(("RUNNER_WORKER_CONCURRENCY".to_owned(), "none".to_owned()));
    let error = fails(&site, &["ls", "queues"], 78).await;
    assert!(error.starts_with("RUNNER_WORKER_CONCURRENCY: CFG_RANGE"), "{error}");
}

async fn a_task_goes_through_every_command() {
    through_every_command(&Site::new("")).await;
}

async fn a_task_goes_through_every_command_in_redis() {
    let db = kit::redis().fresh_db();
    through_every_command(&Site::new(&db.yaml())).await;
}

async fn a_task_goes_through_every_command_in_a_cluster() {
    let turn = kit::cluster().await;
    through_every_command(&Site::new(&turn.yaml())).await;
}

async fn through_every_command(site: &Site) {
    let arguments = [
        "enqueue",
        "task:a",
        "--payload",
        r#"{"n":1}"#,
        "--id",
        "a1",
        "--queue",
        "low",
    ];
    let more = [
        "--max-retry",
        "3",
        "--timeout",
        "90s",
        "--retention",
        "1h",
        "--header",
        "k=v=w",
    ];
    let out = prints(site, &[&arguments[..], &more[..]].concat()).await;
    assert_eq!(out, "a1\n");
    let error = fails(site, &["enqueue", "task:a", "--id", "a1", "--queue", "low"], 1).await;
    assert!(error.contains("task ID conflicts"), "{error}");

    let tasks = json(site, &["ls", "tasks", "--queue", "low", "--state", "pending", "--json"]).await;
    let task = &tasks[0];
    assert_eq!(tasks.as_array().map(Vec::len), Some(1));
    assert_eq!(
        (&task["id"], &task["type"], &task["state"]),
        (&json!("a1"), &json!("task:a"), &json!("pending"))
    );
    assert_eq!(
        (&task["payload"], &task["headers"]),
        (&json!({"n": 1}), &json!({"k": "v=w"}))
    );
    assert_eq!((&task["max_retry"], &task["timeout_seconds"]), (&json!(3), &json!(90)));
    assert_eq!(task["retention_seconds"], json!(3600));

    prints(site, &["task", "archive", "a1"]).await;
    assert_eq!(json(site, &["task", "show", "a1", "--json"]).await["state"], "archived");
    prints(site, &["task", "run", "a1", "--queue", "low"]).await;
    assert_eq!(json(site, &["task", "show", "a1", "--json"]).await["state"], "pending");
    assert!(prints(site, &["task", "show", "a1"]).await.contains("task:a"));
    let error = fails(site, &["task", "cancel", "a1"], 1).await;
    assert!(error.contains("task a1 is pending"), "{error}");
    prints(site, &["task", "delete", "a1"]).await;
    let error = fails(site, &["task", "show", "a1"], 1).await;
    assert!(error.contains("no task a1"), "{error}");
    assert_eq!(json(site, &["ls", "servers", "--json"]).await, json!([]));
}

async fn a_payload_comes_from_standard_input_and_must_be_json() {
    let site = Site::new("");
    let enqueue = |text: &'static [u8]| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_runner"))
            .args(["enqueue", "task:a", "--payload", "-"])
            .current_dir(&site.dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program");
        child
            .stdin
            .take()
            .expect("its input")
            .write_all(text)
            .expect("to be read");
        child.wait_with_output().expect("its end")
    };
    assert_eq!(enqueue(b"[1, 2]\n").status.code(), Some(0));
    let refused = enqueue(b"{\"a\": nope}");
    assert_eq!(refused.status.code(), Some(65));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("line 1 column"));
    assert_eq!(enqueue(b"").status.code(), Some(65));
    let refused = enqueue(b"\xff\x00");
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    let expected = "standard input: the payload is not JSON: byte 0xff at line 1 column 1 is not UTF-8";
    assert!(error.contains(expected) && error.contains("--raw"), "{error}");
    assert_eq!(refused.status.code(), Some(65));
    let tasks = json(&site, &["ls", "tasks", "--json"]).await;
    assert_eq!(tasks.as_array().map(Vec::len), Some(1));
    assert_eq!(tasks[0]["payload"], json!([1, 2]));
}

async fn a_task_can_be_delayed_and_unique() {
    let site = Site::new("server: {timezone: Asia/Shanghai}\n");
    prints(&site, &["enqueue", "a", "--at", "2099-01-01T08:00", "--id", "later"]).await;
    let task = json(&site, &["task", "show", "later", "--json"]).await;
    assert_eq!(
        (&task["state"], &task["next_run"]),
        (&json!("scheduled"), &json!("2099-01-01T08:00:00+08:00"))
    );
    prints(&site, &["enqueue", "b", "--unique", "1h", "--in", "10m"]).await;
    let error = fails(&site, &["enqueue", "b", "--unique", "1h"], 1).await;
    assert!(error.contains("already exists"), "{error}");
    fails(&site, &["enqueue", "b", "--unique", "10ms"], 2).await;
    fails(&site, &["enqueue", " "], 65).await;
    fails(&site, &["enqueue", "b", "--in", "1h", "--at", "2099-01-01T08:00"], 2).await;
    fails(&site, &["enqueue", "b", "--in", "soon"], 2).await;
}

async fn a_queue_is_paused_and_resumed() {
    let site = Site::new("");
    prints(&site, &["enqueue", "a"]).await;
    assert_eq!(
        prints(&site, &["queue", "pause", "default"]).await,
        "default is paused\n"
    );
    let queues = json(&site, &["ls", "queues", "--json"]).await;
    assert_eq!(
        (&queues[0]["name"], &queues[0]["paused"]),
        (&json!("default"), &json!(true))
    );
    assert_eq!(queues[0]["counts"]["pending"], json!(1));
    assert!(prints(&site, &["queue", "pause", "default"]).await.contains("already"));
    assert_eq!(
        prints(&site, &["queue", "resume", "default"]).await,
        "default is resumed\n"
    );
    let error = fails(&site, &["queue", "pause", "nope"], 1).await;
    assert!(error.contains("no queue nope"), "{error}");
}

async fn schedules_are_listed_with_their_next_occurrences() {
    let site = Site::new("server: {timezone: Asia/Shanghai}\n");
    let manifest = "name: nightly\nschedule: \"0 2 * * *\"\nhandler: task:report\npayload: {date: today}\nqueue: low\n";
    site.write("manifests/nightly.yaml", manifest);
    site.write("manifests/bad.yaml", "name: bad\nschedule: nope\nhandler: x\n");
    let listed = json(&site, &["ls", "schedules", "--json", "--next", "3"]).await;
    assert_eq!(listed.as_array().map(Vec::len), Some(2), "{listed}");
    let schedule = &listed[0];
    for (key, value) in [
        ("id", json!("m:nightly:default")),
        ("name", json!("nightly")),
        ("source", json!("manifest")),
        ("origin", json!("manifests/nightly.yaml:2")),
        ("spec", json!("0 2 * * *")),
        ("timezone", json!("Asia/Shanghai")),
        ("type", json!("task:report")),
        ("payload", json!({"date": "today"})),
        ("queue", json!("low")),
        ("enabled", json!(true)),
        ("paused", json!(false)),
        ("last", Value::Null),
        ("problems", json!([])),
    ] {
        assert_eq!(schedule[key], value, "{key}");
    }
    let next = schedule["next"].as_array().expect("an array");
    assert_eq!(next.len(), 3);
    assert!(
        next.iter()
            .all(|at| at.as_str().is_some_and(|at| at.ends_with("T02:00:00+08:00"))),
        "{next:?}"
    );
    assert!(prints(&site, &["ls", "schedules"]).await.contains("m:nightly:default"));
}

async fn an_unreachable_broker_is_reported_in_one_line() {
    let port = kit::free_port();
    let site = Site::new(&format!("redis: {{host: \"127.0.0.1:{port}\", password: hunter2}}\n"));
    for arguments in [
        &["ls", "queues"][..],
        &["task", "run", "a"],
        &["enqueue", "a"],
        &["ls", "schedules"],
    ] {
        let error = fails(&site, arguments, 69).await;
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(
            error.contains(&format!("127.0.0.1:{port}")) && error.contains("redis.host"),
            "{error}"
        );
        assert!(!error.contains("hunter2"), "{error}");
    }
}

/// On the console by standard error alone, although the log goes there too; and in the log file.
async fn a_failed_start_is_reported_once() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port();
    let site = Site::new(&format!(
        "server: {{addr: \"127.0.0.1:{port}\"}}\nlog: {{path: end.log}}\n"
    ));
    let finished = site.cli(["run"]).await;
    assert_eq!(code(&finished), 69, "{finished:?}");
    let reports = |text: &str| text.matches("cannot listen on").count();
    assert_eq!(
        (reports(&finished.stdout), reports(&finished.stderr)),
        (0, 1),
        "{finished:?}"
    );
    let kept = std::fs::read_to_string(site.dir.join("end.log")).expect("a log");
    assert_eq!(reports(&kept), 1, "{kept}");
}

async fn wrong_usage_is_reported() {
    let site = Site::new("");
    let error = fails(&site, &["chek"], 2).await;
    assert!(error.contains("check"), "{error}");
    let error = fails(&site, &["enqueue", "a", "--password", "x"], 2).await;
    assert!(error.contains("secrets do not belong on the command line"), "{error}");
    fails(&site, &["-c", "a", "-c", "b", "check"], 2).await;
    fails(&site, &["ls", "tasks", "--state", "sleeping"], 2).await;
    assert!(prints(&site, &["--version"]).await.starts_with("runner "));
    assert!(prints(&site, &["completions", "bash"]).await.contains("complete"));
    for help in [
        &["--help"][..],
        &["enqueue", "--help"],
        &["next", "--help"],
        &["check", "--help"],
    ] {
        assert!(prints(&site, help).await.contains("Examples:"), "{help:?}");
    }
}

async fn a_closed_pipe_is_not_a_failure() {
    let site = Site::new("");
    site.cli(["migrate"]).await.ok(); // a command that makes a new store says so
    for arguments in [
        &["next", "@daily", "-n", "1000"][..],
        &["ls", "queues", "--json"],
        &["check"],
    ] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = Command::new(env!("CARGO_BIN_EXE_runner"))
            .args(arguments)
            .current_dir(&site.dir)
            .stdout(writer)
            .output()
            .expect("the program");
        assert_eq!(
            (output.status.code(), output.stderr.as_slice()),
            (Some(0), &b""[..]),
            "{arguments:?}"
        );
    }
}

async fn migrate_updates_the_store() {
    let site = Site::new("");
    let first = prints(&site, &["migrate"]).await;
    assert!(
        first.contains("up to date") && first.contains("sys_crontab was made"),
        "{first}"
    );
    let again = prints(&site, &["migrate"]).await;
    assert!(again.contains("sys_crontab is there"), "{again}");
}
