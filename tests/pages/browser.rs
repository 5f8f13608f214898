//! The dashboard in a real browser: findings of axe, horizontal scrolling, errors on the console.

use std::path::Path;
use std::process::Stdio;

use runner_core::task::Task;
use runner_queue::Producer;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use super::content::{EMPTY, FULL};
use super::dashboard::{Order, Site, users};
use crate::kit;

pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(Chromium, BrowserTools): an_open_page_stays_fresh, an_open_page_keeps_what_was_typed_and_says_when_it_is_stale, lists_are_for_everybody, details_are_for_everybody, the_empty_dashboard_is_for_everybody;
    ]
}

/// Runs `scripts/look`; with `RUNNER_LOOK` set to a directory it also takes screenshots.
async fn look(base: &str, pages: &[&str], name: &str) {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let script = top.join("scripts/look");
    // Set by people who want to see the pages, not by any test.
    if let Some(dir) = std::env::var_os("RUNNER_LOOK") {
        let dir = Path::new(&dir).join(name);
        let pictures = Command::new(&script)
            .arg(base)
            .arg(dir)
            .args(pages)
            .status()
            .await
            .unwrap();
        assert!(pictures.success(), "no pictures");
    }
    let mut command = Command::new(&script);
    command
        .arg("--check")
        .arg(base)
        .args(pages)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = command.output().await.expect("node runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{}\n{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    assert!(
        text(&output.stdout).contains(&format!("{} pages", pages.len())),
        "all pages were looked at"
    );
}

async fn lists_are_for_everybody() {
    let site = Site::full().await;
    let mut pages: Vec<&str> = EMPTY.to_vec();
    pages.extend(FULL.iter().filter(|path| path.contains("/queues/")));
    pages.push("/queue/queues/mail/pending?page=2");
    look(&site.base, &pages, "lists").await;
}

async fn details_are_for_everybody() {
    let site = Site::full().await;
    let mut pages: Vec<&str> = FULL.iter().copied().filter(|path| !path.contains("/queues/")).collect();
    pages.extend(["/queue/tasks/default/none", "/queue/schedules?q=zzz"]);
    look(&site.base, &pages, "details").await;
}

/// Opens the overview and waits for the tile of pending tasks to show 65; reports progress in between.
const WATCH: &str = r#"
const { createRequire } = require("node:module");
const [base, tools] = process.argv.slice(1);
const { chromium } = createRequire(tools + "/index.js")("playwright-core");
(async () => {
  const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox", "--disable-gpu"] });
  const page = await browser.newPage();
  const trouble = [];
  page.on("console", (line) => { if (line.type() === "error") trouble.push(line.text()); });
  await page.goto(base + "/queue");
  console.log("open " + await page.textContent(".tile.s-pending dd"));
  await page.waitForFunction(() => document.querySelector(".tile.s-pending dd").textContent === "65", null, { timeout: 60000 });
  console.log("fresh " + trouble.join());
  await browser.close();
})().catch((error) => { console.error(error); process.exit(1); });
"#;

async fn an_open_page_stays_fresh() {
    let site = Site::full().await;
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/browser");
    let mut watch = Command::new("node")
        .args(["-e", WATCH, &site.base])
        .arg(std::fs::canonicalize(tools).unwrap())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("node runs");
    let mut lines = BufReader::new(watch.stdout.take().expect("a pipe")).lines();
    assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("open 64"));
    let answer = site.broker.enqueue(&[Task::new("late:comer")]).await.unwrap().remove(0);
    answer.expect("accepted");
    assert_eq!(
        lines.next_line().await.unwrap().as_deref(),
        Some("fresh "),
        "without any report on the console"
    );
}

/// Types into the filter and opens the display settings, waits for a refresh, cuts the connection, and restores it.
const KEEP: &str = r##"
const { createRequire } = require("node:module");
const [base, tools] = process.argv.slice(1);
const { chromium } = createRequire(tools + "/index.js")("playwright-core");
(async () => {
  const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox", "--disable-gpu"] });
  const page = await browser.newPage();
  const refreshed = () => page.waitForResponse((answer) => answer.url().endsWith("/queue/schedules") && [200, 304].includes(answer.status()), { timeout: 60000 });
  await page.goto(base + "/queue/schedules");
  await page.fill("#q", "half a wo");
  await page.evaluate(() => { document.querySelector(".prefs").open = true; });
  await refreshed();
  await refreshed();
  const kept = await page.evaluate(() => [document.querySelector("#q").value, document.querySelector(".prefs").open, document.activeElement.id].join());
  console.log("kept " + kept);
  await page.route("**/queue/schedules", (route) => route.abort());
  await page.waitForSelector("#link:not([hidden])", { timeout: 60000 });
  console.log("stale " + [(await page.title()).startsWith("⚠"), (await page.textContent("#link")).includes("No answer since")].join());
  await page.unroute("**/queue/schedules");
  await page.waitForSelector("#link[hidden]", { state: "attached", timeout: 60000 });
  console.log("fresh " + (await page.title()).startsWith("⚠"));
  await browser.close();
})().catch((error) => { console.error(error); process.exit(1); });
"##;

async fn an_open_page_keeps_what_was_typed_and_says_when_it_is_stale() {
    let site = Site::full().await;
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/browser");
    let keep = Command::new("node")
        .args(["-e", KEEP, &site.base])
        .arg(std::fs::canonicalize(tools).unwrap())
        .kill_on_drop(true)
        .output()
        .await
        .expect("node runs");
    let said = String::from_utf8_lossy(&keep.stdout);
    let expected = "kept half a wo,true,q\nstale true,true\nfresh false\n";
    assert_eq!(said, expected, "{}", String::from_utf8_lossy(&keep.stderr));
}

async fn the_empty_dashboard_is_for_everybody() {
    let site = Site::start(Order {
        auth: users(),
        ..Order::default()
    })
    .await;
    look(&site.base, &["/queue/login", "/nowhere"], "login").await;
    let site = Site::empty().await;
    look(&site.base, &EMPTY, "empty").await;
}
