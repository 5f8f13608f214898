//! Failures are visible where people look first: in the list of schedules and on the overview.

use std::time::Duration;

use jiff::Timestamp;
use runner_core::task::AttemptOutcome;
use runner_queue::{Attempt, Claims as _, Settlement, Verdict};

use super::dashboard::{NOW, Site, queue};
use crate::kit;

pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(): a_failing_schedule_is_seen_in_lists, schedules_are_listed_by_state
    ]
}

/// The task of the schedule `code:hourly` fails for good.
async fn fail_hourly(site: &Site) {
    let claims = site
        .broker
        .claim(&[queue("default")], 50, Duration::from_secs(600))
        .await;
    let claims = claims.expect("claims");
    let claim = claims
        .into_iter()
        .find(|c| c.task().id.as_str().starts_with("code:hourly@"));
    let start: Timestamp = NOW.parse().expect("an instant");
    let error = "exit code 1".to_owned();
    let attempt = Attempt {
        number: 1,
        started_at: start,
        ended_at: start.checked_add(Duration::from_millis(1500)).expect("later"),
        outcome: AttemptOutcome::Archived,
        error: Some(error.clone()),
        server: "test-host:4711".to_owned(),
        log: None,
    };
    let settlement = Settlement {
        claim: claim.expect("its task"),
        verdict: Verdict::Archive { error },
        result: None,
        attempt: Some(attempt),
    };
    site.broker.settle(&[settlement]).await.expect("settled");
}

async fn a_failing_schedule_is_seen_in_lists() {
    let site = Site::full().await;
    fail_hourly(&site).await;
    let list = site.http.get("/queue/schedules").await.body;
    let row = list
        .split("<tr")
        .find(|row| row.contains("code%3Ahourly"))
        .expect("its row");
    for part in [
        "Failed</span>",
        "failed for good",
        "<title>1 run: 1 failed, 0 missed</title>",
        "M114 0h4v16h-4z",
    ] {
        assert!(row.contains(part), "{part:?} is not in {row}");
    }
    let overview = site.http.get("/queue").await.body;
    let failures = overview.split("id=\"needs\"").nth(1).expect("what needs a person");
    let failures = failures.split("id=\"runs\"").next().unwrap_or_default();
    for part in [
        "Needs you",
        "Its last run failed.",
        "A task failed for good: connect: timed out",
        "/queue/schedules/code%3Ahourly\"",
        "/queue/schedules?state=failing",
        "1 failing schedule",
        "/queue/tasks/default/dead\"",
        "connect: timed out",
    ] {
        assert!(failures.contains(part), "{part:?} is not in {failures}");
    }
    // Its task is one click away and not listed beside it.
    assert!(!failures.contains("exit code 1"), "{failures}");
    // A day later it is no news; the schedule still fails.
    site.clock.advance(Duration::from_secs(25 * 3600));
    let overview = site.http.get("/queue").await.body;
    assert!(overview.contains("1 failing schedule") && !overview.contains("connect: timed out"));
}

async fn schedules_are_listed_by_state() {
    let site = Site::full().await;
    fail_hourly(&site).await;
    site.act("/queue/schedules/m%3Asweep%3Adefault/pause", &[]).await;
    for (state, only) in [
        ("failing", "code%3Ahourly"),
        ("paused", "m%3Asweep%3Adefault"),
        ("off", "m%3Aresting%3Adefault"),
    ] {
        let page = site.http.get(&format!("/queue/schedules?state={state}")).await.body;
        let (_, list) = page.split_once("id=\"list\"").expect("a list");
        assert_eq!(list.matches("<th scope=\"row\"").count(), 1, "{state}: {list}");
        assert!(
            list.contains(&format!("href=\"/queue/schedules/{only}\"")),
            "{state}: {list}"
        );
        assert!(
            page.contains(&format!(
                "href=\"/queue/schedules?state={state}#list\" aria-current=\"true\""
            )),
            "{state}: {page}"
        );
    }
    let none = site.http.get("/queue/schedules?state=failing&q=zzz").await.body;
    assert!(none.contains("Nothing matches"), "{none}");
    assert_eq!(site.http.get("/queue/schedules?state=ill").await.status, 400);
}
