//! `deploy/prometheus` and `deploy/grafana`: the rules are valid and fire when they should, and name metrics that exist.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::kit::{self, Prometheus, Site, eventually};

pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(): rules_and_board_name_metrics_that_exist;
        needs(Prometheus): rules_fire_when_they_should;
        needs(Redis, Prometheus): a_failure_is_one_alert_of_three_instances
    ]
}

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(deploy(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

async fn rules_fire_when_they_should() {
    for arguments in [["check", "rules", "rules.yaml"], ["test", "rules", "rules_test.yaml"]] {
        let output = Command::new("promtool")
            .args(arguments)
            .current_dir(deploy("prometheus"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && said.contains("SUCCESS"),
            "{arguments:?}: {said}"
        );
    }
    // Each alert has a case.
    let (rules, cases) = (read("prometheus/rules.yaml"), read("prometheus/rules_test.yaml"));
    for alert in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(cases.contains(&format!("alertname: {alert}")), "{alert} has no case");
    }
}

/// Shown only once something has failed; a unit test of `metrics` knows their names.
const AFTER_FAILURES: [&str; 1] = ["runner_broker_errors_total"];

/// The names of our metrics in a text.
fn names(text: &str) -> BTreeSet<&str> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split(|c: char| !is_name(c))
        .filter(|word| word.starts_with("runner_"))
        .collect()
}

async fn rules_and_board_name_metrics_that_exist() {
    let board: Value = serde_json::from_str(&read("grafana/runner.json")).unwrap();
    let queries: Vec<&str> = board["panels"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|panel| panel["targets"].as_array().unwrap())
        .map(|target| target["expr"].as_str().unwrap())
        .collect();
    let asked = queries.join("\n") + &read("prometheus/rules.yaml");
    let site = Site::new("");
    site.write(
        "manifests/often.yaml",
        "name: often\nschedule: '@every 1s'\nexec: {script: 'true'}\n",
    );
    let runner = site.start().await;
    let shown = eventually("a run is counted", async || {
        let shown = runner.http.get("/metrics").await.body;
        match shown.contains("runner_type_processed_total{") && shown.contains("runner_fires_total{") {
            true => Ok(shown),
            false => Err(shown),
        }
    })
    .await;
    // In plain text the type line of a counter has its full name, and that of a histogram the name without `_bucket`.
    let types: BTreeSet<&str> = shown
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    let unknown: Vec<&str> = names(&asked)
        .into_iter()
        .filter(|name| !types.contains(name) && !types.contains(name.trim_end_matches("_bucket")))
        .filter(|name| !AFTER_FAILURES.contains(name))
        .collect();
    assert!(unknown.is_empty() && queries.len() > 15, "{unknown:?} of {types:?}");
    runner.stop().await;
}

async fn a_failure_is_one_alert_of_three_instances() {
    let db = kit::redis().fresh_db();
    let rules = read("prometheus/rules.yaml").replace("for: 1m", "for: 0s");
    let sites = [(); 3].map(|()| Site::new(&format!("redis: {{url: '{}'}}\n", db.url())));
    let mut running = Vec::new();
    for site in &sites {
        site.write(
            "manifests/report.yaml",
            "name: report\nexec: {script: 'exit 3'}\nretry: 0\n---\nname: fine\nexec: {script: 'echo fine'}\n",
        );
        running.push(site.start().await);
    }
    let ports: Vec<u16> = running.iter().map(|runner| runner.port).collect();
    let prometheus = Prometheus::start(&ports, &rules);
    for function in ["fn:report", "fn:fine"] {
        sites[0].cli(["enqueue", function]).await.ok();
    }
    eventually("the failure is one alert", async || {
        let alerts = prometheus.ask("/api/v1/alerts").await;
        let alerts = alerts["alerts"].as_array().cloned().unwrap_or_default();
        let firing: Vec<(&str, &str)> = alerts
            .iter()
            .filter(|alert| alert["state"] == "firing" && alert["labels"]["alertname"] == "RunnerFunctionFailing")
            .map(|alert| {
                let label = |name: &str| alert["labels"][name].as_str().unwrap_or_default();
                (label("function"), label("job"))
            })
            .collect();
        match firing == [("report", "runner")] {
            true => Ok(()),
            false => Err(format!("{alerts:?}\n{}", prometheus.tail())),
        }
    })
    .await;
    // All three say the same.
    let query = "/api/v1/query?query=runner_function_last_run_succeeded";
    eventually("each instance knows both functions", async || {
        let answer = prometheus.ask(query).await;
        let samples = answer["result"].as_array().cloned().unwrap_or_default();
        let succeeded = |of: &str| {
            let of = samples.iter().filter(|sample| sample["metric"]["function"] == of);
            of.map(|sample| sample["value"][1].as_str().unwrap_or_default().to_owned())
                .collect::<Vec<String>>()
        };
        match (succeeded("report"), succeeded("fine")) {
            (report, fine) if report == ["0"; 3] && fine == ["1"; 3] => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    for runner in running {
        runner.stop().await;
    }
}
