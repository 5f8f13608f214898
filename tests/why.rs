//! Why a task waits and why a schedule does not fire: pages and commands agree, on a real broker.

use std::collections::BTreeSet;

use crate::cli::fails;
use crate::kit::{self, Site};

pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(): reasons_are_given_for_a_schedule_that_does_not_fire;
        needs(Redis): pages_and_commands_agree_why_a_task_waits;
    ]
}

/// The codes in a text, such as W101.
fn codes(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric());
    let is_code = |word: &&str| {
        let digits = word.strip_prefix(['W', 'S']);
        digits.is_some_and(|digits| (2..=3).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()))
    };
    words.filter(is_code).map(str::to_owned).collect()
}

/// The codes that `runner why` prints.
async fn why(site: &Site, id: &str) -> BTreeSet<String> {
    let answer = site.cli(["why", id, "--json"]).await.json();
    let reasons = answer["reasons"].as_array().expect("a list of reasons");
    reasons
        .iter()
        .map(|reason| reason["code"].as_str().unwrap().to_owned())
        .collect()
}

async fn pages_and_commands_agree_why_a_task_waits() {
    let db = kit::redis().fresh_db();
    let site = Site::new(&format!("{}worker: {{queues: {{default: 1}}}}\n", db.yaml()));
    let before = site
        .cli(["enqueue", "echo", "--id", "early", "--queue", "low"])
        .await
        .ok();
    assert_eq!(codes(&before.stderr), BTreeSet::from(["W109".to_owned()]), "{before:?}");
    let runner = site.start().await;
    kit::eventually("the server is listed", async || {
        let reasons = why(&site, "early").await;
        reasons
            .contains("W211")
            .then_some(())
            .ok_or_else(|| format!("{reasons:?}"))
    })
    .await;
    site.cli(["queue", "pause", "default"]).await.ok();
    for (queue, kind, expected) in [
        ("default", "echo", "W101"),
        ("low", "echo", "W211"),
        ("other", "echo", "W211"),
    ] {
        let id = format!("in-{queue}");
        let enqueued = site.cli(["enqueue", kind, "--id", &id, "--queue", queue]).await.ok();
        let expected = BTreeSet::from([expected.to_owned()]);
        assert_eq!(codes(&enqueued.stderr), expected, "enqueue: {}", enqueued.stderr);
        assert_eq!(why(&site, &id).await, expected);
        let shown = site.cli(["task", "show", &id]).await.ok().stdout;
        assert_eq!(codes(&shown), expected, "task show: {shown}");
        let page = runner.http.get(&format!("/queue/tasks/{queue}/{id}")).await.body;
        let list = page
            .split("id=\"why\"")
            .nth(1)
            .and_then(|rest| rest.split("</ul>").next());
        assert_eq!(codes(list.unwrap_or_default()), expected, "{page}");
    }
    let error = fails(&site, &["why", "nothing"], 1).await;
    assert!(
        error.contains("no task nothing") && error.contains("no schedule"),
        "{error}"
    );
    assert!(runner.stop().await.success());
}

async fn reasons_are_given_for_a_schedule_that_does_not_fire() {
    let site = Site::new("");
    let manifest = "name: nightly\nschedule: '0 0 1 1 *'\nexec: [\"true\"]\n";
    site.write("manifests/a.yaml", manifest);
    assert!(why(&site, "nightly").await.contains("S06"), "no scheduler has seen it");
    let runner = site.start().await;
    kit::eventually("it is registered, and its server is listed", async || {
        let reasons = why(&site, "m:nightly:default").await;
        (reasons == BTreeSet::from(["S01".to_owned(), "S17".to_owned()]))
            .then_some(())
            .ok_or_else(|| format!("{reasons:?}"))
    })
    .await;
    site.cli(["schedule", "pause", "nightly"]).await.ok();
    let paused = BTreeSet::from(["S02".to_owned()]);
    assert_eq!(why(&site, "nightly").await, paused);
    let shown = site.cli(["schedule", "show", "nightly"]).await.ok().stdout;
    assert_eq!(codes(&shown), paused, "{shown}");
    let checked = site.cli(["check"]).await.ok().stdout;
    assert!(codes(&checked).is_superset(&paused), "{checked}");
    let page = runner.http.get("/queue/schedules/m%3Anightly%3Adefault").await.body;
    let list = page
        .split("id=\"why\"")
        .nth(1)
        .and_then(|rest| rest.split("</ul>").next());
    assert_eq!(codes(list.unwrap_or_default()), paused, "{page}");
    site.write("manifests/b.yaml", "name: bad\nschedule: nope\nexec: [date]\n");
    assert_eq!(why(&site, "bad").await, BTreeSet::from(["S14".to_owned()]));
    assert!(runner.stop().await.success());
}
