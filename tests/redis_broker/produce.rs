//! Producers: many tasks in one call, many calls at once.

use std::time::Duration;

use runner_core::task::{Run, Task};
use runner_queue::{Claims as _, InspectQueues as _, Producer as _, Settled, Settlement, Verdict};

use super::{claim, ending, ids, is_sound, named, open, put};
use crate::kit;

/// The tests of this module.
pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(Redis): a_large_batch_is_enqueued_claimed_and_settled,
            large_tasks_are_sent_in_small_batches_and_keep_their_order,
            parallel_enqueues_each_get_their_own_answers;
    ]
}

async fn a_large_batch_is_enqueued_claimed_and_settled() {
    let (broker, _link, _db) = open().await;
    let count = 5000;
    let tasks: Vec<Task> = (0..count)
        .map(|n| {
            let task = named(&format!("{n:05}"))
                .unique(Duration::from_secs(600))
                .payload(n.to_string());
            let late = Run::In(Duration::from_secs(3600));
            if n % 5 == 4 { task.run(late) } else { task }
        })
        .collect();
    let results = broker.enqueue(&tasks).await.unwrap();
    assert!(results.iter().all(Result::is_ok));
    let claims = claim(&broker, count).await;
    assert_eq!(claims.len(), count * 4 / 5);
    let mut order = ids(&claims);
    assert!(order.is_sorted(), "the oldest come first");
    order.dedup();
    assert_eq!(order.len(), claims.len());
    let settlements: Vec<Settlement> = claims.iter().map(|c| ending(c, Verdict::Done)).collect();
    let settled = broker.settle(&settlements).await.unwrap();
    assert!(settled.iter().all(|s| *s == Settled::Accepted));
    let info = &broker.queues().await.unwrap()[0];
    assert_eq!((info.size(), info.processed), (1000, 4000));
    is_sound(&broker).await;
}

async fn large_tasks_are_sent_in_small_batches_and_keep_their_order() {
    let (broker, _link, _db) = open().await;
    let names: Vec<String> = (0..40).map(|n| format!("{n:02}")).collect();
    let tasks: Vec<Task> = names.iter().map(|id| named(id).payload(vec![b'x'; 1 << 20])).collect();
    let results = broker.enqueue(&tasks).await.unwrap();
    assert!(results.iter().all(Result::is_ok));
    let mut claimed = Vec::new();
    while claimed.len() < names.len() {
        let claims = claim(&broker, 100).await;
        assert!((1..=8).contains(&claims.len()), "{}", claims.len());
        claimed.extend(ids(&claims).into_iter().map(str::to_owned));
        is_sound(&broker).await;
    }
    assert_eq!(claimed, names);
}

/// Small parallel calls travel together. Abandoned ones do not take answers of others with them.
async fn parallel_enqueues_each_get_their_own_answers() {
    const CALLERS: usize = 300;
    let (broker, mut link, _db) = open().await;
    put(&broker, &["7", "77"]).await;
    let broker = std::sync::Arc::new(broker);
    let callers: Vec<_> = (0..CALLERS)
        .map(|number| {
            let broker = broker.clone();
            tokio::spawn(async move { broker.enqueue(&[named(&number.to_string())]).await })
        })
        .collect();
    for caller in callers.iter().skip(3).step_by(10) {
        caller.abort();
    }
    let (mut accepted, mut given_up) = (0, 0);
    for (number, caller) in callers.into_iter().enumerate() {
        let Ok(answer) = caller.await else {
            given_up += 1;
            continue;
        };
        match answer.unwrap().remove(0) {
            Ok(enqueued) => {
                assert_eq!(enqueued.id.as_str(), number.to_string());
                accepted += 1;
            }
            Err(refusal) => {
                assert_eq!(refusal.to_string(), runner_queue::Refusal::IdTaken.to_string());
                assert!(number == 7 || number == 77, "{number} was refused as taken");
            }
        }
    }
    assert_eq!(accepted + given_up + 2, CALLERS);
    // Some abandoned ones were sent and some were not; nothing else exists.
    let pending: usize = redis::cmd("LLEN")
        .arg("asynq:{default}:pending")
        .query_async(&mut link)
        .await
        .unwrap();
    assert!(
        (accepted + 2..=CALLERS).contains(&pending),
        "{pending} of {accepted} accepted"
    );
    assert_eq!(broker.audit().await.unwrap(), Vec::<String>::new());
}
