//! README and `docs/` work as printed: manifests are valid, commands run, the row becomes a schedule.
//!
//! Code blocks are found by the mark above them, `<!-- run: NAME -->`; `tidy::pages` ensures that each has one.
//! `.ci/run` runs the first run and the test command, `pages::proxied` the lines for nginx.

use std::path::Path;

use crate::kit;
use kit::pages::{block, blocks};

pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(): its_manifests_are_valid, its_manifests_for_redis_are_valid, its_settings_are_valid, its_kinds_of_channels_are_valid, its_row_becomes_a_schedule,
            its_checks_print_the_documented_output, its_commands_run, its_calls_are_answered, its_groups_are_filled, its_backup_is_made;
        needs(Cluster): its_cluster_is_reached
    ]
}

/// Runs shell lines with the program in the path; returns their output.
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
    let channels = "notify: {channels: {ops-mail: 'https://ops.example.com', chat: 'https://chat.example.com'}}\n";
    let site = kit::Site::new(channels);
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

/// Those that need Redis, which is not asked.
async fn its_manifests_for_redis_are_valid() {
    let site = kit::Site::new("redis: {host: 127.0.0.1:1}\n");
    site.write("manifests/shared.yaml", &block("shared-manifest"));
    site.cli(["check", "manifests", "--offline"]).await.ok();
}

/// Paths of a reader's machine are below a directory here.
async fn its_settings_are_valid() {
    let all = blocks("settings");
    assert!(all.len() >= 2);
    for text in all {
        let site = kit::Site::new("");
        let here = |path: &str| {
            site.dir
                .join(path.trim_start_matches('/').replace('/', "-"))
                .display()
                .to_string()
        };
        let mut settings = text.replace("${env:ANN_PASSWORD}", "ann has a password");
        for path in [
            "/run/secrets/redis",
            "/run/secrets/mail",
            "/run/secrets/chat",
            "/run/secrets/desk",
            "/etc/redis/ca.pem",
        ] {
            site.write(&path.trim_start_matches('/').replace('/', "-"), "a secret");
            settings = settings.replace(path, &here(path));
        }
        site.write("config.yaml", &settings);
        site.cli(["check", "--offline"]).await.ok();
    }
}

async fn its_kinds_of_channels_are_valid() {
    let site = kit::Site::new(
        "notify: {kinds: kinds.yaml, channels: {room: {kind: matrix, url: 'https://m.example.com/send', token: a-token}}}\n",
    );
    site.write("kinds.yaml", &block("kinds"));
    site.cli(["check", "--offline"]).await.ok();
}

/// The second row has the options that the page of the table documents.
async fn its_row_becomes_a_schedule() {
    let site = kit::Site::new("server: {timezone: Asia/Shanghai}\n");
    site.cli(["migrate"]).await.ok();
    let row = block("row");
    let options = block("options");
    let second = row.replace(r#"{"date":"today"}"#, options.trim());
    assert!(second.contains("_runner"), "{second}");
    let table = kit::SqlDb::file(&site.dir.join("data/runner.db"));
    table.execute(&row).await;
    table.execute(&second).await;
    let listed = site.cli(["ls", "schedules", "--json"]).await.json();
    let mut next: Vec<_> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["next"][0].as_str().unwrap())
        .collect();
    next.sort_by_key(|at| at.ends_with("+08:00"));
    assert_eq!(listed[0]["name"], "每日数据统计");
    assert!(next.len() == 2 && next[1].ends_with("T01:00:00+08:00"), "{listed}");
    assert!(next[0].contains("T01:00:00-0"), "not in the zone of New York: {listed}");
}

async fn its_checks_print_the_documented_output() {
    let site = kit::Site::new("");
    site.cli(["init"]).await;
    let printed = shell(&site, &block("check")).await;
    assert!(
        printed.ends_with("2026-11-23T02:00:00+08:00\n2026-11-24T02:00:00+08:00\n"),
        "{printed}"
    );
}

async fn its_commands_run() {
    for script in blocks("tasks") {
        let site = kit::Site::new("");
        let printed = shell(&site, &script).await;
        let all = ["default", "echo", "pending"];
        assert!(all.iter().all(|word| printed.contains(word)), "{printed}");
    }
}

/// The calls of the API, with a token that `runner token new` has made, at a program whose worker leaves tasks alone.
async fn its_calls_are_answered() {
    let site = kit::Site::new("");
    let made = [
        "token",
        "new",
        "shop",
        "--scope",
        "act:tasks",
        "--scope",
        "read",
        "--json",
    ];
    let made = site.cli(made).await.json();
    let text = |key: &str| made[key].as_str().unwrap().to_owned();
    let tokens = format!(
        "tokens: [{{name: shop, token_hash: '{}', scopes: [act:tasks, read]}}]",
        text("token_hash")
    );
    let users = "users: [{name: ann, password: a-password, role: viewer}]";
    site.write(
        "config.yaml",
        &format!("auth: {{{users}, {tokens}}}\nworker: {{queues: {{other: 1}}}}\n"),
    );
    let runner = site.start().await;
    let mut printed = String::new();
    let calls = blocks("api");
    assert!(calls.len() >= 2);
    for script in calls {
        let script = script.replace("127.0.0.1:8080", &format!("127.0.0.1:{}", runner.port));
        printed += &shell(&site, &format!("TOKEN={}\n{script}", text("token"))).await;
    }
    assert!(!printed.contains("\"code\""), "a call was refused: {printed}");
    let all = ["\"state\":\"pending\"", "\"latency_seconds\"", "\napi-"];
    assert!(all.iter().all(|part| printed.contains(part)), "{printed}");
}

/// Not here: what happens to them (`story_groups`).
async fn its_groups_are_filled() {
    let site = kit::Site::new("");
    let printed = shell(&site, &block("groups")).await;
    assert!(printed.contains("\ndigest:ada  2\n"), "{printed}");
    assert_eq!(printed.matches(" aggregating ").count(), 2, "{printed}");
}

async fn its_backup_is_made() {
    let site = kit::Site::new("");
    site.cli(["enqueue", "echo"]).await.ok();
    let copies = site.dir.join("backup");
    std::fs::create_dir(&copies).unwrap();
    let script = block("backup").replace("/backup", &copies.display().to_string());
    shell(&site, &script).await;
    assert_eq!(std::fs::read_dir(&copies).unwrap().count(), 1);
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
