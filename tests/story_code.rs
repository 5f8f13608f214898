//! The third source: a program of one's own, with a typed handler and a schedule in code, from outside.
//!
//! It is `examples/own_handlers.rs`, which `cargo test` builds beside the program.

use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::kit::{self, Child, Site};

pub fn tests() -> Vec<kit::Trial> {
    kit::trials![needs(): a_program_of_ones_own_runs_its_schedule_and_its_handler]
}

fn example() -> String {
    let beside = PathBuf::from(env!("CARGO_BIN_EXE_runner"));
    beside
        .with_file_name("examples")
        .join("own_handlers")
        .display()
        .to_string()
}

async fn ask(site: &Site, arguments: &[&str]) -> Value {
    let mut command = tokio::process::Command::new(example());
    command.args(arguments).current_dir(&site.dir).kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(20), command.output())
        .await
        .expect("an end")
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

async fn a_program_of_ones_own_runs_its_schedule_and_its_handler() {
    let site = Site::new("server: {addr: 127.0.0.1:0}\n");
    let child = Child::start(&example(), None, Signal::SIGKILL, &site.dir.join("log"), |command| {
        command.args(["-c", "config.yaml"]).current_dir(&site.dir);
    });
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
    child.signal(Signal::SIGINT);
    assert!(child.wait(Duration::from_secs(15)).success(), "{}", child.tail());
}
