//! Thousands of queues: pages and metrics stay small, and report what they leave out.

use runner_core::task::Task;
use runner_queue::Producer as _;

use super::dashboard::{Site, queue};
use crate::kit;

pub fn tests() -> Vec<kit::Trial> {
    kit::trials![needs(): ten_thousand_queues_are_paged_and_counted]
}

const MANY: usize = 10_000;

/// Bytes of a page or of all figures.
const LONGEST: usize = 200_000;

async fn ten_thousand_queues_are_paged_and_counted() {
    let site = Site::empty().await;
    let tasks: Vec<Task> = (0..MANY)
        .map(|n| Task::new("mail:send").queue(queue(&format!("tenant-{n:05}"))))
        .chain([Task::new("mail:send").queue(queue("mail"))])
        .collect();
    for answer in site.broker.enqueue(&tasks).await.expect("an answer") {
        answer.expect("a task");
    }
    let first = site.http.get("/queue").await;
    assert_eq!(first.status, 200);
    assert!(first.body.len() < LONGEST, "{} bytes", first.body.len());
    assert!(first.body.contains("10,001") && first.body.contains("too many queues to add up"));
    // What was not looked at is not said to be well.
    assert!(first.body.contains("Only the 50 queues of this page were looked at"));
    assert!(!first.body.contains("Nothing needs you."));
    let last = site.http.get("/queue?page=201").await.body;
    assert!(last.contains("tenant-09999") && !last.contains("tenant-00001"));
    let some = site.http.get("/queue?queues=-0777").await.body;
    assert!(
        some.contains("tenant-07771") && !some.contains("tenant-00001"),
        "{some}"
    );
    let none = site.http.get("/queue?queues=nothing%3Clike%3E").await;
    assert!(
        none.body.contains("No name of a queue contains nothing&lt;like&gt;"),
        "{}",
        none.body
    );
    let list = site.http.get("/queue/queues/tenant-07777/pending").await;
    assert_eq!(list.status, 200);
    let figures = site.http.get("/metrics").await.body;
    assert!(figures.len() < LONGEST, "{} bytes", figures.len());
    let shown = figures.matches("runner_queue_paused{").count();
    for line in [
        "runner_queues 10001\n".to_owned(),
        format!("runner_queues_omitted {}\n", MANY + 1 - shown),
        "runner_tasks{queue=\"mail\",state=\"pending\"} 1\n".to_owned(),
    ] {
        assert!(figures.contains(&line), "{line} is not in {figures}");
    }
    assert!(shown > 100, "figures of {shown} queues");
}
