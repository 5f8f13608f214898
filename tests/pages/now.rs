//! The first page: what needs a person, runs over time, figures of queues.

use std::time::Duration;

use runner_core::task::{RunCounts, RunSeries, Task};
use runner_queue::{Producer as _, Statistics as _};

use super::dashboard::{Site, queue};
use crate::kit;

pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(): runs_are_drawn_over_every_range, an_empty_store_needs_no_one,
            a_paused_queue_needs_a_person_until_it_is_resumed, queues_have_figures_of_their_last_hour
    ]
}

/// Runs of 64 to 128 ms.
fn counts(done: u64, failed: u64) -> RunCounts {
    let mut counts = RunCounts {
        done,
        failed,
        ..RunCounts::default()
    };
    counts.took[7] = done + failed;
    counts
}

async fn add(site: &Site, counts: RunCounts, ago: Duration) {
    let each = [RunSeries::All, RunSeries::Queue("default".to_owned())];
    let added = each.map(|series| (series, counts.clone()));
    site.broker.add_run_counts(&added, ago).await.expect("counts");
}

async fn page(site: &Site, query: &str, language: &str) -> String {
    let request = site.http.request(reqwest::Method::GET, &format!("/queue{query}"));
    let page = site.http.send(request.header("accept-language", language)).await;
    let page = page.expect("a page");
    assert_eq!(page.status, 200, "{query}: {}", page.body);
    page.body
}

async fn runs_are_drawn_over_every_range() {
    let site = Site::empty().await;
    let none = page(&site, "", "en").await;
    assert!(none.contains("No run ended in this time") && none.contains("No run times are known"));
    // 14:39 in Shanghai.
    add(&site, counts(120, 3), Duration::ZERO).await;
    add(&site, counts(40, 0), Duration::from_secs(600)).await;
    for (query, bar, from) in [
        ("", "14:39: 120 done, 3 failed", "14%3A39"),
        ("?range=6h", "14:35–14:40: 120 done, 3 failed", "14%3A35"),
        ("?range=24h", "14:30–15:00: 120 done, 3 failed", "14%3A30"),
        ("?range=7d", "11-22 12:00–15:00: 160 done, 3 failed", "12%3A00"),
        ("?range=90d", "2026-11-22: 160 done, 3 failed", "00%3A00"),
    ] {
        let body = page(&site, query, "en").await;
        for part in [
            "160 done",
            "3 failed",
            &format!("<title>{bar}</title>"),
            &format!("/queue/tasks?state=archived&amp;from=2026-11-22T{from}&amp;to="),
            "half up to",
            "<th scope=\"row\">",
        ] {
            assert!(body.contains(part), "{query}: {part:?} is not in {body}");
        }
        // The link of a bar leads to a list.
        let (_, link) = body
            .split_once("href=\"/queue/tasks?state=archived&amp;")
            .expect("a bar");
        let link = link.split('"').next().unwrap_or_default().replace("&amp;", "&");
        let list = site.http.get(&format!("/queue/tasks?state=archived&{link}")).await;
        assert_eq!(list.status, 200, "{link}: {}", list.body);
    }
    let chinese = page(&site, "?range=6h", "zh").await;
    assert!(chinese.contains("成功 160") && !chinese.contains("done"), "{chinese}");
    assert_eq!(site.http.get("/queue?range=2h").await.status, 400);
}

async fn an_empty_store_needs_no_one() {
    let site = Site::empty().await;
    let body = page(&site, "", "en").await;
    assert!(
        body.contains("Nothing needs you.") && !body.contains("class=\"needs\""),
        "{body}"
    );
    assert!(page(&site, "", "zh").await.contains("没有需要处理的事项。"));
}

async fn a_paused_queue_needs_a_person_until_it_is_resumed() {
    let site = Site::full().await;
    let needs = async |language: &str| {
        let body = page(&site, "", language).await;
        let (_, rest) = body.split_once("id=\"needs\"").expect("the part");
        rest.split("</section>").next().unwrap_or_default().to_owned()
    };
    let before = needs("en").await;
    for part in [
        "60 tasks wait, the oldest for",
        "action=\"/queue/queues/mail/resume\"",
        // Of a file with an error.
        "E203",
        "href=\"#problems\"",
    ] {
        assert!(before.contains(part), "{part:?} is not in {before}");
    }
    let chinese = needs("zh").await;
    assert!(
        chinese.contains("60 个任务在等待") && !chinese.contains("tasks wait"),
        "{chinese}"
    );
    let resumed = site.act("/queue/queues/mail/resume", &[]).await;
    assert_eq!(resumed.status, 303);
    let after = needs("en").await;
    assert!(!after.contains("/resume"), "{after}");
}

async fn queues_have_figures_of_their_last_hour() {
    let site = Site::empty().await;
    let task = Task::new("mail:send").queue(queue("default"));
    for answer in site
        .broker
        .enqueue(&[task.clone(), task.clone()])
        .await
        .expect("answers")
    {
        answer.expect("a task");
    }
    add(&site, counts(285, 15), Duration::from_secs(60)).await;
    let row = async || {
        let body = page(&site, "", "en").await;
        let row = body.split("<tr").find(|row| row.contains("data-key=\"default\""));
        row.expect("its row").to_owned()
    };
    let first = row().await;
    for part in [
        "In the last hour 285 done, 15 failed",
        "21/min",
        "5.0 %",
        "ms</td>",
        "class=\"spark\"",
    ] {
        assert!(first.contains(part), "{part:?} is not in {first}");
    }
    assert!(!first.contains("grows"), "one look says nothing: {first}");
    site.clock.advance(Duration::from_secs(60));
    let tasks: Vec<Task> = (0..120).map(|_| task.clone()).collect();
    for answer in site.broker.enqueue(&tasks).await.expect("answers") {
        answer.expect("a task");
    }
    let second = row().await;
    assert!(second.contains("grows 120/min"), "{second}");
}
