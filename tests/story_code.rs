//! The third source: a custom program with a typed handler and a schedule in code, from outside.
//!
//! It is `examples/own_handlers.rs`, which `cargo test` builds beside the program.

use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::kit::{self, Child, Site};

pub fn tests() -> Vec<kit::Trial> {
    kit::trials![needs():
        a_program_of_ones_own_runs_its_schedule_and_its_handler, another_program_enqueues_only_where_a_store_is,
            options_of_a_type_hold_for_its_tasks_by_name
    ]
}

fn example(name: &str) -> String {
    let beside = PathBuf::from(env!("CARGO_BIN_EXE_runner"));
    beside.with_file_name("examples").join(name).display().to_string()
}

async fn ask(site: &Site, arguments: &[&str]) -> Value {
    serde_json::from_str(&say(site, arguments).await).unwrap()
}

async fn say(site: &Site, arguments: &[&str]) -> String {
    say_by(site, "own_handlers", arguments).await
}

async fn say_by(site: &Site, program: &str, arguments: &[&str]) -> String {
    let mut command = tokio::process::Command::new(example(program));
    command.args(arguments).current_dir(&site.dir).kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(20), command.output())
        .await
        .expect("an end")
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

async fn a_program_of_ones_own_runs_its_schedule_and_its_handler() {
    let site = Site::new("server: {addr: 127.0.0.1:0}\n");
    let child = Child::start(
        &example("own_handlers"),
        None,
        Signal::SIGKILL,
        &site.dir.join("log"),
        |command| {
            command.args(["-c", "config.yaml"]).current_dir(&site.dir);
        },
    );
    let done = kit::eventually_within(Duration::from_secs(20), "the schedule in code has run", async || {
        let tasks = ask(&site, &["ls", "tasks", "--state", "completed", "--json"]).await;
        tasks.get(0).cloned().ok_or_else(|| child.tail())
    })
    .await;
    assert_eq!(done["type"], "greet", "{done}");
    let schedules = ask(&site, &["ls", "schedules", "--json"]).await;
    assert_eq!(schedules[0]["id"], "code:greetings", "{schedules}");
    assert_eq!(schedules[0]["source"], "code");
    assert!(!schedules[0]["last"].is_null(), "{schedules}");
    assert!(say(&site, &["--version"]).await.starts_with("own "));
    assert!(say(&site, &["help"]).await.contains("Greet once, now"));
    say(&site, &["wave"]).await;
    kit::eventually_within(
        Duration::from_secs(20),
        "the task of its own command has run",
        async || {
            let tail = child.tail();
            let ran = |line: &str| line.contains("task ended") && !line.contains("task_id=code:");
            tail.lines().any(ran).then_some(()).ok_or(tail)
        },
    )
    .await;
    child.signal(Signal::SIGINT);
    assert!(child.wait(Duration::from_secs(15)).success(), "{}", child.tail());
}

async fn another_program_enqueues_only_where_a_store_is() {
    let site = Site::new("server: {addr: 127.0.0.1:0}\n");
    let store = site.dir.join("data/runner.db");
    let enqueue = || {
        let mut command = tokio::process::Command::new(example("enqueue"));
        command.arg(&store).current_dir(&site.dir).kill_on_drop(true);
        async move {
            tokio::time::timeout(Duration::from_secs(20), command.output())
                .await
                .expect("an end")
                .unwrap()
        }
    };
    let refused = enqueue().await;
    assert!(!refused.status.success() && !store.exists());
    let child = Child::start(
        &example("own_handlers"),
        None,
        Signal::SIGKILL,
        &site.dir.join("log"),
        |command| {
            command.args(["-c", "config.yaml"]).current_dir(&site.dir);
        },
    );
    kit::eventually_within(Duration::from_secs(20), "the store is there", async || {
        store.exists().then_some(()).ok_or_else(|| child.tail())
    })
    .await;
    let output = enqueue().await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let words = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(words.starts_with("greeted "), "it has waited for the result: {words}");
    // The ids of the schedule's tasks contain its name.
    kit::eventually_within(Duration::from_secs(20), "its task has run", async || {
        let tail = child.tail();
        let ran = |line: &str| line.contains("task ended") && !line.contains("task_id=code:");
        tail.lines().any(ran).then_some(()).ok_or(tail)
    })
    .await;
}

async fn ask_template(site: &Site, arguments: &[&str]) -> Value {
    serde_json::from_str(&say_by(site, "template", arguments).await).unwrap()
}

/// The retries and seconds of retention of the task with this id.
fn options(all: &Value, id: &str) -> (u64, u64) {
    let found = all.as_array().unwrap().iter().find(|task| task["id"] == id);
    let task = found.unwrap_or_else(|| panic!("{id} in {all}"));
    let number = |key: &str| task[key].as_u64().unwrap();
    (number("max_retry"), number("retention_seconds"))
}

/// `examples/template`, whose task type says `retry = 3, retention = "1h"`.
async fn options_of_a_type_hold_for_its_tasks_by_name() {
    let site = Site::new("server: {addr: 127.0.0.1:0}\ngreeting: {word: hello}\n");
    site.write("manifests/hi.yaml", "name: hi\nhandler: greet\npayload: {name: Eve}\n");
    let relay = "name: relay\nenqueue: {type: greet, retention: 2h}\npayload: {name: Ann}\n";
    site.write("manifests/relay.yaml", relay);
    let greet = async |id: &str, more: &str| {
        let line = format!("enqueue greet --payload {{\"name\":\"Ada\"}} --id {id}{more}");
        let words: Vec<&str> = line.split(' ').collect();
        say_by(&site, "template", &words).await;
    };
    // Nothing runs yet.
    greet("plain", "").await;
    greet("own", " --max-retry 7 --retention 3h").await;
    say_by(&site, "template", &["enqueue", "other", "--id", "other"]).await;
    let hi = say_by(&site, "template", &["run", "hi"]).await;
    let all = ask_template(&site, &["ls", "tasks", "--json"]).await;
    assert_eq!(options(&all, "plain"), (3, 3600));
    assert_eq!(options(&all, "own"), (7, 3 * 3600));
    assert_eq!(options(&all, "other"), (25, 0));
    assert_eq!(options(&all, hi.trim()), (3, 3600));
    // A manifest about the type goes over its code.
    site.write("manifests/greet.yaml", "name: greet\nhandler: greet\nretry: 5\n");
    greet("stated", "").await;
    let relay = say_by(&site, "template", &["run", "relay"]).await;
    let child = Child::start(
        &example("template"),
        None,
        Signal::SIGKILL,
        &site.dir.join("log"),
        |command| {
            command.args(["-c", "config.yaml"]).current_dir(&site.dir);
        },
    );
    let relayed = format!("{}.default", relay.trim());
    let done = kit::eventually_within(Duration::from_secs(20), "all have run", async || {
        let all = ask_template(&site, &["ls", "tasks", "--state", "completed", "--json"]).await;
        let has = |id: &str| {
            all.as_array()
                .is_some_and(|all| all.iter().any(|task| task["id"] == id))
        };
        match has("stated") && has(&relayed) {
            true => Ok(all),
            false => Err(child.tail()),
        }
    })
    .await;
    assert_eq!(options(&done, "stated"), (5, 3600));
    assert_eq!(options(&done, &relayed), (3, 2 * 3600));
    child.signal(Signal::SIGINT);
    assert!(child.wait(Duration::from_secs(15)).success(), "{}", child.tail());
}
