//! Our own keys of a queue disappear when nothing is left for them, even if no worker serves the queue any more.

use std::time::Duration;

use runner_core::task::TaskState;
use runner_queue::{ArchiveBounds, Claims as _, InspectQueues as _, Lists, Upkeep as _, Verdict};

use super::{LEASE, ask, claim, end, ids, is_sound, open, put, queue};
use crate::kit;

/// The tests of this module.
pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(Redis): a_queue_without_tasks_stores_no_claims,
            a_note_on_a_task_taken_by_another_program_leaves_an_empty_queue,
            claims_that_no_worker_serves_expire;
    ]
}

const CLAIMS: &str = "runner:{default}:claims";
const RUN: &str = "runner:{default}:run";
const WAITING: &str = "runner:{default}:waiting";
const MONTH: i64 = 30 * 24 * 3600;

async fn exists(link: &mut redis::aio::MultiplexedConnection, keys: &[&str]) -> i64 {
    let words: Vec<&str> = std::iter::once("EXISTS").chain(keys.iter().copied()).collect();
    ask(link, &words).await
}

async fn a_queue_without_tasks_stores_no_claims() {
    let (broker, mut link, _db) = open().await;
    put(&broker, &["a", "b"]).await;
    let claims = claim(&broker, 9).await;
    let first = claims[0].run();
    end(&broker, &claims[0], Verdict::Done).await;
    broker.repair(&[queue()], 100).await.unwrap();
    assert_eq!(exists(&mut link, &[CLAIMS, RUN]).await, 2, "one task is active");
    end(&broker, &claims[1], Verdict::Done).await;
    assert_eq!(broker.narrow(&[queue()], Lists::Any).await.unwrap(), [queue()]);
    broker.repair(&[queue()], 100).await.unwrap();
    assert_eq!(exists(&mut link, &[CLAIMS, RUN]).await, 0);
    assert!(broker.narrow(&[queue()], Lists::Any).await.unwrap().is_empty());
    // The next claim has another number, and a late verdict of the first is refused.
    put(&broker, &["a"]).await;
    let next = claim(&broker, 9).await;
    assert!(next[0].run() > first, "{} after {first}", next[0].run());
    assert_eq!(
        end(&broker, &claims[0], Verdict::Done).await,
        runner_queue::Settled::Stale
    );
    assert_eq!(
        end(&broker, &next[0], Verdict::Done).await,
        runner_queue::Settled::Accepted
    );
    is_sound(&broker).await;
}

async fn a_note_on_a_task_taken_by_another_program_leaves_an_empty_queue() {
    let (broker, mut link, _db) = open().await;
    put(&broker, &["a"]).await;
    let claims = claim(&broker, 9).await;
    let snooze = Verdict::Snooze {
        delay: Duration::from_secs(60),
        waiting_for: Some("a handler".to_owned()),
    };
    end(&broker, &claims[0], snooze).await;
    let ttl: i64 = ask(&mut link, &["TTL", WAITING]).await;
    assert!((1..=7 * 24 * 3600).contains(&ttl), "{ttl}");
    let _: i64 = ask(&mut link, &["ZREM", "asynq:{default}:scheduled", "a"]).await;
    let _: i64 = ask(&mut link, &["DEL", "asynq:{default}:t:a"]).await;
    assert_eq!(broker.queues().await.unwrap()[0].counts[&TaskState::Scheduled], 0);
    assert_eq!(broker.narrow(&[queue()], Lists::Ended).await.unwrap(), [queue()]);
    broker.sweep(&[queue()], 100, ArchiveBounds::default()).await.unwrap();
    assert_eq!(exists(&mut link, &[WAITING]).await, 0);
    assert!(broker.narrow(&[queue()], Lists::Ended).await.unwrap().is_empty());
    is_sound(&broker).await;
}

async fn claims_that_no_worker_serves_expire() {
    let (broker, mut link, _db) = open().await;
    put(&broker, &["a"]).await;
    let claims = claim(&broker, 9).await;
    assert_eq!(ids(&claims), ["a"]);
    for renewed in ["claimed", "extended", "looked at"] {
        for key in [CLAIMS, RUN] {
            let ttl: i64 = ask(&mut link, &["TTL", key]).await;
            assert!((MONTH - 600..=MONTH).contains(&ttl), "{key} {renewed}: {ttl}");
            let _: i64 = ask(&mut link, &["EXPIRE", key, "1000"]).await;
        }
        match renewed {
            "claimed" => drop(broker.extend(&claims, LEASE).await.unwrap()),
            _ => drop(broker.repair(&[queue()], 100).await.unwrap()),
        }
    }
    end(&broker, &claims[0], Verdict::Done).await;
    is_sound(&broker).await;
}
