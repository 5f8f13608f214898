//! `runner doctor`: what it finds in healthy and in broken installations, and what it corrects.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::kit::{self, Site};

pub fn tests() -> Vec<kit::Trial> {
    kit::trials![needs(): a_running_installation_is_well, what_does_not_run_is_named, what_is_safe_is_corrected,
        a_broker_that_is_away_is_an_error]
}

/// The findings of this level, as `area code`.
fn found(report: &Value, level: &str) -> Vec<String> {
    let all = report.as_array().expect("an array").iter();
    let of_level = all.filter(|finding| finding["level"] == level);
    of_level
        .map(|f| format!("{} {}", f["area"].as_str().unwrap(), f["code"].as_str().unwrap_or("-")))
        .collect()
}

async fn a_running_installation_is_well() {
    let mut site = Site::new("");
    site.write(
        "manifests/hello.yaml",
        "name: hello\nschedule: '@daily'\nexec: [date]\n",
    );
    let runner = site.start().await;
    let address = format!("127.0.0.1:{}", runner.port);
    site.env.push(("RUNNER_SERVER_ADDR".to_owned(), address));
    let report = site.cli(["doctor", "--json"]).await.json();
    assert_eq!(found(&report, "error"), [""; 0], "{report:#}");
    let well = found(&report, "ok");
    for area in [
        "settings",
        "manifests",
        "broker",
        "clock",
        "workers",
        "queues",
        "schedules",
        "instance",
    ] {
        assert!(
            well.iter().any(|line| *line == format!("{area} -")),
            "{area}: {report:#}"
        );
    }
    let text = site.cli(["doctor"]).await.ok().stdout;
    assert!(text.contains("0 errors, ") && text.contains("is ready"), "{text}");
    runner.stop().await;
}

async fn what_does_not_run_is_named() {
    let site = Site::new("");
    let manifests = [
        ("hello", "name: hello\nschedule: '@daily'\nexec: [date]\n"),
        ("broken", "name: broken\nschedule: '61 * * * *'\nexec: [date]\n"),
        ("bad", "name: bad\nexec: ['false']\nretry: 0\n"),
        (
            "in",
            "name: in\nexec: [cat]\ntriggers: [{id: d, file: {dir: /no/such}}]\n",
        ),
    ];
    for (name, text) in manifests {
        site.write(&format!("manifests/{name}.yaml"), text);
    }
    let runner = site.start().await;
    site.cli(["enqueue", "fn:bad", "--id", "failed"]).await.ok();
    kit::eventually("it is archived", async || {
        let listed = site.cli(["ls", "tasks", "--state", "archived", "--json"]).await.json();
        match listed[0]["id"] == "failed" {
            true => Ok(()),
            false => Err(listed.to_string()),
        }
    })
    .await;
    kit::eventually("the trigger that cannot listen is reported", async || {
        let listed = site.cli(["ls", "triggers", "--json"]).await.json();
        match listed[0]["instances"][0]["state"] == "failing" {
            true => Ok(()),
            false => Err(listed.to_string()),
        }
    })
    .await;
    site.cli(["queue", "pause", "default"]).await.ok();
    site.cli(["enqueue", "fn:hello"]).await.ok();
    let run = site.cli(["doctor", "--json"]).await;
    assert_eq!(run.status.code(), Some(1), "{}", run.stdout);
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    let errors = found(&report, "error");
    for finding in ["manifests E203", "triggers file_dir"] {
        assert!(errors.iter().any(|line| line == finding), "{finding}: {report:#}");
    }
    let warnings = found(&report, "warning");
    for finding in ["queues W101", "schedules W101"] {
        assert!(warnings.iter().any(|line| line == finding), "{finding}: {report:#}");
    }
    let archived = report
        .as_array()
        .unwrap()
        .iter()
        .find(|finding| finding["area"] == "tasks");
    let text = archived
        .and_then(|finding| finding["text"].as_str())
        .unwrap_or_default();
    assert!(
        text.contains("1 task archived in default; the newest is fn:bad failed: "),
        "{report:#}"
    );
    runner.stop().await;
}

async fn what_is_safe_is_corrected() {
    let site = Site::new("server: {key: 0123456789abcdef0123456789abcdef}\nmanifests: {dir: jobs}\n");
    let config = site.dir.join("config.yaml");
    std::fs::set_permissions(&config, std::fs::Permissions::from_mode(0o644)).unwrap();
    let before = site.cli(["doctor", "--json"]).await.json();
    let warned = found(&before, "warning");
    assert!(warned.iter().any(|line| line == "settings CFG_PERM"), "{before:#}");
    let corrected = site.cli(["doctor", "--fix", "--json"]).await.json();
    assert!(
        found(&corrected, "fixed").contains(&"settings CFG_PERM".to_owned()),
        "{corrected:#}"
    );
    assert!(site.dir.join("jobs").is_dir(), "{corrected:#}");
    let mode = std::fs::metadata(&config).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    let after = site.cli(["doctor", "--json"]).await.json();
    let left = found(&after, "warning");
    assert!(
        !left.iter().any(|line| line.contains("CFG_") || line.contains("W107")),
        "{after:#}"
    );
}

async fn a_broker_that_is_away_is_an_error() {
    let site = Site::new("redis: {host: '127.0.0.1:1'}\n");
    let run = site.cli(["doctor"]).await;
    assert_eq!(run.status.code(), Some(1), "{}", run.stdout);
    let line = run.stdout.lines().find(|line| line.starts_with("error    broker"));
    assert!(
        line.is_some_and(|line| line.contains("127.0.0.1:1")),
        "{}{}",
        run.stdout,
        run.stderr
    );
}
