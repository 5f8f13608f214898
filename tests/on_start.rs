//! Functions that run when the service starts: the whole program, on the embedded broker and on Redis.

use std::time::Duration;

use serde_json::Value;

use crate::kit::{self, Site, eventually_within};

/// The tests of this module.
pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(): it_runs_once_a_start_in_a_file, what_is_wrong_with_it_is_said;
        needs(Redis): it_runs_once_a_start_on_redis;
    ]
}

const PATIENCE: Duration = Duration::from_secs(60);

const BOOT: &str = "name: boot\nexec: [date]\non_start: true\n";

/// Waits until this many instances have seen to the trigger; how many tasks these have enqueued.
async fn seen_to(site: &Site, id: &str, instances: usize) -> u64 {
    eventually_within(PATIENCE, "the instances have seen to it", async || {
        let listed = site.cli(["ls", "triggers", "--json"]).await.json();
        let own = listed.as_array().into_iter().flatten().find(|one| one["id"] == id);
        let all = own
            .and_then(|one| one["instances"].as_array().cloned())
            .unwrap_or_default();
        let live: Vec<&Value> = all.iter().filter(|one| one["state"] == "listening").collect();
        match live.len() == instances {
            true => Ok(live.iter().filter_map(|one| one["enqueued"].as_u64()).sum()),
            false => Err(listed.to_string()),
        }
    })
    .await
}

/// Waits until the function has run this often.
async fn ran(site: &Site, name: &str, times: usize) {
    eventually_within(PATIENCE, "it has run", async || {
        let runs = site.cli(["runs", name, "--json"]).await.json();
        let all = runs.as_array().map(Vec::as_slice).unwrap_or_default();
        match all.len() == times && all.iter().all(|run| run["trigger"] == "on_start") {
            true => Ok(()),
            false => Err(runs.to_string()),
        }
    })
    .await;
}

async fn it_runs_once_a_start_in_a_file() {
    it_runs_once_a_start(Site::new("")).await;
}

async fn it_runs_once_a_start_on_redis() {
    let db = kit::redis().fresh_db();
    it_runs_once_a_start(Site::new(&db.yaml())).await;
}

async fn it_runs_once_a_start(site: Site) {
    site.write("manifests/boot.yaml", BOOT);
    // Both come up at the same moment.
    let (one, two) = tokio::join!(site.start(), site.start());
    assert_eq!(seen_to(&site, "boot:on_start", 2).await, 1);
    ran(&site, "boot", 1).await;
    // One that joins, and a function that is added, are no start.
    site.write("manifests/late.yaml", &BOOT.replace("boot", "late"));
    let three = site.start().await;
    assert_eq!(seen_to(&site, "boot:on_start", 3).await, 1);
    assert_eq!(seen_to(&site, "late:on_start", 3).await, 0);
    // Nor is a rolling restart.
    assert!(one.stop().await.success() && two.stop().await.success());
    let four = site.start().await;
    seen_to(&site, "boot:on_start", 2).await;
    assert!(three.stop().await.success());
    assert_eq!(
        seen_to(&site, "boot:on_start", 1).await,
        0,
        "the fourth has enqueued nothing"
    );
    ran(&site, "boot", 1).await;
    // All have stopped: the next one is a start, and so is one after a kill on this host.
    assert!(four.stop().await.success());
    let five = site.start().await;
    assert_eq!(seen_to(&site, "boot:on_start", 1).await, 1);
    ran(&site, "boot", 2).await;
    ran(&site, "late", 1).await;
    five.kill9();
    let six = site.start().await;
    ran(&site, "boot", 3).await;
    assert!(six.stop().await.success());
}

async fn what_is_wrong_with_it_is_said() {
    let site = Site::new("");
    site.write("manifests/word.yaml", &BOOT.replace("true", "reboot"));
    let twice = "name: twice\nexec: [date]\non_start: true\nschedule: [{id: on_start, cron: '@daily'}]\n";
    site.write("manifests/twice.yaml", twice);
    site.write(
        "manifests/off.yaml",
        &BOOT.replace("true", "false").replace("boot", "off"),
    );
    let checked = site.cli(["check", "--offline"]).await.stdout;
    for part in [
        "word.yaml:3:11: E120",
        "twice.yaml:3:11: E140",
        "off.yaml:1:1: warning W201",
    ] {
        assert!(checked.contains(part), "{part}: {checked}");
    }
}
