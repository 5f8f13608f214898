//! Pages after a wrong clock of the broker: the problem, in both languages.

use std::time::Duration;

use jiff::Timestamp;
use runner_queue::{Registration, Schedules as _};

use super::dashboard::{NOW, Site, definition};
use crate::kit;

pub fn tests() -> Vec<kit::Trial> {
    kit::trials![needs(): a_clock_that_was_ahead_is_a_problem_in_both_languages]
}

async fn get(site: &Site, page: &str, language: &str) -> String {
    let request = site.http.request(reqwest::Method::GET, page);
    site.http
        .send(request.header("accept-language", language))
        .await
        .unwrap()
        .body
}

/// Registers the code schedule with a clock that is far ahead, then with the right one.
async fn correct(site: &Site, ahead: Duration) {
    let now: Timestamp = NOW.parse().unwrap();
    let schedule = definition();
    for (at, revision) in [(now.checked_add(ahead).unwrap(), "ahead"), (now, "ahead")] {
        site.clock.set(at);
        let registration = Registration {
            id: schedule.id.clone(),
            revision: revision.to_owned(),
        };
        site.broker.register(&[registration]).await.unwrap();
    }
}

async fn a_clock_that_was_ahead_is_a_problem_in_both_languages() {
    let site = Site::full().await;
    let before = site.http.get("/queue").await.body;
    assert!(!before.contains("schedule_cursor_ahead"));
    correct(&site, Duration::from_secs(8 * 3600)).await;
    for page in ["/queue", "/queue/schedules"] {
        let english = get(&site, page, "en").await;
        assert!(english.contains("schedule_cursor_ahead"), "{page}");
        assert!(english.contains("clock was ahead: the cursor"), "{page}");
        let chinese = get(&site, page, "zh-CN").await;
        assert!(chinese.contains("时钟曾经超前"), "{page}");
    }
    let own = get(&site, "/queue/schedules/code:hourly", "en").await;
    assert!(own.contains("its schedule was reset"), "{own}");
    assert!(own.contains("Clock corrected"), "the decision is listed");
    // A day later it is history.
    site.clock.advance(Duration::from_secs(86_400));
    assert!(!site.http.get("/queue").await.body.contains("schedule_cursor_ahead"));
}
