//! Two instances on one Redis with different versions of the same manifests.

use std::time::Duration;

use runner_core::schedule::ScheduleId;
use runner_queue::redis::{RedisBroker, RedisSettings, RedisTarget};
use runner_queue::{Decision, DecisionKind, Schedules as _};

use crate::kit::{self, RedisDb, Runner, Site};

/// A difference is a problem after 12 s; the rest is for a busy machine.
const SEEN: Duration = Duration::from_secs(60);

/// The tests of this module.
pub fn tests() -> Vec<kit::Trial> {
    kit::trials![needs(Redis): the_newer_version_counts_and_both_instances_report_the_difference]
}

fn version(cron: &str, more: &str) -> String {
    format!("name: job\nschedule: {{cron: \"{cron}\", overlap: allow}}\nexec: [\"true\"]\n{more}")
}

async fn start(db: &RedisDb, manifest: &str) -> (Site, Runner) {
    let site = Site::new(&db.yaml());
    site.write("manifests/job.yaml", manifest);
    let runner = site.start().await;
    (site, runner)
}

async fn says(runner: &Runner, words: &[&str]) {
    kit::eventually_within(SEEN, "the difference is shown", || async {
        let log = runner.log();
        let page = runner.http.get("/queue/schedules").await.body;
        let said = words.iter().all(|word| log.contains(word)) && page.contains("W260");
        said.then_some(()).ok_or(log)
    })
    .await;
}

async fn fired(broker: &RedisBroker) -> Vec<Decision> {
    let id = ScheduleId::manifest("job", "default");
    let mut all = broker.decisions(Some(&id), 1000).await.unwrap();
    all.retain(|decision| decision.kind == DecisionKind::Fired);
    all
}

async fn the_newer_version_counts_and_both_instances_report_the_difference() {
    let db = kit::redis().fresh_db();
    let mut settings = RedisSettings::of(RedisTarget::Server(format!("127.0.0.1:{}", db.port)));
    settings.database = i64::from(db.number);
    let broker = RedisBroker::connect(settings).await.unwrap();
    let (site, old) = start(&db, &version("*/2 * * * * *", "")).await;
    kit::eventually_within(SEEN, "the old one fires", || async {
        let all = fired(&broker).await;
        (!all.is_empty()).then_some(()).ok_or(old.log())
    })
    .await;
    let more = "---\nname: extra\nschedule: \"@daily\"\nexec: [\"true\"]\n";
    let (_new_site, new) = start(&db, &version("1-59/2 * * * * *", more)).await;
    says(
        &old,
        &["W260", "that one counts", "1-59/2 * * * * *", "W261", "m:extra:default"],
    )
    .await;
    says(&new, &["W260", "this one counts", "*/2 * * * * *", "W261"]).await;
    // Commands are no instance: they compare what both announce.
    let why = site.cli(["why", "job"]).await.ok().stdout;
    assert!(why.contains("W260"), "{why}");
    let shown = site.cli(["schedule", "show", "job"]).await.ok().stdout;
    assert!(
        shown.contains("1-59/2 * * * * *") && shown.contains("the newer one counts"),
        "{shown}"
    );
    let listed = site.cli(["ls", "schedules"]).await.ok().stderr;
    assert!(listed.contains("W260") && listed.contains("W261"), "{listed}");
    // Only the newer one decides by now, and each of its occurrences fires: odd seconds, two apart.
    let settled = fired(&broker).await[0].nominal;
    let newer = async || -> Vec<i64> {
        let all = fired(&broker).await;
        all.iter()
            .rev()
            .map(|d| d.nominal)
            .filter(|at| *at > settled)
            .map(|at| at.as_second())
            .collect()
    };
    kit::eventually_within(SEEN, "the newer one fires", || async {
        let seconds = newer().await;
        (seconds.len() > 2)
            .then_some(())
            .ok_or(format!("{seconds:?}\n{}", new.log()))
    })
    .await;
    let seconds = newer().await;
    assert!(seconds.iter().all(|second| second % 2 == 1), "{seconds:?}");
    assert!(seconds.windows(2).all(|pair| pair[1] - pair[0] == 2), "{seconds:?}");
    // It ends: the version before it counts again.
    assert!(new.stop().await.success());
    let ended = fired(&broker).await[0].nominal;
    kit::eventually_within(SEEN, "the old one continues", || async {
        let all = fired(&broker).await;
        let back = all.iter().any(|d| d.nominal > ended && d.nominal.as_second() % 2 == 0);
        back.then_some(()).ok_or(old.log())
    })
    .await;
    assert!(old.stop().await.success());
}
