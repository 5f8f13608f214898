//! Clauses about the past and the size of a queue, and about what a schedule enqueued.

use jiff::civil::date;
use runner_core::schedule::Overlap;
use runner_core::task::QueueName;

use super::schedule::{commit, done, minute, schedule};
use super::shared::{archive, queue, retry, task};
use super::{Clause, Fresh};
use crate::{DayCount, Page, Verdict};

pub(super) fn clauses() -> Vec<Clause> {
    clauses![
        the_history_of_a_queue_has_every_day_newest_first,
        a_history_is_of_one_to_ninety_days,
        the_size_of_a_queue_grows_with_its_tasks,
        what_a_schedule_enqueued_is_listed_newest_first,
    ]
}

const DAY: std::time::Duration = std::time::Duration::from_secs(24 * 3600);

async fn the_history_of_a_queue_has_every_day_newest_first(fresh: Fresh) {
    fresh.put((0..6).map(|n| task(&format!("{n}")))).await;
    fresh.end(&fresh.claim_one().await, Verdict::Done).await;
    fresh.end(&fresh.claim_one().await, Verdict::Done).await;
    fresh.clock.advance(DAY);
    fresh.clock.advance(DAY);
    fresh.end(&fresh.claim_one().await, archive("no")).await;
    fresh.end(&fresh.claim_one().await, retry(5, "no")).await;
    fresh.end(&fresh.claim_one().await, Verdict::Done).await;
    let count = |day, processed, failed| DayCount {
        day: date(2030, 1, day),
        processed,
        failed,
    };
    let queue = QueueName::default();
    let expected = [count(4, 3, 2), count(3, 0, 0), count(2, 2, 0), count(1, 0, 0)];
    assert_eq!(fresh.broker.history(&queue, 4).await.unwrap(), expected);
    assert_eq!(fresh.broker.history(&queue, 2).await.unwrap(), expected[..2]);
    fresh.is_sound().await;
}

async fn a_history_is_of_one_to_ninety_days(fresh: Fresh) {
    let nowhere = queue("never used");
    for (asked, returned) in [(0, 1), (1, 1), (90, 90), (91, 90), (usize::MAX, 90)] {
        let history = fresh.broker.history(&nowhere, asked).await.unwrap();
        assert_eq!(history.len(), returned, "{asked}");
        assert_eq!(history[0].day, date(2030, 1, 2));
        assert!(history.iter().all(|day| (day.processed, day.failed) == (0, 0)));
        assert!(
            history
                .windows(2)
                .all(|days| days[0].day == days[1].day.tomorrow().unwrap())
        );
    }
    fresh.is_sound().await;
}

async fn the_size_of_a_queue_grows_with_its_tasks(fresh: Fresh) {
    let size = async || fresh.broker.memory(&QueueName::default()).await.unwrap();
    assert_eq!(size().await, 0);
    let large = |name: &str| task(name).payload(vec![b'x'; 10_000]);
    fresh.put((0..50).map(|n| large(&format!("{n}")))).await;
    let fifty = size().await;
    assert!((500_000..1_000_000).contains(&fifty), "{fifty}");
    for claim in fresh.claim(10).await {
        fresh.end(&claim, retry(60, "no")).await;
    }
    let moved = size().await;
    assert!((500_000..1_000_000).contains(&moved), "{moved}");
    let mut grouped = large("grouped");
    grouped.group = Some("g".to_owned());
    fresh.put([grouped]).await;
    assert!(size().await >= moved + 10_000);
    fresh.is_sound().await;
}

async fn what_a_schedule_enqueued_is_listed_newest_first(fresh: Fresh) {
    let mut expected = Vec::new();
    let (mut from, mut to) = minute(&fresh, "s").await;
    for _ in 0..5 {
        let mut one = commit("s", from, to);
        one.overlap = Overlap::Allow;
        let decision = done(&fresh, &one).await.remove(0);
        expected.insert(0, (decision.task.unwrap(), fresh.now()));
        fresh.clock.advance(std::time::Duration::from_secs(60));
        (from, to) = (to, fresh.now());
    }
    // A skipped occurrence enqueued nothing.
    let mut skipped = commit("s", from, to);
    skipped.overlap = Overlap::Skip;
    done(&fresh, &skipped).await;
    let read = async |name, number| {
        let page = Page { number, size: 3 };
        let page = fresh.broker.enqueue_events(&schedule(name), page).await.unwrap();
        let events = page.events.into_iter().map(|event| (event.task, event.at));
        (page.total, events.collect::<Vec<_>>())
    };
    assert_eq!(read("s", 1).await, (5, expected[..3].to_vec()));
    assert_eq!(read("s", 2).await, (5, expected[3..].to_vec()));
    assert_eq!(read("s", 3).await, (5, Vec::new()));
    assert_eq!(read("other", 1).await, (0, Vec::new()));
    fresh.is_sound().await;
}
