//! `runner top` in a terminal of its own: what is seen, an action by keys, and the terminal afterwards.

use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::libc;
use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::Pid;
use serde_json::json;

use crate::cli::{fails, json, prints};
use crate::kit::{self, Site, eventually};

pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(): a_queue_is_paused_by_a_key, a_signal_leaves_the_terminal_as_it_was, a_screen_is_printed_without_a_terminal;
        needs(Redis): what_redis_has_is_printed;
    ]
}

/// A terminal with `runner top` in it.
struct Top {
    child: tokio::process::Child,
    /// The side of the keyboard and the eyes.
    keys: std::fs::File,
    /// The side of the program, to look at its settings.
    line: OwnedFd,
    seen: Arc<Mutex<String>>,
}

impl Top {
    fn start(site: &Site, arguments: &[&str]) -> Self {
        let size = libc::winsize {
            ws_row: 30,
            ws_col: 120,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pair = openpty(&size, None).expect("a terminal");
        let side = || Stdio::from(pair.slave.try_clone().expect("a descriptor"));
        let mut command = tokio::process::Command::new(&site.binary);
        command
            .arg("top")
            .args(arguments)
            .current_dir(&site.dir)
            .kill_on_drop(true);
        command
            .stdin(side())
            .stdout(side())
            .stderr(side())
            .env("TERM", "xterm-256color");
        for name in kit::foreign() {
            command.env_remove(name);
        }
        let child = command.spawn().expect("the program");
        let keys = std::fs::File::from(pair.master);
        let mut eyes = keys.try_clone().expect("a descriptor");
        let seen = Arc::new(Mutex::new(String::new()));
        let shown = Arc::clone(&seen);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(n @ 1..) = eyes.read(&mut bytes) {
                shown.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..n]));
            }
        });
        Self {
            child,
            keys,
            line: pair.slave,
            seen,
        }
    }

    /// Waits until these words have been written.
    async fn sees(&self, words: &str) {
        let wanted = written(words);
        eventually(words, async || {
            let seen = written(&self.seen.lock().unwrap());
            match seen.contains(&wanted) {
                true => Ok(()),
                false => Err(seen),
            }
        })
        .await;
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("keys");
    }

    async fn ends(&mut self) -> ExitStatus {
        let ended = tokio::time::timeout(Duration::from_secs(20), self.child.wait()).await;
        ended.expect("an end in time").expect("an end")
    }

    /// Lines are edited by the terminal and shown while they are typed, and the screen of before is shown.
    fn is_as_before(&self) -> bool {
        let flags = tcgetattr(&self.line).expect("settings of the terminal").local_flags;
        flags.contains(LocalFlags::ICANON | LocalFlags::ECHO) && self.seen.lock().unwrap().contains("\u{1b}[?1049l")
    }
}

/// What is printed, without sequences that steer the terminal, and without blanks: moves of the cursor may stand for these.
fn written(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c == '\u{1b}' {
            // `ESC [`, parameters, and a letter at the end.
            let _sequence = rest.by_ref().find(|c| c.is_ascii_alphabetic());
        } else if !c.is_whitespace() {
            out.push(c);
        }
    }
    out
}

async fn a_queue_is_paused_by_a_key() {
    let site = Site::new("");
    prints(&site, &["enqueue", "of-no-worker", "--queue", "low", "--id", "one"]).await;
    let mut top = Top::start(&site, &["--every", "1s"]);
    top.sees("low").await;
    top.press("p");
    top.sees("Pause the queue low?").await;
    top.press("y");
    top.sees("low is paused").await;
    let queues = json(&site, &["ls", "queues", "--json"]).await;
    assert_eq!(queues[0]["paused"], json!(true), "{queues}");
    let audit = json(&site, &["ls", "audit", "--json"]).await;
    assert_eq!(
        (&audit[0]["action"], &audit[0]["target"]),
        (&json!("queue.pause"), &json!("low")),
        "{audit}"
    );
    top.press("q");
    assert!(top.ends().await.success());
    eventually("the terminal is as before", async || match top.is_as_before() {
        true => Ok(()),
        false => Err(top.seen.lock().unwrap().clone()),
    })
    .await;
}

async fn a_signal_leaves_the_terminal_as_it_was() {
    let site = Site::new("");
    prints(&site, &["enqueue", "of-no-worker", "--queue", "low"]).await;
    let mut top = Top::start(&site, &["--pane", "workers"]);
    top.sees("No worker is running").await;
    let process = i32::try_from(top.child.id().expect("a process")).expect("a number");
    kill(Pid::from_raw(process), Signal::SIGTERM).expect("a signal");
    assert_eq!(top.ends().await.code(), Some(128 + 15));
    eventually("the terminal is as before", async || match top.is_as_before() {
        true => Ok(()),
        false => Err(top.seen.lock().unwrap().clone()),
    })
    .await;
}

async fn a_screen_is_printed_without_a_terminal() {
    let site = Site::new("");
    let refused = fails(&site, &["top"], 2).await;
    assert!(refused.contains("--once"), "{refused}");
    site.write("manifests/a.yaml", "name: nightly\nschedule: '@daily'\nexec: [date]\n");
    let schedules = prints(&site, &["top", "--once", "--pane", "schedules"]).await;
    assert!(
        schedules.contains("m:nightly:default") && schedules.contains("@daily"),
        "{schedules}"
    );
    let refused = fails(&site, &["top", "--every", "2m"], 2).await;
    assert!(refused.contains("from 1s to 60s"), "{refused}");
}

/// What a live worker runs, what failed, and what is counted.
async fn what_redis_has_is_printed() {
    let db = kit::redis().fresh_db();
    let site = Site::new(&(db.yaml() + "worker: {shutdown_timeout: 1s}\n"));
    site.write("manifests/a.yaml", "name: broken\nexec: [\"false\"]\nretry: 0\n");
    let runner = site.start().await;
    prints(
        &site,
        &["enqueue", "sleep", "--payload", r#"{"seconds":60}"#, "--id", "long-one"],
    )
    .await;
    prints(&site, &["enqueue", "fn:broken", "--id", "bad-one"]).await;
    let shows = async |pane: &str, words: &[&str]| {
        eventually("the table shows it", async || {
            let text = prints(&site, &["top", "--once", "--pane", pane]).await;
            match words.iter().all(|word| text.contains(word)) {
                true => Ok(()),
                false => Err(text),
            }
        })
        .await;
    };
    shows("running", &["sleep", "long-one"]).await;
    shows("failed", &["fn:broken", "bad-one", "exit"]).await;
    shows("workers", &["active", "Rust"]).await;
    runner.stop().await;
}
