//! What the command line says of functions and schedules: limits of functions, doubts, sources that are broken.

use serde_json::Value;

use crate::cli::{json, prints};
use crate::kit::{self, Site};

pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(): a_task_made_by_hand_has_the_limits_of_its_function
    ]
}

/// Retries and timeout of the task that these arguments enqueue.
async fn enqueued(site: &Site, arguments: &[&str], queue: &str) -> (Value, Value) {
    let arguments: Vec<&str> = ["enqueue"].into_iter().chain(arguments.iter().copied()).collect();
    let id = prints(site, &arguments).await;
    let task = json(site, &["task", "show", id.trim(), "--queue", queue, "--json"]).await;
    (task["max_retry"].clone(), task["timeout_seconds"].clone())
}

async fn a_task_made_by_hand_has_the_limits_of_its_function() {
    let site = Site::new("");
    let text = "name: fail\nexec: ['false']\nretry: 2\ntimeout: 90s\nqueue: low\n---\nname: far\nhandler: task:far\n";
    site.write("manifests/fail.yaml", text);
    let limits = enqueued(&site, &["fn:fail"], "low").await;
    assert_eq!(limits, (2.into(), 90.into()));
    let limits = enqueued(&site, &["fn:fail", "--max-retry", "25", "--queue", "high"], "high").await;
    assert_eq!(limits, (25.into(), 90.into()));
    let limits = enqueued(&site, &["fn:fail", "--timeout", "5s"], "low").await;
    assert_eq!(limits, (2.into(), 5.into()));

    for (kind, doubt) in [
        ("fail", "did you mean fn:fail?"),
        ("fn:fial", "no manifest here defines the function \"fial\""),
        ("fn:far", "did you mean task:far?"),
    ] {
        let finished = site.cli(["enqueue", kind]).await.ok();
        assert!(finished.stderr.contains(doubt), "{finished:?}");
        assert!(!finished.stdout.trim().is_empty(), "{finished:?}");
    }
    for kind in ["fn:fail", "task:anything", "echo"] {
        assert_eq!(site.cli(["enqueue", kind]).await.ok().stderr, "", "{kind}");
    }
}
