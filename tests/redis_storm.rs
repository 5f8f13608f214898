//! Calls that are dropped while their answer is on its way: no part of it ever reaches another call.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use runner_core::task::{QueueName, Task, TaskId};
use runner_queue::redis::{RedisBroker, RedisSettings};
use runner_queue::{BrokerError, InspectTasks as _, Producer as _, Signals as _};

use crate::kit::{self, RedisServer};

/// The tests of this module.
pub fn tests() -> Vec<kit::Trial> {
    kit::trials![needs(Redis): no_answer_reaches_another_call;]
}

/// Callers at once.
const CALLERS: u64 = 32;
/// Maximum factor by which the number of calls grows until enough were dropped. One in twenty always is.
const MOST: u64 = 10;
/// Tasks that are requested by id.
const TASKS: u64 = 64;

/// The key of this one does not hold a task.
const BROKEN: u64 = TASKS;

#[derive(Default)]
struct Tally {
    calls: AtomicU64,
    dropped: AtomicU64,
    answered: AtomicU64,
    mismatches: AtomicU64,
    refused: AtomicU64,
    /// Calls without any answer, as when the whole machine stalls for long.
    unanswered: AtomicU64,
}

impl Tally {
    /// Whether to make another call: on a busy machine answers often arrive before a call is dropped, so it takes more calls
    /// until enough were.
    fn continues(&self, total: u64) -> bool {
        let made = self.calls.fetch_add(1, Ordering::Relaxed);
        let enough = self.dropped.load(Ordering::Relaxed) > total * 2 / 5;
        made < total || !enough && made < total * MOST
    }
}

async fn no_answer_reaches_another_call() {
    let total: u64 = if std::env::var_os("RUNNER_LONG").is_some() {
        200_000
    } else {
        20_000
    };
    // A separate server: it holds a key of the wrong type.
    let server = RedisServer::start(&[]);
    let db = server.fresh_db();
    let settings = RedisSettings {
        database: i64::from(db.number),
        ..RedisSettings::at(format!("127.0.0.1:{}", db.port))
    };
    let broker = Arc::new(RedisBroker::connect(settings).await.unwrap());
    let tasks: Vec<Task> = (0..TASKS).map(|n| Task::new("echo").id(id(n))).collect();
    for result in broker.enqueue(&tasks).await.unwrap() {
        result.unwrap();
    }
    let _: () = redis::cmd("SET")
        .arg(format!("asynq:{{default}}:t:{}", id(BROKEN)))
        .arg("no list")
        .query_async(&mut db.connect().await)
        .await
        .unwrap();
    let tally = Arc::new(Tally::default());
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let (broker, tally) = (broker.clone(), tally.clone());
            tokio::spawn(async move {
                // The same sequence each time, a different one for each caller.
                let mut chance = caller.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
                while tally.continues(total) {
                    chance ^= chance << 13;
                    chance ^= chance >> 7;
                    chance ^= chance << 17;
                    call(&broker, &tally, chance).await;
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let (dropped, answered, refused) = (of(&tally.dropped), of(&tally.answered), of(&tally.refused));
    let (mismatches, unanswered) = (of(&tally.mismatches), of(&tally.unanswered));
    let calls = dropped + answered + refused + mismatches + unanswered;
    let result = if mismatches == 0 { "pass" } else { "fail" };
    println!(
        "FT id=F20 result={result} calls={calls} dropped={dropped} answered={answered} wrongtype={refused} \
         unanswered={unanswered} mismatches={mismatches}"
    );
    assert_eq!(mismatches, 0);
    assert!(
        dropped > total * 2 / 5,
        "only {dropped} of {calls} calls were dropped on their way"
    );
    assert!(
        answered > total / 5 && refused > 0,
        "{answered} answered, {refused} refused"
    );
    // The connection still works, and dropped calls had no other effect.
    assert_eq!(
        broker
            .task(&QueueName::default(), &id(0))
            .await
            .unwrap()
            .unwrap()
            .record
            .id,
        id(0)
    );
}

fn id(n: u64) -> TaskId {
    TaskId::new(format!("echo-{n}")).unwrap()
}

async fn call(broker: &RedisBroker, tally: &Tally, chance: u64) {
    let queue = QueueName::default();
    let wanted = id(chance % TASKS);
    match (chance >> 32) % 20 {
        0 => {
            // A command on a key of the wrong type, among those of others.
            match broker.attempts(&queue, &id(BROKEN)).await {
                Err(BrokerError::Unreachable { .. }) => tally.unanswered.fetch_add(1, Ordering::Relaxed),
                Err(BrokerError::Corrupt { .. }) => tally.refused.fetch_add(1, Ordering::Relaxed),
                _ => tally.mismatches.fetch_add(1, Ordering::Relaxed),
            };
        }
        1 => {
            let given_up = broker.wait_for_work(std::slice::from_ref(&queue), Duration::from_secs(1));
            give_up(given_up, chance).await;
            tally.dropped.fetch_add(1, Ordering::Relaxed);
        }
        2..=13 => {
            if let Some(answer) = give_up(broker.task(&queue, &wanted), chance).await {
                check(answer, &wanted, tally);
            } else {
                tally.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
        _ => check(broker.task(&queue, &wanted).await, &wanted, tally),
    }
}

/// Starts the call, waits a moment at most, and drops it.
async fn give_up<T>(call: impl Future<Output = T>, chance: u64) -> Option<T> {
    let mut call = std::pin::pin!(call);
    // Polled once or a few times: the command is on its way, its answer seldom back.
    for _ in 0..=(chance >> 40) % 3 {
        tokio::select! {
            biased;
            answer = &mut call => return Some(answer),
            () = tokio::task::yield_now() => {}
        }
    }
    None
}

fn check(answer: Result<Option<runner_queue::TaskInfo>, BrokerError>, wanted: &TaskId, tally: &Tally) {
    match answer {
        Err(BrokerError::Unreachable { .. }) => tally.unanswered.fetch_add(1, Ordering::Relaxed),
        Ok(Some(task)) if task.record.id == *wanted => tally.answered.fetch_add(1, Ordering::Relaxed),
        other => {
            println!("asked for {wanted}, got {other:?}");
            tally.mismatches.fetch_add(1, Ordering::Relaxed)
        }
    };
}
