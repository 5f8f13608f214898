//! What README and `docs/` show works as it is printed: manifests are valid, commands run, the row becomes a schedule.
//!
//! Blocks are found by the mark above them, `<!-- run: NAME -->`. The first run and the test command are run
//! by `.ci/run` itself, the lines for nginx by `pages::proxied`.

use std::path::{Path, PathBuf};

use crate::kit;

pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(): its_manifests_are_valid, its_row_becomes_a_schedule, its_checks_print_what_it_says, its_commands_run,
            its_groups_are_filled, its_aggregator_is_that_of_the_example, it_is_short_and_its_links_lead_somewhere;
        needs(Cluster): its_cluster_is_reached
    ]
}

/// The repository.
fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// README and every page of `docs/`, in the order of their names.
fn pages() -> Vec<(PathBuf, String)> {
    let docs = std::fs::read_dir(top().join("docs"))
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> = docs
        .filter(|path| path.extension().is_some_and(|e| e == "md"))
        .collect();
    paths.sort();
    paths.insert(0, top().join("README.md"));
    let read = |path: PathBuf| (path.clone(), std::fs::read_to_string(path).unwrap());
    paths.into_iter().map(read).collect()
}

/// The bodies of all blocks below this mark.
fn blocks(mark: &str) -> Vec<String> {
    let all: String = pages().into_iter().map(|(_, text)| text).collect();
    let mark = format!("<!-- run: {mark} -->\n```");
    let found = all.split(&mark).skip(1);
    let bodies = found.map(|rest| {
        let body = rest.split_once('\n').unwrap().1;
        body.split("```").next().unwrap().to_owned()
    });
    bodies.collect()
}

/// The one block below this mark.
fn block(mark: &str) -> String {
    let all = blocks(mark);
    assert_eq!(all.len(), 1, "{mark}");
    all.into_iter().next().unwrap()
}

/// Runs shell lines with the program in the path; what they printed.
async fn shell(site: &kit::Site, script: &str) -> String {
    let binary = Path::new(env!("CARGO_BIN_EXE_runner"));
    let path = format!(
        "{}:{}",
        binary.parent().unwrap().display(),
        std::env::var("PATH").unwrap()
    );
    let mut command = tokio::process::Command::new("sh");
    command
        .args(["-euc", script])
        .current_dir(&site.dir)
        .env("PATH", path)
        .kill_on_drop(true);
    for name in kit::foreign() {
        command.env_remove(name);
    }
    let patience = std::time::Duration::from_secs(60);
    let output = tokio::time::timeout(patience, command.output())
        .await
        .expect("an end")
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{script}\n{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

async fn its_manifests_are_valid() {
    let site = kit::Site::new("");
    let manifests = blocks("manifest");
    assert!(manifests.len() >= 3);
    for (number, text) in manifests.iter().enumerate() {
        site.write(&format!("manifests/{number}.yaml"), text);
    }
    site.cli(["check", "manifests"]).await.ok();
    let listed = site.cli(["ls", "schedules", "--json"]).await.json();
    let names: Vec<_> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["name"].as_str().unwrap())
        .collect();
    assert!(names.iter().any(|n| n.contains("nightly-backup")), "{names:?}");
}

async fn its_row_becomes_a_schedule() {
    let site = kit::Site::new("server: {timezone: Asia/Shanghai}\n");
    site.cli(["migrate"]).await.ok();
    kit::SqlDb::file(&site.dir.join("data/runner.db"))
        .execute(&block("row"))
        .await;
    let listed = site.cli(["ls", "schedules", "--json"]).await.json();
    assert_eq!(listed[0]["name"], "每日数据统计");
    assert!(
        listed[0]["next"][0].as_str().unwrap().ends_with("T01:00:00+08:00"),
        "{listed}"
    );
}

async fn its_checks_print_what_it_says() {
    let site = kit::Site::new("");
    site.cli(["init"]).await;
    let printed = shell(&site, &block("check")).await;
    assert!(
        printed.ends_with("2026-11-23T02:00:00+08:00\n2026-11-24T02:00:00+08:00\n"),
        "{printed}"
    );
}

async fn its_commands_run() {
    let site = kit::Site::new("");
    let printed = shell(&site, &block("tasks")).await;
    assert!(
        printed.contains("default") && printed.contains("echo") && printed.contains("pending"),
        "{printed}"
    );
}

/// What becomes of them is the affair of `story_groups`.
async fn its_groups_are_filled() {
    let site = kit::Site::new("");
    let printed = shell(&site, &block("groups")).await;
    assert!(printed.contains("\ndigest:ada  2\n"), "{printed}");
    assert_eq!(printed.matches(" aggregating ").count(), 2, "{printed}");
}

async fn its_aggregator_is_that_of_the_example() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/digest.rs");
    let example = std::fs::read_to_string(path).unwrap();
    let readme = block("digest");
    assert!(example.contains(&readme), "{readme}");
    let listed = r#"registry.aggregate("digest:*", digest).on("digest", send)"#;
    assert!(example.contains(listed), "{listed}");
}

/// The anchor that GitHub gives to a heading.
fn anchor(heading: &str) -> String {
    let words = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = words.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

async fn it_is_short_and_its_links_lead_somewhere() {
    let pages = pages();
    let words = pages[0].1.split_whitespace().count();
    assert!(words <= 1800, "README.md has {words} words; reference belongs to docs/");
    for (path, text) in &pages {
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.starts_with("http") {
                continue;
            }
            let (file, place) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() {
                path.clone()
            } else {
                path.parent().unwrap().join(file)
            };
            assert!(target.exists(), "{}: {link}", path.display());
            if !place.is_empty() {
                let there = std::fs::read_to_string(&target).unwrap();
                let found = there.lines().any(|line| line.starts_with('#') && anchor(line) == place);
                assert!(found, "{}: {link}", path.display());
            }
        }
    }
}

async fn its_cluster_is_reached() {
    let turn = kit::cluster().await;
    let settings = block("cluster");
    let (before, after) = settings.split_once('[').unwrap();
    let after = after.split_once(']').unwrap().1;
    let site = kit::Site::new(&format!("{before}[{}]{after}", turn.addresses().join(", ")));
    site.cli(["enqueue", "task:a", "--queue", "low"]).await.ok();
    let queues = site.cli(["ls", "queues", "--json"]).await.json();
    assert_eq!(queues[0]["name"], "low", "{queues}");
}
