//! Clauses about claims: which tasks, how many, under which lease; and about being woken.

use runner_core::task::{QueueName, TaskId, TaskState};

use super::shared::{LEASE, names, queue, retry, secs, task, verdict};
use super::{Clause, Fresh};
use crate::{MAX_STOP_BYTES, StopRequest, Verdict};

pub(super) fn clauses() -> Vec<Clause> {
    clauses![
        a_claim_takes_from_the_queues_in_the_order_given,
        a_claim_takes_no_more_than_asked_for,
        a_claimed_task_is_active_under_its_lease,
        a_claim_knows_how_long_its_task_was_pending,
        the_run_number_grows_with_each_claim_of_a_task,
        a_paused_queue_yields_nothing_until_it_is_resumed,
        two_claims_at_once_never_get_the_same_task,
        an_idle_worker_is_woken_by_a_task,
        waiting_for_work_ends_in_time,
        a_cancellation_reaches_every_listener,
        a_request_to_stop_for_good_reaches_every_listener,
        a_task_that_is_due_later_is_announced_to_a_worker_that_listens,
        the_next_end_of_a_lease_is_known,
    ]
}

async fn a_claim_takes_from_the_queues_in_the_order_given(fresh: Fresh) {
    let (low, high) = (queue("low"), queue("high"));
    fresh
        .put([
            task("l1").queue(low.clone()),
            task("l2").queue(low.clone()),
            task("h1").queue(high.clone()),
            task("h2").queue(high.clone()),
            task("d"),
        ])
        .await;
    let order = [high.clone(), queue("never used"), low.clone()];
    let claims = fresh.broker.claim(&order, 3, LEASE).await.unwrap();
    assert_eq!(names(&claims), ["h1", "h2", "l1"]);
    let claims = fresh.broker.claim(&[low, high], 9, LEASE).await.unwrap();
    assert_eq!(names(&claims), ["l2"]);
    assert_eq!(fresh.state("d").await, Some(TaskState::Pending));
    fresh.is_sound().await;
}

async fn a_claim_takes_no_more_than_asked_for(fresh: Fresh) {
    fresh.put([task("a"), task("b"), task("c")]).await;
    assert!(fresh.claim(0).await.is_empty());
    assert_eq!(fresh.claim_ids(1).await, ["a"]);
    assert_eq!(fresh.claim_ids(2).await, ["b", "c"]);
    assert!(fresh.claim(2).await.is_empty());
    let none: [QueueName; 0] = [];
    assert!(fresh.broker.claim(&none, 5, LEASE).await.unwrap().is_empty());
    fresh.is_sound().await;
}

async fn a_claimed_task_is_active_under_its_lease(fresh: Fresh) {
    fresh.put([task("a")]).await;
    let claim = fresh.claim_one().await;
    let until = fresh.now().checked_add(LEASE).unwrap();
    assert_eq!(claim.lease_until(), until);
    let info = fresh.see("a").await;
    assert_eq!(info.state, TaskState::Active);
    assert_eq!(info.lease_until, Some(until));
    assert_eq!((info.pending_since, info.next_run), (None, None));
    assert_eq!(fresh.list(TaskState::Active).await, ["a"]);
    fresh.is_sound().await;
}

async fn a_claim_knows_how_long_its_task_was_pending(fresh: Fresh) {
    fresh.put([task("a")]).await;
    fresh.clock.advance(secs(90));
    let first = fresh.claim_one().await;
    assert_eq!(first.waited(), Some(secs(90)));
    // From when it was due on, not from when it was enqueued.
    fresh.end(&first, retry(60, "busy")).await;
    fresh.clock.advance(secs(60));
    assert_eq!(fresh.forward().await, 1);
    fresh.clock.advance(secs(5));
    let second = fresh.claim_one().await;
    assert_eq!(second.waited(), Some(secs(5)));
    // One that is claimed at once, together with a verdict.
    fresh.put([task("b")]).await;
    let done = [verdict(&second, Verdict::Done)];
    let queues = [QueueName::default()];
    let both = fresh.broker.exchange(&done, &queues, 1, LEASE).await.unwrap();
    assert_eq!(both.claims.unwrap()[0].waited(), Some(secs(0)));
    fresh.is_sound().await;
}

async fn the_run_number_grows_with_each_claim_of_a_task(fresh: Fresh) {
    fresh.put([task("a")]).await;
    let first = fresh.claim_one().await;
    fresh.end(&first, Verdict::HandBack).await;
    let second = fresh.claim_one().await;
    assert!(second.run() > first.run());
    fresh.is_sound().await;
}

async fn a_paused_queue_yields_nothing_until_it_is_resumed(fresh: Fresh) {
    let default = QueueName::default();
    fresh.put([task("a"), task("b").queue(queue("low"))]).await;
    assert!(fresh.broker.pause_queue(&default).await.unwrap());
    assert!(!fresh.broker.pause_queue(&default).await.unwrap());
    assert!(fresh.glance().await.paused);
    let both = [default.clone(), queue("low")];
    let claims = fresh.broker.claim(&both, 9, LEASE).await.unwrap();
    assert_eq!(names(&claims), ["b"]);
    fresh.put([task("c")]).await;
    assert!(fresh.broker.resume_queue(&default).await.unwrap());
    assert!(!fresh.broker.resume_queue(&default).await.unwrap());
    assert!(!fresh.glance().await.paused);
    assert_eq!(fresh.claim_ids(9).await, ["a", "c"]);
    fresh.is_sound().await;
}

async fn two_claims_at_once_never_get_the_same_task(fresh: Fresh) {
    let tasks: Vec<_> = (0..200).map(|n| task(&format!("{n}"))).collect();
    fresh.put(tasks).await;
    let mut running = Vec::new();
    for _ in 0..8 {
        let broker = fresh.broker.clone();
        running.push(tokio::spawn(async move {
            let mut got = Vec::new();
            loop {
                let claims = broker.claim(&[QueueName::default()], 7, LEASE).await;
                let claims = claims.unwrap();
                if claims.is_empty() {
                    return got;
                }
                got.extend(names(&claims));
            }
        }));
    }
    let mut all = Vec::new();
    for one in running {
        all.extend(one.await.unwrap());
    }
    let claimed = all.len();
    all.sort();
    all.dedup();
    assert_eq!((claimed, all.len()), (200, 200));
    fresh.is_sound().await;
}

async fn an_idle_worker_is_woken_by_a_task(fresh: Fresh) {
    let broker = fresh.broker.clone();
    let waiting = tokio::spawn(async move {
        let queues = [QueueName::default()];
        let began = tokio::time::Instant::now();
        broker.wait_for_work(&queues, secs(30)).await;
        began.elapsed()
    });
    fresh.put([task("a")]).await;
    let waited = waiting.await.unwrap();
    assert!(waited < secs(10), "waited {waited:?} for a task that was there");
    assert_eq!(fresh.claim_ids(1).await, ["a"]);
    fresh.is_sound().await;
}

async fn waiting_for_work_ends_in_time(fresh: Fresh) {
    let began = tokio::time::Instant::now();
    let queues = [QueueName::default()];
    let at_most = std::time::Duration::from_millis(300);
    fresh.broker.wait_for_work(&queues, at_most).await;
    let waited = began.elapsed();
    assert!(waited < secs(10), "waited {waited:?} instead of {at_most:?}");
    fresh.is_sound().await;
}

/// The next request for this task. asynq's channel is one for all databases of a server, so those of tests that run at the
/// same time arrive as well.
async fn request_for(listener: &mut tokio::sync::mpsc::Receiver<StopRequest>, id: &TaskId) -> StopRequest {
    let heard = async {
        loop {
            let request = listener.recv().await.expect("the channel is open");
            if request.id == *id {
                return request;
            }
        }
    };
    tokio::time::timeout(secs(10), heard).await.expect("nothing was heard")
}

async fn a_cancellation_reaches_every_listener(fresh: Fresh) {
    let mut one = fresh.broker.cancellations().await.unwrap();
    let mut two = fresh.broker.cancellations().await.unwrap();
    let wanted = super::shared::id("for-every-listener");
    fresh.broker.cancel(&wanted).await.unwrap();
    for listener in [&mut one, &mut two] {
        assert_eq!(
            request_for(listener, &wanted).await,
            StopRequest::cancel(wanted.clone())
        );
    }
    let mut late = fresh.broker.cancellations().await.unwrap();
    while let Ok(heard) = late.try_recv() {
        assert_ne!(heard.id, wanted, "heard what was before its time");
    }
    fresh.is_sound().await;
}

async fn a_request_to_stop_for_good_reaches_every_listener(fresh: Fresh) {
    let mut one = fresh.broker.cancellations().await.unwrap();
    let mut two = fresh.broker.cancellations().await.unwrap();
    let (name, wanted) = (queue("a\u{e9} {b}"), super::shared::id("x \"\u{1}"));
    let words = format!("stopped by me: {}\u{e9}", "w".repeat(MAX_STOP_BYTES - 16));
    fresh.broker.stop(&name, &wanted, &words).await.unwrap();
    for listener in [&mut one, &mut two] {
        let heard = request_for(listener, &wanted).await;
        assert_eq!(heard.queue.as_ref(), Some(&name));
        let kept = heard.for_good.expect("it is for good");
        assert!(
            words.starts_with(&kept) && kept.len() == MAX_STOP_BYTES - 1,
            "{}",
            kept.len()
        );
    }
    fresh.is_sound().await;
}

async fn a_task_that_is_due_later_is_announced_to_a_worker_that_listens(fresh: Fresh) {
    // A worker listens for cancellations too; some brokers hear of both in one place.
    let _listening = fresh.broker.cancellations().await.unwrap();
    let began = tokio::time::Instant::now();
    let later = task("a").run(runner_core::task::Run::In(secs(60)));
    tokio::join!(fresh.broker.wait_for_delayed(secs(30)), fresh.put([later]));
    let waited = began.elapsed();
    assert!(
        waited < secs(10),
        "waited {waited:?} for word of a task that was written"
    );
    fresh.is_sound().await;
}

async fn the_next_end_of_a_lease_is_known(fresh: Fresh) {
    let queues = [QueueName::default(), queue("low")];
    fresh.put([task("a"), task("b").queue(queue("low"))]).await;
    assert_eq!(fresh.broker.next_lease_end(&queues).await.unwrap(), None);
    let first = fresh.claim_one().await;
    fresh.clock.advance(secs(5));
    let low = fresh.broker.claim(&queues[1..], 1, LEASE).await.unwrap();
    let end = fresh.broker.next_lease_end(&queues).await.unwrap();
    assert_eq!(end, Some(first.lease_until()), "the one that ends first");
    let end = fresh.broker.next_lease_end(&queues[1..]).await.unwrap();
    assert_eq!(end, Some(low[0].lease_until()));
    fresh.is_sound().await;
}
